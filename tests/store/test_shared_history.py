"""The log read for watchers who catch up: together, in turn, and never from before a watcher came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.hub.log.history import READS_AT_ONCE, History
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import feed
from webhook_grpc.store.log.rows import Change

from .test_feed import NO_END, START, Log

ROOM = 1_000_000


@pytest.fixture
def written_log(postgres: TestPostgres) -> Log:
    return Log(postgres)


class Reads:
    """Stands in for the table: notes each read, and lets it end when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.positions = list[Position]()
        self.failure: Exception | None = None
        self._begun = asyncio.Event()
        self._may_end = asyncio.Event()
        self._read = feed.read
        monkeypatch.setattr(feed, "read", self._noted)

    def let_end(self) -> None:
        self._may_end.set()

    async def until_begun(self, count: int) -> None:
        async with slowness.timeout(10):
            while len(self.positions) < count:
                self._begun.clear()
                await self._begun.wait()

    async def _noted(self, database: Database, after: Position, until: Position) -> list[Change]:
        self.positions.append(after)
        self._begun.set()
        await self._may_end.wait()
        if self.failure is not None:
            raise self.failure
        return await self._read(database, after, until)


@pytest.fixture
async def reads(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Reads]:
    found = Reads(monkeypatch)
    yield found
    found.let_end()


def seqs(changes: Sequence[Change]) -> list[int]:
    return [change.seq for change in changes]


async def later() -> None:
    """Lets the monotonic clock move on: a reader that joins now came after what was read before."""
    before = time.monotonic()
    while time.monotonic() == before:
        await asyncio.sleep(0)


async def test_watchers_at_the_same_position_share_a_read(database: Database, written_log: Log, reads: Reads) -> None:
    written_log.write(1, 1)
    history = History(database, ROOM)
    with history.reader(1) as one, history.reader(1) as other:
        both = asyncio.gather(one.read(START, NO_END), other.read(START, NO_END))
        await reads.until_begun(1)
        reads.let_end()
        first, second = await both
        assert first is not None
        assert first is second is await other.read(START, NO_END)
        assert seqs(first.changes) == [1, 2]
        assert await one.read(first.after, NO_END) is None
    assert reads.positions == [START, first.after]


async def test_a_read_to_nearer_than_a_watcher_wants_does_not_end_what_it_reads(
    database: Database, written_log: Log
) -> None:
    """Two watchers resume at the same position; between them the log's live end, where both go on, moves."""
    written_log.write(1, 1)
    history = History(database, ROOM)
    with history.reader(1) as at_its_end, history.reader(1) as behind:
        nothing, batch = await asyncio.gather(at_its_end.read(START, START), behind.read(START, NO_END))
    assert nothing is None
    assert batch is not None
    assert seqs(batch.changes) == [1, 2]


async def test_a_watcher_never_gets_what_was_read_before_it_came(
    database: Database, written_log: Log, reads: Reads
) -> None:
    """A customer's data that was deleted since must not be shown again."""
    written_log.write(1)
    reads.let_end()
    history = History(database, ROOM)
    with history.reader(1) as one:
        first = await one.read(START, NO_END)
        await later()
        with history.reader(1) as newcomer:
            assert await newcomer.read(START, NO_END) is not first
    assert len(reads.positions) == 2


async def test_nothing_is_kept_beyond_the_bound_or_when_nobody_catches_up(
    database: Database, written_log: Log, reads: Reads
) -> None:
    written_log.write(1)
    reads.let_end()
    history, small = History(database, ROOM), History(database, 1)
    with history.reader(1) as one, small.reader(1) as other:
        assert await one.read(START, NO_END) is not None
        assert 0 < history.kept_bytes < ROOM
        first = await other.read(START, NO_END)
        assert small.kept_bytes == 0
        assert await other.read(START, NO_END) is not first
    assert history.kept_bytes == 0


async def test_a_watcher_that_leaves_does_not_take_the_changes_from_the_others(
    database: Database, written_log: Log, reads: Reads
) -> None:
    written_log.write(1)
    history = History(database, ROOM)
    with history.reader(1) as one, history.reader(1) as other:
        leaving = asyncio.create_task(one.read(START, NO_END))
        staying = asyncio.create_task(other.read(START, NO_END))
        await reads.until_begun(1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        reads.let_end()
        batch = await staying
    assert batch is not None
    assert len(reads.positions) == 1


async def test_a_read_that_fails_fails_for_all_that_wait_and_is_made_again(
    database: Database, written_log: Log, reads: Reads
) -> None:
    written_log.write(1)
    reads.failure = Unavailable("STORAGE_UNAVAILABLE", "no")
    reads.let_end()
    history = History(database, ROOM)
    with history.reader(1) as one, history.reader(1) as other:
        failed = await asyncio.gather(one.read(START, NO_END), other.read(START, NO_END), return_exceptions=True)
        assert failed == [reads.failure] * 2
        reads.failure = None
        assert await one.read(START, NO_END) is not None


async def test_few_reads_run_at_a_time(database: Database, written_log: Log, reads: Reads) -> None:
    written_log.write(*[1] * 10)
    history = History(database, ROOM)
    with history.reader(1) as reader:
        positions = [(0, seq, *START[2:]) for seq in range(5)]
        all_of_them = asyncio.gather(*(reader.read(position, NO_END) for position in positions))
        await reads.until_begun(READS_AT_ONCE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reads.positions) == READS_AT_ONCE
        reads.let_end()
        batches = await all_of_them
    assert [seqs(batch.changes)[0] for batch in batches if batch] == [1, 2, 3, 4, 5]


async def test_customers_take_turns_and_what_was_asked_for_by_those_who_left_is_not_read(
    database: Database, written_log: Log, reads: Reads
) -> None:
    written_log.write(*[1] * 10)
    history = History(database, ROOM)
    with history.reader(1) as many, history.reader(2) as other:
        asked = [asyncio.create_task(many.read((0, seq, *START[2:]), NO_END)) for seq in range(8)]
        await reads.until_begun(READS_AT_ONCE)
        last = asyncio.create_task(other.read((0, 9, *START[2:]), NO_END))
        await asyncio.sleep(0)
        for leaving in asked[5:]:
            leaving.cancel()
        reads.let_end()
        await asyncio.gather(last, *asked, return_exceptions=True)
    begun = [position[1] for position in reads.positions]
    assert begun.index(9) <= READS_AT_ONCE + 1, "the other customer's does not wait for all of them"
    assert sorted(begun) == [0, 1, 2, 3, 4, 9]
