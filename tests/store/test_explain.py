"""What is known of an event's way to each webhook: complete, in order, and as the lists show it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import (
    CUSTOMER,
    new_event,
    new_webhook,
    new_worker,
    pending,
    publish,
    succeeded,
    to_retry,
)
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.model import DeliveryStatus, Event, PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.domain.pace import ReceiverHealth, SavedHealth
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.domain.throttle import Slowdown
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import explain, lookup
from webhook_grpc.store.outbox import paces
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard


class Owner:
    """The owner of all shards, who settles."""

    def __init__(self, connection: LoopConnection, worker: UUID, shards: dict[int, OwnedShard]) -> None:
        self.connection = connection
        self.worker = worker
        self.shards = shards

    async def settle(self, settled: Settlement) -> None:
        answer = await settle(self.connection, self.worker, self.shards, [settled])
        assert answer.changed_count == 1
        shard = settled.delivery.shard
        self.shards[shard].last_seq = answer.last_seqs[shard]


@pytest.fixture
async def owner(connection: LoopConnection) -> Owner:
    worker = new_worker()
    await leases.register(connection, worker, 60)
    return Owner(connection, worker, await leases.take(connection, worker, 64))


async def published(database: Database, connection: LoopConnection) -> tuple[Event, dict[int, PendingDelivery]]:
    """An event of CUSTOMER's and its deliveries by webhook."""
    deliveries = pending(await publish(connection, new_event()))
    event = await lookup.get_event(database, CUSTOMER, deliveries[0].event_id)
    return event, {delivery.webhook_id: delivery for delivery in deliveries}


async def test_each_webhook_of_the_customer_is_told_the_oldest_first(
    database: Database, connection: LoopConnection, owner: Owner
) -> None:
    webhook_ids = [await new_webhook(database, name=f"hook {number}") for number in range(4)]
    await new_webhook(database, customer_id=CUSTOMER + 1)
    other = await new_webhook(database, events=("alert.*",), rate_limit_per_second=3)
    event, deliveries = await published(database, connection)
    await owner.settle(to_retry(deliveries[webhook_ids[1]]))
    await owner.settle(succeeded(deliveries[webhook_ids[2]]))

    known = await explain.read(database, event)

    assert [one.webhook.webhook_id for one in known] == [*webhook_ids, other]
    assert [one.webhook.name for one in known] == ["hook 0", "hook 1", "hook 2", "hook 3", "test"]
    statuses = [one.delivery.status if one.delivery else None for one in known]
    pending_, succeeded_ = DeliveryStatus.PENDING, DeliveryStatus.SUCCEEDED
    assert statuses == [pending_, pending_, succeeded_, pending_, None]
    assert [one.delivery.attempt_count for one in known if one.delivery] == [0, 1, 1, 0]
    assert (known[4].webhook.events, known[4].webhook.rate_limit_per_second) == (["alert.*"], 3)
    assert {one.health for one in known} == {ReceiverHealth()}
    assert all(one.read_time >= event.create_time for one in known)


async def test_a_delivery_is_as_the_history_shows_it_but_for_bodies_and_headers(
    database: Database, connection: LoopConnection, owner: Owner
) -> None:
    webhook_ids = [await new_webhook(database) for _ in range(3)]
    event, deliveries = await published(database, connection)
    await owner.settle(to_retry(deliveries[webhook_ids[1]], seconds=-1))
    [(due_at,)] = await database.rows("SELECT due_at FROM deliveries WHERE attempt = 1")
    again = replace(deliveries[webhook_ids[1]], due_at=due_at, attempt=1)
    await owner.settle(succeeded(again))
    await owner.settle(to_retry(deliveries[webhook_ids[2]]))

    for known in await explain.read(database, event):
        alone = await lookup.get_delivery(database, CUSTOMER, event.event_id, known.webhook.webhook_id)
        if alone.last_attempt is not None:
            alone = replace(alone, last_attempt=replace(alone.last_attempt, response_body=b""))
        assert known.delivery == alone


async def test_a_delivery_that_was_begun_anew_is_as_the_log_says(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    """The log's row of the restart and the outbox' row may have the event's created_at as their time."""
    webhook_id = await new_webhook(database)
    event, _ = await published(database, connection)
    postgres.rows("UPDATE deliveries SET trigger = 'manual'")
    postgres.rows(
        "INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type,"
        " event_created_at, status, attempt_count, next_due_at, trigger)"
        " SELECT shard, 1, now(), customer_id, webhook_id, event_id, 'job.completed', due_at, 'pending', 0, due_at,"
        " 'manual' FROM deliveries"
    )
    [known] = await explain.read(database, event)
    assert known.webhook.webhook_id == webhook_id
    assert known.delivery is not None
    assert known.delivery.trigger is Trigger.MANUAL


async def test_a_deleted_webhook_is_told_only_if_it_has_a_delivery(
    database: Database, connection: LoopConnection, owner: Owner
) -> None:
    gone_before = await new_webhook(database)
    await database.rows("UPDATE webhooks SET status = 'deleted', updated_at = now() WHERE id = %s", (gone_before,))
    gone_pending, gone_ended, not_asked = [await new_webhook(database) for _ in range(3)]
    await database.rows("UPDATE webhooks SET events = '{alert.*}' WHERE id = %s", (not_asked,))
    event, deliveries = await published(database, connection)
    await owner.settle(succeeded(deliveries[gone_ended]))
    await database.rows("UPDATE webhooks SET status = 'deleted', updated_at = now()")

    known = await explain.read(database, event)

    assert [one.webhook.webhook_id for one in known] == [gone_pending, gone_ended]
    assert {one.webhook.status for one in known} == {WebhookStatus.DELETED}
    assert [one.delivery.status for one in known if one.delivery] == [DeliveryStatus.PENDING, DeliveryStatus.SUCCEEDED]


async def test_the_health_is_that_which_was_saved(database: Database, connection: LoopConnection, owner: Owner) -> None:
    failing, healthy = await new_webhook(database), await new_webhook(database)
    saved = SavedHealth(BreakerState.OPEN, 1800.0, 4, 7200.0, 33, 1, 60.0, 900.0, Slowdown(300.0, 2.5, 10.0))
    await paces.save(connection, owner.worker, {failing: saved}, [])
    event, _ = await published(database, connection)

    known = {one.webhook.webhook_id: one for one in await explain.read(database, event)}

    assert known[healthy].health == ReceiverHealth()
    found, now = known[failing].health, known[failing].read_time
    assert found.breaker is BreakerState.OPEN
    expected = [
        (found.probe_time, 1800), (found.failing_since, -7200), (found.hold_until, 900), (found.throttled_until, 300),
    ]  # fmt: skip
    for time, seconds in expected:
        assert time is not None
        assert abs(time - now - timedelta(seconds=seconds)) < timedelta(seconds=30)


async def test_a_customer_without_webhooks_has_nothing_to_explain(
    database: Database, connection: LoopConnection
) -> None:
    await publish(connection, event := new_event())
    assert await explain.read(database, await lookup.get_event(database, CUSTOMER, event.event_id)) == []


async def test_so_many_are_told_and_no_more(
    database: Database, connection: LoopConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "WEBHOOKS_MAX", 2)
    monkeypatch.setattr(explain, "DELETED_MAX", 1)
    webhook_ids = [await new_webhook(database) for _ in range(5)]
    event, _ = await published(database, connection)
    await database.rows(
        "UPDATE webhooks SET status = 'deleted', updated_at = now() WHERE id = ANY(%s)", (webhook_ids[:2],)
    )
    known = await explain.read(database, event)
    assert [one.webhook.webhook_id for one in known] == webhook_ids[1:4]
