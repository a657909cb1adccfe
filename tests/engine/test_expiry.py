"""What was not delivered while its event was kept ends as EXPIRED, told by the stream, before the event goes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from webhook.v1 import delivery_pb2, webhook_pb2

from tests.support import slowness
from tests.support.past import Past, noon
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver
from tests.support.service import Service, ServiceFactory
from webhook_grpc.domain.ids import delivery_id_text, event_id_text
from webhook_grpc.engine.duties import expiry
from webhook_grpc.store.outbox import settlement

pytestmark = pytest.mark.usefixtures("housekeeping_by_hand")

EXPIRED = delivery_pb2.DELIVERY_STATUS_EXPIRED
PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED


async def paused_webhook(service: Service, url: str) -> webhook_pb2.Webhook:
    webhook = await service.create_webhook(url)
    return await service.pause_webhook(webhook.webhook_id)


async def test_the_delivery_of_a_paused_webhook_expires_and_then_its_day_is_dropped(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    service = await services.start()
    day = await past.day(40)
    webhook = await paused_webhook(service, receiver.url())
    event_id = past.event(day)
    past.delivery(webhook.webhook_id, event_id, day)
    janitor = service.app.engine.janitor
    await janitor.drop_partitions()
    assert past.has(day) == ["events", "attempts"], "not before"

    async with service.watching() as watch:
        assert await service.app.engine.expiry.look() == 1
        [expired] = await watch.until_ended()

    assert expired.status == EXPIRED
    assert expired.delivery_id == delivery_id_text(event_id, webhook.webhook_id)
    assert (expired.event_id, expired.event_type) == (event_id_text(event_id), "job.completed")
    assert expired.create_time.ToDatetime(UTC) == noon(day)
    assert not expired.HasField("last_attempt")
    assert postgres.rows("SELECT * FROM deliveries") == []
    await janitor.drop_partitions()
    assert past.has(day) == []
    assert not receiver.requests
    assert service.app.engine.lanes.get(webhook.webhook_id) is None, "nothing is left of it in memory"


@pytest.mark.parametrize("why", ["a retry that lies ahead", "an open breaker"])
async def test_it_expires_whatever_keeps_it_from_being_sent(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres, why: str
) -> None:
    service = await services.start(breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600)
    day = await past.day(40)
    webhook = await service.create_webhook(receiver.url())
    fields: dict[str, Any] = {}
    event_id = past.event(day)
    if why == "an open breaker":
        postgres.rows(
            "INSERT INTO webhook_health (webhook_id, breaker, probe_at) VALUES (%s, 'open', now() + interval '1 hour')",
            [webhook.webhook_id],
        )
    else:
        fields = {"due_at": datetime.now(UTC) + timedelta(hours=1), "attempt": 2}
        logged: dict[str, Any] = {"status": "pending", "attempt_count": 2, "next_due_at": fields["due_at"]}
        past.attempt(webhook.webhook_id, event_id, day, 2, **logged)
        postgres.rows("UPDATE shards SET epoch = epoch + 1, last_seq = 2")  # its owner learns how far the log is
        await service.app.engine.ownership.beat()

    async with service.watching() as watch:
        past.delivery(webhook.webhook_id, event_id, day, **fields)
        assert await service.app.engine.expiry.look() == 1
        [expired] = await watch.until_ended()

    assert expired.status == EXPIRED
    assert expired.attempt_count == fields.get("attempt", 0)
    assert not receiver.requests
    stands = await service.delivery(expired.delivery_id)
    assert stands.status == EXPIRED


async def test_what_is_being_sent_ends_as_it_is_answered(
    services: ServiceFactory, receiver: Receiver, past: Past
) -> None:
    service = await services.start()
    day = await past.day(40)
    gate = Gate()
    webhook = await paused_webhook(service, receiver.on("/slow", gate))
    past.delivery(webhook.webhook_id, past.event(day), day)
    async with service.watching() as watch:
        await service.resume_webhook(webhook.webhook_id)
        await receiver.wait_for(1)
        assert await service.app.engine.expiry.look() == 0
        gate.opened.set()
        [ended] = await watch.until_ended()
    assert ended.status == SUCCEEDED


async def test_what_expires_is_not_sent_while_that_is_being_written(
    services: ServiceFactory, receiver: Receiver, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    day = await past.day(40)
    webhook = await paused_webhook(service, receiver.url())
    past.delivery(webhook.webhook_id, past.event(day), day)
    asked, let = asyncio.Event(), asyncio.Event()
    settle = settlement.settle

    async def slowly(*args: Any) -> Any:
        asked.set()
        await let.wait()
        return await settle(*args)

    monkeypatch.setattr(settlement, "settle", slowly)
    async with service.watching() as watch:
        looking = asyncio.create_task(service.app.engine.expiry.look())
        await asked.wait()
        await service.resume_webhook(webhook.webhook_id)
        other = await service.create_webhook(receiver.url("/other"))
        await service.publish()  # to both: the fetcher has looked for what is due when it has been sent
        await receiver.wait_for(2)
        let.set()
        assert await looking == 1
        ended = await watch.until_ended(3)
    assert len(receiver.requests) == 2
    assert sorted(delivery.status for delivery in ended) == sorted([EXPIRED, SUCCEEDED, SUCCEEDED])
    assert {delivery.webhook_id for delivery in ended} == {webhook.webhook_id, other.webhook_id}


async def test_what_is_kept_is_left_alone_and_batches_go_on_where_they_ended(
    services: ServiceFactory,
    receiver: Receiver,
    past: Past,
    postgres: TestPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expiry, "_BATCH_ROWS", 3)
    service = await services.start()
    old, kept = await past.day(31), await past.day(30)
    webhooks = [await paused_webhook(service, receiver.url()) for _ in range(2)]
    for number in range(10):
        webhook_id = webhooks[number % 2].webhook_id
        past.delivery(webhook_id, past.event(old), old)
        past.delivery(webhook_id, past.event(kept), kept)

    async with service.watching() as watch:
        assert await service.app.engine.expiry.look() == 10
        await watch.until_ended(10)

    left = postgres.rows("SELECT count(*), bool_and(due_at = %s) FROM deliveries", [noon(kept)])
    assert left == [(10, True)]
    assert await service.app.engine.expiry.look() == 0


async def test_each_process_ends_what_is_in_its_own_shards(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    first, second = await services.start(), await services.start()
    async with slowness.timeout(20):
        while {len(service.app.engine.shards.sendable) for service in (first, second)} != {32}:
            await asyncio.sleep(0.02)
    day = await past.day(40)
    webhooks = [await paused_webhook(first, receiver.url()) for _ in range(8)]
    for webhook in webhooks:
        past.delivery(webhook.webhook_id, past.event(day), day)
    async with first.watching() as watch:
        counts = [await service.app.engine.expiry.look() for service in (first, second)]
        await watch.until_ended(8)
    assert sum(counts) == 8
    assert postgres.rows("SELECT count(*) FROM deliveries") == [(0,)]


async def test_nothing_expires_by_a_clock_that_jumped_ahead(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    service = await services.start()
    day = await past.day(40)
    webhook = await paused_webhook(service, receiver.url())
    past.delivery(webhook.webhook_id, past.event(day), day)
    postgres.rows("UPDATE believed_time SET at = at - interval '40 days'")  # the same as 40 days more of now()
    assert await service.app.engine.expiry.look() == 0
    await service.app.engine.janitor.drop_partitions()
    assert past.has(day) == ["events", "attempts"]
    assert len(postgres.rows("SELECT * FROM deliveries")) == 1
