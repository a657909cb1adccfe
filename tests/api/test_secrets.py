"""RotateWebhookSecret: who gets to see which secret, and receivers that verify throughout."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError
from webhook.v1 import service_pb2, webhook_pb2

from tests.api.asking import full_webhook, refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Received, Receiver
from tests.support.service import CUSTOMER, SECRET, SECRET_KEY, Service
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.store.registry import secrets

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

OTHER_SECRET = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
PLAIN_SECRET = "a secret in free text!!!!".replace(" ", "-")
HOUR = Duration(seconds=3600)
NONE = Duration()


async def rotate(service: Service, webhook_id: int, **fields: Any) -> webhook_pb2.Webhook:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": webhook_id, **fields}
    return await service.stub.RotateWebhookSecret(service_pb2.RotateWebhookSecretRequest(**values))


def stored_secrets(postgres: TestPostgres, webhook_id: int) -> list[str]:
    """Those in the row, the newest first."""
    [row] = postgres.rows("SELECT secret, previous_secret FROM webhooks WHERE id = %s", [webhook_id])
    return [Sealer([SECRET_KEY]).open(sealed, CUSTOMER, webhook_id) for sealed in row if sealed is not None]


def end_overlap(postgres: TestPostgres) -> None:
    """As if its time had passed."""
    postgres.rows("UPDATE webhooks SET previous_secret_until = now()")


# --- what is shown and stored ----------------------------------------------------------------------------------------


async def test_the_service_makes_a_secret_and_shows_it_this_once(service: Service, postgres: TestPostgres) -> None:
    before = await service.create_webhook("https://hooks.example.com/")

    rotated = await rotate(service, before.webhook_id)

    assert rotated.secret.startswith("whsec_")
    assert rotated.secret_hint == rotated.secret[-4:] != before.secret_hint
    assert rotated.etag != before.etag
    assert rotated.update_time.ToDatetime() > before.update_time.ToDatetime()
    until_end = rotated.secret_overlap_end_time.ToDatetime() - rotated.update_time.ToDatetime()
    assert until_end.total_seconds() == 86_400, "24 h unless the caller says otherwise"
    assert stored_secrets(postgres, before.webhook_id) == [rotated.secret, SECRET]
    shown = await service.webhook(before.webhook_id)
    assert shown.secret == ""
    shown.secret = rotated.secret
    assert shown == rotated
    same = {name: getattr(rotated, name) for name in ("name", "url", "events", "status", "create_time")}
    assert same == {name: getattr(before, name) for name in same}


async def test_the_customers_own_secret_is_not_shown(service: Service, postgres: TestPostgres) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")

    rotated = await rotate(service, webhook.webhook_id, secret=PLAIN_SECRET, overlap=HOUR)

    assert rotated.secret == ""
    assert rotated.secret_hint == PLAIN_SECRET[-4:]
    assert stored_secrets(postgres, webhook.webhook_id) == [PLAIN_SECRET, SECRET]


async def test_without_an_overlap_the_old_secret_is_gone_at_once(service: Service, postgres: TestPostgres) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")

    rotated = await rotate(service, webhook.webhook_id, overlap=NONE)

    assert not rotated.HasField("secret_overlap_end_time")
    assert stored_secrets(postgres, webhook.webhook_id) == [rotated.secret]


async def test_after_the_overlap_nothing_tells_of_it_and_the_old_secret_is_removed(
    service: Service, postgres: TestPostgres
) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    rotated = await rotate(service, webhook.webhook_id)
    await secrets.forget_previous(service.app.database)
    assert stored_secrets(postgres, webhook.webhook_id) == [rotated.secret, SECRET], "it still signs"

    end_overlap(postgres)

    shown = await service.webhook(webhook.webhook_id)
    assert not shown.HasField("secret_overlap_end_time")
    await secrets.forget_previous(service.app.database)
    assert stored_secrets(postgres, webhook.webhook_id) == [rotated.secret]
    assert await service.webhook(webhook.webhook_id) == shown, "not even the etag"


async def test_a_second_rotation_during_an_overlap_must_end_it(service: Service, postgres: TestPostgres) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    first = await rotate(service, webhook.webhook_id, overlap=HOUR)

    refused = await refusal(rotate(service, webhook.webhook_id, overlap=HOUR))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "SECRET_OVERLAP"
    assert first.secret_overlap_end_time.ToDatetime().isoformat(timespec="milliseconds") in refused.message
    assert stored_secrets(postgres, webhook.webhook_id) == [first.secret, SECRET]
    second = await rotate(service, webhook.webhook_id, overlap=NONE)
    assert stored_secrets(postgres, webhook.webhook_id) == [second.secret]
    third = await rotate(service, webhook.webhook_id, overlap=HOUR)
    end_overlap(postgres)
    fourth = await rotate(service, webhook.webhook_id, overlap=HOUR)
    assert stored_secrets(postgres, webhook.webhook_id) == [fourth.secret, third.secret]


# --- repetitions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["", OTHER_SECRET])
async def test_the_same_call_again_gives_the_same_answer(service: Service, own: str) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    call = {"secret": own, "overlap": HOUR, "request_id": "leaked"}
    first = await rotate(service, webhook.webhook_id, **call)

    assert await rotate(service, webhook.webhook_id, **call) == first
    assert bool(first.secret) is not bool(own)


async def test_the_same_call_many_times_at_once_rotates_once(service: Service, postgres: TestPostgres) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")

    answers = await asyncio.gather(
        *(rotate(service, webhook.webhook_id, overlap=NONE, request_id="leaked") for _ in range(10))
    )

    assert all(answer == answers[0] for answer in answers)
    assert int(answers[0].etag) == int(webhook.etag) + 1
    assert stored_secrets(postgres, webhook.webhook_id) == [answers[0].secret]


@pytest.mark.parametrize(
    "other", [{"secret": ""}, {"secret": PLAIN_SECRET}, {"overlap": NONE}, {"overlap": Duration(seconds=3601)}], ids=str
)
async def test_another_call_with_the_same_request_id_is_refused(
    service: Service, postgres: TestPostgres, other: dict[str, Any]
) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    call = {"secret": OTHER_SECRET, "overlap": HOUR, "request_id": "leaked"}
    await rotate(service, webhook.webhook_id, **call)

    refused = await refusal(rotate(service, webhook.webhook_id, **{**call, **other}))

    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "REQUEST_ID_REUSED"
    assert stored_secrets(postgres, webhook.webhook_id) == [OTHER_SECRET, SECRET]


@pytest.mark.parametrize("own", ["", SECRET])
async def test_a_repetition_of_create_shows_no_secret_that_it_did_not_make(service: Service, own: str) -> None:
    create = service_pb2.CreateWebhookRequest(webhook=full_webhook(secret=own), request_id="new")
    created = await service.stub.CreateWebhook(create)
    rotated = await rotate(service, created.webhook_id)

    again = await service.stub.CreateWebhook(create)

    assert (created.secret == "") is (own != "")
    assert again.webhook_id == created.webhook_id
    assert again.secret == ""
    assert again.secret_hint == rotated.secret_hint


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_everything_that_is_wrong_is_named_at_once(service: Service) -> None:
    refused = await refusal(
        rotate(service, 0, secret="v1,whsec_", overlap=Duration(seconds=7 * 86_400, nanos=1), request_id="é")
    )

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["overlap", "request_id", "secret", "webhook_id"]


@pytest.mark.parametrize("overlap", [Duration(seconds=-1), Duration(seconds=1, nanos=-1)], ids=str)
async def test_an_overlap_is_no_negative_or_malformed_time(service: Service, overlap: Duration) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")

    assert (await refusal(rotate(service, webhook.webhook_id, overlap=overlap))).fields == ["overlap"]
    assert await rotate(service, webhook.webhook_id, overlap=Duration(seconds=7 * 86_400))


async def test_a_webhook_that_does_not_exist_or_is_deleted_is_not_found(service: Service) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    await rotate(service, webhook.webhook_id, request_id="r")
    await service.delete_webhook(webhook.webhook_id)

    for webhook_id in (webhook.webhook_id, 2**62):
        refused = await refusal(rotate(service, webhook_id, request_id="r"))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "WEBHOOK_NOT_FOUND"


# --- receivers -------------------------------------------------------------------------------------------------------


def standard_accepts(secret: str, request: Received) -> bool:
    """A receiver with the Standard Webhooks library."""
    try:
        StandardWebhook(secret).verify(request.body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


def body_accepts(secret: str, request: Received) -> bool:
    """A receiver that checks X-Webhook-Signature."""
    expected = "sha256=" + hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.headers["X-Webhook-Signature"])


async def until_signed(service: Service, receiver: Receiver, *secrets_in_use: str) -> list[Received]:
    """Publishes until a request is signed with exactly these; returns what came on the way."""
    seen = len(receiver.requests)

    def signed() -> bool:
        request = receiver.requests[-1]
        accepted = {secret for secret in (SECRET, OTHER_SECRET) if standard_accepts(secret, request)}
        return accepted == set(secrets_in_use)

    async with slowness.timeout(20):
        while not (len(receiver.requests) > seen and signed()):
            count = len(receiver.requests)
            await service.publish()
            await receiver.wait_for(count + 1)
    return receiver.requests[seen:]


async def test_receivers_verify_throughout_a_rotation(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    """With the old secret until the overlap ends, with the new one from when it is in use, with both always."""
    webhook = await service.create_webhook(receiver.url())
    await until_signed(service, receiver, SECRET)
    await rotate(service, webhook.webhook_id, secret=OTHER_SECRET, overlap=HOUR)
    change = await until_signed(service, receiver, SECRET, OTHER_SECRET)

    count = len(receiver.requests)
    await service.publish_many(20)
    await receiver.wait_for(count + 20)
    overlap = receiver.requests[-21:]
    assert [standard_accepts(OTHER_SECRET, request) for request in overlap] == [True] * 21
    for request in (*change, *overlap):
        assert standard_accepts(SECRET, request)
        assert body_accepts(SECRET, request), "the header with room for one keeps to the old secret"
    assert len(overlap[0].headers["webhook-signature"].split()) == 2

    postgres.rows(
        "UPDATE webhooks SET previous_secret_until = now(), version = version + 1, updated_at = now() WHERE id = %s",
        [webhook.webhook_id],
    )
    for request in await until_signed(service, receiver, OTHER_SECRET):
        assert standard_accepts(OTHER_SECRET, request)
        assert body_accepts(SECRET, request) or body_accepts(OTHER_SECRET, request)
    last = receiver.requests[-1]
    assert not standard_accepts(SECRET, last)
    assert body_accepts(OTHER_SECRET, last)


async def test_a_secret_that_leaked_signs_no_more(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await until_signed(service, receiver, SECRET)

    await rotate(service, webhook.webhook_id, secret=OTHER_SECRET, overlap=NONE)

    for request in (await until_signed(service, receiver, OTHER_SECRET))[:-1]:
        assert standard_accepts(SECRET, request), "in the moment before the engine knew"
    assert body_accepts(OTHER_SECRET, receiver.requests[-1])


FREE_TEXTS = ("x", "your_secret_key", "x" * 128, "пароль 🎉", "🎉" * 128)


async def test_free_text_of_1_to_128_characters_signs_what_a_receiver_verifies(
    service: Service, receiver: Receiver
) -> None:
    """Given when the webhook is made, and by a rotation."""
    expected = dict[str, str]()
    for number, secret in enumerate(FREE_TEXTS):
        await service.create_webhook(receiver.url(f"/created/{number}"), secret=secret)
        rotated = await service.create_webhook(receiver.url(f"/rotated/{number}"))
        answer = await rotate(service, rotated.webhook_id, secret=secret, overlap=NONE)
        assert secret[-4:] == secret or answer.secret_hint != secret
        expected |= {f"/created/{number}": secret, f"/rotated/{number}": secret}
    await service.publish()
    await receiver.wait_for(len(expected))
    for path, secret in expected.items():
        [request] = receiver.at(path)
        request.verify(secret)


async def test_a_secret_with_the_prefix_of_signatures_is_refused_with_what_to_do(service: Service) -> None:
    webhook = await service.create_webhook("https://hooks.example.com/")
    calls = (
        service.create_webhook("https://hooks.example.com/", secret="v1," + SECRET),
        rotate(service, webhook.webhook_id, secret="v1," + SECRET),
    )
    for call in calls:
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "must begin with `whsec_`: leave out the `v1,` before it" in refused.message
        assert SECRET not in refused.message


async def test_an_overlap_ends_by_itself(service: Service, receiver: Receiver) -> None:
    webhook = await service.create_webhook(receiver.url())
    await until_signed(service, receiver, SECRET)

    rotated = await rotate(service, webhook.webhook_id, secret=OTHER_SECRET, overlap=Duration(nanos=500_000_000))

    end_seconds = rotated.secret_overlap_end_time.ToDatetime().timestamp()
    for request in await until_signed(service, receiver, OTHER_SECRET):
        if standard_accepts(SECRET, request):
            assert int(request.headers["webhook-timestamp"]) <= end_seconds
            assert body_accepts(SECRET, request)
