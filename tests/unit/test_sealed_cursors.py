"""Cursors as clients keep them: nothing can be read of them, and none can be made."""

from __future__ import annotations

from uuid import UUID

import pytest

from webhook_grpc.domain.cursor import CURSOR_BYTES_MAX, encode_cursor
from webhook_grpc.domain.ids import INT64_MAX, SHARD_COUNT
from webhook_grpc.domain.sealed_cursors import PURPOSE, SealedCursors
from webhook_grpc.domain.sealing import Sealer

INCARNATION = UUID(int=7)
POSITION = tuple(range(1000, 1000 + SHARD_COUNT))
OLD, NEW = bytes(32), bytes(range(32))
CUSTOMER = 42


def cursors(*keys: bytes) -> SealedCursors:
    return SealedCursors(Sealer(keys).keys_for(PURPOSE))


def test_a_cursor_opens_for_its_customer_with_any_of_the_keys() -> None:
    sealed = cursors(OLD).seal(INCARNATION, POSITION, CUSTOMER)
    assert cursors(NEW, OLD).open(sealed, CUSTOMER) == (INCARNATION, POSITION)
    assert len(cursors(OLD).seal(INCARNATION, (INT64_MAX,) * SHARD_COUNT, CUSTOMER)) <= CURSOR_BYTES_MAX


def test_equal_positions_have_equal_cursors_so_that_watchers_can_share_them() -> None:
    assert cursors(OLD).seal(INCARNATION, POSITION, 0) == cursors(OLD).seal(INCARNATION, POSITION, 0)


def test_nothing_of_the_log_stands_in_a_cursor() -> None:
    sealed, plain = cursors(OLD).seal(INCARNATION, POSITION, CUSTOMER), encode_cursor(INCARNATION, POSITION)
    assert not {plain[at : at + 4] for at in range(len(plain) - 3)} & {sealed[at : at + 4] for at in range(len(sealed))}


@pytest.mark.parametrize("whose", [0, CUSTOMER + 1])
def test_a_cursor_of_somebody_else_is_as_one_that_was_never_made(whose: int) -> None:
    assert cursors(OLD).open(cursors(OLD).seal(INCARNATION, POSITION, CUSTOMER), whose) is None
    assert cursors(OLD).open(b"\x02" + bytes(120), whose) is None


def test_no_byte_can_be_changed_and_no_other_key_opens_it() -> None:
    sealed = cursors(OLD).seal(INCARNATION, POSITION, CUSTOMER)
    assert cursors(NEW).open(sealed, CUSTOMER) is None
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert cursors(OLD).open(bytes(changed), CUSTOMER) is None
    assert not any(cursors(OLD).open(sealed[:length], CUSTOMER) for length in range(len(sealed)))


def test_a_cursor_of_a_version_before_is_still_read() -> None:
    assert cursors(OLD).open(encode_cursor(INCARNATION, POSITION), CUSTOMER) == (INCARNATION, POSITION)
