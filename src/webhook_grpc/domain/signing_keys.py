"""Ed25519 keys of customers: `v1a` of Standard Webhooks, whose public keys verify and can't sign.

Ed25519 is that of RFC 8032; a JWKS lists public keys as RFC 7517 and RFC 8037 write them.
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .record import record
from .sealing import Purpose, Sealer

SEED_BYTES: Final = 32
PUBLIC_KEY_PREFIX: Final = "whpk_"

_PRIVATE_KEY_PREFIX: Final = "whsk_"


@record
class PublicSigningKey:
    """The public half of a signing key. `retire_time`: until when it signs beside a newer key; None for the newest."""

    public_key: bytes
    create_time: datetime
    retire_time: datetime | None

    @property
    def thumbprint(self) -> str:
        """Returns the thumbprint of RFC 7638, by which callers and the JWKS name the key."""
        return thumbprint_of(self.public_key)

    @property
    def text(self) -> str:
        """Returns the key in the form of Standard Webhooks."""
        return PUBLIC_KEY_PREFIX + base64.b64encode(self.public_key).decode("ascii")


class PrivateSigningKey:
    """A private key, prepared for many signatures: to load it costs as much as to sign."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> bytes:
        """Returns the public key: 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def standard(self, signed: bytes) -> str:
        """Returns a signature as in `webhook-signature`. `signed`: id, time and body, with dots between them."""
        return "v1a," + binascii.b2a_base64(self._key.sign(signed), newline=False).decode("ascii")


def thumbprint_of(public_key: bytes) -> str:
    """Returns the thumbprint of RFC 7638 of an Ed25519 key (RFC 8037, appendix A.3)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public_key)}
    return _base64url(hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest())


def seal(sealer: Sealer, seed: bytes, customer_id: int, key_id: int, entropy: bytes) -> bytes:
    """Returns a private key, sealed for its customer and its id. `entropy`: as for Sealer.seal."""
    text = _PRIVATE_KEY_PREFIX + base64.b64encode(seed + PrivateSigningKey(seed).public_key).decode("ascii")
    return sealer.seal(text, customer_id, key_id, entropy, Purpose.SIGNING_KEY)


def opened(sealer: Sealer, sealed: bytes, customer_id: int, key_id: int) -> PrivateSigningKey:
    """Returns a private key. Raises KeyMissing, and UnsealError for one that was changed or moved."""
    text = sealer.open(sealed, customer_id, key_id, Purpose.SIGNING_KEY)
    return PrivateSigningKey(base64.b64decode(text.removeprefix(_PRIVATE_KEY_PREFIX))[:SEED_BYTES])


def jwks(keys: Iterable[PublicSigningKey]) -> bytes:
    """Returns a JSON Web Key Set of the keys, in their order."""
    return orjson.dumps(
        {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": _base64url(key.public_key),
                    "kid": key.thumbprint,
                    "use": "sig",
                    "alg": "EdDSA",
                }
                for key in keys
            ]
        }
    )


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
