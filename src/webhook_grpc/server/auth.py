"""From a token to its caller. Tokens are opaque; only their SHA-256 is known here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.errors import Unauthenticated
from webhook_grpc.settings import Token


class Authenticator:
    """Knows the tokens."""

    def __init__(
        self, tokens: Iterable[Token], *, anonymous_allowed: bool, default_customer_id: int | None = None
    ) -> None:
        self._tokens = {token.sha256: token for token in tokens}
        self._anonymous_allowed = anonymous_allowed
        self._default_customer_id = default_customer_id
        self._anonymous = replace(ANONYMOUS, default_customer_id=default_customer_id)

    def authenticate(self, authorization: Sequence[str | bytes], now: datetime) -> Caller:
        """Returns the caller whose token is in the values of the `authorization` header. Raises Unauthenticated."""
        if self._anonymous_allowed:
            return self._anonymous
        if not authorization:
            raise Unauthenticated("TOKEN_MISSING", "send a token as metadata `authorization: Bearer …`")
        if len(authorization) > 1:
            raise Unauthenticated("TOKEN_INVALID", "more than one `authorization` was sent")
        token = self._tokens.get(_hash_of_secret(authorization[0]))
        if token is None:
            raise Unauthenticated("TOKEN_INVALID", "the token is not known")
        if token.expires is not None and token.expires <= now:
            raise token_expired(token.name)
        permissions = frozenset(token.permissions)
        return Caller(token.name, token.customer_id, permissions, self._default_customer_id, token.expires)


def token_expired(name: str) -> Unauthenticated:
    """Returns the error of calls whose token was valid once."""
    return Unauthenticated("TOKEN_EXPIRED", f"the token `{name}` has expired; use a new one")


def _hash_of_secret(authorization: str | bytes) -> str:
    """Returns the hash of the token that follows `Bearer` (RFC 6750). Raises Unauthenticated if there is none."""
    raw = authorization.encode("utf-8", "replace") if isinstance(authorization, str) else authorization
    scheme, _, secret = raw.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks `Bearer`")
    if not secret.strip():
        raise Unauthenticated("TOKEN_INVALID", "`authorization` must be `Bearer` and the token; it lacks the token")
    return hashlib.sha256(secret.strip()).hexdigest()


def token_hash(secret: str) -> str:
    """Returns the form in which a token is configured: the SHA-256 of its text, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()
