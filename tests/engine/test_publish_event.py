"""What an application published by SQL is delivered like any other event: once, signed, told once by the stream."""

from __future__ import annotations

import json
import math

import pytest
from webhook.v1 import delivery_pb2

from tests.api.asking import until
from tests.support.application import application, publish_event, stored_id
from tests.support.receiver import Gate, Received, Receiver, answers
from tests.support.service import SECRET, Service, ServiceFactory
from webhook_grpc.domain.ids import delivery_id_text, shard_of
from webhook_grpc.engine.queue import reading

SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED


def delivery_id(event_id: str, webhook_id: int) -> str:
    return delivery_id_text(stored_id(event_id), webhook_id)


@pytest.mark.parametrize("process_count", [1, 2])
async def test_what_is_committed_is_delivered_once_and_what_is_rolled_back_never(
    services: ServiceFactory, receiver: Receiver, process_count: int
) -> None:
    started = [await services.start() for _ in range(process_count)]
    service = started[0]
    webhooks = [await service.create_webhook(receiver.url(f"/{number}")) for number in range(5)]
    committed: list[str] = []
    async with service.watching() as watch:
        with application(services.database_url) as app:
            for number in range(20):
                event_id = publish_event(app, data=f'{{ "n": {number} }}', request_id=f"order-{number}")
                if number % 4:
                    app.commit()
                    committed.append(event_id)
                else:
                    app.rollback()
            again = publish_event(app, data='{ "n": 1 }', request_id="order-1")
            app.commit()
        assert again == committed[0]
        last = await service.publish(request_id="order-1")
        assert (last.delivery_count, last.duplicate) == (len(webhooks), False)
        ended = await watch.until_ended((len(committed) + 1) * len(webhooks))

    expected = [delivery_id(event_id, webhook.webhook_id) for event_id in committed for webhook in webhooks]
    expected += [delivery_id(last.event_id, webhook.webhook_id) for webhook in webhooks]
    assert sorted(told.delivery_id for told in watch.deliveries) == sorted(expected)
    assert {(told.status, told.attempt_count) for told in ended} == {(SUCCEEDED, 1)}
    assert len(receiver.requests) == len(expected)
    for request in receiver.requests:
        request.verify(SECRET)
        if request.event_id != last.event_id:
            await assert_is_as_published(service, request)


async def assert_is_as_published(service: Service, request: Received) -> None:
    event = await service.event(request.event_id)
    assert request.body == b'{"event":"job.completed","timestamp":%d,"data":%s}' % (
        event.occur_time.seconds,
        event.data_json.encode(),
    )
    assert json.loads(event.data_json)["n"] % 4, "committed"


async def test_it_is_tried_again_by_the_webhooks_schedule(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(0.01, 0.01))
    await service.create_webhook(receiver.on("/hook", answers(500, 500, 200)))
    async with service.watching() as watch:
        with application(services.database_url) as app:
            publish_event(app)
            app.commit()
        [ended] = await watch.until_ended()

    assert (ended.status, ended.attempt_count) == (SUCCEEDED, 3)
    assert ended.trigger == delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED


async def test_an_event_whose_transaction_was_open_for_longer_than_is_looked_back_is_delivered(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later events of the webhook were read meanwhile: its row lies behind what is usually looked at."""
    monkeypatch.setattr(reading, "FULL_LOOK_SECONDS", 0.5)
    gate = Gate()
    service = await services.start()
    webhook = await service.create_webhook(receiver.on("/hook", gate))
    with application(services.database_url) as app:
        late = publish_event(app)
        app.execute("UPDATE events SET created_at = created_at - interval '1 hour'")  # as long as it was open
        app.execute("UPDATE deliveries SET due_at = due_at - interval '1 hour'")
        async with service.watching() as watch:
            later = await service.publish()
            await receiver.wait_for(1)
            service.app.engine.due_hints.wake([shard_of(webhook.webhook_id)])
            lane = service.app.engine.fetcher._lanes.get(webhook.webhook_id)  # pyright: ignore[reportPrivateUsage]
            assert lane is not None
            await until(lambda: lane.reading.fully_looked_at > -math.inf)
            app.commit()
            await receiver.wait_for(2)
            gate.opened.set()
            await watch.until_ended(2)

    assert [request.event_id for request in receiver.requests] == [later.event_id, late]
    assert sorted(told.delivery_id for told in watch.deliveries) == sorted(
        delivery_id(event_id, webhook.webhook_id) for event_id in (late, later.event_id)
    )


async def test_a_webhook_that_was_deleted_before_the_commit_is_not_called(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    deleted, kept = [await service.create_webhook(receiver.url(path)) for path in ("/deleted", "/kept")]
    async with service.watching() as watch:
        with application(services.database_url) as app:
            event_id = publish_event(app)
            await service.delete_webhook(deleted.webhook_id)
            app.commit()
        ended = await watch.until_ended(2)

    assert {told.delivery_id: told.status for told in ended} == {
        delivery_id(event_id, deleted.webhook_id): CANCELLED,
        delivery_id(event_id, kept.webhook_id): SUCCEEDED,
    }
    assert [request.path for request in receiver.requests] == ["/kept"]


async def test_an_open_transaction_delays_no_publication(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    await service.create_webhook(receiver.url())
    with application(services.database_url) as app:
        publish_event(app, request_id="x")
        published = await service.publish(request_id="x")
        await receiver.wait_for(1)
        await service.publish_many(10)
        await receiver.wait_for(11)
        app.commit()
    await receiver.wait_for(12)

    assert not published.duplicate
