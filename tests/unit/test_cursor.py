"""Cursors: what a client keeps comes back as it was, and nothing else passes for one."""

from __future__ import annotations

import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.cursor import CURSOR_BYTES_MAX, Position, decode_cursor, encode_cursor
from webhook_grpc.domain.ids import INT64_MAX, SHARD_COUNT

INCARNATION = UUID("0198c0de-0000-4000-8000-00000000002a")
BEGINNING: Position = (0,) * SHARD_COUNT

seqs = st.integers(min_value=0, max_value=300) | st.integers(min_value=0, max_value=INT64_MAX)
positions = st.lists(seqs, min_size=SHARD_COUNT, max_size=SHARD_COUNT).map(tuple)


def with_check(packed: bytes) -> bytes:
    """Bytes with the checksum that is right for them."""
    return packed + zlib.crc32(packed).to_bytes(4, "big")


@given(st.uuids(), positions)
def test_a_cursor_reads_back(incarnation: UUID, position: Position) -> None:
    assert decode_cursor(encode_cursor(incarnation, position)) == (incarnation, position)


@pytest.mark.parametrize("seq", [0, 1, 127, 128, 16_383, 16_384, INT64_MAX - 1, INT64_MAX])
def test_positions_at_the_ends_of_a_byte_read_back(seq: int) -> None:
    position = (seq,) + (0,) * (SHARD_COUNT - 2) + (seq,)
    assert decode_cursor(encode_cursor(INCARNATION, position)) == (INCARNATION, position)


def test_a_cursor_of_a_young_log_is_short_and_no_cursor_is_too_long() -> None:
    assert len(encode_cursor(INCARNATION, BEGINNING)) == 1 + 16 + SHARD_COUNT + 4
    assert len(encode_cursor(INCARNATION, (127,) * SHARD_COUNT)) == 1 + 16 + SHARD_COUNT + 4
    assert len(encode_cursor(INCARNATION, (INT64_MAX,) * SHARD_COUNT)) <= CURSOR_BYTES_MAX


def test_no_bit_can_be_changed() -> None:
    cursor = encode_cursor(INCARNATION, tuple(range(SHARD_COUNT)))
    for bit in range(8 * len(cursor)):
        changed = bytearray(cursor)
        changed[bit // 8] ^= 1 << bit % 8
        assert decode_cursor(bytes(changed)) is None


def test_nothing_can_be_cut_off_or_added() -> None:
    cursor = encode_cursor(INCARNATION, tuple(range(100, 100 + SHARD_COUNT)))
    assert not any(decode_cursor(cursor[:length]) for length in range(len(cursor)))
    assert decode_cursor(cursor + b"\0") is None
    assert decode_cursor(b"\0" + cursor) is None


@pytest.mark.parametrize(
    "packed",
    [
        b"\x02" + INCARNATION.bytes + bytes(SHARD_COUNT),
        b"\x00" + INCARNATION.bytes + bytes(SHARD_COUNT),
        b"\x01" + INCARNATION.bytes + bytes(SHARD_COUNT - 1),
        b"\x01" + INCARNATION.bytes + bytes(SHARD_COUNT + 1),
        b"\x01" + INCARNATION.bytes + b"\xff" * SHARD_COUNT,
        b"\x01" + INCARNATION.bytes + bytes(SHARD_COUNT - 1) + b"\x80" * 9 + b"\x01",  # INT64_MAX + 1
        b"\x01" + INCARNATION.bytes + bytes(SHARD_COUNT - 1) + b"\xff" * 900 + b"\x01",
    ],
    ids=["version 2", "version 0", "63 shards", "65 shards", "no end", "beyond int64", "a huge number"],
)
def test_bytes_with_a_right_checksum_but_another_form_are_no_cursor(packed: bytes) -> None:
    assert decode_cursor(with_check(packed)) is None


def test_longer_bytes_than_any_cursor_are_not_looked_at() -> None:
    packed = b"\x01" + INCARNATION.bytes + bytes(SHARD_COUNT - 1) + b"\x80" * CURSOR_BYTES_MAX + b"\x00"
    assert decode_cursor(with_check(packed)) is None


@given(st.binary(max_size=200))
def test_other_bytes_are_no_cursor(noise: bytes) -> None:
    assert decode_cursor(noise) is None


@given(st.binary(min_size=SHARD_COUNT, max_size=300))
def test_whatever_numbers_a_right_checksum_covers_they_are_64_of_int64_or_none(noise: bytes) -> None:
    decoded = decode_cursor(with_check(b"\x01" + INCARNATION.bytes + noise))
    if decoded is not None:
        incarnation, position = decoded
        assert incarnation == INCARNATION
        assert len(position) == SHARD_COUNT
        assert 0 <= min(position) <= max(position) <= INT64_MAX
