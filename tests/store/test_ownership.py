"""Leases: who may take a shard, and when."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import new_worker
from webhook_grpc.store import ownership
from webhook_grpc.store.db import Database, LoopConnection

pytestmark = pytest.mark.fast

EXPIRE = "UPDATE workers SET lease_until = now() - interval '1 second' WHERE worker_id = %s"


async def test_concurrent_takers_get_each_shard_once(database: Database) -> None:
    connections = [LoopConnection(database.options, str(number)) for number in range(4)]
    workers = [new_worker() for _ in connections]
    for connection, worker in zip(connections, workers, strict=True):
        await ownership.register(connection, worker, 60)
    taken = await asyncio.gather(
        *(ownership.take(connection, worker, 64) for connection, worker in zip(connections, workers, strict=True))
    )
    for connection in connections:
        await connection.close()
    assert sorted(shard for shards in taken for shard in shards) == list(range(64))


async def test_no_more_is_taken_than_asked_for(connection: LoopConnection) -> None:
    worker = new_worker()
    await ownership.register(connection, worker, 60)
    assert len(await ownership.take(connection, worker, 10)) == 10


async def test_shards_of_a_live_process_are_not_taken(connection: LoopConnection) -> None:
    first, second = new_worker(), new_worker()
    await ownership.register(connection, first, 60)
    await ownership.register(connection, second, 60)
    await ownership.take(connection, first, 64)
    assert await ownership.take(connection, second, 64) == {}


async def test_shards_of_a_dead_process_are_taken_at_a_new_epoch(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await ownership.register(connection, first, 60)
    before = await ownership.take(connection, first, 64)
    postgres.rows(EXPIRE, [first])
    await ownership.register(connection, second, 60)
    after = await ownership.take(connection, second, 64)
    assert {shard: owned.epoch for shard, owned in after.items()} == {s: o.epoch + 1 for s, o in before.items()}
    assert await ownership.owned_epochs(connection, first) == {}


async def test_an_expired_lease_is_never_renewed(connection: LoopConnection, postgres: TestPostgres) -> None:
    worker = new_worker()
    await ownership.register(connection, worker, 60)
    assert await ownership.renew(connection, worker, 60) is not None
    postgres.rows(EXPIRE, [worker])
    assert await ownership.renew(connection, worker, 60) is None


async def test_released_shards_can_be_taken_at_once_and_their_seq_goes_on(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await ownership.register(connection, first, 60)
    await ownership.register(connection, second, 60)
    shards = await ownership.take(connection, first, 64)
    shards[7].last_seq = 123  # as after settling; the log itself may have been dropped by retention since
    await ownership.release(connection, first, shards)
    assert (await ownership.take(connection, second, 64))[7].last_seq == 123


async def test_a_process_that_lost_a_shard_cannot_release_it(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    first, second = new_worker(), new_worker()
    await ownership.register(connection, first, 60)
    shards = await ownership.take(connection, first, 64)
    postgres.rows(EXPIRE, [first])
    await ownership.register(connection, second, 60)
    await ownership.take(connection, second, 64)
    await ownership.release(connection, first, shards)
    assert len(await ownership.owned_epochs(connection, second)) == 64
