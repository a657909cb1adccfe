"""Cursors as clients keep them: sealed, so that they show nothing of the log, and only those that we made are read.

A position has a counter for each shard, which would say how much happens for all customers. AES-SIV (RFC 5297) makes
equal cursors of equal positions and needs no nonce, of which a busy stream would use up too many.

    version u8 ‖ synthetic IV 16 ‖ sealed cursor of domain/cursor.py
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from .cursor import CURSOR_BYTES_MAX, Position, decode_cursor, encode_cursor

PURPOSE: Final = b"webhook-grpc cursor"

_VERSION: Final = b"\x02"
_REMEMBERED_MAX: Final = 64  # watchers that keep up are at the same position


class SealedCursors:
    """Seals with the first of the keys, opens with any of them. A key has 64 bytes.

    `whose` is the customer that the caller is bound to, 0 for none: nobody can use the cursor of another customer.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESSIV(key) for key in keys]
        self.seal = functools.lru_cache(_REMEMBERED_MAX)(self._seal)

    def _seal(self, incarnation: UUID, position: Position, whose: int) -> bytes:
        packed = encode_cursor(incarnation, position)
        return _VERSION + self._ciphers[0].encrypt(packed, [_VERSION, b"%d" % whose])

    def open(self, cursor: bytes, whose: int) -> tuple[UUID, Position] | None:
        """Returns the incarnation and the position; None for what was not made here, or for somebody else.

        A cursor that is not sealed is one of an older version: it gives no more than a start time does.
        """
        if cursor[:1] != _VERSION:
            return decode_cursor(cursor)
        if len(cursor) > CURSOR_BYTES_MAX:
            return None
        for cipher in self._ciphers:
            try:
                return decode_cursor(cipher.decrypt(cursor[1:], [_VERSION, b"%d" % whose]))
            except (InvalidTag, ValueError):
                continue
        return None
