"""The log as readers see it: positions, time, what is gone, and the live tail."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import uuid4

import pytest

from tests.support.past import Past
from tests.support.postgres import TestPostgres
from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import CursorExpired, FailedPrecondition
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.hub.log.batches import Batch
from webhook_grpc.hub.log.tail import Subscription, Tail
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.store.connection.session import Row
from webhook_grpc.store.db import Database, LoopConnection, Params
from webhook_grpc.store.log import feed

START: Position = (0,) * 64
NO_END: Position = (INT64_MAX,) * 64
# One row: shard, seq, seconds before now.
WRITE = """
INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status,
    attempt_count, outcome, trigger, started_at, latency_ms, reason, response_status)
SELECT shard, seq, now() - age * interval '1 second', 42, shard + 64, gen_random_uuid(), 'job.completed', now(),
    'succeeded', 1, 'succeeded', 'scheduled', now(), 5, 'none', 200
FROM unnest(%s::smallint[], %s::bigint[], %s::float8[]) AS t(shard, seq, age)
"""


class Log:
    """Writes rows as a shard's owner would."""

    def __init__(self, postgres: TestPostgres) -> None:
        self._postgres = postgres
        self._seqs: dict[int, int] = defaultdict(int)

    def write(self, *shards: int, age: float = 0.0) -> None:
        seqs: list[int] = []
        for shard in shards:
            self._seqs[shard] += 1
            seqs.append(self._seqs[shard])
        self._postgres.rows(WRITE, [list(shards), seqs, [age] * len(shards)])


def changes_of(batches: Iterable[Batch]) -> list[feed.Change]:
    return [change for batch in batches for change in batch.changes]


@pytest.fixture
def written(postgres: TestPostgres) -> Log:
    return Log(postgres)


@pytest.fixture
async def tail(database: Database) -> AsyncGenerator[Tail]:
    connection = LoopConnection(database.options, "tail")
    tail = Tail(connection, poll_seconds=0.02, buffer_changes_max=100, turns=LoopTurns())
    loop = asyncio.create_task(tail.run())
    yield tail
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await connection.close()


def keys(changes: list[feed.Change]) -> list[tuple[int, int]]:
    return [(change.shard, change.seq) for change in changes]


async def test_reading_goes_on_after_a_position(database: Database, written: Log) -> None:
    written.write(1, 1, 2, 1)
    first = await feed.read(database, START, NO_END)
    assert sorted(keys(first)) == [(1, 1), (1, 2), (1, 3), (2, 1)]
    position = feed.advanced(START, first)
    assert position[1:3] == (3, 1)
    written.write(2)
    assert keys(await feed.read(database, position, NO_END)) == [(2, 2)]


async def test_reading_stops_where_it_is_told_to(database: Database, written: Log) -> None:
    written.write(1, 1, 1)
    until = tuple(2 if shard == 1 else 0 for shard in range(64))
    assert keys(await feed.read(database, START, until)) == [(1, 1), (1, 2)]


async def test_a_limit_never_lets_a_row_through_before_an_earlier_one_of_its_shard(
    database: Database, written: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the clock was set back between the two."""
    monkeypatch.setattr(feed, "ROWS_MAX", 3)
    written.write(1, age=0)
    written.write(2, age=50)
    written.write(1, age=100)
    written.write(1, age=200)
    position, seen = START, list[tuple[int, int]]()
    while changes := await feed.read(database, position, NO_END):
        assert len(changes) <= 3
        seen += keys(changes)
        position = feed.advanced(position, changes)
    assert [key for key in seen if key[0] == 1] == [(1, 1), (1, 2), (1, 3)]
    assert len(seen) == 4


@pytest.mark.parametrize(("age", "expected"), [(10_000, 0), (950, 1), (450, 2), (-100, 4)])
async def test_a_time_is_found_in_each_shard(
    database: Database, written: Log, postgres: TestPostgres, age: float, expected: int
) -> None:
    for row_age in (1000, 900, 400, 50):
        written.write(3, age=row_age)
    [(newest,)] = postgres.rows("SELECT max(created_at) FROM attempts")
    written.write(4, age=500)
    start_time = newest + timedelta(seconds=50 - age)  # from when it was written: that may be seconds ago
    position = await feed.position_at(database, start_time)
    assert position[3] == expected
    assert position[4] == (1 if age < 500 else 0)


async def test_the_position_of_a_time_is_found_by_one_statement_however_long_the_log_is(
    database: Database, written: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand watchers may come back at the same time."""
    for minutes in range(40, 0, -1):
        written.write(3, age=60 * minutes)
    statements: list[str] = []
    run = database.rows

    async def noted(statement: LiteralString, params: Params = None) -> list[Row]:
        statements.append(statement)
        return await run(statement, params)

    monkeypatch.setattr(database, "rows", noted)
    position = await feed.position_at(database, datetime.now(UTC) - timedelta(minutes=10.5))
    assert (position[3], position[4], len(statements)) == (30, 0, 1)


async def test_a_position_whose_rows_are_gone_has_expired(
    database: Database, written: Log, postgres: TestPostgres
) -> None:
    written.write(1, 1, 1, 1)
    postgres.rows("DELETE FROM attempts WHERE seq <= 2")  # as dropping a partition does
    postgres.rows("UPDATE shards SET last_seq = 4 WHERE shard = 1")
    at = [tuple(seq if shard == 1 else 0 for shard in range(64)) for seq in range(5)]
    for seq in (0, 1):
        with pytest.raises(CursorExpired) as caught:
            await feed.check_position(database, at[seq])
        assert caught.value.metadata["oldest_time"]
    await feed.check_position(database, at[2])
    await feed.check_position(database, at[4])


async def test_a_position_beyond_the_log_belongs_to_another_log(database: Database, written: Log) -> None:
    written.write(1)
    with pytest.raises(FailedPrecondition):
        await feed.check_position(database, (9,) * 64)


async def test_a_subscriber_gets_exactly_what_comes_after_it_joined(
    database: Database, written: Log, tail: Tail
) -> None:
    written.write(1, 1)
    async with tail.subscribe(1) as subscription:
        assert subscription.joined_at[1] == 2
        written.write(1, 2)
        changes = list[feed.Change]()
        while len(changes) < 2:
            changes += changes_of(await subscription.take(5))
        assert sorted(keys(changes)) == [(1, 3), (2, 1)]


async def test_subscribers_that_join_and_leave_miss_nothing(database: Database, written: Log, tail: Tail) -> None:
    """What a subscriber did not get live lies between its last position and where the next one joined."""
    position, seen = START, list[tuple[int, int]]()
    for round_number in range(12):
        written.write(5, 6)
        async with tail.subscribe(1) as subscription:
            while changes := await feed.read(database, position, subscription.joined_at):
                seen += keys(changes)
                position = feed.advanced(position, changes)
            if round_number % 3:
                written.write(5)
                changes = changes_of(await subscription.take(5))
                seen += keys(changes)
                position = feed.advanced(position, changes)
    written.write(5)
    while changes := await feed.read(database, position, NO_END):
        seen += keys(changes)
        position = feed.advanced(position, changes)
    assert [seq for shard, seq in seen if shard == 5] == list(range(1, position[5] + 1))
    assert [seq for shard, seq in seen if shard == 6] == list(range(1, 13))


async def test_whoever_joins_another_log_gets_nothing_of_the_one_that_was_read_meanwhile(
    postgres: TestPostgres, written: Log, tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored database: a watcher has read its new name while the tail still holds changes of before."""
    other, read, joined = uuid4(), feed.read, asyncio.Queue[Subscription]()

    async def read_slowly(*positions: Any) -> list[feed.Change]:
        changes = await read(*positions)
        if changes and not joined.qsize():
            postgres.rows("UPDATE meta SET log_incarnation = %s", [other])
            joined.put_nowait(await stack.enter_async_context(tail.subscribe(1, log=other)))
        return changes

    async with tail.subscribe(1) as before, AsyncExitStack() as stack:
        monkeypatch.setattr(feed, "read", read_slowly)
        written.write(1, 1)
        while not before.replaced:
            await before.take(5)
        subscription = await joined.get()
        monkeypatch.setattr(feed, "read", read)
        written.write(1)
        assert keys(changes_of(await subscription.take(5))) == [(1, 3)]


async def test_a_slow_subscriber_loses_its_buffer_and_nobody_elses(
    database: Database, written: Log, tail: Tail
) -> None:
    async with tail.subscribe(1) as slow, tail.subscribe(1) as quick:
        got = list[feed.Change]()
        for written_count in (50, 100, 150):
            written.write(*[1] * 50)
            while len(got) < written_count:
                got += changes_of(await quick.take(5))
        assert slow.overrun
        assert not quick.overrun
        assert await slow.take(0) == []
    assert keys(got) == [(1, seq) for seq in range(1, 151)]


async def test_every_subscriber_hears_that_the_server_stops(database: Database, tail: Tail) -> None:
    async with tail.subscribe(1) as subscription:
        tail.close()
        await subscription.take(5)
        assert subscription.closed
    async with tail.subscribe(1) as late:
        assert late.closed


# --- a clock that stepped ---------------------------------------------------------------------------------------------

_DAY = 86_400.0


@pytest.mark.parametrize("back_days", [1, 5], ids=["a day", "further than rows may become visible late"])
async def test_the_tail_skips_nothing_when_the_clock_was_set_back(
    tail: Tail, written: Log, past: Past, back_days: int
) -> None:
    """Rows that are older than those before them; then the clock is set right again."""
    await past.day(back_days)
    async with tail.subscribe(1) as subscription:
        written.write(3)
        assert keys(changes_of(await subscription.take(10))) == [(3, 1)]
        tail.clock_stepped()
        written.write(3, 3, age=back_days * _DAY)
        received = keys(changes_of(await subscription.take(10)))
        tail.clock_stepped()
        written.write(3)
        while len(received) < 3:
            received += keys(changes_of(await subscription.take(10)))
        assert received == [(3, 2), (3, 3), (3, 4)]


async def test_the_tail_skips_nothing_when_it_read_old_rows_after_it_heard_of_a_step(
    tail: Tail, written: Log, past: Past
) -> None:
    """The step is noticed while the last rows of the time before it are still being read."""
    await past.day(5)
    async with tail.subscribe(1) as subscription:
        tail.clock_stepped()
        written.write(3)
        assert keys(changes_of(await subscription.take(10))) == [(3, 1)]
        written.write(3, age=5 * _DAY)
        assert keys(changes_of(await subscription.take(10))) == [(3, 2)]


async def test_the_tail_skips_nothing_after_rows_of_a_clock_that_was_ahead(
    tail: Tail, written: Log, past: Past
) -> None:
    """Nobody has noticed yet that the clock was set right again."""
    await past.day(-5)
    async with tail.subscribe(1) as subscription:
        written.write(3, age=-5 * _DAY)
        assert keys(changes_of(await subscription.take(10))) == [(3, 1)]
        written.write(3)
        assert keys(changes_of(await subscription.take(10))) == [(3, 2)]


async def test_rows_that_are_too_old_to_be_expected_leave_no_hole(database: Database, written: Log, past: Past) -> None:
    """The clock was set back and set right again before anybody noticed."""
    await past.day(5)
    written.write(3, age=0)
    written.write(3, age=5 * _DAY)
    written.write(3, age=0)
    assert keys(await feed.read(database, START, NO_END, datetime.now(UTC))) == [(3, 1), (3, 2), (3, 3)]


@pytest.mark.symptom("hole")
async def test_a_hole_is_a_bug_and_said(database: Database, written: Log, postgres: TestPostgres) -> None:
    for _ in range(3):
        written.write(3)
    postgres.rows("DELETE FROM attempts WHERE shard = 3 AND seq = 2")
    assert keys(await feed.read(database, START, NO_END)) == [(3, 1), (3, 3)]


async def test_the_position_of_a_time_misses_no_row_of_a_later_day(database: Database, written: Log) -> None:
    """The clock was a day ahead for a row; a bisection that believes that time grows ends behind it."""
    for age in (3600, -_DAY, 1800, 900):
        written.write(3, age=age)
    position = await feed.position_at(database, datetime.now(UTC) - timedelta(seconds=1000))
    assert position[3] == 1
