"""ExplainEvent: what it says while the engine does what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from aiohttp import web
from webhook.v1 import service_pb2, webhook_pb2
from webhook.v1.service_pb2 import ExplainEventRequest, WebhookExplanation

from tests.api.asking import ABSENT_EVENT_ID, OTHER_CUSTOMER, refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Received, Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR = 3600.0
LEFT_ALONE = {"breaker_failures": 2, "breaker_probe_seconds_min": HOUR, "breaker_probe_seconds_max": HOUR}


def standing(name: str) -> int:
    return service_pb2.DeliveryStanding.Value(f"DELIVERY_STANDING_{name}")


def verdict(name: str) -> int:
    return service_pb2.MatchVerdict.Value(f"MATCH_VERDICT_{name}")


async def explained(service: Service, event_id: str) -> list[WebhookExplanation]:
    """What an event means for each webhook."""
    response = await service.stub.ExplainEvent(ExplainEventRequest(customer_id=CUSTOMER, event_id=event_id))
    return list(response.webhooks)


async def explained_once(
    service: Service, event_id: str, enough: Callable[[WebhookExplanation], bool]
) -> WebhookExplanation:
    """What an event means for the only webhook, once it is that: health is saved a second behind."""
    seen: Any = None
    try:
        async with slowness.timeout(20):
            while True:
                [seen] = await explained(service, event_id)
                if enough(seen):
                    return seen
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it stayed {seen}") from None


async def stands(service: Service, event_id: str, name: str) -> WebhookExplanation:
    found = await explained_once(service, event_id, lambda one: one.standing == standing(name))
    assert found.verdict == verdict("MATCHED")
    assert found.delivery.event_id == event_id
    return found


def seconds_until(explanation: WebhookExplanation, event: Any) -> float:
    """From the event's create_time on."""
    return explanation.until_time.ToDatetime().timestamp() - event.create_time.ToDatetime().timestamp()


def one_webhook(webhook: webhook_pb2.Webhook) -> dict[str, Any]:
    return {"customer_id": webhook.customer_id, "webhook_id": webhook.webhook_id}


# --- matched, or why not ---------------------------------------------------------------------------------------------


async def test_for_every_webhook_it_tells_whether_the_event_goes_to_it_or_why_not(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    await service.create_webhook(receiver.url(), customer_id=OTHER_CUSTOMER)
    matched = await service.create_webhook(receiver.url(), name="matched")
    other_types = await service.create_webhook(receiver.url(), events=["alert.*"])
    disabled = await service.create_webhook(receiver.url())
    changed = await service.create_webhook(receiver.url(), events=["alert.*"])
    deleted = await service.create_webhook(receiver.url())
    postgres.rows("UPDATE webhooks SET status = 'disabled' WHERE id = %s", [disabled.webhook_id])
    await service.delete_webhook(deleted.webhook_id)
    published = await service.publish()
    later = await service.create_webhook(receiver.url())
    update = webhook_pb2.Webhook(**one_webhook(changed), events=["*"])
    await service.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=update))

    found = await explained(service, published.event_id)

    assert [(one.webhook_id, one.verdict) for one in found] == [
        (matched.webhook_id, verdict("MATCHED")),
        (other_types.webhook_id, verdict("TYPE_NOT_SUBSCRIBED")),
        (disabled.webhook_id, verdict("DISABLED")),
        (changed.webhook_id, verdict("CHANGED_LATER")),
        (later.webhook_id, verdict("CREATED_LATER")),
    ]
    assert (found[0].name, found[0].status) == ("matched", webhook_pb2.WEBHOOK_STATUS_ACTIVE)
    assert found[2].status == webhook_pb2.WEBHOOK_STATUS_DISABLED
    for one in found[1:]:
        assert not one.HasField("delivery")
        assert not one.HasField("until_time")
        assert one.standing == standing("UNSPECIFIED")
        assert one.explanation.startswith("The webhook ")


async def test_the_event_of_a_test_goes_to_one_webhook_only(service: Service, receiver: Receiver) -> None:
    tested, other = [await service.create_webhook(receiver.url()) for _ in range(2)]
    response = await service.stub.TestWebhook(service_pb2.TestWebhookRequest(**one_webhook(tested)))

    found = await explained(service, response.delivery.event_id)

    assert [(one.webhook_id, one.verdict, one.standing) for one in found] == [
        (tested.webhook_id, verdict("MATCHED"), standing("ENDED")),
        (other.webhook_id, verdict("TEST_OF_ANOTHER"), standing("UNSPECIFIED")),
    ]


async def test_the_event_comes_without_its_data_and_attempts_without_bodies_and_headers(
    service: Service, receiver: Receiver
) -> None:
    behaviour = answer(200, "a body", Server="nginx")
    await service.create_webhook(receiver.on("/own", behaviour), headers={"X-Own": "secret"})
    async with service.watching() as watch:
        published = await service.publish('{"n":1}')
        await watch.until_ended(1)

    response = await service.stub.ExplainEvent(ExplainEventRequest(customer_id=CUSTOMER, event_id=published.event_id))

    assert response.event.event_id == published.event_id
    assert (response.event.event_type, response.event.customer_id) == ("job.completed", CUSTOMER)
    assert response.event.WhichOneof("content") is None
    [one] = response.webhooks
    attempt = one.delivery.last_attempt
    assert (attempt.attempt_number, attempt.response_status) == (1, 200)
    assert (attempt.response_body, attempt.response_text) == (b"", "")
    assert not attempt.request_headers
    assert not attempt.response_headers


# --- where a delivery stands -----------------------------------------------------------------------------------------


async def test_a_delivery_of_a_paused_webhook_waits_for_it_to_be_resumed(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await service.pause_webhook(webhook.webhook_id)
    published = await service.publish()
    found = await stands(service, published.event_id, "PAUSED")
    assert found.status == webhook_pb2.WEBHOOK_STATUS_PAUSED
    assert found.explanation == "The webhook is paused: no attempt made; it goes on with ResumeWebhook."
    await service.stub.ResumeWebhook(service_pb2.ResumeWebhookRequest(**one_webhook(webhook)))
    await stands(service, published.event_id, "ENDED")


async def test_a_delivery_that_failed_waits_until_its_next_attempt_is_due(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=(HOUR,))
    await service.create_webhook(receiver.on("/down", answer(500)))
    published = await service.publish()
    found = await stands(service, published.event_id, "SCHEDULED")
    assert found.until_time == found.delivery.next_attempt_time
    assert 0.8 * HOUR <= seconds_until(found, published) <= 1.2 * HOUR + 20
    assert "1 attempt made, answered with 500" in found.explanation


async def test_a_delivery_to_a_receiver_that_is_down_waits_for_the_probe(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(**LEFT_ALONE)
    await service.create_webhook(receiver.on("/down", answer(500)), max_in_flight=1)
    *_, last = await service.publish_many(5)
    found = await stands(service, last, "BREAKER_OPEN")
    published = await service.event(last)
    assert 0.8 * HOUR <= seconds_until(found, published) <= 1.2 * HOUR + 20
    assert "no attempt made; nothing is sent to it until" in found.explanation


async def test_a_delivery_waits_for_as_long_as_retry_after_asked(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.on("/busy", answer(503, Retry_After="1800")), max_in_flight=1)
    first, *_, last = await service.publish_many(5)
    found = await stands(service, last, "HELD")
    published = await service.event(last)
    assert 1800 - 5 <= seconds_until(found, published) <= 1800 + 20
    assert found.explanation.startswith("The receiver asked for it with Retry-After: no attempt made;")
    tried = [await stands(service, event_id, "HELD") for event_id in (first, last)]
    assert sum(one.delivery.attempt_count for one in tried) <= 1
    assert len(receiver.requests) == 1


async def test_a_delivery_waits_for_its_webhooks_rate_limit(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url(), rate_limit_per_second=1)
    *_, last = await service.publish_many(100)
    found = await stands(service, last, "RATE_LIMITED")
    assert "the webhook gets 1 requests a second" in found.explanation
    assert not found.HasField("until_time")


async def test_a_delivery_waits_for_the_rate_that_429_left(service: Service, receiver: Receiver) -> None:
    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=429 if not received.number else 200)

    await service.create_webhook(receiver.on("/busy", behave), max_in_flight=1)
    *_, last = await service.publish_many(100)
    found = await stands(service, last, "RATE_LIMITED")
    assert "the receiver answered 429" in found.explanation


async def test_a_delivery_waits_for_a_slot_or_is_being_sent(service: Service, receiver: Receiver) -> None:
    gate = Gate()
    await service.create_webhook(receiver.on("/slow", gate), max_in_flight=1)
    event_ids = await service.publish_many(2)
    await receiver.wait_for(1)
    for event_id in event_ids:
        found = await stands(service, event_id, "WAITING_FOR_SLOT")
        assert found.explanation.endswith("or is being sent: no attempt made.")
    gate.opened.set()
    for event_id in event_ids:
        await stands(service, event_id, "ENDED")


async def test_a_delivery_of_a_deleted_webhook_is_about_to_be_cancelled(service: Service, receiver: Receiver) -> None:
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/slow", gate), max_in_flight=1)
    published = await service.publish()
    await receiver.wait_for(1)  # what is under way is waited for
    await service.delete_webhook(webhook.webhook_id)
    found = await stands(service, published.event_id, "ENDING")
    assert found.status == webhook_pb2.WEBHOOK_STATUS_UNSPECIFIED
    assert found.explanation == "The webhook is deleted: no attempt made; it is about to be cancelled."
    gate.opened.set()
    await stands(service, published.event_id, "ENDED")


# --- how it ended ----------------------------------------------------------------------------------------------------


async def ended(service: Service, **webhook: Any) -> tuple[service_pb2.PublishEventResponse, WebhookExplanation]:
    await service.create_webhook(**webhook)
    published = await service.publish()
    return published, await stands(service, published.event_id, "ENDED")


@pytest.mark.parametrize(
    ("status", "begins", "ends"),
    [
        (204, "Delivered at ", ": 1 attempt made, answered with 204."),
        (500, "Failed: ", "2 attempts made, the last one answered with 500; RetryDelivery restarts it."),
        (
            410,
            "Cancelled: 1 attempt made, answered with 410; the receiver answered 410 Gone, ",
            "which disables a webhook; ResumeWebhook and then RetryDelivery restart it.",
        ),
    ],
)
async def test_how_a_delivery_ended(
    services: ServiceFactory, receiver: Receiver, status: int, begins: str, ends: str
) -> None:
    service = await services.start(retry_delays_seconds=(0.1,))
    _, found = await ended(service, url=receiver.on("/it", answer(status)))
    assert found.explanation.startswith(begins)
    assert found.explanation.endswith(ends)
    assert not found.HasField("until_time")


async def test_a_delivery_that_ended_stays_to_be_explained_when_its_webhook_is_gone(
    service: Service, receiver: Receiver
) -> None:
    webhook = await service.create_webhook(receiver.url())
    await service.pause_webhook(webhook.webhook_id)
    published = await service.publish()
    await service.delete_webhook(webhook.webhook_id)
    found = await stands(service, published.event_id, "ENDED")
    assert found.explanation == "Cancelled: no attempt made; the webhook is deleted."


async def test_a_delivery_that_is_begun_anew_waits_again(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(0.1,))
    gate = Gate()

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=500) if received.number < 2 else await gate(received)

    published, found = await ended(service, url=receiver.on("/it", behave))
    retry = service_pb2.RetryDeliveryRequest(customer_id=CUSTOMER, delivery_id=found.delivery.delivery_id)
    await service.stub.RetryDelivery(retry)
    found = await stands(service, published.event_id, "WAITING_FOR_SLOT")
    assert found.explanation.endswith("2 attempts made, restarted by RetryDelivery.")
    gate.opened.set()
    found = await stands(service, published.event_id, "ENDED")
    assert found.explanation.endswith("3 attempts made, the last one answered with 200, restarted by RetryDelivery.")


# --- refusals and bounds ---------------------------------------------------------------------------------------------


async def test_an_event_that_is_not_the_customers_does_not_exist(service: Service) -> None:
    theirs = await service.publish(customer_id=OTHER_CUSTOMER)
    for event_id in (theirs.event_id, ABSENT_EVENT_ID):
        refused = await refusal(service.stub.ExplainEvent(ExplainEventRequest(customer_id=CUSTOMER, event_id=event_id)))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "EVENT_NOT_FOUND"


async def test_all_that_is_wrong_is_told_at_once(service: Service) -> None:
    refused = await refusal(service.stub.ExplainEvent(ExplainEventRequest(customer_id=-1, event_id="evt_")))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["customer_id", "event_id"]


async def test_as_many_webhooks_as_a_customer_may_have_fit_into_an_answer(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """Clients accept 4 MiB by default."""
    service = await services.start(webhooks_per_customer_max=1000)
    postgres.rows(
        "INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events, status)"
        " SELECT %s, repeat('😀', 128), 'https://example.com/', '', '', false,"
        " array_fill('x' || repeat('y', 126) || n, ARRAY[100]), 'paused' FROM generate_series(1, 2000) n",
        [CUSTOMER],
    )
    postgres.rows("UPDATE webhooks SET events = '{*}' WHERE id %% 2 = 0", {"": 0})
    published = await service.publish()
    postgres.rows("UPDATE webhooks SET status = 'deleted', updated_at = now() WHERE id %% 4 < 2", {"": 0})
    found = await explained(service, published.event_id)
    assert len(found) == 1500, "a thousand, and the deleted ones that had matched"
