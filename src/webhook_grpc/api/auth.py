"""Who calls, and what they may do. Tokens are opaque; only their SHA-256 is known here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..domain.errors import PermissionDenied, Unauthenticated, Violation
from ..settings import Permission, Token

_ALL: frozenset[Permission] = frozenset({"read", "publish", "manage"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `customer_id` None: of all customers."""

    name: str
    customer_id: int | None
    permissions: frozenset[Permission]

    def must_have(self, permission: Permission) -> None:
        """Raises PermissionDenied unless the caller has it."""
        if permission not in self.permissions:
            raise PermissionDenied("PERMISSION_MISSING", f"the token lacks the permission `{permission}`")

    def must_be_for_all_customers(self) -> None:
        """Raises PermissionDenied for a caller that is bound to one customer."""
        if self.customer_id is not None:
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", "this takes a token for all customers")

    def customer(self, requested: int, field: str, violations: list[Violation]) -> int:
        """The customer that a request is about: the named one or, for a token of one customer, that one.

        Raises PermissionDenied for somebody else's; adds a violation where none is named and none is implied.
        """
        if requested < 0:
            violations.append(Violation(field, "must be positive"))
        elif requested == 0 and self.customer_id is None:
            violations.append(Violation(field, "must be set: the caller is not bound to one customer"))
        elif requested and self.customer_id is not None and requested != self.customer_id:
            raise PermissionDenied("CUSTOMER_NOT_ALLOWED", f"the token is not for customer {requested}")
        return requested or self.customer_id or 0

    def customer_or_all(self, requested: int, field: str, violations: list[Violation]) -> int | None:
        """The same where all customers may be asked for: None means all of them."""
        if requested == 0 and self.customer_id is None:
            return None
        return self.customer(requested, field, violations)


ANONYMOUS = Caller("anonymous", None, _ALL)


class Authenticator:
    """Knows the tokens."""

    def __init__(self, tokens: Iterable[Token], *, anonymous_allowed: bool) -> None:
        self._tokens = {token.sha256: token for token in tokens}
        self._anonymous_allowed = anonymous_allowed

    def authenticate(self, authorization: Sequence[str | bytes], now: datetime) -> Caller:
        """The caller behind the values of the `authorization` header. Raises Unauthenticated."""
        if self._anonymous_allowed:
            return ANONYMOUS
        if not authorization:
            raise Unauthenticated("TOKEN_MISSING", "send a token as metadata `authorization: Bearer …`")
        if len(authorization) > 1:
            raise Unauthenticated("TOKEN_INVALID", "more than one `authorization` was sent")
        token = self._tokens.get(_hash_of_secret(authorization[0]))
        if token is None:
            raise Unauthenticated("TOKEN_INVALID", "the token is not known")
        if token.expires is not None and token.expires <= now:
            raise Unauthenticated("TOKEN_EXPIRED", f"the token `{token.name}` has expired; ask for a new one")
        return Caller(token.name, token.customer_id, frozenset(token.permissions))


def _hash_of_secret(authorization: str | bytes) -> str:
    """Returns the hash of what follows `Bearer` (RFC 6750). Raises Unauthenticated if nothing does."""
    raw = authorization.encode("utf-8", "replace") if isinstance(authorization, str) else authorization
    scheme, _, secret = raw.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks `Bearer`")
    if not secret.strip():
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks the token")
    return hashlib.sha256(secret.strip()).hexdigest()


def token_hash(secret: str) -> str:
    """What is configured for a token."""
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()
