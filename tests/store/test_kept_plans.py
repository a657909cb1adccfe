"""Small batches use a plan that Postgres keeps; large ones, and all others are planned each time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.store import new_event, new_webhook, new_worker, options, pending, publish, succeeded
from webhook_grpc.hub.log.tail import Tail
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.store.connection.plans import SMALL
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases

ROUNDS = 8
CURSORS = 5  # the driver prepares a statement of a cursor when it comes for the sixth time
PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement ~ %s"


async def test_one_event_is_stored_and_settled_by_kept_plans(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    webhook_id = await new_webhook(database)
    worker = new_worker()
    await leases.register(connection, worker, 60)
    shards = await leases.take(connection, worker, 64)
    settling = LoopConnection(database.options, "settle")
    for _ in range(ROUNDS):
        [delivery] = pending(await publish(connection, new_event()))
        answer = await settle(settling, worker, shards, [succeeded(delivery)])
        for shard, last_seq in answer.last_seqs.items():
            shards[shard].last_seq = last_seq
    [(generic, custom)] = await connection.rows(PLANS, ["new_events AS"])
    assert (generic, custom) == (ROUNDS, 0)
    [(generic, custom)] = await settling.rows(PLANS, ["settled AS"])
    assert (generic, custom) == (ROUNDS, 0)
    assert postgres.rows("SELECT webhook_id, status, count(*) FROM attempts GROUP BY 1, 2") == [
        (webhook_id, "succeeded", ROUNDS)
    ]
    await settling.close()


async def test_a_log_that_is_watched_is_read_by_a_kept_plan(database: Database) -> None:
    connection = LoopConnection(database.options, "tail")
    tail = Tail(connection, poll_seconds=0.01, buffer_changes_max=100, turns=LoopTurns())
    reading = asyncio.create_task(tail.run(), name="tail")
    found: list[tuple[int, int]] = []
    async with tail.subscribe("somebody"), slowness.timeout(20):
        while not found or sum(found[0]) < 3:  # of looks that find nothing
            await asyncio.sleep(0.01)
            found = await connection.rows(PLANS, ["AS k.shard, after, until"], keeps_plan=True)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await connection.close()
    [(generic, custom)] = found
    assert generic >= 3
    assert custom == 0


async def test_a_large_batch_is_planned_for_what_it_is(database: Database, connection: LoopConnection) -> None:
    await new_webhook(database)
    await publish(connection, new_event())  # the session keeps plans now
    for _ in range(ROUNDS):
        await publish(connection, *(new_event() for _ in range(SMALL + 1)))
    small, large = sorted(await connection.rows(PLANS, ["new_events AS"]), reverse=True)
    assert small == (1, 0)
    assert large == (0, ROUNDS - CURSORS)


async def test_a_new_connection_plans_each_time_until_it_is_changed(database: Database) -> None:
    loop = LoopConnection(database.options, "loop")
    await loop.rows("SELECT 1", keeps_plan=True)
    assert await loop.rows("SHOW plan_cache_mode", keeps_plan=True) == [("force_generic_plan",)]
    await loop.close()
    assert await loop.rows("SHOW plan_cache_mode") == [("force_custom_plan",)]
    await loop.close()


async def test_behind_a_transaction_pooler_no_session_is_changed(database_url: str) -> None:
    """The next client of the session would have our setting."""
    loop = LoopConnection(replace(options(database_url), pooling=Pooling.TRANSACTION), "loop")
    [(before,)] = await loop.rows("SHOW plan_cache_mode")
    assert await loop.rows("SHOW plan_cache_mode", keeps_plan=True) == [(before,)]
    await loop.close()
