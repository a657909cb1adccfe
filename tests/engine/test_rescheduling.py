"""What was scheduled while the database's clock was ahead is brought back to its delay when it has stepped back."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from webhook.v1 import delivery_pb2, service_pb2

from tests.support import slowness
from tests.support.past import Past
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory
from tests.support.symptoms import Line
from webhook_grpc.domain.ids import parse_event_id, shard_of
from webhook_grpc.engine.duties import rescheduling
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.outbox import misdated

pytestmark = pytest.mark.usefixtures("looks_by_hand")

SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
# What stepping the clock back by a day does to everything that was written before.
A_DAY_AHEAD = (
    "UPDATE deliveries SET due_at = due_at + interval '1 day'",
    "UPDATE events SET created_at = created_at + interval '1 day'",
    """
    UPDATE attempts SET created_at = created_at + interval '1 day', next_due_at = next_due_at + interval '1 day',
        event_created_at = event_created_at + interval '1 day'
    """,
)
DUE_IN = "SELECT extract(epoch FROM due_at - now())::float8, attempt FROM deliveries"
NEXT = "SELECT next_due_at, attempt_count, outcome FROM attempts ORDER BY seq DESC LIMIT 1"


@pytest.fixture
def looks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the look that something gave a reason for, and none some seconds after it."""
    monkeypatch.setattr(rescheduling, "_LOOKS_AFTER_SECONDS", (0.0,))


async def started(services: ServiceFactory, **settings: Any) -> Service:
    """Starts a service, and returns when its own look at the shards that it gained is over: the test looks itself."""
    service = await services.start(**settings)
    async with slowness.timeout(20):
        while service.app.engine.rescheduling._looks:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)
    return service


async def paused_with_one(service: Service, url: str) -> tuple[int, UUID]:
    """A paused webhook with a delivery that waits in the table."""
    webhook = await service.create_webhook(url)
    await service.pause_webhook(webhook.webhook_id)
    published = await service.publish()
    event_id = parse_event_id(published.event_id)
    assert event_id is not None
    return webhook.webhook_id, event_id


async def failed_once(service: Service) -> None:
    """Publishes an event and returns when its delivery waits in the table for a retry, and is held no more."""
    async with service.watching() as watch:
        await service.publish()
        await watch.until(lambda told: len(told) > 0 and told[-1].attempt_count == 1)
    await service.app.engine._unsettled.drained()  # pyright: ignore[reportPrivateUsage]


async def test_a_delivery_that_was_published_by_a_clock_a_day_ahead_is_sent_now(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await started(services)
    webhook_id, _ = await paused_with_one(service, receiver.url())
    for statement in A_DAY_AHEAD:
        postgres.rows(statement)
    async with service.watching() as watch:
        assert await service.app.engine.rescheduling.look(shard_of(webhook_id)) == 1
        [(due_in_seconds, _)] = postgres.rows(DUE_IN)
        assert due_in_seconds <= 0
        await service.resume_webhook(webhook_id)
        [ended] = await watch.until_ended()
    assert ended.status == SUCCEEDED
    assert ended.attempt_count == 1
    assert await service.app.engine.rescheduling.look(shard_of(webhook_id)) == 0


async def test_a_retry_that_was_scheduled_by_a_clock_a_day_ahead_has_its_delay_again(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await started(services, retry_delays_seconds=(600.0,))
    webhook = await service.create_webhook(receiver.on("/down", answer(500)))
    await failed_once(service)
    for statement in A_DAY_AHEAD:
        postgres.rows(statement)
    assert await service.app.engine.rescheduling.look(shard_of(webhook.webhook_id)) == 1
    [(due_in_seconds, attempt)] = postgres.rows(DUE_IN)
    assert 0 < due_in_seconds < 1000
    assert attempt == 1
    [(next_due_at, attempt_count, outcome)] = postgres.rows(NEXT)
    assert (attempt_count, outcome) == (1, None), "no attempt was made"
    [(due_at,)] = postgres.rows("SELECT due_at FROM deliveries")
    assert due_at == next_due_at, "every other statement finds the row by this"


async def test_what_was_scheduled_by_the_clock_of_now_is_left_alone(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await started(services, retry_delays_seconds=(600.0,))
    webhook = await service.create_webhook(receiver.on("/down", answer(500)))
    await failed_once(service)
    before = postgres.rows("SELECT * FROM deliveries")
    assert await service.app.engine.rescheduling.look(shard_of(webhook.webhook_id)) == 0
    assert postgres.rows("SELECT * FROM deliveries") == before


@pytest.mark.symptom("rescheduled")
async def test_it_is_looked_for_when_shards_are_gained_and_when_the_clock_has_stepped(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, symptoms: list[Line]
) -> None:
    service = await started(services)
    webhook_id, _ = await paused_with_one(service, receiver.url())
    for statement in A_DAY_AHEAD:
        postgres.rows(statement)
    async with service.watching() as watch:
        clock = service.app._clock  # pyright: ignore[reportPrivateUsage] - does what a beat does when now() has stepped
        at = time.monotonic()
        clock.observe(clock.now() - timedelta(days=1), at, at)
        [delivery, *_] = await watch.until(lambda told: len(told) > 0)
    assert (delivery.webhook_id, delivery.status) == (webhook_id, PENDING)
    async with slowness.timeout(20):
        while not any("rescheduled" in line["event"] for line in symptoms):  # when all shards are looked through
            await asyncio.sleep(0.01)


async def test_a_look_while_the_lease_is_not_fresh_is_made_again(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process whose renewal comes late: the delivery would wait for a day."""
    service = await started(services)
    webhook_id, _ = await paused_with_one(service, receiver.url())
    for statement in A_DAY_AHEAD:
        postgres.rows(statement)
    may_exist, looked, is_fresh = misdated.may_exist, asyncio.Event(), False

    async def noted(*arguments: Any) -> bool:
        found = await may_exist(*arguments)
        looked.set()
        return found

    monkeypatch.setattr(misdated, "may_exist", noted)
    monkeypatch.setattr(Shards, "may_send", property(lambda _: is_fresh))
    async with service.watching() as watch, slowness.timeout(20):
        service.app.engine.rescheduling.look_through([shard_of(webhook_id)])
        await looked.wait()
        await asyncio.sleep(0)  # the rest of the look, which finds that nothing may be done
        is_fresh = True
        [delivery, *_] = await watch.until(lambda told: len(told) > 0)
    assert (delivery.webhook_id, delivery.status) == (webhook_id, PENDING)


async def test_a_step_while_shards_are_looked_through_is_followed_by_another_look(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await started(services)
    webhook_id, _ = await paused_with_one(service, receiver.url())
    rescheduling, may_exist, has_stepped = service.app.engine.rescheduling, misdated.may_exist, False

    async def stepped(connection: Any, shard: int) -> bool:
        nonlocal has_stepped
        found = await may_exist(connection, shard)
        if not has_stepped:
            has_stepped = True
            for statement in A_DAY_AHEAD:
                postgres.rows(statement)
            rescheduling.look_through([shard])
        return found

    monkeypatch.setattr(misdated, "may_exist", stepped)
    async with service.watching() as watch:
        rescheduling.look_through([shard_of(webhook_id)])
        [delivery, *_] = await watch.until(lambda told: len(told) > 0)
    assert (delivery.webhook_id, delivery.status) == (webhook_id, PENDING)


def _partitions_made(service: Service) -> bool:
    """Whether the housekeeping has made partitions, and so won't for an hour."""
    due_at = service.app.engine.janitor._due_at  # pyright: ignore[reportPrivateUsage]
    return math.isfinite(due_at.get("make partitions", math.inf))


@pytest.mark.usefixtures("past")
@pytest.mark.symptom("partition")
@pytest.mark.parametrize("table", ["events", "attempts"])
async def test_what_finds_no_partition_for_today_makes_it(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, past: Past, table: str
) -> None:
    """As when the database's clock jumps by more days than partitions are made ahead: publishing, tests, settling."""
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    async with slowness.timeout(20):
        while not _partitions_made(service):  # which would be first
            await asyncio.sleep(0.01)
    [(name,)] = postgres.rows(f"SELECT '{table}_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")  # pyright: ignore[reportArgumentType] # type: ignore[arg-type]
    drop = f"DROP TABLE {name}"  # no literal, so the two lines that run it say that to the type checkers
    try:
        async with service.watching() as watch:
            if table == "events":
                postgres.rows(drop)  # pyright: ignore[reportArgumentType] # type: ignore[arg-type]
                request = service_pb2.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
                tested = await service.stub.TestWebhook(request)
                assert tested.delivery.status == SUCCEEDED
            postgres.rows(drop)  # pyright: ignore[reportArgumentType] # type: ignore[arg-type]
            published = await service.publish()
            await watch.until(
                lambda told: any(one.event_id == published.event_id and one.status == SUCCEEDED for one in told)
            )
        assert len(receiver.requests) == 1 + (table == "events")
    finally:
        await past.restore()
