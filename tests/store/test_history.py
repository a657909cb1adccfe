"""Lists of deliveries: complete, in order, filtered as the domain says, wherever a delivery stands."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

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
from webhook_grpc.domain.errors import NotFound
from webhook_grpc.domain.model import Delivery, DeliveryStatus
from webhook_grpc.domain.retry import Settlement
from webhook_grpc.store import history, ownership
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.history import DeliveryFilter, DeliveryKey
from webhook_grpc.store.settlement import Settled, settle

EVERYTHING = DeliveryFilter(None)
TYPES = ("job.completed", "job.failed", "alert.triggered")


@pytest.fixture
async def deliveries(database: Database, connection: LoopConnection) -> list[Delivery]:
    """Sixty deliveries of four webhooks of two customers: untried, to be retried, succeeded, failed, cancelled."""
    chance = random.Random(7)
    for number in range(4):
        await new_webhook(database, customer_id=CUSTOMER + number % 2)
    worker = new_worker()
    await ownership.register(connection, worker, 60)
    shards = await ownership.take(connection, worker, 64)
    for _ in range(15):
        events = [new_event(customer_id=CUSTOMER + n, event_type=chance.choice(TYPES)) for n in range(2)]
        for delivery in pending(await publish(connection, *events)):
            outcome = chance.choice(["untried", "retry", "succeeded", "failed", "cancelled", "retried"])
            settled = {
                "retry": to_retry(delivery),
                "retried": to_retry(delivery, seconds=-1),
                "succeeded": succeeded(delivery),
                "failed": Settled(delivery, Settlement(DeliveryStatus.FAILED), to_retry(delivery).result),
                "cancelled": Settled(delivery, Settlement(DeliveryStatus.CANCELLED), None),
            }.get(outcome)
            if settled is None:
                continue
            await set_status(database, delivery.webhook_id, "disabled" if outcome == "cancelled" else "active")
            answer = await settle(connection, worker, shards, [settled])
            await set_status(database, delivery.webhook_id, "active")
            shards[delivery.shard].last_seq = answer.last_seqs[delivery.shard]
            if outcome == "retried":
                [row] = await database.rows(
                    "SELECT due_at FROM deliveries WHERE event_id = %s AND webhook_id = %s",
                    (delivery.event_id, delivery.webhook_id),
                )
                again = replace(delivery, due_at=row[0], attempt=1)
                answer = await settle(connection, worker, shards, [succeeded(again)])
                shards[delivery.shard].last_seq = answer.last_seqs[delivery.shard]
    found = await history.list_deliveries(database, EVERYTHING, history.NEWEST, 1000)
    assert len(found) == 60
    return found


async def set_status(database: Database, webhook_id: int, status: str) -> None:
    await database.rows("UPDATE webhooks SET status = %s WHERE id = %s", (status, webhook_id))


def key(delivery: Delivery) -> DeliveryKey:
    return DeliveryKey(delivery.create_time, delivery.event_id, delivery.webhook_id)


async def test_each_delivery_is_listed_once_newest_first(deliveries: list[Delivery]) -> None:
    keys = [key(delivery) for delivery in deliveries]
    assert keys == sorted(set(keys), reverse=True)
    assert {delivery.status for delivery in deliveries} == {
        DeliveryStatus.PENDING,
        DeliveryStatus.SUCCEEDED,
        DeliveryStatus.FAILED,
        DeliveryStatus.CANCELLED,
    }
    assert {delivery.attempt_count for delivery in deliveries} == {0, 1, 2}


@pytest.mark.parametrize("page_size", [1, 7, 59, 60])
async def test_pages_join_without_gap_or_overlap(
    database: Database, deliveries: list[Delivery], page_size: int
) -> None:
    before, joined = history.NEWEST, list[Delivery]()
    while page := await history.list_deliveries(database, EVERYTHING, before, page_size):
        joined += page
        before = key(page[-1])
    assert joined == deliveries


async def test_the_filters_of_sql_and_of_the_stream_agree(database: Database, deliveries: list[Delivery]) -> None:
    chance = random.Random(11)
    webhook_ids = sorted({delivery.webhook_id for delivery in deliveries})
    for _ in range(150):
        wanted = DeliveryFilter(
            customer_id=chance.choice([None, CUSTOMER, CUSTOMER + 1]),
            webhook_ids=chance.sample(webhook_ids, chance.randint(0, 3)),
            event_types=chance.sample(["job.*", "*", "job.completed", "alert.*", "nothing.here"], chance.randint(0, 2)),
            statuses=chance.sample(list(DeliveryStatus), chance.randint(0, 3)),
            event_id=chance.choice([None, None, chance.choice(deliveries).event_id]),
        )
        found = await history.list_deliveries(database, wanted, history.NEWEST, 1000)
        assert found == [delivery for delivery in deliveries if wanted.admits(delivery)], wanted


async def test_a_delivery_alone_is_as_it_stands_in_the_list(database: Database, deliveries: list[Delivery]) -> None:
    for listed in deliveries:
        alone = await history.get_delivery(database, listed.customer_id, listed.event_id, listed.webhook_id)
        assert alone == listed
        with pytest.raises(NotFound):
            await history.get_delivery(database, 999, listed.event_id, listed.webhook_id)


async def test_attempts_are_listed_newest_first(database: Database, deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        attempts = await history.list_attempts(
            database, delivery.customer_id, delivery.event_id, delivery.webhook_id, 2**62, 10
        )
        numbers = [attempt.attempt_number for _, attempt in attempts]
        assert numbers == list(range(delivery.attempt_count, 0, -1))
        if attempts:
            assert attempts[0][1] == delivery.last_attempt
