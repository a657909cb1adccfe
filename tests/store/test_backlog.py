"""What is due, and what is left of it when its event is gone."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER, new_event, new_webhook, new_worker, pending, publish, to_retry
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.engine.attempt import expired
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists.deliveries import DELIVERIES_START, list_deliveries
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.outbox import due
from webhook_grpc.store.outbox.due import FetchRequest
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


async def test_what_is_left_for_a_webhook_that_the_database_has_lost_is_not_looked_for(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    """It was restored to an earlier time. Nothing can be sent, and each look would find the same again."""
    found, lost = await new_webhook(database), await new_webhook(database)
    await publish(connection, new_event())
    await publish(connection, new_event())
    postgres.rows(
        "UPDATE deliveries SET trigger = 'replay' WHERE event_id::text = (SELECT min(event_id::text) FROM events)"
    )
    postgres.rows("DELETE FROM webhooks WHERE id = %s", [lost])
    shards = range(64)
    assert [row.webhook_id for row in await due.discover(connection, shards)] == [found]
    assert await due.replaying(connection, shards) == [(found, CUSTOMER)]


async def test_a_delivery_that_expires_while_it_waits_for_a_retry_is_listed_once(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    await new_webhook(database)
    worker = new_worker()
    await leases.register(connection, worker, 60)
    shards = await leases.take(connection, worker, 64)
    [delivery] = pending(await publish(connection, new_event()))
    answer = await settle(connection, worker, shards, [to_retry(delivery, seconds=0)])
    shards[delivery.shard].last_seq = answer.last_seqs[delivery.shard]
    postgres.rows("DELETE FROM events")  # as dropping a partition does
    rows = await due.fetch(connection, [FetchRequest(delivery.shard, delivery.webhook_id, 9, BEGINNING)])
    [again] = await due.with_bodies(connection, rows)
    assert (again.body, again.attempt, again.event_type) == (b"", 1, "job.completed")
    await settle(connection, worker, shards, [expired(again)])
    page = await list_deliveries(database, DeliveryFilter(None), DELIVERIES_START, PageBounds(10, 10**6))
    [listed] = page.items
    assert listed.status is DeliveryStatus.EXPIRED
