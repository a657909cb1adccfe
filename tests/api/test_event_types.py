"""Event types over the API: their life, what publishing and subscribing make of them, and schemas."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from webhook.v1 import event_pb2, event_type_pb2, webhook_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import Refusal, code_of, full_event_type, pages, refusal
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.service import CUSTOMER, Service, ServiceFactory
from tests.support.sharing import Shared
from webhook_grpc.domain.schemas import Schema, compile_schema

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
BUILT_IN = (
    "alert.triggered", "environment.created", "environment.started", "environment.stopped", "job.completed",
    "job.failed", "quota.exceeded",
)  # fmt: skip
ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "lines": {"items": {"properties": {"a/b": {"type": "integer"}}}}},
}


@pytest_asyncio.fixture(loop_scope="module")
async def service(shared: Shared, postgres: TestPostgres) -> Service:
    """The service of the module. A change through it lets it look again what is registered, at the next call."""
    service = await shared.emptied()
    change = pb.CreateEventTypeRequest(event_type=event_type_pb2.EventType(event_type="changed.now"))
    await service.stub.CreateEventType(change)
    postgres.forget()
    return service


async def create(service: Service, **fields: Any) -> event_type_pb2.EventType:
    return await service.stub.CreateEventType(pb.CreateEventTypeRequest(event_type=full_event_type(**fields)))


async def get(service: Service, event_type: str = "order.paid") -> event_type_pb2.EventType:
    return await service.stub.GetEventType(pb.GetEventTypeRequest(event_type=event_type))


async def update(
    service: Service, *paths: str, event_type: str = "order.paid", **fields: Any
) -> event_type_pb2.EventType:
    message = event_type_pb2.EventType(event_type=event_type, **fields)
    return await service.stub.UpdateEventType(
        pb.UpdateEventTypeRequest(event_type=message, update_mask=FieldMask(paths=paths))
    )


async def archive(service: Service, event_type: str = "order.paid", *, archived: bool = True) -> None:
    await update(service, "archived", event_type=event_type, archived=archived)


async def subscribe(service: Service, *events: str, **fields: Any) -> webhook_pb2.Webhook:
    return await service.create_webhook("https://hooks.example.com/", events=events, **fields)


def fields_of(refused: Refusal) -> list[str]:
    assert refused.code is INVALID
    assert refused.reason == "DATA_SCHEMA_MISMATCH"
    return refused.fields


# --- their life ------------------------------------------------------------------------------------------------------


async def test_a_type_is_created_as_it_was_asked_for(service: Service) -> None:
    created = await create(service)

    assert created.event_type == "order.paid"
    assert created.description == "An order was paid – at last."
    assert created.json_schema == '{"type":"object"}'
    assert not created.archived
    assert not created.built_in
    assert created.etag
    assert created.create_time == created.update_time
    assert await get(service) == created


async def test_what_the_service_assigns_is_not_read(service: Service) -> None:
    created = await create(service, built_in=True, etag="77")

    assert not created.built_in
    assert created.etag == "1"


async def test_a_name_is_taken_once(service: Service) -> None:
    await create(service)

    for name in ("order.paid", "job.completed"):
        refused = await refusal(create(service, event_type=name))
        assert refused.code is grpc.StatusCode.ALREADY_EXISTS
        assert refused.reason == "EVENT_TYPE_EXISTS"
        assert refused.details["ResourceInfo"].resource_name == name


async def test_there_are_so_many_types_at_the_most(services: ServiceFactory) -> None:
    service = await services.start(event_types_max=8)
    await create(service)

    refused = await refusal(create(service, event_type="order.lost"))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "EVENT_TYPE_QUOTA"
    assert "QuotaFailure" in refused.details


@pytest.mark.parametrize("name", ["", "Order", "order.", "order.*", "*", "a" * 129, "a b", "ä", "a\0"])
async def test_a_name_is_an_event_type(service: Service, name: str) -> None:
    for call, field in (
        (create(service, event_type=name, description="\0"), ["event_type.description", "event_type.event_type"]),
        (update(service, event_type=name, description="d"), ["event_type.event_type"]),
        (get(service, name), ["event_type"]),
    ):
        refused = await refusal(call)
        assert refused.code is INVALID
        assert refused.fields == field


async def test_types_are_listed_in_pages_in_the_order_of_their_names(service: Service) -> None:
    for name in ("order.paid", "order", "a", "a-b"):
        await create(service, event_type=name)
    await archive(service, "order")

    async def names(**request: Any) -> list[str]:
        asked = pages(
            lambda token: service.stub.ListEventTypes(
                pb.ListEventTypesRequest(page_size=2, page_token=token, **request)
            ),
            lambda response: response.event_types,
        )
        return [event_type.event_type async for page in asked for event_type in page]

    assert await names(include_archived=True) == sorted([*BUILT_IN, "order.paid", "order", "a", "a-b"])
    assert await names() == sorted([*BUILT_IN, "order.paid", "a", "a-b"])


async def test_a_page_of_large_schemas_is_shorter(service: Service) -> None:
    schema = json.dumps({"description": "x" * 60_000})
    for number in range(40):
        await create(service, event_type=f"order.n{number}", json_schema=schema)

    response = await service.stub.ListEventTypes(pb.ListEventTypesRequest(page_size=100))

    assert response.next_page_token
    assert response.ByteSize() < 2_100_000


# --- changes ---------------------------------------------------------------------------------------------------------


async def test_the_fields_of_the_mask_change_and_no_others(service: Service) -> None:
    created = await create(service)

    updated = await update(service, "description", description="new", json_schema="{}", archived=True)

    assert updated.description == "new"
    assert updated.json_schema == created.json_schema
    assert not updated.archived
    assert updated.etag != created.etag
    assert await get(service) == updated


async def test_without_a_mask_what_is_set_changes(service: Service) -> None:
    created = await create(service)

    updated = await update(service, archived=True)

    assert updated.archived
    assert updated.description == created.description
    assert (await update(service, "*")).archived is False
    emptied = await get(service)
    assert (emptied.description, emptied.json_schema) == ("", "")


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["nope"], "FIELD_MASK_INVALID"),
        (["event_type.description"], "FIELD_MASK_INVALID"),
        (["etag", "built_in", "event_type"], "FIELD_INVALID"),
        ([], "FIELD_INVALID"),
    ],
)
async def test_a_mask_that_changes_nothing_is_refused(service: Service, paths: list[str], reason: str) -> None:
    await create(service)
    refused = await refusal(update(service, *paths, built_in=True))
    assert (refused.code, refused.reason) == (INVALID, reason)


async def test_a_change_of_what_was_not_seen_is_refused(service: Service) -> None:
    created = await create(service)
    changed = await update(service, description="a", etag=created.etag)

    refused = await refusal(update(service, description="b", etag=created.etag))

    assert refused.code is grpc.StatusCode.ABORTED
    assert refused.reason == "ETAG_MISMATCH"
    assert refused.metadata == {"current_etag": changed.etag}


async def test_an_absent_type_is_not_found(service: Service) -> None:
    for call in (get(service), update(service, description="d")):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "EVENT_TYPE_NOT_FOUND"


@pytest.mark.parametrize("event_type", BUILT_IN)
async def test_a_built_in_type_is_described_but_never_archived(service: Service, event_type: str) -> None:
    assert (await get(service, event_type)).built_in

    changed = await update(service, event_type=event_type, description="Ours.", json_schema='{"type":"object"}')
    refused = await refusal(archive(service, event_type))

    assert changed.description == "Ours."
    assert refused.code is PRECONDITION
    assert refused.reason == "EVENT_TYPE_BUILT_IN"
    [violation] = refused.details["PreconditionFailure"].violations
    assert violation.subject == f"event_type:{event_type}"
    assert not (await get(service, event_type)).archived


# --- publishing ------------------------------------------------------------------------------------------------------


async def test_a_created_type_is_published_and_delivered_by_every_process(services: ServiceFactory) -> None:
    here, there = await services.start(), await services.start()
    await here.publish()
    await there.publish()
    assert await code_of(there.publish(event_type="order.paid")) is PRECONDITION

    await create(here)

    for service in (there, here):
        assert (await service.publish(event_type="order.paid")).event_id


async def test_an_archived_type_is_refused_until_it_is_taken_into_use_again(service: Service) -> None:
    await create(service)
    await archive(service)

    refused = await refusal(service.publish(event_type="order.paid"))

    assert refused.code is PRECONDITION
    assert refused.reason == "EVENT_TYPE_ARCHIVED"
    [violation] = refused.details["PreconditionFailure"].violations
    assert violation.subject == "event_type:order.paid"
    await archive(service, archived=False)
    assert (await service.publish(event_type="order.paid")).event_id


async def test_another_process_follows_a_change_within_two_seconds(services: ServiceFactory) -> None:
    here, there = await services.start(), await services.start()
    await create(here)
    await there.publish(event_type="order.paid")
    await archive(here)

    async with slowness.timeout(20):  # two seconds, if the machine is not busy
        while await code_of(there.publish(event_type="order.paid")) is grpc.StatusCode.OK:
            await asyncio.sleep(0.05)

    assert (await refusal(there.publish(event_type="order.paid"))).reason == "EVENT_TYPE_ARCHIVED"


async def test_data_is_checked_and_all_that_is_wrong_is_named(service: Service) -> None:
    await create(service, json_schema=json.dumps(ORDER))

    assert (await service.publish('{"id":"o-1","lines":[{"a/b":1}]}', "order.paid")).event_id
    refused = await refusal(service.publish('{"lines":[{"a/b":1},{"a/b":"x"}]}', "order.paid"))

    assert fields_of(refused) == ["event.data_json#", "event.data_json#/lines/1/a~1b"]
    assert refused.metadata == {"event_type": "order.paid"}
    assert '"id" is a required property' in refused.message


async def test_a_structure_is_checked_as_the_json_that_it_becomes(service: Service) -> None:
    await create(service, json_schema='{"properties":{"n":{"type":"integer"},"s":{"type":"string"}}}')

    async def publish(data: dict[str, Any]) -> pb.PublishEventResponse:
        event = event_pb2.Event(customer_id=CUSTOMER, event_type="order.paid", data=ParseDict(data, Struct()))
        return await service.stub.PublishEvent(pb.PublishEventRequest(event=event))

    assert (await publish({"n": 1})).event_id
    assert fields_of(await refusal(publish({"n": 1.5, "s": 5}))) == ["event.data#/n", "event.data#/s"]


async def test_each_event_of_a_batch_is_checked_by_its_own_type(service: Service) -> None:
    await create(service, json_schema=json.dumps(ORDER))
    await create(service, event_type="order.lost", json_schema="")
    await archive(service, "order.lost")
    rows: list[tuple[str, str, str, list[str]]] = [
        ("order.paid", '{"id":"a"}', "", []),
        ("order.paid", '{"id":1}', "DATA_SCHEMA_MISMATCH", ["event.data_json#/id"]),
        ("order.lost", "{}", "EVENT_TYPE_ARCHIVED", []),
        ("order.gone", "{}", "EVENT_TYPE_UNKNOWN", []),
        ("job.completed", "1", "", []),
        ("order.paid", "{", "DATA_NOT_JSON", ["event.data_json"]),
    ]

    response = await service.stub.BatchPublishEvents(
        pb.BatchPublishEventsRequest(
            customer_id=CUSTOMER,
            requests=[
                pb.PublishEventRequest(event=event_pb2.Event(event_type=name, data_json=data))
                for name, data, _, _ in rows
            ],
        )
    )

    assert [
        (result.error.reason, [violation.field for violation in result.error.field_violations])
        for result in response.results
    ] == [(reason, fields) for _, _, reason, fields in rows]
    assert all(result.HasField("published") is not result.HasField("error") for result in response.results)


async def test_a_number_beyond_a_double_is_checked_as_a_number(service: Service) -> None:
    await create(service, json_schema='{"items":{"type":"number","minimum":0}}')

    assert (await service.publish("[1e999]", "order.paid")).event_id
    assert fields_of(await refusal(service.publish("[0,-1e999]", "order.paid"))) == ["event.data_json#/1"]


@pytest.mark.parametrize("stricter", [{"json_schema": '{"type":"string"}'}, {"archived": True}])
async def test_a_publication_that_was_acknowledged_stays_so_however_its_type_changes(
    service: Service, stricter: dict[str, Any]
) -> None:
    await create(service)
    first = await service.publish(event_type="order.paid", request_id="one")
    await update(service, **stricter)

    second = await service.publish(event_type="order.paid", request_id="one")

    assert second.duplicate
    assert (second.event_id, second.create_time) == (first.event_id, first.create_time)
    batch = pb.BatchPublishEventsRequest(
        requests=[
            pb.PublishEventRequest(
                event=event_pb2.Event(customer_id=CUSTOMER, event_type="order.paid", data_json=data), request_id=name
            )
            for name, data in (("one", "{}"), ("one", '{"other":1}'), ("two", "{}"), ("", "{}"))
        ]
    )
    again, reused, new, nameless = (await service.stub.BatchPublishEvents(batch)).results
    assert again.published == second
    assert reused.error.reason == "REQUEST_ID_REUSED"
    assert new.error.reason == nameless.error.reason
    assert new.error.reason in {"DATA_SCHEMA_MISMATCH", "EVENT_TYPE_ARCHIVED"}


async def test_a_refusal_of_any_data_fits_into_the_metadata_that_clients_accept(service: Service) -> None:
    """Beyond 8 KiB they may tell their callers something else altogether."""
    await create(service, json_schema='{"additionalProperties":{"type":"string"}}')
    for name in ("🎉" * 40, "é" * 90, "\n" * 90, "%" * 90, '"' * 90):
        data = json.dumps({f"{name}{number}": number for number in range(60)})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.publish(data, "order.paid")
        error = caught.value
        assert error.code() is INVALID
        size_bytes = len(quote(error.details() or "", safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")) + sum(
            len(key) + len(value) * (4 / 3 if key.endswith("-bin") else 1) + 32
            for key, value in error.trailing_metadata() or ()
        )
        assert size_bytes < 8192, name


# --- schemas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        ("{", ["#"]),
        ('"x"', ["#"]),
        ('{"type":"text","properties":{"a":{"minimum":"1"}}}', ["#/properties/a/minimum", "#/type"]),
        ('{"$ref":"http://127.0.0.1:9/x"}', ["#/$ref"]),
        ('{"$schema":"http://json-schema.org/draft-07/schema#"}', ["#/$schema"]),
        ('{"items":{"$ref":"#"}}', ["#"]),
        ('{"pattern":"(?!a)"}', ["#/pattern"]),
        ('{"title":"\0"}', ["#"]),
    ],
)
async def test_what_is_no_schema_is_refused_when_it_is_registered(
    service: Service, schema: str, fields: list[str]
) -> None:
    await create(service)
    for call in (create(service, event_type="order.new", json_schema=schema), update(service, json_schema=schema)):
        refused = await refusal(call)
        assert refused.code is INVALID
        assert refused.fields == [f"event_type.json_schema{field}" for field in fields]
    assert await code_of(get(service, "order.new")) is grpc.StatusCode.NOT_FOUND


async def test_a_schema_is_kept_as_it_was_given(service: Service) -> None:
    schema = '{ "$schema": "https://json-schema.org/draft/2020-12/schema",\n  "type": ["object"], "x-ours": 1e999 }'
    assert (await create(service, json_schema=schema)).json_schema == schema


async def test_a_schema_is_compiled_once_however_many_events_it_checks(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(service, json_schema='{"properties":{"n":{"type":"integer"}}}')
    compiled: list[str] = []

    def counted(text: str) -> Schema:
        compiled.append(text)
        return compile_schema(text)

    monkeypatch.setattr("webhook_grpc.hub.type_rules.compile_schema", counted)

    for _ in range(3):
        await service.publish_many(500, event_type="order.paid")

    assert len(compiled) == 1


# --- subscribing -----------------------------------------------------------------------------------------------------


async def test_an_unknown_type_can_t_be_subscribed_to(service: Service) -> None:
    refused = await refusal(subscribe(service, "job.*", "job.completed", "order.paid"))

    assert refused.code is PRECONDITION
    assert refused.reason == "EVENT_TYPE_UNKNOWN"
    [violation] = refused.details["PreconditionFailure"].violations
    assert violation.subject == "event_type:order.paid"
    await create(service)
    assert (await subscribe(service, "job.*", "order.paid")).webhook_id


async def test_a_prefix_needs_no_type_and_covers_those_that_come_later_at_any_depth(service: Service) -> None:
    webhook = await subscribe(service, "order.*")
    for name in ("order.paid", "order.line.item.added", "order", "orders.paid"):
        await create(service, event_type=name)

    counts = {
        name: (await service.publish(event_type=name)).delivery_count
        for name in ("order.paid", "order.line.item.added", "order", "orders.paid", "job.completed")
    }

    assert webhook.events == ["order.*"]
    assert counts == {"order.paid": 1, "order.line.item.added": 1, "order": 0, "orders.paid": 0, "job.completed": 0}


async def test_an_archived_type_is_kept_by_who_names_it_and_named_by_nobody_else(service: Service) -> None:
    await create(service)
    keeper, other = await subscribe(service, "order.paid"), await subscribe(service, "job.*")
    await archive(service)

    async def change(webhook: webhook_pb2.Webhook, *events: str) -> webhook_pb2.Webhook:
        message = webhook_pb2.Webhook(customer_id=CUSTOMER, webhook_id=webhook.webhook_id, events=events)
        return await service.stub.UpdateWebhook(pb.UpdateWebhookRequest(webhook=message))

    assert (await change(keeper, "order.paid", "job.completed")).events == ["order.paid", "job.completed"]
    for call in (subscribe(service, "order.paid"), change(other, "job.*", "order.paid")):
        refused = await refusal(call)
        assert refused.code is PRECONDITION
        assert refused.reason == "EVENT_TYPE_ARCHIVED"
    assert (await refusal(change(keeper, "order.paid", "order.gone"))).reason == "EVENT_TYPE_UNKNOWN"
    await change(keeper, "job.*")
    assert (await refusal(change(keeper, "order.paid"))).reason == "EVENT_TYPE_ARCHIVED", "it no longer names it"


async def test_a_webhook_is_changed_in_other_ways_whatever_became_of_its_types(service: Service) -> None:
    await create(service)
    webhook = await subscribe(service, "order.paid")
    await archive(service)

    message = webhook_pb2.Webhook(customer_id=CUSTOMER, webhook_id=webhook.webhook_id, name="renamed")
    assert (await service.stub.UpdateWebhook(pb.UpdateWebhookRequest(webhook=message))).name == "renamed"


async def test_a_repeated_creation_gives_the_first_answer_whatever_became_of_its_types(service: Service) -> None:
    await create(service)
    request = pb.CreateWebhookRequest(
        webhook=webhook_pb2.Webhook(
            customer_id=CUSTOMER, name="orders", url="https://hooks.example.com/", events=["order.paid"]
        ),
        request_id="one",
    )
    first = await service.stub.CreateWebhook(request)
    await archive(service)

    assert await service.stub.CreateWebhook(request) == first
    request.request_id = "two"
    assert (await refusal(service.stub.CreateWebhook(request))).reason == "EVENT_TYPE_ARCHIVED"
