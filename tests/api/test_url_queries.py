"""The query of a webhook's URL reaches its receiver, and callers see it; it is sealed in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Final, LiteralString

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from structlog.testing import capture_logs
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.api.asking import refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, Service, ServiceFactory
from webhook_grpc.api.messages.reading import fingerprint
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties.clear_sealing import ClearSealing

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY: Final = "canary-of-the-query"
OLDER: LiteralString = """
INSERT INTO workers (worker_id, lease_until, version) VALUES (gen_random_uuid(), now() + interval '50 s', 17)
"""
OLDER_ENDS: LiteralString = "UPDATE workers SET lease_until = now() - interval '1 s' WHERE version = 17"
NOT_ENDED: LiteralString = "UPDATE webhook_migrations SET steps_done = 0 WHERE name = '0018-sealing-begins.post'"
ENDED: LiteralString = "UPDATE webhook_migrations SET steps_done = step_count WHERE name = '0018-sealing-begins.post'"
FINGERPRINT: LiteralString = "SELECT request_fingerprint FROM webhooks WHERE id = %s"
READ: LiteralString = "SELECT url, sealed_query IS NOT NULL FROM webhooks WHERE id = %s"


async def update(service: Service, webhook_id: int, *paths: str, **fields: Any) -> webhook_pb2.Webhook:
    webhook = webhook_pb2.Webhook(webhook_id=webhook_id, customer_id=CUSTOMER, **fields)
    request = service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=paths))
    return await service.stub.UpdateWebhook(request)


async def called_with(service: Service, receiver: Receiver) -> str:
    """The path and the query of the next request."""
    before = len(receiver.requests)
    await service.publish()
    await receiver.wait_for(before + 1)
    return receiver.requests[before].target


async def test_callers_see_the_query_the_receiver_gets_it_and_the_database_does_not_have_it(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    url = receiver.url(f"/in?key={CANARY}&empty=&%C3%A9=%20?")
    created = await service.create_webhook(url)
    webhook_id = created.webhook_id
    listed = await service.stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
    rotation = service_pb2.RotateWebhookSecretRequest(customer_id=CUSTOMER, webhook_id=webhook_id)
    seen = [
        created,
        await service.webhook(webhook_id),
        *listed.webhooks,
        await update(service, webhook_id, "description", description="d"),
        await service.pause_webhook(webhook_id),
        await service.resume_webhook(webhook_id),
        await service.stub.RotateWebhookSecret(rotation),
    ]
    assert {webhook.url for webhook in seen} == {url}
    assert postgres.rows(READ, [webhook_id]) == [(receiver.url("/in?…"), True)]
    assert CANARY not in str(postgres.rows("SELECT webhooks::text FROM webhooks"))
    assert await called_with(service, receiver) == url.removeprefix(receiver.url(""))


async def test_another_url_brings_its_own_query_or_none(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook_id = (await service.create_webhook(receiver.url("/in?key=before"))).webhook_id  # nothing is sent to it
    changed = await update(service, webhook_id, "url", url=receiver.url("/in?key=after"))
    assert changed.url == receiver.url("/in?key=after")
    assert await called_with(service, receiver) == "/in?key=after"
    for path in ("/in", "/in?"):
        assert (await update(service, webhook_id, "url", url=receiver.url(path))).url == receiver.url(path)
        assert postgres.rows(READ, [webhook_id]) == [(receiver.url(path), False)]
        async with slowness.timeout(20):
            while await called_with(service, receiver) != path:
                await asyncio.sleep(0.01)  # a change is followed a moment later
    refused = await refusal(update(service, webhook_id, "url", url=receiver.url("/in?…")))
    assert refused.reason == "URL_NOT_ALLOWED"


async def test_what_is_stored_of_a_creation_confirms_no_guess_of_its_query(
    service: Service, postgres: TestPostgres
) -> None:
    url = f"https://hooks.example.com/in?key={CANARY}"
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="n", url=url, events=["*"])
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id="once")
    created = await service.stub.CreateWebhook(request)
    assert (await service.stub.CreateWebhook(request)) == created

    in_clear = fingerprint(webhook.SerializeToString(deterministic=True))
    assert postgres.rows(FINGERPRINT, [created.webhook_id]) != [(in_clear,)]
    request.webhook.url = f"{url}-another"
    assert (await refusal(service.stub.CreateWebhook(request))).reason == "REQUEST_ID_REUSED"

    postgres.rows("UPDATE webhooks SET request_fingerprint = %s", [in_clear])  # as a version before stored it
    request.webhook.url = url
    assert (await service.stub.CreateWebhook(request)).webhook_id == created.webhook_id


async def test_a_query_in_the_clear_is_sealed_in_the_background_and_the_log_says_when_none_is_left(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook_id = await with_clear_query(service, receiver, postgres)
    etag = (await service.webhook(webhook_id)).etag
    assert await called_with(service, receiver) == f"/in?key={CANARY}"
    sealing = ClearSealing(service.app.database, Sealer([SECRET_KEY]))
    with capture_logs() as logs:
        for _ in range(3):
            await sealing.step()
    assert {"event": "no query of a URL is in the clear any more", "log_level": "info", "webhook_count": 1} in logs
    assert postgres.rows(READ, [webhook_id]) == [(receiver.url("/in?…"), True)]
    shown = await service.webhook(webhook_id)
    assert (shown.url, shown.etag) == (receiver.url(f"/in?key={CANARY}"), etag)
    assert await called_with(service, receiver) == f"/in?key={CANARY}"


@pytest.fixture
def ended(postgres: TestPostgres) -> Generator[None]:
    """Leaves the schema as that of an upgrade that was ended."""
    yield
    postgres.rows(ENDED)


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(("begins", "ends"), [(OLDER, OLDER_ENDS), (NOT_ENDED, ENDED)], ids=["beside", "before"])
async def test_nothing_is_sealed_beside_a_version_before_which_would_not_send_it_nor_before_it_can_not_come_back(
    service: Service, receiver: Receiver, postgres: TestPostgres, begins: LiteralString, ends: LiteralString
) -> None:
    webhook_id = await with_clear_query(service, receiver, postgres)
    postgres.rows(begins)
    sealing = ClearSealing(service.app.database, Sealer([SECRET_KEY]))
    await sealing.step()
    await sealing.step()
    await update(service, webhook_id, "description", description="d")
    created = await service.create_webhook(receiver.url("/in?key=new"))
    in_clear = [(receiver.url(f"/in?key={CANARY}"), False)]
    assert postgres.rows(READ, [webhook_id]) == in_clear
    assert postgres.rows(READ, [created.webhook_id]) == [(receiver.url("/in?key=new"), False)]
    postgres.rows(ends)

    await sealing.step()
    assert postgres.rows(READ, [webhook_id]) == in_clear, "one look could fall into the moment of a restart"
    await sealing.step()
    assert postgres.rows(READ, [webhook_id]) == [(receiver.url("/in?…"), True)]


@pytest.mark.usefixtures("ended")
async def test_before_the_upgrade_is_ended_a_creation_may_be_repeated_at_a_version_before(
    service: Service, postgres: TestPostgres
) -> None:
    """What is stored of the request is what that version stores and looks for."""
    postgres.rows(NOT_ENDED)
    url = f"https://hooks.example.com/in?key={CANARY}"
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="n", url=url, events=["*"])
    request = service_pb2.CreateWebhookRequest(webhook=webhook, request_id="once")
    created = await service.stub.CreateWebhook(request)
    in_clear = fingerprint(webhook.SerializeToString(deterministic=True))
    assert postgres.rows(FINGERPRINT, [created.webhook_id]) == [(in_clear,)]
    postgres.rows(ENDED)
    assert (await service.stub.CreateWebhook(request)) == created, "and by this one after the end, too"


async def test_a_query_that_can_not_be_opened_shows_as_one_and_nothing_is_sent_without_it(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start()
    created = await service.create_webhook(receiver.url(f"/in?key={CANARY}"))
    postgres.rows("UPDATE webhooks SET sealed_query = set_byte(sealed_query, 60, 255 - get_byte(sealed_query, 60))")
    assert (await service.webhook(created.webhook_id)).url == receiver.url("/in?…")
    async with service.watching() as watch:
        await service.publish()
        seen = await watch.until(lambda seen: any(one.attempt_count for one in seen))
    assert not receiver.requests, "nothing is sent to another URL than its own"
    outcomes = {one.last_attempt.outcome for one in seen if one.attempt_count}  # of one attempt, or also of the next
    assert outcomes == {delivery_pb2.ATTEMPT_OUTCOME_INTERNAL_ERROR}


async def with_clear_query(service: Service, receiver: Receiver, postgres: TestPostgres) -> int:
    """A webhook whose URL is stored as a version before did."""
    created = await service.create_webhook(receiver.url("/in"))
    url = receiver.url(f"/in?key={CANARY}")
    postgres.rows("UPDATE webhooks SET url = %s, version = version + 1, updated_at = now()", [url])
    return created.webhook_id
