"""Where the database keeps no tokens, and the keys that sign access tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.domain.tokens import StoredToken

SEALER = Sealer([bytes(range(32))])


class NoTokens:
    """Knows no token, and nobody revokes one."""

    async def find(self, token_id: int) -> StoredToken | None:
        """There is none."""
        del token_id

    def used(self, token_id: int) -> None:
        """Nobody can have used one."""
        raise AssertionError(token_id)

    def holding(self, token_id: int | None, on_revoked: Callable[[], None]) -> contextlib.nullcontext[None]:
        """Calls nothing."""
        del token_id, on_revoked
        return contextlib.nullcontext()
