"""The main job, from registration to the live stream, inside one process on real parts."""

from __future__ import annotations

import json

import pytest
from webhook.v1 import delivery_pb2, service_pb2

from tests.support.receiver import Receiver, answers
from tests.support.service import CUSTOMER, SECRET, ServiceFactory

pytestmark = pytest.mark.fast


async def test_a_published_event_reaches_the_receiver_signed_and_is_told_live(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    webhook = await service.create_webhook(receiver.url("/hook"))
    async with service.watching() as watch:
        published = await service.publish('{"job_id":"job-abc123","status":"completed","duration":3600}')
        [delivery] = await watch.until_ended()
    [request] = await receiver.wait_for(1)

    request.verify(SECRET)
    assert request.event_id == published.event_id
    assert request.headers["Content-Type"] == "application/json"
    body = json.loads(request.body)
    assert list(body) == ["event", "timestamp", "data"]
    assert body["event"] == "job.completed"
    # The one is of when the call was read, the other of when the event was stored: a second may begin in between.
    assert 0 <= published.create_time.seconds - body["timestamp"] <= 5
    assert published.delivery_count == 1
    assert delivery.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED
    assert delivery.webhook_id == webhook.webhook_id
    assert delivery.attempt_count == 1
    assert delivery.last_attempt.response_body == b"ok"
    shown = await service.delivery(delivery.delivery_id)
    shown.last_attempt.ClearField("response_text")  # which the stream leaves out, as it does the size
    shown.last_attempt.ClearField("request_bytes")
    assert shown == delivery


async def test_a_failing_receiver_is_tried_again_until_it_recovers(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    await service.create_webhook(receiver.on("/flaky", answers(500, 500, 200)))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until_ended()

    assert [d.attempt_count for d in watch.deliveries] == [1, 2, 3]
    assert [d.last_attempt.response_status for d in watch.deliveries] == [500, 500, 200]
    assert watch.deliveries[0].next_attempt_time.seconds > 0
    attempts = await service.stub.ListDeliveryAttempts(
        service_pb2.ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery.delivery_id)
    )
    assert [attempt.attempt_number for attempt in attempts.attempts] == [3, 2, 1]
    bodies = {request.body for request in receiver.requests}
    assert len(bodies) == 1, "every attempt sends the same bytes"
    assert {request.event_id for request in receiver.requests} == {delivery.event_id}
    for request in receiver.requests:
        request.verify(SECRET)


async def test_a_delivery_fails_when_its_schedule_is_used_up(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    await service.create_webhook(receiver.on("/dead", answers(500)))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until_ended()

    assert delivery.status == delivery_pb2.DELIVERY_STATUS_FAILED
    assert delivery.attempt_count == 4
    assert not delivery.HasField("next_attempt_time")
    assert len(receiver.requests) == 4


@pytest.mark.slow(2)
async def test_a_thousand_events_arrive_exactly_once_without_a_fault(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    for number in range(5):
        await service.create_webhook(receiver.url(f"/{number}"), customer_id=CUSTOMER + number)
    async with service.watching(customer_id=0) as watch:
        event_ids = [event_id for number in range(5) for event_id in await service.publish_many(200, CUSTOMER + number)]
        delivered = await watch.until_ended(1000)

    assert sorted(delivery.event_id for delivery in delivered) == sorted(event_ids)
    assert sorted(request.event_id for request in receiver.requests) == sorted(event_ids)
