"""What callers see of days that are gone: streams, lists and numbers go on."""

from __future__ import annotations

import grpc
import pytest
from webhook.v1 import delivery_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import refusal
from tests.support.past import Past
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.cursor import encode_cursor
from webhook_grpc.domain.ids import delivery_id_text, event_id_text, shard_of

pytestmark = [pytest.mark.usefixtures("housekeeping_by_hand"), pytest.mark.asyncio(loop_scope="module")]


async def drop(service: Service) -> None:
    await service.app.engine.janitor.drop_partitions()


async def test_a_cursor_of_a_day_that_is_gone_has_expired_and_a_fresh_one_works(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(40)
    past.attempt(7, past.event(day), day, 1)
    past.attempt(7, past.event(day), day, 2)
    service = await services.start()
    await drop(service)
    [(incarnation,)] = postgres.rows("SELECT log_incarnation FROM meta")
    position = [0] * 64
    position[shard_of(7)] = 1

    call = service.stub.WatchDeliveries(
        pb.WatchDeliveriesRequest(customer_id=CUSTOMER, cursor=encode_cursor(incarnation, tuple(position)))
    )
    refused = await refusal(call.read())
    assert refused.code is grpc.StatusCode.OUT_OF_RANGE
    assert refused.reason == "CURSOR_EXPIRED"

    position[shard_of(7)] = 2  # all of what is gone was read
    await service.create_webhook(receiver.url())
    async with service.watching(cursor=encode_cursor(incarnation, tuple(position))) as resumed:
        async with service.watching() as fresh:
            await service.publish()
            await fresh.until_ended()
        await resumed.until_ended()
        async with service.watching(cursor=fresh.cursor) as again:
            await service.publish()
            await again.until_ended()
    async with service.watching(start_time={"seconds": 1}) as everything:
        assert len(await everything.until_ended(2)) == 2


async def test_the_log_of_each_shard_goes_on_without_a_hole(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    """Also for an owner that took its shards after the last row was dropped."""
    day = await past.day(40)
    first = await services.start()
    webhook = await first.create_webhook(receiver.url())
    await services.stop_one(first)
    for seq in range(1, 6):
        past.attempt(webhook.webhook_id, past.event(day), day, seq)
    postgres.rows("UPDATE shards SET last_seq = 0")  # as while it is owned: it is written when it is given back
    second = await services.start()
    await services.stop_one(second)
    postgres.rows("UPDATE shards SET last_seq = 0")
    third = await services.start()
    await drop(third)
    assert past.has(day) == []
    await services.stop_one(third)
    fourth = await services.start()
    async with fourth.watching() as watch:
        await fourth.publish()
        await watch.until_ended()
    assert postgres.rows("SELECT seq FROM attempts") == [(6,)]


async def test_lists_end_where_the_kept_days_begin(services: ServiceFactory, receiver: Receiver, past: Past) -> None:
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())
    gone, kept = await past.day(40), await past.day(10)
    for seq, day in enumerate((gone, kept), start=1):
        past.attempt(webhook.webhook_id, past.event(day), day, seq)
    all_deliveries = pb.ListDeliveriesRequest(customer_id=CUSTOMER)
    before = (await service.stub.ListDeliveries(all_deliveries)).deliveries
    await drop(service)

    [left] = (await service.stub.ListDeliveries(all_deliveries)).deliveries

    assert [left] == [before[0]]
    assert left.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED
    for get in (
        service.stub.GetDelivery(pb.GetDeliveryRequest(customer_id=CUSTOMER, delivery_id=before[1].delivery_id)),
        service.event(before[1].event_id),
    ):
        assert (await refusal(get)).code is grpc.StatusCode.NOT_FOUND
    assert (await service.delivery(left.delivery_id)).event_id == left.event_id


async def test_a_deleted_webhook_keeps_its_history_until_that_is_too_old(
    services: ServiceFactory, receiver: Receiver, past: Past, postgres: TestPostgres
) -> None:
    first = await services.start()
    webhook = await first.create_webhook(receiver.url())
    await services.stop_one(first)
    gone, kept = await past.day(40), await past.day(10)
    kept_event = past.event(kept)
    past.attempt(webhook.webhook_id, past.event(gone), gone, 1)
    past.attempt(webhook.webhook_id, kept_event, kept, 2)
    service = await services.start()
    async with service.watching() as watch:
        await service.pause_webhook(webhook.webhook_id)
        await service.publish()
        await service.delete_webhook(webhook.webhook_id)
        [ended] = await watch.until_ended()
    assert ended.status == delivery_pb2.DELIVERY_STATUS_CANCELLED
    await drop(service)
    await service.app.engine.janitor.purge_webhooks()

    listed = (await service.stub.ListDeliveries(pb.ListDeliveriesRequest(customer_id=CUSTOMER))).deliveries
    assert [delivery.event_id for delivery in listed] == [ended.event_id, event_id_text(kept_event)]
    assert (await service.delivery(delivery_id_text(kept_event, webhook.webhook_id))).attempt_count == 1

    postgres.rows("DELETE FROM attempts")
    postgres.rows("UPDATE webhooks SET updated_at = now() - interval '31 days'")
    await service.app.engine.janitor.purge_webhooks()
    assert postgres.rows("SELECT count(*) FROM webhooks") == [(0,)]
