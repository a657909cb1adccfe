"""The position of a reader in the log of attempts: for each shard, the last `seq` it has seen.

`seq` is dense in each shard and given in commit order, so a position says exactly what a reader has seen and what not,
across processes. A restored database gets a new incarnation; a position of the old one means nothing there.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final
from uuid import UUID

from .ids import INT64_MAX, SHARD_COUNT

CURSOR_BYTES_MAX: Final = 1024

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">B16s")
_CHECK: Final = struct.Struct(">I")

Position = tuple[int, ...]
"""The last seen `seq` of each shard, in order of the shards."""


def encode_cursor(incarnation: UUID, position: Position) -> bytes:
    """Returns the opaque form that clients keep."""
    packed = bytearray(_HEAD.pack(_VERSION, incarnation.bytes))
    for seq in position:
        rest = seq
        while rest > 0x7F:
            packed.append(rest & 0x7F | 0x80)
            rest >>= 7
        packed.append(rest)
    return bytes(packed + _CHECK.pack(zlib.crc32(packed)))


def decode_cursor(cursor: bytes) -> tuple[UUID, Position] | None:
    """Returns the incarnation and the position, or None if these bytes were not made by encode_cursor."""
    if not _HEAD.size + SHARD_COUNT + _CHECK.size <= len(cursor) <= CURSOR_BYTES_MAX:
        return None
    packed = cursor[: -_CHECK.size]
    if _CHECK.pack(zlib.crc32(packed)) != cursor[-_CHECK.size :] or packed[0] != _VERSION:
        return None
    position = _decode_numbers(packed[_HEAD.size :])
    if len(position) != SHARD_COUNT or max(position) > INT64_MAX:
        return None
    return UUID(bytes=packed[1 : _HEAD.size]), position


def _decode_numbers(packed: bytes) -> Position:
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return tuple(numbers)
