"""Tokens that the database keeps: `whk_<token_id>_<secret>`, of which only a hash of the secret is stored.

The secret is 256 random bits, so nobody finds it by trying, however fast the hash is. A slow hash, which passwords
need, would only let whoever has no token use up our processors.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from typing import Final

from .access import PERMISSIONS_OF_ROLES, Caller, Role
from .ids import INT64_MAX
from .record import record

SECRET_BYTES: Final = 32
DESCRIPTION_LENGTH_MAX: Final = 1024
CUSTOMERS_MAX: Final = 1000  # of one token that is not for all

_FORM: Final = re.compile(rb"whk_([1-9][0-9]{0,18})_([A-Za-z0-9_-]{43})")


@record
class TokenSpec:
    """What whoever makes a token chooses. `customer_ids` None: the token is for all customers."""

    role: Role
    customer_ids: frozenset[int] | None
    description: str = ""
    expire_time: datetime | None = None  # None: never


@record
class TokenQuota:
    """How many tokens there may be: in all, and for each of the customers that their maker is bound to."""

    all_max: int
    customer_max: int
    customer_ids: frozenset[int] | None = None  # of the maker; None: it is not bound to any

    @property
    def own_max(self) -> int:
        """Returns how many tokens there may be that are for no other customers than the maker's."""
        return self.customer_max * len(self.customer_ids or ())


@record
class StoredToken:
    """A token as the database has it."""

    token_id: int
    sha256: bytes
    spec: TokenSpec
    create_time: datetime
    last_use_time: datetime | None  # to the minute, and a little behind; None: never used

    def caller(self, default_customer_id: int | None) -> Caller:
        """Returns the caller that has this token."""
        return Caller(
            f"whk_{self.token_id}",
            self.spec.customer_ids,
            PERMISSIONS_OF_ROLES[self.spec.role],
            default_customer_id,
            self.spec.expire_time,
            token_id=self.token_id,
        )


def secret_of(entropy: bytes) -> str:
    """Returns the secret of a token, made of SECRET_BYTES random bytes."""
    return base64.urlsafe_b64encode(entropy).rstrip(b"=").decode("ascii")


def token_text(token_id: int, secret: str) -> str:
    """Returns a token as callers send it."""
    return f"whk_{token_id}_{secret}"


def parts_of(token: bytes) -> tuple[int, bytes] | None:
    """Returns the id and the secret in a token; None if it has not the form of tokens that the database keeps."""
    found = _FORM.fullmatch(token)
    if found is None or int(found[1]) > INT64_MAX:
        return None
    return int(found[1]), found[2]


def hash_of(secret: bytes) -> bytes:
    """Returns what is stored of a secret: its SHA-256."""
    return hashlib.sha256(secret).digest()


def token_hash(token: str | bytes) -> str:
    """Returns the form in which a whole token is configured (WEBHOOK_TOKENS): its SHA-256, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8") if isinstance(token, str) else token).hexdigest()
