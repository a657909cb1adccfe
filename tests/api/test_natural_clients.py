"""Clients that do the natural thing are right; others get an answer that says what the right thing is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from structlog.testing import capture_logs
from webhook.v1 import event_pb2, service_pb2, webhook_pb2
from webhook.v1.service_pb2 import (
    DeleteWebhookRequest,
    GetDeliveryRequest,
    GetEventRequest,
    ListDeliveryAttemptsRequest,
    ListEventsRequest,
    PauseWebhookRequest,
    PublishEventRequest,
    RetryDeliveryRequest,
    UpdateWebhookRequest,
)

from tests.api.asking import OTHER_CUSTOMER, refusal, until
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory, seconds
from webhook_grpc.domain.errors import NotFound
from webhook_grpc.domain.ids import event_id_text, first_event_id
from webhook_grpc.domain.retention import RetentionPolicy, with_age

pytestmark = pytest.mark.asyncio(loop_scope="module")

# --- the stream ------------------------------------------------------------------------------------------------------


async def test_a_client_that_has_no_cursor_yet_may_send_an_empty_one(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching(cursor=b"", heartbeat_interval=seconds(1)) as watch:
        assert (await watch.next_message()).cursor
        await service.publish()
        await watch.until_ended()


# --- PATCH -----------------------------------------------------------------------------------------------------------


async def test_what_get_returned_may_be_sent_back_whole_with_one_field_changed(
    service: Service, receiver: Receiver
) -> None:
    """What a gateway makes of a PATCH whose body is that of the GET before: every field of it stands in the mask."""
    created = await service.create_webhook(receiver.url())
    got = await service.webhook(created.webhook_id)
    body: dict[str, Any] = json_format.MessageToDict(
        got, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    changed = webhook_pb2.Webhook()
    changed.CopyFrom(got)
    changed.name = "another name"

    updated = await service.stub.UpdateWebhook(
        UpdateWebhookRequest(webhook=changed, update_mask=FieldMask(paths=list(body)))
    )

    assert {"customer_id", "secret", "webhook_id"} <= body.keys()
    assert updated.name == "another name"


async def test_another_customer_in_the_body_of_a_patch_changes_nothing(service: Service, receiver: Receiver) -> None:
    created = await service.create_webhook(receiver.url())
    webhook = webhook_pb2.Webhook(customer_id=OTHER_CUSTOMER, webhook_id=created.webhook_id, name="mine")
    mask = FieldMask(paths=["customer_id", "name"])

    refused = await refusal(service.stub.UpdateWebhook(UpdateWebhookRequest(webhook=webhook, update_mask=mask)))

    assert refused.code is grpc.StatusCode.NOT_FOUND


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**53), 2**63, 1e300])
@pytest.mark.parametrize("is_nested", [False, True])
async def test_a_whole_number_that_data_cannot_carry_exactly_is_refused(
    service: Service, number: float, is_nested: bool
) -> None:
    data = struct_pb2.Struct()
    data.update({"order_id": {"a": [number]} if is_nested else number})
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data=data)

    refused = await refusal(service.stub.PublishEvent(PublishEventRequest(event=event)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DATA_NUMBER_INEXACT")
    assert refused.fields == ["event.data"]
    assert "use data_json" in refused.message


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_without_bearer_is_refused_with_what_is_missing(services: ServiceFactory) -> None:
    service = await services.start(allow_anonymous=False)
    said = dict[str, str]()
    for value in ("secret-of-somebody", "Bearer", "Bearer unknown"):
        call = service.stub.GetEvent(GetEventRequest(), metadata=[("authorization", value)])
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        said[value] = refused.message
    assert said == {
        "secret-of-somebody": "`authorization` must be `Bearer` and the token; it lacks `Bearer`",
        "Bearer": "`authorization` must be `Bearer` and the token; it lacks the token",
        "Bearer unknown": "the token is not known",
    }


# --- what is no longer kept ------------------------------------------------------------------------------------------


def of_age(days: int) -> UUID:
    now = datetime.now(UTC)
    return first_event_id(now.replace(year=now.year - 1) if days == 365 else now)


async def test_an_id_that_is_older_than_retention_may_have_been_dropped_and_the_answer_says_so(
    service: Service,
) -> None:
    said = list[str]()
    for event_id in (of_age(365), of_age(0)):
        event_text = event_id_text(event_id)
        delivery_text = f"dlv_{event_text.removeprefix('evt_')}_1"
        calls = [
            service.event(event_text),
            service.stub.GetDelivery(GetDeliveryRequest(customer_id=CUSTOMER, delivery_id=delivery_text)),
            service.stub.RetryDelivery(RetryDeliveryRequest(customer_id=CUSTOMER, delivery_id=delivery_text)),
        ]
        for call in calls:
            refused = await refusal(call)
            assert refused.code is grpc.StatusCode.NOT_FOUND
            said.append(refused.message)
    old, new = said[:3], said[3:]
    assert all("days old, they are kept for 30, so it may have been dropped" in message for message in old)
    assert all(message.endswith("does not exist") for message in new)


async def test_the_age_of_an_id_is_compared_with_how_long_such_are_kept() -> None:
    policy = RetentionPolicy(events_days=10, attempts_days=20, idempotency_keys_hours=1, audit_days=400)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    made_at = datetime(2026, 2, 14, tzinfo=UTC)  # 15 days ago
    assert "15 days old, they are kept for 10" in with_age(NotFound("event", "e", made_at), policy, now).message
    assert with_age(NotFound("delivery", "d", made_at), policy, now).message == "delivery d does not exist"
    assert with_age(NotFound("webhook", "1"), policy, now).message == "webhook 1 does not exist"


# --- finding an event ------------------------------------------------------------------------------------------------


async def published(service: Service, request_id: str = "", customer_id: int = CUSTOMER, **attributes: str) -> str:
    event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json="{}", attributes=attributes)
    response = await service.stub.PublishEvent(PublishEventRequest(event=event, request_id=request_id))
    return response.event_id


async def listed(service: Service, **request: Any) -> list[str]:
    response: service_pb2.ListEventsResponse = await service.stub.ListEvents(ListEventsRequest(**request))
    return [event.event_id for event in response.events]


async def test_an_event_is_found_by_the_request_id_that_it_was_published_with(services: ServiceFactory) -> None:
    service = await services.start()
    wanted = await published(service, "order-1")
    await published(service, "order-2")
    others = await published(service, "order-1", customer_id=OTHER_CUSTOMER)
    [(by_sql,)] = await service.app.database.rows(
        "SELECT publish_event(%(customer_id)b, 'job.completed', '{}', 'order-1')", {"customer_id": CUSTOMER}
    )

    assert await listed(service, customer_id=CUSTOMER, request_id="order-1") == [by_sql, wanted]
    assert await listed(service, customer_id=OTHER_CUSTOMER, request_id="order-1") == [others]
    assert await listed(service, customer_id=CUSTOMER, request_id="order-3") == []
    assert await listed(service, customer_id=CUSTOMER, request_id="order-1", event_types=["quota.*"]) == []


async def test_a_request_id_belongs_to_a_customer_who_must_be_named(service: Service) -> None:
    refused = await refusal(service.stub.ListEvents(ListEventsRequest(request_id="order-1")))

    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["customer_id"])


async def test_events_are_found_by_their_attributes(service: Service) -> None:
    both = await published(service, region="eu", plan='pro, "large"')
    one = await published(service, region="eu")
    await published(service, region="us")
    await published(service)

    assert await listed(service, customer_id=CUSTOMER, attributes={"region": "eu"}) == [one, both]
    assert await listed(service, attributes={"region": "eu", "plan": 'pro, "large"'}) == [both]
    assert await listed(service, attributes={"region": "e"}) == []
    refused = await refusal(service.stub.ListEvents(ListEventsRequest(attributes={"": "x"})))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["attributes"])


# --- whose, and which ------------------------------------------------------------------------------------------------


async def test_an_attempt_names_its_customer(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until_ended()

    [attempt] = (await service.stub.ListDeliveryAttempts(ListDeliveryAttemptsRequest())).attempts

    assert attempt.customer_id == delivery.last_attempt.customer_id == CUSTOMER


async def test_the_line_of_a_call_names_the_webhook_the_event_or_the_delivery(
    service: Service, receiver: Receiver
) -> None:
    hook = await service.create_webhook(receiver.url())
    named: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": hook.webhook_id}
    with capture_logs() as logs:
        event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
        event_id = (await service.stub.PublishEvent(PublishEventRequest(event=event))).event_id
        delivery_id = f"dlv_{event_id.removeprefix('evt_')}_{hook.webhook_id}"
        await service.stub.GetDelivery(GetDeliveryRequest(customer_id=CUSTOMER, delivery_id=delivery_id))
        renamed = webhook_pb2.Webhook(**named, name="renamed")
        await service.stub.UpdateWebhook(UpdateWebhookRequest(webhook=renamed))
        await service.stub.PauseWebhook(PauseWebhookRequest(**named))
        await service.stub.DeleteWebhook(DeleteWebhookRequest(**named))
        await refusal(service.stub.GetEvent(GetEventRequest(customer_id=CUSTOMER, event_id="evt\x1b[31m")))
        wanted = {"PublishEvent", "GetDelivery", "UpdateWebhook", "PauseWebhook", "DeleteWebhook", "GetEvent"}
        # A line comes after the answer, so that of CreateWebhook may be here, too.
        await until(lambda: wanted <= {line["method"] for line in logs if line["event"] == "rpc"})
    said = {line["method"]: line for line in logs if line["event"] == "rpc"}

    assert said["PublishEvent"]["event_id"] == event_id
    of_delivery = said["GetDelivery"]
    assert (of_delivery["delivery_id"], of_delivery["event_id"]) == (delivery_id, event_id)
    for method in ("UpdateWebhook", "PauseWebhook", "DeleteWebhook", "GetDelivery"):
        assert said[method]["webhook_id"] == hook.webhook_id
    assert "event_id" not in said["GetEvent"], "what is no id of ours does not belong in a log"
