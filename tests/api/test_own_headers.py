"""The values of a webhook's own headers reach its receiver, and nobody else."""

from __future__ import annotations

import logging
from typing import Any, LiteralString

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from structlog.testing import capture_logs
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.api.asking import refusal
from tests.support.postgres import TestPostgres, dump
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, Service
from webhook_grpc.api.messages.reading import fingerprint
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties.clear_sealing import ClearSealing

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-of-the-receiver"
OLDER: LiteralString = """
INSERT INTO workers (worker_id, lease_until, version) VALUES (gen_random_uuid(), now() + interval '50 s', 11)
"""
# As a version before wrote a webhook's headers.
WRITE_CLEAR: LiteralString = "UPDATE webhooks SET headers = %s::jsonb, sealed_headers = NULL WHERE id = %s"
READ: LiteralString = "SELECT headers, sealed_headers IS NOT NULL FROM webhooks WHERE id = %s"


async def update(service: Service, webhook_id: int, *paths: str, **fields: Any) -> webhook_pb2.Webhook:
    webhook = webhook_pb2.Webhook(webhook_id=webhook_id, customer_id=CUSTOMER, **fields)
    request = service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=paths))
    return await service.stub.UpdateWebhook(request)


async def sent_with(service: Service, receiver: Receiver) -> dict[str, str]:
    """The headers that begin with `X-Own` of the next request."""
    before = len(receiver.requests)
    await service.publish()
    await receiver.wait_for(before + 1)
    return {name: value for name, value in receiver.requests[before].headers.items() if name.startswith("X-Own")}


async def test_a_value_is_in_no_answer_no_log_and_no_dump(
    service: Service, receiver: Receiver, postgres: TestPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    with capture_logs() as logs:
        url = receiver.url()
        created = await service.create_webhook(url, headers={"X-Own": CANARY})
        named = service_pb2.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=created.webhook_id)
        seen += map(str, (created, await service.stub.GetWebhook(named)))
        seen.append(str(await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))))
        seen.append(str(await update(service, created.webhook_id, "description", description="d")))
        tested = await service.stub.TestWebhook(
            service_pb2.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=created.webhook_id)
        )
        async with service.watching() as watch:
            event = await service.publish()
            seen += map(str, await watch.until_ended())
        explain = service_pb2.ExplainEventRequest(customer_id=CUSTOMER, event_id=event.event_id)
        attempts = service_pb2.ListDeliveryAttemptsRequest(customer_id=CUSTOMER)
        seen += map(
            str, (tested, await service.stub.ExplainEvent(explain), await service.stub.ListDeliveryAttempts(attempts))
        )

    assert dict(created.headers) == {"X-Own": "…"}
    assert receiver.requests[-1].headers["X-Own"] == CANARY
    assert CANARY not in "".join(seen)
    assert CANARY not in str(list(logs)) + caplog.text
    assert CANARY not in dump(postgres.url)
    assert tested.delivery.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED


async def test_a_value_that_is_sent_back_as_it_was_shown_is_kept_and_others_are_replaced(
    service: Service, receiver: Receiver
) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Own": "kept", "X-Own-Gone": "a"})

    changed = await update(service, created.webhook_id, "headers", headers={"x-own": "…", "X-Own-New": "new"})

    assert dict(changed.headers) == {"x-own": "…", "X-Own-New": "…"}
    before = len(receiver.requests)
    await service.publish()
    await receiver.wait_for(before + 1)
    sent = receiver.requests[before].headers
    assert (sent["x-own"], sent["X-Own-New"]) == ("kept", "new")
    assert "X-Own-Gone" not in sent


async def test_a_whole_webhook_that_was_read_can_be_written_back(service: Service, receiver: Receiver) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Own": "kept"})
    read = await service.webhook(created.webhook_id)
    read.description = "changed"

    await service.stub.UpdateWebhook(service_pb2.UpdateWebhookRequest(webhook=read))

    assert await sent_with(service, receiver) == {"X-Own": "kept"}


async def test_nothing_is_kept_for_a_header_that_there_was_not(service: Service, receiver: Receiver) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Own": "kept"})
    refused = await refusal(update(service, created.webhook_id, "headers", headers={"X-Other": "…"}))
    assert list(refused.fields) == ["webhook.headers[X-Other]"]
    refused = await refusal(service.create_webhook(receiver.url(), headers={"X-Own": "…"}))
    assert list(refused.fields) == ["webhook.headers[X-Own]"]


async def test_kept_values_count_for_the_bound_of_all(service: Service, receiver: Receiver) -> None:
    values = {f"X-Own-{number}": "x" * 1000 for number in range(4)}
    created = await service.create_webhook(receiver.url(), headers=values)
    more = {**dict.fromkeys(values, "…"), "X-Own-4": "x" * 100}
    refused = await refusal(update(service, created.webhook_id, "headers", headers=more))
    assert list(refused.fields) == ["webhook.headers"]


async def test_headers_are_deleted(service: Service, receiver: Receiver, postgres: TestPostgres) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Own": "gone"})
    assert not (await update(service, created.webhook_id, "headers")).headers
    assert postgres.rows(READ, [created.webhook_id]) == [({}, False)]
    assert await sent_with(service, receiver) == {}


async def test_a_repeated_create_is_known_by_its_headers_of_which_no_digest_is_stored_in_the_clear(
    service: Service, postgres: TestPostgres
) -> None:
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="n", url="https://hooks.example.com/", events=["*"])
    webhook.headers["X-Own"] = "a guess"
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id="once")
    created = await service.stub.CreateWebhook(request)
    assert (await service.stub.CreateWebhook(request)).webhook_id == created.webhook_id

    [(fingerprint,)] = postgres.rows("SELECT request_fingerprint FROM webhooks WHERE id = %s", [created.webhook_id])
    assert fingerprint not in guessed_fingerprints(webhook)
    request.webhook.headers["X-Own"] = "another"
    assert (await refusal(service.stub.CreateWebhook(request))).reason == "REQUEST_ID_REUSED"


# --- values that a version before has written ------------------------------------------------------------------------


async def test_values_in_the_clear_are_sent_and_not_shown_and_sealed_when_next_written(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook_id = await with_clear_values(service, receiver, postgres)
    assert await sent_with(service, receiver) == {"X-Own": CANARY}
    assert dict((await service.webhook(webhook_id)).headers) == {"X-Own": "…"}

    await update(service, webhook_id, "description", description="d")

    assert postgres.rows(READ, [webhook_id]) == [({"X-Own": "…"}, True)]
    assert await sent_with(service, receiver) == {"X-Own": CANARY}


async def test_values_in_the_clear_are_sealed_in_the_background_and_the_log_says_when_none_is_left(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook_id = await with_clear_values(service, receiver, postgres)
    sealing = ClearSealing(service.app.database, Sealer([SECRET_KEY]))
    with capture_logs() as logs:
        for _ in range(3):
            await sealing.step()
    assert {"event": "no header value is in the clear any more", "log_level": "info", "webhook_count": 1} in logs
    assert postgres.rows(READ, [webhook_id]) == [({"X-Own": "…"}, True)]
    assert CANARY not in str(postgres.rows("SELECT webhooks::text FROM webhooks"))
    assert await sent_with(service, receiver) == {"X-Own": CANARY}


async def test_nothing_is_sealed_beside_a_process_of_a_version_before_which_would_send_no_value(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook_id = await with_clear_values(service, receiver, postgres)
    postgres.rows(OLDER)
    sealing = ClearSealing(service.app.database, Sealer([SECRET_KEY]))
    await sealing.step()
    await sealing.step()
    await update(service, webhook_id, "headers", headers={"X-Own": "…", "X-Own-New": "new"})
    assert postgres.rows(READ, [webhook_id]) == [({"X-Own": CANARY, "X-Own-New": "new"}, False)]
    postgres.rows("UPDATE workers SET lease_until = now() - interval '1 s' WHERE version = 11")

    await sealing.step()
    assert postgres.rows(READ, [webhook_id])[0][1] is False, "one look could fall into the moment of a restart"
    await sealing.step()
    assert postgres.rows(READ, [webhook_id]) == [({"X-Own": "…", "X-Own-New": "…"}, True)]


async def test_a_value_that_a_process_of_a_version_before_has_written_beside_sealed_ones_counts(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    created = await service.create_webhook(receiver.url(), headers={"X-Own": "old"})
    postgres.rows(
        "UPDATE webhooks SET headers = %s::jsonb, version = version + 1, updated_at = now() WHERE id = %s",
        ['{"X-Own": "newer"}', created.webhook_id],
    )
    await update(service, created.webhook_id, "description", description="d")
    assert await sent_with(service, receiver) == {"X-Own": "newer"}


async def with_clear_values(service: Service, receiver: Receiver, postgres: TestPostgres) -> int:
    """A webhook whose header is stored as a version before did."""
    created = await service.create_webhook(receiver.url())
    postgres.rows(WRITE_CLEAR, [f'{{"X-Own": "{CANARY}"}}', created.webhook_id])
    return created.webhook_id


def guessed_fingerprints(webhook: webhook_pb2.Webhook) -> set[int]:
    """What whoever reads the database can compute without a key."""
    return {fingerprint(webhook.SerializeToString(deterministic=True))}
