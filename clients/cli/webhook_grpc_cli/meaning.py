"""Which event type somebody meant who misspelt one: the service knows the types, and is called for them once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from webhook_grpc_client import WebhookError

UNKNOWN: Final = "EVENT_TYPE_UNKNOWN"
TYPES_MAX: Final = 500  # that are looked at
NAMES_MAX: Final = 100  # misspelt ones for which the types are looked through, which takes milliseconds each
_NAMED: Final = re.compile("`([^`]*)`")


class Meant:
    """Knows the registered types from the first misspelt one on."""

    def __init__(self, look_up: Callable[[], Sequence[str]]) -> None:
        """`look_up` returns the types. Raises WebhookError."""
        self._look_up = look_up
        self._hints: dict[str, str] = {}

    def hint(self, reason: str, text: str) -> str:
        """Returns ` Did you mean …?` for the type that a sentence of the service names, empty if nothing is like it."""
        named = _NAMED.search(text) if reason == UNKNOWN else None
        if named is None:
            return ""
        if named[1] not in self._hints and len(self._hints) < NAMES_MAX:
            found = get_close_matches(named[1], self._types, 1)
            self._hints[named[1]] = f" Did you mean `{found[0]}`?" if found else ""
        return self._hints.get(named[1], "")

    def with_hint(self, error: WebhookError) -> WebhookError:
        """Returns the error with the type that was meant."""
        from webhook_grpc_client.errors import made

        hint = self.hint(error.reason, error.message)
        return made(replace(error.problem, message=f"{error.message}.{hint}")) if hint else error

    @cached_property
    def _types(self) -> Sequence[str]:
        from webhook_grpc_client import WebhookError

        try:
            return self._look_up()
        except WebhookError:  # the token may publish and not read: then nobody knows
            return ()
