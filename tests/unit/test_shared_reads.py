"""Reads that a crowd shares: one of those who come together makes it, and nobody gets what was read before it came."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import slowness
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.hub.log.shared_reads import SharedReads


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
    first = [asyncio.create_task(reads.read("end", table.read)) for _ in range(3)]
    await table.until_begun(1)
    late = [asyncio.create_task(reads.read("end", table.read)) for _ in range(3)]
    other = asyncio.create_task(reads.read("beginning", table.read))
    await table.until_begun(2)
    assert table.begun == 2, "equal reads run one after the other, others beside them"
    table.let_end(3)
    assert await asyncio.gather(*first, *late, other) == [1, 1, 1, 3, 3, 3, 2]


async def test_a_read_that_fails_fails_for_those_who_share_it_and_is_made_again() -> None:
    reads, table = SharedReads(), Table()
    table.failure = Unavailable("STORAGE_UNAVAILABLE", "no")
    table.let_end(2)
    failed = await asyncio.gather(*(reads.read("end", table.read) for _ in range(2)), return_exceptions=True)
    assert failed == [table.failure] * 2
    table.failure = None
    assert await reads.read("end", table.read) == 2


@pytest.mark.parametrize("is_begun", [False, True])
async def test_who_leaves_takes_the_read_from_nobody(*, is_begun: bool) -> None:
    reads, table = SharedReads(), Table()
    leaving, staying = (asyncio.create_task(reads.read("end", table.read)) for _ in range(2))
    await asyncio.sleep(0)  # now both have asked
    if is_begun:
        await table.until_begun(1)
    leaving.cancel()
    table.let_end(1)
    assert await staying == 1
    assert leaving.cancelled()
