"""Who takes what: when the clock has stepped, and when something belongs to nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from random import Random
from types import SimpleNamespace
from typing import LiteralString

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.store import new_worker, options
from webhook_grpc.engine import ownership
from webhook_grpc.engine.ownership import Ownership
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import LoopConnection

LEASE_SECONDS = 60.0
BEAT_SECONDS = LEASE_SECONDS / ownership.RENEWALS_PER_LEASE
PHANTOM = "INSERT INTO workers (worker_id, lease_until, lease_seconds) VALUES (%s, now() + interval '1 minute', 60)"
WAITING: LiteralString = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
STEP_BACK = "UPDATE workers SET lease_until = lease_until + interval '1 hour'"  # the same as an hour less of now()
NAME_OF_LOG = "SELECT log_incarnation FROM meta"
LOST = "the database has lost what was committed: watchers start again"
TAKEN = "shards belong to nobody and nobody takes them: taken beyond the share of this process"


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The monotonic clock of this machine, as the ownership sees it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(ownership, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Idle:
    """Holds nothing of any shard but those that are busy."""

    def __init__(self, busy: Collection[int] = ()) -> None:
        self.busy = set(busy)

    def gained(self, shards: set[int]) -> None:
        pass

    def leaving(self, shards: set[int]) -> None:
        pass

    def lost(self, shards: set[int]) -> None:
        pass

    def is_idle(self, shard: int) -> bool:
        return shard not in self.busy

    def is_stuck(self, shard: int, now: float) -> bool:
        return False

    async def before_release(self, shards: Collection[int]) -> None:
        pass


@contextlib.asynccontextmanager
async def owner_in(database_url: str, listener: Idle | None = None) -> AsyncGenerator[Ownership]:
    """One whose shards are always idle, unless its listener says else."""
    connection = LoopConnection(options(database_url), "ownership")
    owner = Ownership(connection, Shards(), listener or Idle(), DatabaseClock(), Random(), LEASE_SECONDS)
    yield owner
    await owner.leave()
    await connection.close()


@pytest.fixture
async def owner(database_url: str, monotonic: SimpleNamespace) -> AsyncGenerator[Ownership]:
    del monotonic
    async with owner_in(database_url) as owner:
        yield owner


@pytest.mark.symptom("taken")
async def test_shards_that_nobody_takes_are_taken_beyond_the_share_after_two_beats_and_not_before(
    owner: Ownership, postgres: TestPostgres, monotonic: SimpleNamespace
) -> None:
    """A row that counts as a process, and takes nothing."""
    postgres.rows(PHANTOM, [new_worker()])
    with capture_logs() as logs:
        await owner.beat()
        await owner.beat()
        monotonic.now += 1.9 * BEAT_SECONDS
        await owner.beat()
        assert len(owner.shards.owned) == 32
        assert [line for line in logs if line["event"] == TAKEN] == []
        monotonic.now += 0.2 * BEAT_SECONDS
        await owner.beat()
    assert len(owner.shards.owned) == 64
    [warning] = [line for line in logs if line["event"] == TAKEN]
    assert (warning["count"], warning["live_count"]) == (32, 2)


async def test_what_was_taken_beyond_the_share_is_given_to_a_process_that_comes(
    owner: Ownership, postgres: TestPostgres, monotonic: SimpleNamespace
) -> None:
    await test_shards_that_nobody_takes_are_taken_beyond_the_share_after_two_beats_and_not_before(
        owner, postgres, monotonic
    )
    await owner.beat()
    assert len(owner.shards.owned) == 64, "it does not give back what nobody takes"
    postgres.rows(PHANTOM, [new_worker()])
    await owner.beat()
    assert len(owner.shards.owned) == 22


async def test_a_process_that_comes_takes_over_half_of_what_is_busy(
    database_url: str, monotonic: SimpleNamespace
) -> None:
    """Twenty webhooks, created one after the other, each with a request in flight when the second process comes."""
    del monotonic
    webhooks = Idle(busy=range(1, 21))
    async with owner_in(database_url, webhooks) as first, owner_in(database_url) as second:
        await first.beat()
        await second.beat()
        await first.beat()
        await second.beat()
        assert len(second.shards.owned) == 22, "a busy shard stays until its requests have ended"
        webhooks.busy.clear()
        await first.beat()
        await second.beat()
        assert len(second.shards.owned.keys() & set(range(1, 21))) == 10


async def test_nobody_is_robbed_in_the_moment_in_which_the_clock_steps_back(
    owner: Ownership, database_url: str, postgres: TestPostgres, monotonic: SimpleNamespace
) -> None:
    async with owner_in(database_url) as other:
        for _ in range(2):
            await owner.beat()
            await other.beat()
        assert (len(owner.shards.owned), len(other.shards.owned)) == (32, 32)
        epochs = other.shards.epochs()

        postgres.rows(STEP_BACK)
        owner.clock_stepped()  # the first to renew notices it
        await owner.beat()
        await other.beat()
        monotonic.now += 3 * BEAT_SECONDS
        await owner.beat()

        assert other.shards.epochs() == epochs
        assert (len(owner.shards.owned), len(other.shards.owned)) == (32, 32)


async def test_the_shards_of_one_that_died_are_taken_two_beats_after_the_clock_stepped_back(
    owner: Ownership, postgres: TestPostgres, monotonic: SimpleNamespace
) -> None:
    dead = new_worker()
    postgres.rows(PHANTOM, [dead])
    postgres.rows("UPDATE shards SET owner = %s", [dead])
    postgres.rows(STEP_BACK)
    owner.clock_stepped()
    await owner.beat()
    assert owner.shards.owned == {}
    monotonic.now += 2 * BEAT_SECONDS
    await owner.beat()
    assert len(owner.shards.owned) == 64


@pytest.mark.symptom("lost commits")
async def test_a_log_that_has_become_shorter_gets_another_name_once_and_all_shards_are_read_again(
    owner: Ownership, postgres: TestPostgres
) -> None:
    """The database came back older: what it had told this process of is not there."""
    await owner.beat()
    before = postgres.rows(NAME_OF_LOG)
    owner.log_reached(dict(owner.shards.owned), {7: 5, 8: 3})
    with capture_logs() as logs:
        await owner.readopt({7})
        assert owner.shards.owned == {}, "nothing that is remembered of a shard counts any more"
        after = postgres.rows(NAME_OF_LOG)
        await owner.beat()
        await owner.readopt({8})
    assert len(owner.shards.owned) == 64
    assert owner.shards.owned[7].last_seq == 0
    assert before != after
    assert postgres.rows(NAME_OF_LOG) == after
    assert [line["changes"] for line in logs if line["event"] == LOST] == [5]


async def test_a_renewal_that_was_held_up_until_others_had_the_shards_allows_no_request_for_them(
    database_url: str, postgres: TestPostgres, monotonic: SimpleNamespace
) -> None:
    """It succeeds: the lease had not run out when it began. What is whose has to be read before anything is sent."""
    memory = Shards()
    seen = list[float]()

    class Watching(Idle):
        def lost(self, shards: set[int]) -> None:
            del shards
            seen.append(memory.send_until)

    connection = LoopConnection(options(database_url), "ownership")
    owner = Ownership(connection, memory, Watching(), DatabaseClock(), Random(), LEASE_SECONDS)
    await owner.beat()
    assert len(memory.owned) == 64
    before = memory.send_until
    other = new_worker()
    async with await psycopg.AsyncConnection.connect(database_url) as lock:
        await lock.execute("SELECT FROM workers WHERE worker_id = %s FOR UPDATE", [memory.worker])
        monotonic.now += LEASE_SECONDS
        beat = asyncio.create_task(owner.beat())
        async with slowness.timeout(20):
            while postgres.rows(WAITING) != [(1,)]:
                await asyncio.sleep(0.01)  # Postgres gives no signal that a statement waits
        postgres.rows(PHANTOM, [other])
        postgres.rows("UPDATE shards SET owner = %s, epoch = epoch + 1", [other])
    await beat
    assert seen == [before]
    assert memory.owned == {}
    assert memory.send_until > before
    await connection.close()
