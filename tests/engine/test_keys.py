"""The keys of sealed secrets: what is sealed with a key that a process lacks waits, and costs nobody an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.api.asking import refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET, SECRET_KEY, Service, ServiceFactory, until_shared
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.sealing import key_id_of, key_id_text
from webhook_grpc.engine.receivers.keys import KeysMissing

NEW_KEY = bytes(reversed(range(32)))
NEW_ID = key_id_text(key_id_of(NEW_KEY))
OLD_ID = key_id_text(key_id_of(SECRET_KEY))
WAITS = "deliveries wait: their secret is sealed with a key that is not in WEBHOOK_SECRET_KEYS"
GOES_ON = "no delivery waits for this secret key any more"
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
WAITING_FOR_KEY = service_pb2.DELIVERY_STANDING_WAITING_FOR_KEY


async def until(condition: Callable[[], object], what: str) -> None:
    """Waits for something that no signal reports."""
    try:
        async with slowness.timeout(20):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def lines(logs: Sequence[MutableMapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [line for line in logs if line["event"] == event]


async def explained(service: Service, event_id: str) -> service_pb2.WebhookExplanation:
    request = service_pb2.ExplainEventRequest(customer_id=CUSTOMER, event_id=event_id)
    explanations = (await service.stub.ExplainEvent(request)).webhooks
    [matched] = [one for one in explanations if one.verdict == service_pb2.MATCH_VERDICT_MATCHED]
    return matched


async def create_at(owner: Service, creator: Service, url: str) -> webhook_pb2.Webhook:
    """A webhook that one process has created and another one delivers to; the only one for alerts."""
    while True:
        webhook = await creator.create_webhook(url, events=["alert.*"])
        if shard_of(webhook.webhook_id) in owner.app.engine.shards.owned:
            return webhook
        named = service_pb2.DeleteWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
        await creator.stub.DeleteWebhook(named)


async def old_and_new(services: ServiceFactory) -> tuple[Service, Service]:
    """Two processes while the key is changed, which share the shards."""
    old, new = await services.start(), await services.start([NEW_KEY, SECRET_KEY])
    await until_shared(old, new)
    return old, new


# --- at the start ----------------------------------------------------------------------------------------------------


async def test_a_process_that_lacks_a_key_in_use_does_not_start_and_says_which(services: ServiceFactory) -> None:
    first = await services.start()
    for _ in range(3):
        await first.create_webhook("https://hooks.example.com/")
    await services.stop_one(first)

    with pytest.raises(KeysMissing) as refused:
        await services.start([NEW_KEY])

    sentence = str(refused.value)
    assert f"lacks the key {OLD_ID} (the secrets of 3 webhooks are sealed with it): it has {NEW_ID}" in sentence
    assert "add the missing key behind the first" in sentence


async def test_a_process_starts_with_the_new_key_first_and_the_old_one_behind_it(
    services: ServiceFactory, receiver: Receiver
) -> None:
    first = await services.start()
    await first.create_webhook(receiver.url())
    await services.stop_one(first)
    second = await services.start([NEW_KEY, SECRET_KEY])
    await second.publish()
    await receiver.wait_for(1)
    receiver.requests[0].verify(SECRET)


async def test_a_key_that_only_secrets_of_deleted_webhooks_need_is_not_missed(services: ServiceFactory) -> None:
    first = await services.start()
    webhook = await first.create_webhook("https://hooks.example.com/")
    named = service_pb2.DeleteWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
    await first.stub.DeleteWebhook(named)
    await services.stop_one(first)
    await services.start([NEW_KEY])


async def test_the_key_of_own_headers_is_needed_too(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    first = await services.start()
    webhook = await first.create_webhook(receiver.url(), headers={"X-Own": "value"})
    await services.stop_one(first)
    second = await services.start([NEW_KEY, SECRET_KEY])
    named = service_pb2.RotateWebhookSecretRequest(
        customer_id=CUSTOMER, webhook_id=webhook.webhook_id, overlap=Duration()
    )
    await second.stub.RotateWebhookSecret(named)
    await services.stop_one(second)

    with pytest.raises(KeysMissing, match=f"lacks the key {OLD_ID} .the secrets of 1 webhook are"):
        await services.start([NEW_KEY])

    with capture_logs() as logs:
        third = await services.start([NEW_KEY], secret_keys_lost=(OLD_ID,))
        event = await third.publish()
        await until(lambda: lines(logs, WAITS), WAITS)
        assert (await explained(third, event.event_id)).standing == WAITING_FOR_KEY
        kept = webhook_pb2.Webhook(customer_id=CUSTOMER, webhook_id=webhook.webhook_id, headers={"X-Own": "…"})
        refused = await refusal(third.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=kept)))
        assert refused.reason == "SECRET_KEY_MISSING"
        kept.headers["X-Own"] = "given again"
        await third.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=kept))
        await receiver.wait_for(1)
    assert receiver.requests[0].headers["X-Own"] == "given again"


async def test_the_key_of_an_old_secret_is_needed_for_as_long_as_that_signs(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    first = await services.start()
    webhook = await first.create_webhook("https://hooks.example.com/")
    await services.stop_one(first)
    second = await services.start([NEW_KEY, SECRET_KEY])
    named = service_pb2.RotateWebhookSecretRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
    await second.stub.RotateWebhookSecret(named)
    await services.stop_one(second)

    with pytest.raises(KeysMissing, match=f"lacks the key {OLD_ID} .the secrets of 1 webhook are"):
        await services.start([NEW_KEY])
    postgres.rows("UPDATE webhooks SET previous_secret_until = now()")
    await services.start([NEW_KEY])


@pytest.mark.symptom("secret changed")
async def test_a_secret_that_was_changed_in_the_database_keeps_nobody_from_starting(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    first = await services.start()
    webhook = await first.create_webhook("https://hooks.example.com/")
    await services.stop_one(first)
    postgres.rows("UPDATE webhooks SET secret = set_byte(secret, 60, 255 - get_byte(secret, 60))")
    with capture_logs() as logs:
        await services.start()
    [line] = lines(logs, "a secret in the database cannot be opened")
    assert line["webhook_id"] == webhook.webhook_id


@pytest.mark.symptom("key lost")
async def test_with_a_key_that_is_lost_deliveries_wait_until_the_webhook_has_a_new_secret(
    services: ServiceFactory, receiver: Receiver
) -> None:
    first = await services.start()
    webhook = await first.create_webhook(receiver.url())
    await services.stop_one(first)
    with capture_logs() as logs:
        second = await services.start([NEW_KEY], secret_keys_lost=(OLD_ID,))
        event = await second.publish()
        await until(lambda: lines(logs, WAITS), WAITS)
        assert (await explained(second, event.event_id)).standing == WAITING_FOR_KEY
        assert not receiver.requests
        async with second.watching() as watch:
            await second.stub.RotateWebhookSecret(
                service_pb2.RotateWebhookSecretRequest(
                    customer_id=CUSTOMER, webhook_id=webhook.webhook_id, secret="your_secret_key", overlap=Duration()
                )
            )
            [ended] = await watch.until_ended()
    assert (ended.status, ended.attempt_count) == (SUCCEEDED, 1)
    receiver.requests[0].verify("your_secret_key")
    assert [line["webhook_count"] for line in lines(logs, "a lost secret key: deliveries wait")] == [1]


# --- while it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.symptom("key waits")
async def test_while_keys_are_changed_what_the_owner_cannot_sign_waits_and_costs_no_attempt(
    services: ServiceFactory, receiver: Receiver
) -> None:
    with capture_logs() as logs:
        old, new = await old_and_new(services)
        webhook = await create_at(old, new, receiver.url("/hook"))
        whole = await old.create_webhook(receiver.url("/whole"), events=["job.*"])
        event = await new.publish(event_type="alert.triggered")
        await new.publish(event_type="alert.triggered")
        await until(lambda: lines(logs, WAITS), WAITS)

        await old.publish()
        await receiver.wait_for(1, "/whole")
        explanation = await explained(new, event.event_id)
        assert explanation.standing == WAITING_FOR_KEY
        assert f"sealed with the key {NEW_ID}" in explanation.explanation
        assert explanation.delivery.attempt_count == 0
        assert not receiver.at("/hook")

        async with new.watching(webhook_ids=[webhook.webhook_id]) as watch:
            await services.stop_one(old)  # it gives its shards to the one that has the key
            ended = await watch.until_ended(2)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}
    [line] = lines(logs, WAITS)
    assert (line["key_id"], line["webhook_id"], line["log_level"]) == (NEW_ID, webhook.webhook_id, "error")
    assert not [line for line in logs if line.get("outcome") == "internal_error"]
    assert not lines(logs, "attempts paused: a fault of this process"), "nothing was begun that could not be signed"
    assert whole.webhook_id != webhook.webhook_id


@pytest.mark.symptom("key again")
async def test_the_log_says_when_a_webhook_waits_for_a_key_no_more(
    services: ServiceFactory, receiver: Receiver
) -> None:
    with capture_logs() as logs:
        old, new = await old_and_new(services)
        webhook = await create_at(old, new, receiver.url("/hook"))
        await old.publish(event_type="alert.triggered")
        await until(lambda: lines(logs, WAITS), WAITS)
        async with new.watching(webhook_ids=[webhook.webhook_id]) as watch:
            await old.stub.RotateWebhookSecret(
                service_pb2.RotateWebhookSecretRequest(
                    customer_id=CUSTOMER, webhook_id=webhook.webhook_id, secret=SECRET, overlap=Duration()
                )
            )
            [ended] = await watch.until_ended()
    assert (ended.status, ended.attempt_count) == (SUCCEEDED, 1)
    assert [line["key_id"] for line in lines(logs, GOES_ON)] == [NEW_ID]


async def test_a_call_that_has_to_open_a_secret_says_that_this_process_lacks_its_key(services: ServiceFactory) -> None:
    old = await services.start()
    new = await services.start([NEW_KEY, SECRET_KEY])
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="n", url="https://hooks.example.com/", events=["*"])
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id="again")
    assert (await new.stub.CreateWebhook(request)).secret
    refused = await refusal(old.stub.CreateWebhook(request))
    assert refused.reason == "SECRET_KEY_MISSING"
    assert NEW_ID in refused.message


@pytest.mark.slow
async def test_what_an_old_secret_signs_waits_only_until_that_has_gone(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    first = await services.start()
    await first.create_webhook(receiver.url())
    await services.stop_one(first)
    second = await services.start([NEW_KEY, SECRET_KEY])
    [(webhook_id,)] = postgres.rows("SELECT id FROM webhooks")
    named = service_pb2.RotateWebhookSecretRequest(customer_id=CUSTOMER, webhook_id=webhook_id)
    await second.stub.RotateWebhookSecret(named)
    await services.stop_one(second)
    postgres.rows("UPDATE webhooks SET previous_secret_until = now() + interval '1 hour'")  # longer than any start

    third = await services.start([NEW_KEY], secret_keys_lost=(OLD_ID,))
    async with third.watching() as watch:
        event = await third.publish()
        assert (await explained(third, event.event_id)).standing == WAITING_FOR_KEY
        until_time = datetime.now(UTC) + timedelta(seconds=slowness.lengthened(1.5))
        postgres.rows(
            "UPDATE webhooks SET previous_secret_until = %s, version = version + 1, updated_at = now()", [until_time]
        )
        [ended] = await watch.until_ended()
    assert (ended.status, ended.attempt_count) == (SUCCEEDED, 1)
    assert ended.last_attempt.start_time.ToDatetime(UTC) >= until_time
