"""From what a caller shows to who it is: a token, or else, where names are configured, a certificate.

Of each token only the SHA-256 is known here, of configured and of stored ones.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

from webhook_grpc.domain.access import ANONYMOUS, PERMISSIONS_OF_ROLES, Caller
from webhook_grpc.domain.access_tokens import claims_in
from webhook_grpc.domain.errors import Unauthenticated
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.domain.tokens import StoredToken, hash_of, parts_of, token_hash
from webhook_grpc.settings import ClientSan, Token

CertificateNames = Callable[[], Collection[str]]
"""Returns the names in the certificate of a connection, in the form of ClientSan.san: those of a verified one only."""

_HOW_TO_CALL: Final = "send a token as metadata `authorization: Bearer …`"


def no_certificate() -> Collection[str]:
    """Returns the names of a connection whose client has shown no certificate."""
    return ()


class StoredTokens(Protocol):
    """Finds the tokens that the database keeps (hub/tokens.py)."""

    async def find(self, token_id: int) -> StoredToken | None:
        """Returns a token; None if there is none of this id. Raises Unavailable."""
        ...

    def used(self, token_id: int) -> None:
        """Notes that a call had this token. Must neither wait nor raise."""
        ...

    def holding(self, token_id: int | None, on_revoked: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls `on_revoked` if the token is revoked before the block ends. `token_id` None: nobody can revoke it."""
        ...


class Authenticator:
    """Knows the configured callers, where stored tokens are found, and whose signature access tokens need."""

    def __init__(
        self,
        tokens: Iterable[Token],
        stored: StoredTokens,
        sealer: Sealer,
        *,
        anonymous_allowed: bool,
        default_customer_id: int | None = None,
        clients: Iterable[ClientSan] = (),
    ) -> None:
        """`clients` are callers by a name in their certificates."""
        self._tokens = {token.sha256: token for token in tokens}
        self._stored = stored
        self._sealer = sealer
        self._anonymous_allowed = anonymous_allowed
        self._default_customer_id = default_customer_id
        self._anonymous = replace(ANONYMOUS, default_customer_id=default_customer_id)
        self._clients = {client.san: _caller_of(client, default_customer_id) for client in clients}

    async def authenticate(
        self, authorization: Sequence[str | bytes], now: datetime, names: CertificateNames = no_certificate
    ) -> Caller:
        """Returns the caller whose token is in the values of `authorization`, or else whose name is in the certificate.

        One of the two decides: where a token was sent, even a bad one, nobody looks at the certificate. Raises
        Unauthenticated, and Unavailable if nobody can say whether there is such a token.
        """
        if self._anonymous_allowed:
            return self._anonymous
        if not authorization:
            return self._of_certificate(names)
        if len(authorization) > 1:
            raise Unauthenticated("TOKEN_INVALID", "more than one `authorization` was sent")
        token = _token_of(authorization[0])
        caller = self._of_configured(token) or self._of_signed(token) or await self._of_stored(token)
        if caller.token_expire_time is not None and caller.token_expire_time <= now:
            raise token_expired(caller.name)
        if caller.token_id is not None:
            self._stored.used(caller.token_id)
        return caller

    def holding(self, caller: Caller, on_revoked: Callable[[], None]) -> AbstractContextManager[None]:
        """Calls `on_revoked` if the caller's token is revoked before the block ends."""
        return self._stored.holding(caller.token_id, on_revoked)

    def _of_certificate(self, names: CertificateNames) -> Caller:
        """Returns the one caller that a certificate names. Raises Unauthenticated if that is nobody, or several."""
        if not self._clients:
            raise Unauthenticated("TOKEN_MISSING", _HOW_TO_CALL)
        callers = {caller for name in names() if (caller := self._clients.get(name)) is not None}
        if len(callers) == 1:
            return callers.pop()
        whose = "names several callers" if callers else "of the connection, if it has one, names no caller"
        raise Unauthenticated("TOKEN_MISSING", f"the client certificate {whose}; {_HOW_TO_CALL}")

    def _of_configured(self, token: bytes) -> Caller | None:
        # Found by its hash: how long that takes depends on the hash, which nobody can choose, and not on the token.
        found = self._tokens.get(token_hash(token))
        if found is None:
            return None
        customers = None if found.customer_id is None else frozenset((found.customer_id,))
        permissions = frozenset(found.permissions)
        return Caller(found.name, customers, permissions, self._default_customer_id, found.expires)

    def _of_signed(self, token: bytes) -> Caller | None:
        claims = claims_in(token, self._sealer)
        return None if claims is None else claims.caller()

    async def _of_stored(self, token: bytes) -> Caller:
        parts = parts_of(token)
        if parts is None:
            raise token_invalid()
        token_id, secret = parts
        found = await self._stored.find(token_id)
        if found is None or not hmac.compare_digest(found.sha256, hash_of(secret)):
            raise token_invalid()
        return found.caller(self._default_customer_id)


def _caller_of(client: ClientSan, default_customer_id: int | None) -> Caller:
    customers = None if client.customer_ids is None else frozenset(client.customer_ids)
    return Caller(client.name, customers, PERMISSIONS_OF_ROLES[client.role], default_customer_id)


def token_invalid() -> Unauthenticated:
    """Returns the error of calls whose token is none, or none any more: which of the two, nobody learns."""
    return Unauthenticated("TOKEN_INVALID", "the token is not known")


def token_expired(name: str) -> Unauthenticated:
    """Returns the error of calls whose token was valid once."""
    return Unauthenticated("TOKEN_EXPIRED", f"the token `{name}` has expired; use a new one")


def _token_of(authorization: str | bytes) -> bytes:
    """Returns the token that follows `Bearer` (RFC 6750). Raises Unauthenticated if there is none."""
    raw = authorization.encode("utf-8", "replace") if isinstance(authorization, str) else authorization
    scheme, _, token = raw.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks `Bearer`")
    if not token.strip():
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks the token")
    return token.strip()
