"""Reads that a crowd shares: one of those who come together makes it, and nobody gets what was read before it came."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import slowness
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.hub.log.shared_reads import READS_AT_ONCE, SharedReads


class Table:
    """What is read: each read returns its number, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.failure: Exception | None = None
        self._begun = asyncio.Event()
        self._may_end = asyncio.Semaphore(0)

    async def read(self) -> int:
        self.begun = number = self.begun + 1
        self._begun.set()
        await self._may_end.acquire()
        if self.failure is not None:
            raise self.failure
        return number

    async def until_begun(self, count: int) -> None:
        async with slowness.timeout(10):
            while self.begun < count:
                self._begun.clear()
                await self._begun.wait()

    def let_end(self, count: int) -> None:
        for _ in range(count):
            self._may_end.release()


async def test_who_comes_while_a_read_is_under_way_shares_the_next_one() -> None:
    reads, table = SharedReads(), Table()
    first = [asyncio.create_task(reads.read(1, "end", table.read)) for _ in range(3)]
    await table.until_begun(1)
    late = [asyncio.create_task(reads.read(1, "end", table.read)) for _ in range(3)]
    other = asyncio.create_task(reads.read(2, "beginning", table.read))
    await table.until_begun(2)
    assert table.begun == 2, "equal reads run one after the other, others beside them"
    table.let_end(3)
    assert await asyncio.gather(*first, *late, other) == [1, 1, 1, 3, 3, 3, 2]


async def test_a_read_that_fails_fails_for_those_who_share_it_and_is_made_again() -> None:
    reads, table = SharedReads(), Table()
    table.failure = Unavailable("STORAGE_UNAVAILABLE", "no")
    table.let_end(2)
    failed = await asyncio.gather(*(reads.read(1, "end", table.read) for _ in range(2)), return_exceptions=True)
    assert failed == [table.failure] * 2
    table.failure = None
    assert await reads.read(1, "end", table.read) == 2


@pytest.mark.parametrize("is_begun", [False, True])
async def test_who_leaves_takes_the_read_from_nobody(*, is_begun: bool) -> None:
    reads, table = SharedReads(), Table()
    leaving, staying = (asyncio.create_task(reads.read(1, "end", table.read)) for _ in range(2))
    await asyncio.sleep(0)  # now both have asked
    if is_begun:
        await table.until_begun(1)
    leaving.cancel()
    table.let_end(1)
    assert await staying == 1
    assert leaving.cancelled()


async def test_a_customer_with_many_reads_waits_behind_itself() -> None:
    reads, table = SharedReads(), Table()
    many = [asyncio.create_task(reads.read(1, number, table.read)) for number in range(50)]
    await table.until_begun(READS_AT_ONCE)
    other = asyncio.create_task(reads.read(2, "end", table.read))
    joined = asyncio.create_task(reads.read(2, 49, table.read))  # the last one in the line of the other customer
    await asyncio.sleep(0)
    assert table.begun == READS_AT_ONCE, "a few at a time"

    table.let_end(READS_AT_ONCE)
    await table.until_begun(2 * READS_AT_ONCE)
    table.let_end(READS_AT_ONCE)
    async with slowness.timeout(10):
        assert await other <= READS_AT_ONCE + 2
        assert await joined <= READS_AT_ONCE + 4

    table.let_end(50)
    assert len(set(await asyncio.gather(*many))) == 50


async def test_reads_of_those_who_have_left_are_not_made() -> None:
    reads, table = SharedReads(), Table()
    running = [asyncio.create_task(reads.read(1, number, table.read)) for number in range(READS_AT_ONCE)]
    await table.until_begun(READS_AT_ONCE)
    for number in range(100, 200):
        leaving = asyncio.create_task(reads.read(1, number, table.read))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    last = asyncio.create_task(reads.read(1, "end", table.read))

    table.let_end(READS_AT_ONCE + 1)
    async with slowness.timeout(10):
        assert await last == table.begun == READS_AT_ONCE + 1
    await asyncio.gather(*running)
