"""Access tokens: signed, for one customer, and good for a short time. Nothing of them is stored.

    wha_<claims>.<mac>

Both parts are base64url. The claims are JSON; the MAC is HMAC-SHA256 with a key that is derived from a secret key of
the service (domain/sealing.py), so the keys change with those: the first signs, each is believed.
"""

from __future__ import annotations

import base64
import hmac
import re
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from .access import ALL_PERMISSIONS, Caller, Permission
from .record import record
from .sealing import Sealer

LIFE_SECONDS: Final = 3600.0  # unless the caller says otherwise
LIFE_SECONDS_MIN: Final = 60.0
LIFE_SECONDS_MAX: Final = 86_400.0

_FORM: Final = re.compile(rb"wha_([A-Za-z0-9_-]{1,1024})\.([A-Za-z0-9_-]{43})")


@record
class AccessClaims:
    """What an access token says. `parent`: the name of the caller that it was made by."""

    parent: str
    customer_id: int
    permissions: frozenset[Permission]
    expire_time: datetime  # to the second

    def caller(self) -> Caller:
        """Returns the caller that has this token."""
        return Caller(
            f"access token of {self.parent} for customer {self.customer_id}",
            frozenset((self.customer_id,)),
            self.permissions,
            token_expire_time=self.expire_time,
            may_make_access_tokens=False,
            parent=self.parent,
        )


def signed(claims: AccessClaims, sealer: Sealer) -> str:
    """Returns the token that says this."""
    document = {
        "parent": claims.parent,
        "customer_id": claims.customer_id,
        "permissions": sorted(claims.permissions),
        "expires": int(claims.expire_time.timestamp()),
    }
    payload = base64.urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=")
    mac = _text(sealer.access_macs(payload)[0])
    return f"wha_{payload.decode('ascii')}.{mac.decode('ascii')}"


def claims_in(token: bytes, sealer: Sealer) -> AccessClaims | None:
    """Returns what an access token says, whether or not it has expired; None unless one of the keys has signed it.

    Nothing is parsed before its MAC was compared.
    """
    found = _FORM.fullmatch(token)
    if found is None:
        return None
    payload, mac = found[1], found[2]
    if not any([hmac.compare_digest(mac, _text(own)) for own in sealer.access_macs(payload)]):  # noqa: C419 - all of them
        return None
    document: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return AccessClaims(
        document["parent"],
        document["customer_id"],
        ALL_PERMISSIONS & frozenset(document["permissions"]) - {"admin"},
        datetime.fromtimestamp(document["expires"], UTC),
    )


def _text(mac: bytes) -> bytes:
    return base64.urlsafe_b64encode(mac).rstrip(b"=")
