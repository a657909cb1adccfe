"""Secrets, values of own headers and queries of webhooks, and signing keys, at rest, by envelope encryption.

The cipher is AES-256-GCM (NIST SP 800-38D).

Each secret is encrypted with a key of its own, and that key with the operator's key, so that the operator's key can be
changed without touching the secrets. Both are bound to the customer, the webhook and what the secret is for: a sealed
secret that is copied to another row or column does not open there. Signing keys have their own id in place of a
webhook's.

    version u8 ‖ key id u32 ‖ nonce 12 ‖ wrapped data key 48 ‖ nonce 12 ‖ sealed secret
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
ENTROPY_BYTES: Final = 12 + KEY_BYTES + 12

HEAD_BYTES: Final = 5  # of a sealed secret: with what, and in which form, it was sealed

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BI")
_NONCE: Final = 12
_WRAPPED: Final = KEY_BYTES + 16


class Purpose(Enum):
    """What a sealed secret is for. The values are part of what is sealed: they never change."""

    SIGNING = b"webhook secret"
    HEADERS = b"webhook header"
    SIGNING_KEY = b"signing key"
    QUERY = b"webhook query"


class UnsealError(Exception):
    """The sealed secret was changed, moved to another webhook, or sealed with a key that is not known here."""


class KeyMissing(UnsealError):
    """The secret is sealed with a key that is not known here. `key_id` names the key."""

    def __init__(self, key_id: int) -> None:
        super().__init__(f"sealed with the key {key_id_text(key_id)}, which is not configured")
        self.key_id = key_id


class Sealer:
    """Seals with the first of the operator's keys, opens with any of them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        keys = tuple(keys)
        self._ciphers = {key_id_of(key): AESGCM(key) for key in keys}
        self._keys = keys
        self._digest_keys = [hashlib.sha256(b"webhook-grpc digest" + key).digest() for key in keys]
        self._access_keys = [hashlib.sha256(b"webhook-grpc access token" + key).digest() for key in keys]
        self._current = next(iter(self._ciphers))

    @property
    def key_ids(self) -> tuple[int, ...]:
        """Returns the ids of its keys, first the one that seals."""
        return tuple(self._ciphers)

    def keys_for(self, purpose: bytes) -> tuple[bytes, ...]:
        """Returns a key of 64 bytes for another purpose, made of each of its own; first that of the one that seals."""
        return tuple(hmac.digest(key, purpose, "sha512") for key in self._keys)

    def digests(self, content: bytes) -> tuple[bytes, ...]:
        """Returns a digest with each key, first that of the key that seals. Without a key nobody can make one."""
        return tuple(hmac.digest(key, content, "sha256") for key in self._digest_keys)

    def access_macs(self, claims: bytes) -> tuple[bytes, ...]:
        """Returns the HMAC-SHA256 of an access token's claims with each key, first that of the key that signs."""
        return tuple(hmac.digest(key, claims, "sha256") for key in self._access_keys)

    def seal(
        self,
        secret: str,
        customer_id: int,
        webhook_id: int,
        entropy: bytes,
        purpose: Purpose = Purpose.SIGNING,
    ) -> bytes:
        """Seals a secret. `entropy` is ENTROPY_BYTES fresh random bytes, never used again."""
        wrap_nonce, data_key, nonce = entropy[:_NONCE], entropy[_NONCE:-_NONCE], entropy[-_NONCE:]
        bound_to = _bound_to(customer_id, webhook_id, purpose)
        head = _HEAD.pack(_VERSION, self._current)
        wrapped = self._ciphers[self._current].encrypt(wrap_nonce, data_key, head + bound_to)
        return head + wrap_nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, secret.encode("utf-8"), bound_to)

    def open(self, sealed: bytes, customer_id: int, webhook_id: int, purpose: Purpose = Purpose.SIGNING) -> str:
        """Opens a sealed secret. Raises KeyMissing, and UnsealError for one that was changed or moved."""
        key_id = sealed_with(sealed)
        if key_id is None:
            raise UnsealError("sealed in an unknown form")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyMissing(key_id)
        bound_to = _bound_to(customer_id, webhook_id, purpose)
        wrap_at = _HEAD.size + _NONCE
        nonce_at = wrap_at + _WRAPPED
        try:
            data_key = cipher.decrypt(
                sealed[_HEAD.size : wrap_at], sealed[wrap_at:nonce_at], sealed[: _HEAD.size] + bound_to
            )
            nonce = sealed[nonce_at : nonce_at + _NONCE]
            return AESGCM(data_key).decrypt(nonce, sealed[nonce_at + _NONCE :], bound_to).decode("utf-8")
        except (InvalidTag, ValueError):
            raise UnsealError("changed, or sealed for another webhook") from None


def sealed_with(sealed: bytes) -> int | None:
    """Returns the id of the key that a secret is sealed with; None if its form is not known. Its head is enough."""
    if len(sealed) < HEAD_BYTES:
        return None
    version, key_id = _HEAD.unpack_from(sealed)
    return key_id if version == _VERSION else None


def head_of(key_id: int) -> bytes:
    """Returns how everything begins that is sealed with a key: HEAD_BYTES."""
    return _HEAD.pack(_VERSION, key_id)


def key_id_text(key_id: int) -> str:
    """Returns a key's id as people see it."""
    return f"{key_id:08x}"


def key_id_of(key: bytes) -> int:
    """Names a key without saying anything about it."""
    return int.from_bytes(hashlib.sha256(b"webhook-grpc key id" + key).digest()[:4], "big")


def _bound_to(customer_id: int, webhook_id: int, purpose: Purpose) -> bytes:
    return struct.pack(">14sqq", purpose.value, customer_id, webhook_id)
