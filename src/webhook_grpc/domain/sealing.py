"""Webhook secrets at rest: envelope encryption with AES-256-GCM (NIST SP 800-38D).

Each secret is encrypted with a key of its own, and that key with the operator's key, so that the operator's key can be
changed without touching the secrets. Both are bound to the customer and the webhook: a sealed secret that is copied to
another row does not open there.

    version u8 ‖ key id u32 ‖ nonce 12 ‖ wrapped data key 48 ‖ nonce 12 ‖ sealed secret
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
ENTROPY_BYTES: Final = 12 + KEY_BYTES + 12

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BI")
_NONCE: Final = 12
_WRAPPED: Final = KEY_BYTES + 16


class UnsealError(Exception):
    """The sealed secret was changed, moved to another webhook, or sealed with a key that is not known here."""


class Sealer:
    """Seals with the first of the operator's keys, opens with any of them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = next(iter(self._ciphers))

    def seal(self, secret: str, customer_id: int, webhook_id: int, entropy: bytes) -> bytes:
        """Seals a secret. `entropy` is ENTROPY_BYTES fresh random bytes, never used again."""
        wrap_nonce, data_key, nonce = entropy[:_NONCE], entropy[_NONCE:-_NONCE], entropy[-_NONCE:]
        bound_to = _bound_to(customer_id, webhook_id)
        head = _HEAD.pack(_VERSION, self._current)
        wrapped = self._ciphers[self._current].encrypt(wrap_nonce, data_key, head + bound_to)
        return head + wrap_nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, secret.encode("utf-8"), bound_to)

    def open(self, sealed: bytes, customer_id: int, webhook_id: int) -> str:
        """Opens a sealed secret. Raises UnsealError."""
        try:
            version, key_id = _HEAD.unpack_from(sealed)
            cipher = self._ciphers[key_id]
        except (struct.error, KeyError):
            raise UnsealError("sealed with a key that is not configured") from None
        if version != _VERSION:
            raise UnsealError(f"sealed in an unknown form {version}")
        bound_to = _bound_to(customer_id, webhook_id)
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


def _key_id(key: bytes) -> int:
    """Names a key without telling anything about it."""
    return int.from_bytes(hashlib.sha256(b"webhook-grpc key id" + key).digest()[:4], "big")


def _bound_to(customer_id: int, webhook_id: int) -> bytes:
    return struct.pack(">14sqq", b"webhook secret", customer_id, webhook_id)
