"""Leases: who may take a shard, and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString

import pytest

from tests.support.postgres import TestPostgres, connected
from tests.support.store import new_worker
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.ownership import fence, leases, neighbours
from webhook_grpc.store.ownership.leases import Free, Live
from webhook_grpc.store.ownership.marks import ProcessMark
from webhook_grpc.store.ownership.neighbours import Neighbour

pytestmark = pytest.mark.fast

EXPIRE = "UPDATE workers SET lease_until = now() - interval '1 second' WHERE worker_id = %s"


async def test_concurrent_takers_get_each_shard_once(database: Database) -> None:
    connections = [LoopConnection(database.options, str(number)) for number in range(4)]
    workers = [new_worker() for _ in connections]
    for connection, worker in zip(connections, workers, strict=True):
        await leases.register(connection, worker, 60)
    taken = await asyncio.gather(
        *(leases.take(connection, worker, 64) for connection, worker in zip(connections, workers, strict=True))
    )
    for connection in connections:
        await connection.close()
    assert sorted(shard for shards in taken for shard in shards) == list(range(64))


async def test_no_more_is_taken_than_asked_for(connection: LoopConnection) -> None:
    worker = new_worker()
    await leases.register(connection, worker, 60)
    assert len(await leases.take(connection, worker, 10)) == 10


async def test_shards_of_a_live_process_are_not_taken(connection: LoopConnection) -> None:
    first, second = new_worker(), new_worker()
    await leases.register(connection, first, 60)
    await leases.register(connection, second, 60)
    await leases.take(connection, first, 64)
    assert await leases.take(connection, second, 64) == {}


async def test_shards_of_a_dead_process_are_taken_at_a_new_epoch(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await leases.register(connection, first, 60)
    before = await leases.take(connection, first, 64)
    postgres.rows(EXPIRE, [first])
    await leases.register(connection, second, 60)
    after = await leases.take(connection, second, 64)
    assert {shard: owned.epoch for shard, owned in after.items()} == {s: o.epoch + 1 for s, o in before.items()}
    assert await leases.owned_epochs(connection, first) == {}


async def test_an_expired_lease_is_never_renewed(connection: LoopConnection, postgres: TestPostgres) -> None:
    worker = new_worker()
    await leases.register(connection, worker, 60)
    assert await leases.renew(connection, worker, 60) is not None
    postgres.rows(EXPIRE, [worker])
    assert await leases.renew(connection, worker, 60) is None


async def test_released_shards_can_be_taken_at_once_and_their_seq_goes_on(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await leases.register(connection, first, 60)
    await leases.register(connection, second, 60)
    shards = await leases.take(connection, first, 64)
    shards[7].last_seq = 123  # as after settling; the log itself may have been dropped by retention since
    await leases.release(connection, first, shards)
    assert (await leases.take(connection, second, 64))[7].last_seq == 123


async def test_a_process_that_lost_a_shard_cannot_release_it(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await leases.register(connection, first, 60)
    shards = await leases.take(connection, first, 64)
    postgres.rows(EXPIRE, [first])
    await leases.register(connection, second, 60)
    await leases.take(connection, second, 64)
    await leases.release(connection, first, shards)
    assert len(await leases.owned_epochs(connection, second)) == 64


# --- when the database's clock has stepped back ----------------------------------------------------------------------

AHEAD = "UPDATE workers SET lease_until = now() + interval '1 hour' WHERE worker_id = %s"


async def test_a_lease_that_ends_later_than_it_can_is_not_counted_on(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    dead, alive = new_worker(), new_worker()
    await leases.register(connection, dead, 4)
    await leases.take(connection, dead, 64)
    postgres.rows(AHEAD, [dead])
    await leases.register(connection, alive, 4)
    assert await leases.count_live(connection) == Live(1, 4)
    assert await leases.count_free(connection) == Free(64, 64)
    assert len(await leases.take(connection, alive, 64)) == 64


async def test_each_lease_is_judged_by_its_own_length(connection: LoopConnection, postgres: TestPostgres) -> None:
    """A process may have a lease of a second beside one that has a lease of a minute."""
    for seconds in (1, 60):
        await leases.register(connection, new_worker(), seconds)
    assert await leases.count_live(connection) == Live(2, 60)
    postgres.rows("UPDATE workers SET lease_until = now() + interval '3 seconds'")
    assert await leases.count_live(connection) == Live(1, 60)


async def test_a_process_of_the_version_before_has_the_longest_lease_that_there_is(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    insert = "INSERT INTO workers (worker_id, lease_until) VALUES (%s, now() + interval '1 minute')"
    postgres.rows(insert, [new_worker()])
    assert await leases.count_live(connection) == Live(1, 60)
    postgres.rows("UPDATE workers SET lease_until = now() + interval '3 minutes'")
    assert await leases.count_live(connection) == Live(0, 0)


async def test_a_process_that_is_alive_renews_its_lease_and_keeps_its_shards(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    worker, other = new_worker(), new_worker()
    await leases.register(connection, worker, 4)
    await leases.register(connection, other, 4)
    await leases.take(connection, worker, 64)
    postgres.rows(AHEAD, [worker])
    [(now,)] = postgres.rows("SELECT now()")
    renewed_at = await leases.renew(connection, worker, 4)
    assert renewed_at is not None
    assert renewed_at - now < timedelta(minutes=1)
    assert await leases.take(connection, other, 64) == {}


async def test_what_a_clock_that_was_far_ahead_has_left_is_forgotten(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    await leases.register(connection, new_worker(), 4)
    postgres.rows("UPDATE workers SET lease_until = now() + interval '25 hours'")
    await leases.forget_dead(connection)
    assert postgres.rows("SELECT * FROM workers") == []


async def test_a_shard_was_never_abandoned_later_than_now(connection: LoopConnection, postgres: TestPostgres) -> None:
    """Else every delivery would be marked before it is sent, for as long as the clock has stepped back by."""
    worker = new_worker()
    postgres.rows("UPDATE shards SET abandoned_at = now() + interval '1 day'")
    await leases.register(connection, worker, 4)
    taken = await leases.take(connection, worker, 64)
    [(now,)] = postgres.rows("SELECT now()")
    assert all(owned.abandoned_at is not None and owned.abandoned_at <= now for owned in taken.values())


# --- when a process is known to be dead ------------------------------------------------------------------------------

FENCED: LiteralString = fence.FENCE + " SELECT count(*) FROM own"  # noqa: S608 - constants
HERE = ProcessMark("boot host", "pid:[1] time:[2]", 7, 1234)


async def test_the_shards_of_a_dead_neighbour_are_free_at_once_and_its_late_result_is_not_written(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    dead, other = new_worker(), new_worker()
    await leases.register(connection, dead, 60, mark=HERE)
    before = await leases.take(connection, dead, 64)
    assert await neighbours.neighbours(connection, HERE) == [Neighbour(dead, HERE)]
    assert await neighbours.end_leases(connection, HERE, [Neighbour(dead, HERE)]) == [dead]
    assert await neighbours.end_leases(connection, HERE, [Neighbour(dead, HERE)]) == [], "once is enough"
    assert await leases.renew(connection, dead, 60) is None
    await leases.register(connection, other, 60, mark=HERE)
    after = await leases.take(connection, other, 64)
    assert {shard: owned.epoch for shard, owned in after.items()} == {s: o.epoch + 1 for s, o in before.items()}
    late = fence.fence_parameters(dead, before)
    assert await connection.rows(FENCED, late) == [(0,)]


async def test_a_renewal_of_the_dead_one_that_was_on_its_way_does_not_bring_its_lease_back(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    """It began before the lease was ended, and comes to the row after that."""
    dead = new_worker()
    await leases.register(connection, dead, 60, mark=HERE)
    with connected(postgres.url) as late:
        late.execute("BEGIN")  # from here on, now() stands
        late.execute("SELECT now()")
        assert await neighbours.end_leases(connection, HERE, [Neighbour(dead, HERE)]) == [dead]
        renewed = late.execute(leases.RENEW_LEASE, {"worker": dead, "ttl": 60, "retiring": False})
        assert renewed.rowcount == 0
        late.execute("COMMIT")
    assert postgres.rows("SELECT 1 FROM workers WHERE lease_until > now()") == []


@pytest.mark.parametrize(
    "elsewhere", [replace(HERE, machine="another boot"), replace(HERE, namespaces="pid:[9] time:[2]"), None]
)
async def test_the_lease_of_a_process_elsewhere_is_not_ended(
    connection: LoopConnection, postgres: TestPostgres, elsewhere: ProcessMark | None
) -> None:
    """Of another machine, of a container on the same machine, or of a version that writes no mark."""
    worker = new_worker()
    await leases.register(connection, worker, 60, mark=elsewhere)
    assert await neighbours.neighbours(connection, HERE) == []
    assert await neighbours.end_leases(connection, HERE, [Neighbour(worker, HERE)]) == []
    assert await leases.renew(connection, worker, 60) is not None
