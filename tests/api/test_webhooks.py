"""Webhooks over the wire: created, read, listed, changed, deleted, paused and resumed."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, webhook_pb2
from webhook.v1.service_pb2 import (
    CreateWebhookRequest,
    ListWebhooksRequest,
    UpdateWebhookRequest,
)

from tests.api.asking import OTHER_CUSTOMER, Refusal, ask, full_webhook, pages, refusal, until
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

ACTIVE = webhook_pb2.WEBHOOK_STATUS_ACTIVE
PAUSED = webhook_pb2.WEBHOOK_STATUS_PAUSED
DISABLED = webhook_pb2.WEBHOOK_STATUS_DISABLED
URL = "https://hooks.example.com/in"


async def create(service: Service, request_id: str = "", **fields: Any) -> webhook_pb2.Webhook:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "name": "test", "url": URL, "events": ["*"], **fields}
    return await service.stub.CreateWebhook(
        CreateWebhookRequest(webhook=webhook_pb2.Webhook(**values), request_id=request_id)
    )


async def list_ids(service: Service, customer_id: int = CUSTOMER, **request: Any) -> list[int]:
    response = await service.stub.ListWebhooks(ListWebhooksRequest(customer_id=customer_id, **request))
    return [webhook.webhook_id for webhook in response.webhooks]


async def update(service: Service, webhook_id: int, *mask: str, **fields: Any) -> webhook_pb2.Webhook:
    values: dict[str, Any] = {"customer_id": CUSTOMER, **fields}
    return await service.stub.UpdateWebhook(
        UpdateWebhookRequest(
            webhook=webhook_pb2.Webhook(webhook_id=webhook_id, **values), update_mask=FieldMask(paths=mask)
        )
    )


def assert_not_found(found: Refusal, webhook_id: int) -> None:
    assert found.code is grpc.StatusCode.NOT_FOUND
    assert found.reason == "WEBHOOK_NOT_FOUND"
    assert found.details["ResourceInfo"].resource_type == "webhook"
    assert found.details["ResourceInfo"].resource_name == str(webhook_id)


# --- create ----------------------------------------------------------------------------------------------------------


async def test_a_webhook_is_returned_as_it_was_given(service: Service) -> None:
    given = full_webhook()

    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=given))

    assert created.webhook_id > 0
    assert created.status == ACTIVE
    assert created.status_reason == ""
    assert created.etag
    assert created.create_time.seconds > 1_700_000_000
    assert created.update_time == created.create_time
    expected = webhook_pb2.Webhook()
    expected.CopyFrom(given)
    expected.secret = ""
    expected.headers["X-Tenant"] = "…"
    expected.secret_hint = SECRET[-4:]
    for field in ("webhook_id", "status", "etag"):
        setattr(expected, field, getattr(created, field))
    expected.create_time.CopyFrom(created.create_time)
    expected.update_time.CopyFrom(created.update_time)
    assert created == expected
    assert await service.webhook(created.webhook_id) == created


async def test_what_was_left_out_stays_unset(service: Service) -> None:
    created = await create(service)

    assert not created.HasField("retry_policy")
    assert not created.HasField("timeout")
    assert created.max_in_flight == 0
    assert created.rate_limit_per_second == 0
    assert not created.headers
    assert not created.labels
    assert created.description == ""


@pytest.mark.parametrize("rate", [1, 1000])
async def test_a_rate_limit_is_1_to_1000_requests_a_second(service: Service, rate: int) -> None:
    created = await create(service, rate_limit_per_second=rate)

    assert created.rate_limit_per_second == rate
    assert (await service.webhook(created.webhook_id)).rate_limit_per_second == rate


@pytest.mark.parametrize("rate", [-1, 1001, 2**31 - 1, -(2**31)])
async def test_another_rate_limit_is_refused(service: Service, rate: int) -> None:
    kept = await create(service, rate_limit_per_second=7, secret=SECRET)

    for call in (
        create(service, rate_limit_per_second=rate),
        update(service, kept.webhook_id, "rate_limit_per_second", rate_limit_per_second=rate),
        update(service, kept.webhook_id, rate_limit_per_second=rate),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "FIELD_INVALID"
        assert refused.fields == ["webhook.rate_limit_per_second"]
    assert await list_ids(service) == [kept.webhook_id]
    assert await service.webhook(kept.webhook_id) == kept


async def test_a_rate_limit_can_be_changed_and_taken_away(service: Service) -> None:
    webhook_id = (await create(service, rate_limit_per_second=7)).webhook_id

    for change, rate in [((), 8), (("rate_limit_per_second",), 9), (("rate_limit_per_second",), 0)]:
        assert (await update(service, webhook_id, *change, rate_limit_per_second=rate)).rate_limit_per_second == rate
    assert (await service.webhook(webhook_id)).rate_limit_per_second == 0


async def test_an_update_of_other_fields_leaves_the_rate_limit_alone(service: Service) -> None:
    webhook_id = (await create(service, rate_limit_per_second=7)).webhook_id

    assert (await update(service, webhook_id, "name", name="other")).rate_limit_per_second == 7
    assert (await update(service, webhook_id, name="another")).rate_limit_per_second == 7
    assert (await service.pause_webhook(webhook_id)).rate_limit_per_second == 7
    assert (await service.resume_webhook(webhook_id)).rate_limit_per_second == 7


async def test_an_own_secret_is_shown_by_no_call(service: Service) -> None:
    created = await create(service, request_id="mine", secret=SECRET)
    repeated = await create(service, request_id="mine", secret=SECRET)

    assert created.secret == ""
    assert created.secret_hint == SECRET[-4:]
    assert repeated == created


async def test_a_made_secret_is_shown_once_and_signs_what_is_sent(service: Service, receiver: Receiver) -> None:
    created = await create(service, url=receiver.url("/hook"))
    secret = created.secret

    assert secret.startswith("whsec_")
    assert created.secret_hint == secret[-4:]
    webhook_id = created.webhook_id
    listed = await service.stub.ListWebhooks(ListWebhooksRequest(customer_id=CUSTOMER))
    later = [
        await service.webhook(webhook_id),
        *listed.webhooks,
        await update(service, webhook_id, name="other"),
        await service.pause_webhook(webhook_id),
        await service.resume_webhook(webhook_id),
    ]
    assert len(later) == 5
    for webhook in later:
        assert webhook.secret == ""
        assert webhook.secret_hint == secret[-4:]
    await service.publish()
    [request] = await receiver.wait_for(1)
    request.verify(secret)


async def test_two_made_secrets_differ(service: Service) -> None:
    assert (await create(service)).secret != (await create(service)).secret


async def test_a_repeated_creation_gives_the_first_answer_with_its_secret(service: Service) -> None:
    created = await create(service, request_id="first")
    repeated = await create(service, request_id="first")

    assert created.secret
    assert repeated == created
    assert await list_ids(service) == [created.webhook_id]


async def test_a_creation_without_a_request_id_is_never_a_repetition(service: Service) -> None:
    first, second = await create(service), await create(service)

    assert await list_ids(service) == [second.webhook_id, first.webhook_id]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"url": URL + "/other"},
        {"events": ["job.*"]},
        {"secret": "another-secret-of-thirty-two-chars"},
        {"timeout": Duration(seconds=3)},
        {"labels": {"a": "b"}},
        {"rate_limit_per_second": 5},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_request_id_serves_one_webhook_only(service: Service, change: dict[str, Any]) -> None:
    created = await create(service, request_id="taken", secret=SECRET)

    refused = await refusal(create(service, request_id="taken", **{"secret": SECRET, **change}))

    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "REQUEST_ID_REUSED"
    assert refused.details["ResourceInfo"].resource_type == "request_id"
    assert refused.details["ResourceInfo"].resource_name == "taken"
    assert await list_ids(service) == [created.webhook_id]


async def test_a_request_id_belongs_to_its_customer(service: Service) -> None:
    mine = await create(service, request_id="same")
    theirs = await create(service, request_id="same", customer_id=OTHER_CUSTOMER)

    assert mine.webhook_id != theirs.webhook_id


async def test_concurrent_creations_with_one_request_id_make_one_webhook(service: Service) -> None:
    answers = await asyncio.gather(*(create(service, request_id="raced") for _ in range(30)))

    assert all(answer == answers[0] for answer in answers)
    assert answers[0].secret
    assert await list_ids(service) == [answers[0].webhook_id]


async def test_a_creation_repeated_after_the_deletion_says_that_the_webhook_is_gone(service: Service) -> None:
    created = await create(service, request_id="gone")
    await service.delete_webhook(created.webhook_id)

    assert_not_found(await refusal(create(service, request_id="gone")), created.webhook_id)
    assert await list_ids(service) == []


async def test_a_customer_has_no_more_webhooks_than_its_quota(services: ServiceFactory) -> None:
    service = await services.start(webhooks_per_customer_max=2)
    first = await create(service, request_id="first")
    await create(service)

    refused = await refusal(create(service))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "WEBHOOK_QUOTA"
    [violation] = refused.details["QuotaFailure"].violations
    assert violation.subject == f"customer:{CUSTOMER}"
    assert "2" in violation.description
    assert await create(service, request_id="first") == first, "a repetition makes none"
    assert await create(service, customer_id=OTHER_CUSTOMER)
    await service.delete_webhook(first.webhook_id)
    assert (await create(service)).webhook_id > 0, "a deleted one does not count"


async def test_concurrent_creations_do_not_pass_the_quota(services: ServiceFactory, postgres: TestPostgres) -> None:
    """A transaction of the test's own holds all request ids, so that all creations have counted before any inserts."""
    service = await services.start(webhooks_per_customer_max=3, database_pool_size=8)
    with psycopg.connect(postgres.url) as blocker:
        blocker.execute(
            """
            INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events, request_id)
            SELECT %s, '', '', '', '', false, '{*}', 'raced-' || n FROM generate_series(1, 8) AS n
            """,
            [CUSTOMER],
        )
        calls = [asyncio.ensure_future(created_or_code(service, f"raced-{number}")) for number in range(1, 9)]
        await until(lambda: postgres.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(8,)])
        blocker.rollback()

    answers = await asyncio.gather(*calls)

    assert answers.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 5
    assert len(await list_ids(service)) == 3


async def created_or_code(service: Service, request_id: str) -> webhook_pb2.Webhook | grpc.StatusCode:
    try:
        return await create(service, request_id)
    except grpc.aio.AioRpcError as error:
        return error.code()


# --- get and list ----------------------------------------------------------------------------------------------------


async def test_a_webhook_of_another_customer_looks_like_none(service: Service) -> None:
    theirs = (await create(service, customer_id=OTHER_CUSTOMER)).webhook_id

    for call in (
        service.webhook(theirs),
        update(service, theirs, name="mine"),
        service.pause_webhook(theirs),
        service.resume_webhook(theirs),
        service.delete_webhook(theirs),
    ):
        assert_not_found(await refusal(call), theirs)
    assert await list_ids(service) == []
    assert (await service.webhook(theirs, OTHER_CUSTOMER)).status == ACTIVE
    assert (await service.webhook(theirs, OTHER_CUSTOMER)).name == "test"


async def test_a_deleted_webhook_is_found_by_no_call(service: Service) -> None:
    kept, deleted = (await create(service)).webhook_id, (await create(service)).webhook_id

    await service.delete_webhook(deleted)

    for call in (
        service.webhook(deleted),
        update(service, deleted, name="back"),
        service.pause_webhook(deleted),
        service.resume_webhook(deleted),
        service.delete_webhook(deleted),
    ):
        assert_not_found(await refusal(call), deleted)
    assert await list_ids(service) == [kept]


async def test_webhooks_are_listed_newest_first_as_get_shows_them(service: Service) -> None:
    ids = [(await create(service, name=str(number))).webhook_id for number in range(3)]

    response = await service.stub.ListWebhooks(ListWebhooksRequest(customer_id=CUSTOMER))

    assert [webhook.webhook_id for webhook in response.webhooks] == ids[::-1]
    assert list(response.webhooks) == [await service.webhook(webhook_id) for webhook_id in ids[::-1]]
    assert response.next_page_token == ""


@pytest.mark.parametrize("size", [1, 3, 7, 8])
async def test_the_pages_of_a_list_hold_every_webhook_once(service: Service, size: int) -> None:
    ids = [(await create(service)).webhook_id for _ in range(7)]
    await create(service, customer_id=OTHER_CUSTOMER)

    found = [
        [webhook.webhook_id for webhook in page]
        async for page in pages(
            lambda token: service.stub.ListWebhooks(
                ListWebhooksRequest(customer_id=CUSTOMER, page_size=size, page_token=token)
            ),
            lambda response: response.webhooks,
        )
    ]

    assert [webhook_id for page in found for webhook_id in page] == ids[::-1]
    assert all(len(page) == size for page in found[:-1])
    assert found[-1], "no empty page at the end"


async def test_a_page_holds_50_by_default_and_1000_at_the_most(service: Service, postgres: TestPostgres) -> None:
    postgres.rows(
        """
        INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events)
        SELECT n, 'test', 'https://hooks.example.com/', '', '', false, '{*}' FROM generate_series(1, 1100) n
        """
    )

    assert len(await list_ids(service, 0)) == 50
    assert len(await list_ids(service, 0, page_size=2000)) == 1000
    assert len(await list_ids(service, 0, page_size=2**31 - 1)) == 1000
    response = await service.stub.ListWebhooks(ListWebhooksRequest(page_size=1000))
    rest = await service.stub.ListWebhooks(ListWebhooksRequest(page_size=1000, page_token=response.next_page_token))
    assert len(rest.webhooks) == 100
    assert rest.next_page_token == ""


async def test_webhooks_made_while_paging_do_not_disturb_it(service: Service) -> None:
    ids = [(await create(service)).webhook_id for _ in range(4)]
    first = await service.stub.ListWebhooks(ListWebhooksRequest(customer_id=CUSTOMER, page_size=2))
    await create(service)

    second = await service.stub.ListWebhooks(
        ListWebhooksRequest(customer_id=CUSTOMER, page_size=2, page_token=first.next_page_token)
    )

    assert [webhook.webhook_id for page in (first, second) for webhook in page.webhooks] == ids[::-1]


async def test_a_page_token_serves_the_same_list_only(service: Service) -> None:
    for _ in range(3):
        await create(service)
    first = await service.stub.ListWebhooks(ListWebhooksRequest(customer_id=CUSTOMER, page_size=1))
    token = first.next_page_token

    assert len(await list_ids(service, page_token=token, page_size=2)) == 2, "the size of a page may change"
    for request in (
        ListWebhooksRequest(customer_id=OTHER_CUSTOMER, page_token=token),
        ListWebhooksRequest(page_token=token),
        ListWebhooksRequest(customer_id=CUSTOMER, page_token=token, statuses=[ACTIVE]),
    ):
        refused = await refusal(ask(service, "ListWebhooks", request))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "PAGE_TOKEN_INVALID"
        assert refused.fields == ["page_token"]


@pytest.mark.parametrize(
    "statuses",
    [[ACTIVE], [PAUSED], [DISABLED], [ACTIVE, PAUSED], [PAUSED, DISABLED, PAUSED], [ACTIVE, PAUSED, DISABLED]],
    ids=str,
)
async def test_webhooks_are_listed_by_status(
    service: Service, receiver: Receiver, statuses: list[webhook_pb2.WebhookStatus.ValueType]
) -> None:
    ids: dict[webhook_pb2.WebhookStatus.ValueType, int] = {ACTIVE: (await create(service)).webhook_id}
    paused = await create(service)
    ids[PAUSED] = (await service.pause_webhook(paused.webhook_id)).webhook_id
    ids[DISABLED] = await create_disabled(service, receiver)

    found = await list_ids(service, statuses=statuses)

    assert found == sorted((ids[status] for status in set(statuses)), reverse=True)


async def create_disabled(service: Service, receiver: Receiver) -> int:
    """A webhook that the service has switched off."""
    webhook = await create(service, url=receiver.on("/gone", answer(410)), events=["quota.exceeded"])
    async with service.watching(webhook_ids=[webhook.webhook_id]) as watch:
        await service.publish(event_type="quota.exceeded")
        [delivery] = await watch.until_ended()
    assert delivery.status == delivery_pb2.DELIVERY_STATUS_CANCELLED
    return webhook.webhook_id


# --- update ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("url", URL + "/other"),
        ("events", ["alert.*"]),
        ("retry_policy", webhook_pb2.RetryPolicy(delays=[Duration(seconds=9)])),
        ("timeout", Duration(seconds=30)),
        ("max_in_flight", 100),
        ("rate_limit_per_second", 1000),
        ("headers", {"X-Tenant": "…"}),
        ("labels", {"team": "billing", "tier": ""}),
        ("description", "Says something else."),
    ],
)
async def test_the_mask_names_what_changes(service: Service, path: str, value: Any) -> None:
    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=full_webhook()))
    other: dict[str, Any] = {"name": "ignored", "description": "ignored", "labels": {"ignored": "1"}, path: value}

    changed = await update(service, created.webhook_id, path, **other)

    expected = webhook_pb2.Webhook()
    expected.CopyFrom(created)
    expected.ClearField(path)  # pyright: ignore[reportArgumentType] - a name from the table
    expected.MergeFrom(webhook_pb2.Webhook(**{path: value}))
    expected.etag = changed.etag
    expected.update_time.CopyFrom(changed.update_time)
    assert changed == expected
    assert changed.etag != created.etag
    assert changed.update_time.ToDatetime() > created.update_time.ToDatetime()
    assert await service.webhook(created.webhook_id) == changed


async def test_a_named_field_that_is_not_set_is_cleared(service: Service) -> None:
    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=full_webhook()))
    clearable = (
        *("retry_policy", "timeout", "max_in_flight", "rate_limit_per_second", "headers", "labels", "description"),
    )

    changed = await update(service, created.webhook_id, *clearable)

    assert {field.name for field, _ in changed.ListFields()}.isdisjoint(clearable)
    assert (changed.name, changed.url, changed.events) == (created.name, created.url, created.events)


async def test_an_empty_mask_changes_what_is_set(service: Service) -> None:
    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=full_webhook()))

    changed = await update(service, created.webhook_id, name="other", labels={"a": "b"})

    assert changed.name == "other"
    assert dict(changed.labels) == {"a": "b"}
    assert changed.description == created.description
    assert changed.headers == created.headers
    assert changed.retry_policy == created.retry_policy


async def test_an_asterisk_replaces_everything_that_can_be_changed(service: Service) -> None:
    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=full_webhook()))

    changed = await update(service, created.webhook_id, "*", name="other", url=URL, events=["*"])

    assert changed == webhook_pb2.Webhook(
        webhook_id=created.webhook_id,
        customer_id=CUSTOMER,
        name="other",
        url=URL,
        events=["*"],
        status=ACTIVE,
        secret_hint=created.secret_hint,
        create_time=created.create_time,
        update_time=changed.update_time,
        etag=changed.etag,
        signature_type=webhook_pb2.SIGNATURE_TYPE_HMAC,
    )


async def test_an_asterisk_needs_every_required_field(service: Service) -> None:
    created = await create(service, secret=SECRET)

    refused = await refusal(update(service, created.webhook_id, "*", description="alone"))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == ["webhook.events", "webhook.name", "webhook.url"]
    assert await service.webhook(created.webhook_id) == created


@pytest.mark.parametrize("path", ["colour", "Name", "retry_policy.delays", "webhook.name", "", "name "])
async def test_a_mask_with_an_unknown_path_changes_nothing(service: Service, path: str) -> None:
    created = await create(service, secret=SECRET)

    refused = await refusal(update(service, created.webhook_id, "name", path, name="other"))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_MASK_INVALID"
    assert refused.fields == ["update_mask"]
    assert await service.webhook(created.webhook_id) == created


async def test_every_unknown_path_of_a_mask_is_told(service: Service) -> None:
    created = await create(service)

    refused = await refusal(update(service, created.webhook_id, "colour", "name", "size", name="other"))

    descriptions = [violation.description for violation in refused.details["BadRequest"].field_violations]
    assert len(descriptions) == 2
    assert "colour" in descriptions[0]
    assert "size" in descriptions[1]


@pytest.mark.parametrize(
    ("mask", "fields"),
    [(["secret"], {"secret": "another-secret-of-thirty-two-chars"}), ([], {"secret": SECRET})],
    ids=["secret", "secret with an empty mask"],
)
async def test_what_cannot_be_changed_is_refused(service: Service, mask: list[str], fields: dict[str, Any]) -> None:
    created = await create(service, secret=SECRET)

    refused = await refusal(update(service, created.webhook_id, *mask, **fields))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_IMMUTABLE"
    assert refused.fields == ["webhook.secret"]
    assert await service.webhook(created.webhook_id) == created


OUTPUT_ONLY: dict[str, Any] = {
    "status": DISABLED,
    "status_reason": "by hand",
    "secret_hint": "0000",
    "create_time": Timestamp(seconds=1),
    "update_time": Timestamp(seconds=2),
}


async def test_output_only_fields_of_a_request_are_ignored(service: Service) -> None:
    created = await create(service, secret=SECRET, webhook_id=7_777_777, etag="7", **OUTPUT_ONLY)
    changed = await update(service, created.webhook_id, name="other", **OUTPUT_ONLY)

    assert created.webhook_id != 7_777_777
    for webhook in (created, changed):
        assert webhook.status == ACTIVE
        assert webhook.status_reason == ""
        assert webhook.secret_hint == SECRET[-4:]
        assert webhook.create_time.seconds > 1_700_000_000
        assert webhook.update_time.seconds > 1_700_000_000
    assert changed.name == "other"


async def test_output_only_fields_in_a_mask_are_ignored(services: ServiceFactory) -> None:
    """AIP-203: services must ignore the presence of output only fields in update field masks."""
    service = await services.start()
    created = await create(service, secret=SECRET)

    changed = await update(service, created.webhook_id, "name", *OUTPUT_ONLY, name="other", **OUTPUT_ONLY)

    assert changed.name == "other"
    assert (changed.status, changed.status_reason) == (ACTIVE, "")
    assert changed.create_time == created.create_time


async def test_a_webhook_read_changed_and_written_back_is_accepted(service: Service) -> None:
    created = await service.stub.CreateWebhook(CreateWebhookRequest(webhook=full_webhook()))
    read = await service.webhook(created.webhook_id)
    read.description = "Read, changed, written."

    changed = await service.stub.UpdateWebhook(UpdateWebhookRequest(webhook=read, update_mask=FieldMask(paths=["*"])))

    assert changed.description == "Read, changed, written."
    assert (changed.name, changed.retry_policy, changed.timeout) == (read.name, read.retry_policy, read.timeout)


async def test_an_update_that_names_nothing_is_refused(service: Service) -> None:
    created = await create(service)

    refused = await refusal(update(service, created.webhook_id))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["update_mask"]


# --- etags -----------------------------------------------------------------------------------------------------------


def assert_etag_mismatch(refused: Refusal, current: webhook_pb2.Webhook) -> None:
    assert refused.code is grpc.StatusCode.ABORTED
    assert refused.reason == "ETAG_MISMATCH"
    assert refused.metadata["current_etag"] == current.etag


async def test_an_old_etag_changes_nothing(service: Service) -> None:
    created = await create(service)
    current = await update(service, created.webhook_id, name="second", etag=created.etag)

    refused = await refusal(update(service, created.webhook_id, name="third", etag=created.etag))

    assert_etag_mismatch(refused, current)
    assert await service.webhook(created.webhook_id) == current
    etag = refused.metadata["current_etag"]
    assert (await update(service, created.webhook_id, name="third", etag=etag)).name == "third"


async def test_an_old_etag_deletes_nothing(service: Service) -> None:
    created = await create(service)
    current = await update(service, created.webhook_id, name="second")

    assert_etag_mismatch(await refusal(service.delete_webhook(created.webhook_id, created.etag)), current)
    assert await service.webhook(created.webhook_id) == current
    await service.delete_webhook(created.webhook_id, current.etag)
    assert await list_ids(service) == []


async def test_every_change_makes_another_etag(service: Service) -> None:
    created = await create(service)

    versions = [
        created,
        await update(service, created.webhook_id, name="other"),
        await service.pause_webhook(created.webhook_id),
        await service.resume_webhook(created.webhook_id),
    ]

    assert len({webhook.etag for webhook in versions}) == len(versions)
    assert (await service.webhook(created.webhook_id)).etag == versions[-1].etag


async def test_of_concurrent_updates_with_one_etag_one_wins(service: Service) -> None:
    created = await create(service)

    answers = await asyncio.gather(
        *(update(service, created.webhook_id, name=f"n{number}", etag=created.etag) for number in range(10)),
        return_exceptions=True,
    )

    [winner] = [answer for answer in answers if isinstance(answer, webhook_pb2.Webhook)]
    losers = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {loser.code() for loser in losers} == {grpc.StatusCode.ABORTED}
    assert len(losers) == 9
    assert await service.webhook(created.webhook_id) == winner


# --- pause and resume ------------------------------------------------------------------------------------------------


async def test_a_paused_webhook_keeps_what_it_gets_until_it_is_resumed(service: Service, receiver: Receiver) -> None:
    webhook = await create(service, url=receiver.url("/paused"))
    assert (await service.pause_webhook(webhook.webhook_id)).status == PAUSED
    await create(service, url=receiver.url("/active"))
    published = await service.publish()
    await receiver.wait_for(1, "/active")
    assert receiver.at("/paused") == []

    assert (await service.resume_webhook(webhook.webhook_id)).status == ACTIVE

    [request] = await receiver.wait_for(1, "/paused")
    assert request.event_id == published.event_id


@pytest.mark.parametrize("start", ["active", "paused", "disabled"])
async def test_only_the_right_status_can_be_left(service: Service, receiver: Receiver, start: str) -> None:
    if start == "disabled":
        webhook_id = await create_disabled(service, receiver)
    else:
        webhook_id = (await create(service)).webhook_id
    if start == "paused":
        await service.pause_webhook(webhook_id)
    before = await service.webhook(webhook_id)
    wrong = service.resume_webhook if start == "active" else service.pause_webhook

    refused = await refusal(wrong(webhook_id))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "WEBHOOK_STATUS"
    assert refused.metadata["status"] == start
    [violation] = refused.details["PreconditionFailure"].violations
    assert violation.type == "WEBHOOK_STATUS"
    assert violation.subject == f"webhook:{webhook_id}"
    assert start in violation.description
    assert await service.webhook(webhook_id) == before


async def test_a_disabled_webhook_says_why_and_since_when_until_it_is_resumed(
    service: Service, receiver: Receiver
) -> None:
    webhook_id = await create_disabled(service, receiver)

    disabled = await service.webhook(webhook_id)
    changed = await update(service, webhook_id, "labels", labels={"seen": "yes"})
    resumed = await service.resume_webhook(webhook_id)

    assert disabled.status == DISABLED
    assert disabled.status_reason
    assert disabled.disable_time == disabled.update_time
    assert changed.disable_time == disabled.disable_time, "a later change leaves the time"
    assert changed.update_time != disabled.update_time
    assert (resumed.status, resumed.status_reason) == (ACTIVE, "")
    assert not resumed.HasField("disable_time")


async def test_of_concurrent_pauses_one_wins(service: Service) -> None:
    webhook = await create(service)

    answers = await asyncio.gather(*(_paused(service, webhook.webhook_id) for _ in range(10)))

    assert sorted(answers) == [False] * 9 + [True]


async def _paused(service: Service, webhook_id: int) -> bool:
    try:
        await service.pause_webhook(webhook_id)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION  # noqa: PT017 - a loser must lose in this way
        return False
    return True


async def test_deleting_a_webhook_cancels_what_waits_for_it(service: Service) -> None:
    webhook = await create(service)
    await service.pause_webhook(webhook.webhook_id)
    async with service.watching() as watch:
        published = await service.publish()
        await service.delete_webhook(webhook.webhook_id)
        [delivery] = await watch.until_ended()

    assert delivery.event_id == published.event_id
    assert delivery.status == delivery_pb2.DELIVERY_STATUS_CANCELLED
    assert delivery.attempt_count == 0
    assert await service.delivery(delivery.delivery_id) == delivery, "the history stays"


# --- names that the operator allows, and international ones ----------------------------------------------------------


async def test_an_internal_name_can_be_registered_where_the_operator_allows_it(services: ServiceFactory) -> None:
    service = await services.start(egress_allow_hosts="receiver,*.svc.cluster.local")
    for host in ("receiver", "shop.prod.svc.cluster.local"):
        created = await create(service, url=f"http://{host}/hook")
        assert created.url == f"http://{host}/hook"
        changed = await update(service, created.webhook_id, "url", url=f"http://{host}/other")
        assert changed.url == f"http://{host}/other"
    refused = await refusal(create(service, url="http://other/hook"))
    assert refused.fields == ["webhook.url"]


async def test_an_international_name_is_refused_with_its_ascii_form(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"use xn--bcher-kva\.example"):
        await create(service, url="https://b\u00fccher.example/hook")
