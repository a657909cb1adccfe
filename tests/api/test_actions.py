"""Testing a webhook, retrying and cancelling a delivery: over the wire, with the real engine."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc
import pytest
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2
from webhook.v1.service_pb2 import (
    CancelDeliveryRequest,
    ListDeliveryAttemptsRequest,
    RetryDeliveryRequest,
)

from tests.api.asking import ABSENT_DELIVERY_ID, OTHER_CUSTOMER, refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver, answer, answers
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory, until_shared
from webhook_grpc.api.deliveries.actions import TESTS_WAITING_MAX
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.http.sender import Sender

pytestmark = pytest.mark.asyncio(loop_scope="module")

PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED
MANUAL = delivery_pb2.ATTEMPT_TRIGGER_MANUAL
NEVER_AGAIN = (3600.0,)
ONCE = ()  # no retries


async def retry(service: Service, delivery_id: str, **request: Any) -> delivery_pb2.Delivery:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "delivery_id": delivery_id, **request}
    return await service.stub.RetryDelivery(RetryDeliveryRequest(**values))


async def cancel(service: Service, delivery_id: str, **request: Any) -> delivery_pb2.Delivery:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "delivery_id": delivery_id, **request}
    return await service.stub.CancelDelivery(CancelDeliveryRequest(**values))


async def test_webhook(service: Service, webhook_id: int, **request: Any) -> delivery_pb2.Delivery:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": webhook_id, **request}
    response: service_pb2.TestWebhookResponse = await service.stub.TestWebhook(service_pb2.TestWebhookRequest(**values))
    return response.delivery


test_webhook.__test__ = False  # pyright: ignore[reportFunctionMemberAccess] - pytest would take it for a test


async def triggers(service: Service, delivery_id: str) -> list[tuple[int, int]]:
    """Number and trigger of each attempt, the oldest first."""
    response = await service.stub.ListDeliveryAttempts(
        ListDeliveryAttemptsRequest(customer_id=CUSTOMER, delivery_id=delivery_id)
    )
    return [(attempt.attempt_number, attempt.trigger) for attempt in reversed(response.attempts)]


async def one_ended(service: Service) -> delivery_pb2.Delivery:
    """Publishes an event and waits for the end of its one delivery."""
    async with service.watching() as watch:
        await service.publish('{"n":1}')
        [delivery] = await watch.until_ended()
    return delivery


# --- RetryDelivery ---------------------------------------------------------------------------------------------------


async def test_a_failed_delivery_is_sent_once_more_with_the_same_id_and_a_new_time(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=ONCE)
    await service.create_webhook(receiver.on("/hook", answer(500)))
    failed = await one_ended(service)
    assert failed.status == FAILED
    gate = Gate()  # else the retry may have ended before the call answers
    receiver.on("/hook", gate)

    async with service.watching() as watch:
        begun = await retry(service, failed.delivery_id)
        gate.opened.set()
        [ended] = await watch.until_ended()

    assert (begun.status, begun.trigger, begun.attempt_count) == (PENDING, MANUAL, 1)
    assert [seen.status for seen in watch.deliveries] == [PENDING, SUCCEEDED]
    assert ended.last_attempt.trigger == MANUAL
    first, second = receiver.requests
    assert first.event_id == second.event_id
    assert first.body == second.body
    second.verify(SECRET)
    assert second.headers["X-Webhook-Attempt"] == "2"
    assert await triggers(service, failed.delivery_id) == [(1, delivery_pb2.ATTEMPT_TRIGGER_SCHEDULED), (2, MANUAL)]


async def test_a_retry_that_fails_is_not_repeated(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(0.01,))
    await service.create_webhook(receiver.on("/hook", answer(500)))
    failed = await one_ended(service)
    assert failed.attempt_count == 2

    async with service.watching() as watch:
        await retry(service, failed.delivery_id)
        [ended] = await watch.until_ended()

    assert (ended.status, ended.attempt_count) == (FAILED, 3)
    assert (await service.delivery(failed.delivery_id)).status == FAILED


async def test_a_succeeded_delivery_can_be_sent_again_too(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    delivery = await one_ended(service)

    async with service.watching() as watch:
        await retry(service, delivery.delivery_id)
        await watch.until_ended()

    assert len(receiver.requests) == 2


async def test_a_retry_of_a_paused_webhook_waits_for_it(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=ONCE)
    webhook = await service.create_webhook(receiver.on("/hook", answers(500, 200)))
    failed = await one_ended(service)
    await service.pause_webhook(webhook.webhook_id)

    begun = await retry(service, failed.delivery_id)
    assert begun.status == PENDING

    async with service.watching() as watch:
        await service.resume_webhook(webhook.webhook_id)
        [ended] = await watch.until_ended()
    assert (ended.status, ended.trigger) == (SUCCEEDED, MANUAL)


async def test_what_is_pending_is_not_retried(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=NEVER_AGAIN)
    await service.create_webhook(receiver.on("/bad", answer(500)))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until(lambda seen: len(seen) == 1)

    refused = await refusal(retry(service, delivery.delivery_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_STATUS")
    assert refused.metadata == {"status": "pending"}
    assert "PreconditionFailure" in refused.details


async def test_a_delivery_of_a_webhook_that_is_gone_is_not_retried(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    delivery = await one_ended(service)
    await service.delete_webhook(webhook.webhook_id)

    refused = await refusal(retry(service, delivery.delivery_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WEBHOOK_STATUS")


async def test_a_retry_with_a_request_id_happens_once(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=ONCE)
    await service.create_webhook(receiver.on("/hook", answers(500, 500, 200)))
    failed = await one_ended(service)

    async with service.watching() as watch:
        await retry(service, failed.delivery_id, request_id="again")
        await watch.until_ended()
        again = await retry(service, failed.delivery_id, request_id="again")

    assert (again.status, again.attempt_count) == (FAILED, 2), "how it stands, not another attempt"
    assert len(receiver.requests) == 2
    refused = await refusal(service.publish(request_id="again"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_concurrent_retries_of_one_delivery_send_it_once(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=ONCE)
    gate = Gate()
    await service.create_webhook(receiver.on("/hook", answers(500)))
    failed = await one_ended(service)
    receiver.on("/hook", gate)

    async with service.watching() as watch:
        codes = await asyncio.gather(*[code(retry(service, failed.delivery_id)) for _ in range(5)])
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION}, "or it was pending already"
        gate.opened.set()
        await watch.until_ended()

    assert len(receiver.requests) == 2


async def code(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# --- CancelDelivery --------------------------------------------------------------------------------------------------


async def test_a_delivery_that_waits_for_a_retry_is_cancelled(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=NEVER_AGAIN)
    await service.create_webhook(receiver.on("/bad", answer(500)))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until(lambda seen: len(seen) == 1)

        cancelled = await cancel(service, delivery.delivery_id)
        [ended] = await watch.until_ended()

    assert cancelled.status == ended.status == CANCELLED
    assert cancelled.attempt_count == 1
    assert not cancelled.HasField("next_attempt_time")
    refused = await refusal(cancel(service, delivery.delivery_id))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_STATUS")


async def test_a_delivery_of_a_paused_webhook_is_cancelled_and_not_sent_later(
    service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url())
    await service.pause_webhook(webhook.webhook_id)
    unwanted, wanted = (await service.publish(), await service.publish())
    delivery_id = f"dlv_{unwanted.event_id.removeprefix('evt_')}_{webhook.webhook_id}"

    assert (await cancel(service, delivery_id)).status == CANCELLED

    async with service.watching() as watch:
        await service.resume_webhook(webhook.webhook_id)
        await watch.until_ended()
    assert [received.event_id for received in receiver.requests] == [wanted.event_id]


async def test_what_is_queued_behind_others_is_cancelled_and_never_sent(service: Service, receiver: Receiver) -> None:
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/slow", gate), max_in_flight=1)
    event_ids = await service.publish_many(10)
    await receiver.wait_for(1)
    names = [f"dlv_{event_id.removeprefix('evt_')}_{webhook.webhook_id}" for event_id in event_ids[1:]]

    async with service.watching() as watch:
        cancelled = [await cancel(service, name) for name in names]
        gate.opened.set()
        await watch.until_ended(10)

    assert {delivery.status for delivery in cancelled} == {CANCELLED}
    assert [received.event_id for received in receiver.requests] == event_ids[:1]


async def test_a_request_that_is_under_way_is_not_broken_off(service: Service, receiver: Receiver) -> None:
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/slow", gate))
    async with service.watching() as watch:
        published = await service.publish()
        await receiver.wait_for(1)
        name = f"dlv_{published.event_id.removeprefix('evt_')}_{webhook.webhook_id}"
        call = asyncio.create_task(cancel(service, name))
        while not await waiting_commands(service):
            await asyncio.sleep(0.01)
        gate.opened.set()
        [ended] = await watch.until_ended()

    assert ended.status == SUCCEEDED
    assert (await call).status == SUCCEEDED


async def waiting_commands(service: Service) -> int:
    [(count,)] = await service.app.database.rows("SELECT count(*) FROM commands")
    return count


async def test_a_cancelled_delivery_can_be_retried(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=NEVER_AGAIN)
    await service.create_webhook(receiver.on("/hook", answers(500, 200)))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until(lambda seen: len(seen) == 1)
        await cancel(service, delivery.delivery_id)
        await retry(service, delivery.delivery_id)
        ended = await watch.until_ended(2)

    assert [seen.status for seen in ended] == [CANCELLED, SUCCEEDED]


async def test_commands_of_a_process_without_shards_are_carried_out_by_the_owner(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """Either process may be asked, whichever owns the shard."""
    first = await services.start(retry_delays_seconds=ONCE)
    second = await services.start(retry_delays_seconds=ONCE)
    await first.create_webhook(receiver.on("/hook", answer(500)))
    failed = await one_ended(first)

    for service in (first, second):
        assert (await retry(service, failed.delivery_id)).attempt_count >= 1
        async with service.watching(snapshot=True) as watch:
            while not (await watch.next_message()).snapshot_complete:
                pass
            if any(delivery.status == PENDING for delivery in watch.deliveries):
                await watch.until_ended()
    assert len(receiver.requests) == 3


# --- TestWebhook -----------------------------------------------------------------------------------------------------


async def test_a_test_sends_one_signed_request_and_tells_what_came_of_it(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(
        receiver.on("/hook", answer(201, "made", Server="mine")), headers={"X-Own": "s3cret"}
    )

    delivery = await test_webhook(service, webhook.webhook_id)

    assert delivery.status == SUCCEEDED
    attempt = delivery.last_attempt
    assert attempt.trigger == delivery_pb2.ATTEMPT_TRIGGER_TEST
    assert (attempt.response_status, attempt.response_text) == (201, "made")
    assert attempt.response_headers["server"] == "mine"
    assert attempt.request_headers["X-Own"] == "…"
    [received] = receiver.requests
    received.verify(SECRET)
    body = json.loads(received.body)
    assert (body["event"], body["data"]) == ("webhook.test", {"test": True})
    shown = {name: value for name, value in attempt.request_headers.items() if value != "…"}
    assert shown.items() <= dict(received.headers).items(), "what is shown is what was sent"
    assert set(attempt.request_headers) <= set(received.headers)
    assert await service.delivery(delivery.delivery_id) == delivery


async def test_a_test_may_carry_a_type_and_data_of_its_own(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())

    delivery = await test_webhook(service, webhook.webhook_id, event_type="any.thing", data_json='{"a": 1.0}')

    assert delivery.event_type == "any.thing"
    assert receiver.requests[0].body.endswith(b'"data":{"a": 1.0}}')


@pytest.mark.parametrize("status", [404, 410, 500])
async def test_a_receiver_that_fails_is_an_answer_and_not_an_error(
    service: Service, receiver: Receiver, status: int
) -> None:
    webhook = await service.create_webhook(receiver.on("/bad", answer(status, "no")))

    delivery = await test_webhook(service, webhook.webhook_id)

    assert (delivery.status, delivery.last_attempt.response_status) == (FAILED, status)
    assert len(receiver.requests) == 1, "it is not repeated"
    current = await service.webhook(webhook.webhook_id)
    assert current.status == webhook_pb2.WEBHOOK_STATUS_ACTIVE, "a test has no consequences"


async def test_a_receiver_that_cannot_be_reached_is_an_answer_too(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await receiver.stop()

    delivery = await test_webhook(service, webhook.webhook_id)

    assert delivery.status == FAILED
    assert delivery.last_attempt.outcome == delivery_pb2.ATTEMPT_OUTCOME_CONNECTION_ERROR


@pytest.mark.parametrize("state", ["paused", "disabled", "breaker open", "busy"])
async def test_a_test_does_not_wait_for_the_webhook(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, state: str
) -> None:
    service = await services.start(breaker_failures=1, breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600)
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/hook", answer(500)), max_in_flight=1)
    if state == "paused":
        await service.pause_webhook(webhook.webhook_id)
    elif state == "disabled":
        postgres.rows("UPDATE webhooks SET status = 'disabled', version = version + 1, updated_at = now()")
    elif state == "breaker open":
        async with service.watching() as watch:
            await service.publish()
            await watch.until(lambda seen: len(seen) == 1)
    else:
        receiver.on("/hook", gate)
        await service.publish()
        await receiver.wait_for(1)
    receiver.on("/hook", answer(204))

    assert (await test_webhook(service, webhook.webhook_id)).status == SUCCEEDED
    gate.opened.set()


async def test_a_test_goes_to_one_webhook_only_and_is_an_event_in_the_history(
    service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.on("/a", answer(200)))
    await service.create_webhook(receiver.on("/b", answer(200)))

    delivery = await test_webhook(service, webhook.webhook_id)

    event = await service.event(delivery.event_id)
    assert event.test_webhook_id == webhook.webhook_id
    assert [received.path for received in receiver.requests] == ["/a"]
    refused = await refusal(retry(service, delivery.delivery_id))
    assert refused.reason == "DELIVERY_STATUS"


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_what_does_not_exist_or_is_somebody_elses_is_not_found(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    delivery = await one_ended(service)

    for call, reason in [
        (retry(service, ABSENT_DELIVERY_ID), "DELIVERY_NOT_FOUND"),
        (cancel(service, ABSENT_DELIVERY_ID), "DELIVERY_NOT_FOUND"),
        (retry(service, delivery.delivery_id, customer_id=OTHER_CUSTOMER), "DELIVERY_NOT_FOUND"),
        (cancel(service, delivery.delivery_id, customer_id=OTHER_CUSTOMER), "DELIVERY_NOT_FOUND"),
        (test_webhook(service, webhook.webhook_id + 1), "WEBHOOK_NOT_FOUND"),
        (test_webhook(service, webhook.webhook_id, customer_id=OTHER_CUSTOMER), "WEBHOOK_NOT_FOUND"),
    ]:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, reason)


async def test_all_that_is_wrong_with_a_request_is_named(service: Service) -> None:
    refused = await refusal(test_webhook(service, 0, customer_id=-1, event_type="Not A Type", data_json="{not json"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["customer_id", "data_json", "event_type", "webhook_id"]
    refused = await refusal(retry(service, "dlv_x", customer_id=-1, request_id="\x00"))
    assert refused.fields == ["customer_id", "delivery_id", "request_id"]
    refused = await refusal(test_webhook(service, 1, data_json="NaN"))
    assert refused.reason == "DATA_NOT_JSON"


# --- tests and their owners ------------------------------------------------------------------------------------------


async def test_a_test_under_way_is_not_made_again_by_the_next_owner_of_its_shard(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """A process joins while the receiver thinks: the shard is handed over when the test has ended."""
    first = await services.start(attempt_timeout_seconds=30)
    gate = Gate()
    webhook = await first.create_webhook(receiver.on("/slow", gate))
    call = asyncio.create_task(test_webhook(first, webhook.webhook_id))
    await receiver.wait_for(1)
    second = await services.start()
    async with slowness.timeout(20):
        while len(second.app.engine.shards.owned) < 31:
            await asyncio.sleep(0.02)

    gate.opened.set()

    assert (await call).status == SUCCEEDED
    async with slowness.timeout(20):
        while await waiting_commands(first):
            await asyncio.sleep(0.02)
    assert len(receiver.requests) == 1


async def test_a_test_under_way_ends_before_its_process_stops(services: ServiceFactory, receiver: Receiver) -> None:
    settings = {"drain_seconds": slowness.scaled(30), "attempt_timeout_seconds": 30}
    first, second = [await services.start(**settings) for _ in range(2)]
    await until_shared(first, second)
    gate = Gate()
    while True:
        webhook = await first.create_webhook(receiver.on("/slow", gate))
        if shard_of(webhook.webhook_id) in first.app.engine.shards.owned:
            break
    call = asyncio.create_task(test_webhook(second, webhook.webhook_id))
    await receiver.wait_for(1)

    stop = asyncio.create_task(services.stop_one(first))
    async with slowness.timeout(20):
        while len(second.app.engine.shards.owned) < 63:
            await asyncio.sleep(0.02)
    gate.opened.set()

    assert (await call).status == SUCCEEDED
    await stop
    assert len(receiver.requests) == 1


async def test_a_test_that_this_process_cannot_make_is_tried_again_after_a_pause(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it would be tried again as fast as the database answers, for a minute."""
    tries: list[float] = []
    send = Sender.send

    async def faulty(self: Sender, request: Any) -> Any:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise SenderFault("EMFILE")
        return await send(self, request)

    monkeypatch.setattr(Sender, "send", faulty)
    monkeypatch.setattr("webhook_grpc.engine.duties.webhook_tests._FAULT_PAUSE_SECONDS", 0.1)
    service = await services.start()
    webhook = await service.create_webhook(receiver.url())

    assert (await test_webhook(service, webhook.webhook_id)).status == SUCCEEDED
    assert tries[-1] - tries[0] >= 0.3, "three pauses"


async def test_tests_of_one_customer_leave_room_for_those_of_others(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.engine.duties.webhook_tests._TESTS_MAX", 2)
    monkeypatch.setattr("webhook_grpc.engine.duties.webhook_tests._TESTS_PER_CUSTOMER_MAX", 1)
    service = await services.start()
    gate = Gate()
    hanging = [await service.create_webhook(receiver.on("/slow", gate)) for _ in range(2)]
    calls = [asyncio.create_task(test_webhook(service, webhook.webhook_id)) for webhook in hanging]
    await receiver.wait_for(1)
    while await waiting_commands(service) < 2:
        await asyncio.sleep(0.01)

    other = await service.create_webhook(receiver.url("/other"), customer_id=OTHER_CUSTOMER)
    delivery = await test_webhook(service, other.webhook_id, customer_id=OTHER_CUSTOMER)

    assert delivery.status == SUCCEEDED
    gate.opened.set()
    assert {(await call).status for call in calls} == {SUCCEEDED}


async def test_calls_that_wait_for_a_customers_receiver_do_not_use_up_those_of_others(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(calls_max=TESTS_WAITING_MAX + 5)
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/slow", gate))
    tests = [asyncio.create_task(code(test_webhook(service, webhook.webhook_id))) for _ in range(TESTS_WAITING_MAX + 5)]
    await receiver.wait_for(1)
    async with slowness.timeout(20):
        while len(refused := [call for call in tests if call.done()]) < 5:  # else one that comes late finds room
            await asyncio.wait({*tests} - {*refused}, return_when=asyncio.FIRST_COMPLETED)

    assert [call.result() for call in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 5
    assert (await service.publish(customer_id=OTHER_CUSTOMER)).event_id
    gate.opened.set()
    codes = [await call for call in tests]
    assert codes.count(grpc.StatusCode.OK) == TESTS_WAITING_MAX
