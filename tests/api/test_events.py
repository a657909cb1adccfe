"""Events over the wire: published alone and in batches, repeated, refused, read back, and what receivers got."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg.conninfo import make_conninfo
from webhook.v1 import event_pb2, service_pb2
from webhook.v1.service_pb2 import (
    BatchPublishEventsRequest,
    ListDeliveriesRequest,
    PauseWebhookRequest,
    PublishEventRequest,
)

from tests.api.asking import (
    ABSENT_EVENT_ID,
    DATA_BYTES_MAX,
    INT64_MAX,
    OTHER_CUSTOMER,
    UNTHOUGHT_OF,
    code_of,
    full_event,
    refusal,
)
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.ids import event_id_time, parse_event_id

pytestmark = [pytest.mark.fast, pytest.mark.asyncio(loop_scope="module")]

LAST_SECOND = 253_370_764_799  # of the year 9998


async def publish(service: Service, request_id: str = "", **event: Any) -> service_pb2.PublishEventResponse:
    values: dict[str, Any] = {"customer_id": CUSTOMER, "event_type": "job.completed", **event}
    if "data" not in values:
        values.setdefault("data_json", "{}")
    return await service.stub.PublishEvent(PublishEventRequest(event=event_pb2.Event(**values), request_id=request_id))


def item(request_id: str = "", **event: Any) -> PublishEventRequest:
    return PublishEventRequest(event=full_event(**event), request_id=request_id)


async def publish_batch(
    service: Service, *items: PublishEventRequest, customer_id: int = 0
) -> list[service_pb2.BatchPublishResult]:
    response = await service.stub.BatchPublishEvents(BatchPublishEventsRequest(customer_id=customer_id, requests=items))
    return list(response.results)


async def deliveries_of(service: Service, event_id: str, customer_id: int = CUSTOMER) -> int:
    response = await service.stub.ListDeliveries(ListDeliveriesRequest(customer_id=customer_id, event_id=event_id))
    return len(response.deliveries)


async def create_paused(service: Service, **fields: Any) -> int:
    webhook = await service.create_webhook("https://hooks.example.com/", **fields)
    await service.stub.PauseWebhook(PauseWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id))
    return webhook.webhook_id


# --- who gets it -----------------------------------------------------------------------------------------------------


async def test_an_event_that_nobody_listens_to_is_stored_all_the_same(service: Service) -> None:
    published = await service.publish('{"a":1}')

    assert published.delivery_count == 0
    assert not published.duplicate
    event = await service.event(published.event_id)
    assert event == event_pb2.Event(
        event_id=published.event_id,
        customer_id=CUSTOMER,
        event_type="job.completed",
        occur_time=event.occur_time,
        create_time=published.create_time,
        data_json='{"a":1}',
        publisher="anonymous",
    )
    assert abs(event.occur_time.seconds - published.create_time.seconds) <= 5, "unset: when it was published"


async def test_an_event_goes_to_each_webhook_with_a_matching_pattern_once(service: Service) -> None:
    matching = [
        await create_paused(service, events=events)
        for events in (["job.completed"], ["job.*"], ["*"], ["job.failed", "job.completed", "job.*", "*"])
    ]
    for events in (["job.failed"], ["environment.*"], ["job.completed.*"], ["jobs.*"], ["quota.exceeded", "alert.*"]):
        await create_paused(service, events=events)
    await create_paused(service, events=["*"], customer_id=OTHER_CUSTOMER)

    published = await service.publish()

    response = await service.stub.ListDeliveries(ListDeliveriesRequest(event_id=published.event_id))
    assert sorted(delivery.webhook_id for delivery in response.deliveries) == sorted(matching)
    assert published.delivery_count == 4


async def test_paused_webhooks_count_and_disabled_and_deleted_ones_do_not(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.on("/gone", answer(410)))
    async with service.watching() as watch:
        assert (await service.publish()).delivery_count == 1
        await watch.until_ended()  # disabled
    deleted = await service.create_webhook(receiver.url())
    await service.delete_webhook(deleted.webhook_id)
    paused = await create_paused(service)

    published = await service.publish()

    assert published.delivery_count == 1
    [delivery] = (await service.stub.ListDeliveries(ListDeliveriesRequest(event_id=published.event_id))).deliveries
    assert delivery.webhook_id == paused


async def test_an_event_is_its_customers_alone(service: Service) -> None:
    published = await service.publish()

    for event_id, customer_id in ((published.event_id, OTHER_CUSTOMER), (ABSENT_EVENT_ID, CUSTOMER)):
        refused = await refusal(service.event(event_id, customer_id))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "EVENT_NOT_FOUND"
        assert refused.details["ResourceInfo"].resource_type == "event"
        assert refused.details["ResourceInfo"].resource_name == event_id


async def test_event_ids_grow_with_time(service: Service) -> None:
    """By the database's clock, as this process last read it: the next reading may correct it by some milliseconds."""
    ids = [parse_event_id((await service.publish()).event_id) for _ in range(20)]
    times = [event_id_time(event_id) for event_id in ids if event_id is not None]

    assert len(set(ids)) == len(times) == 20
    correction = timedelta(seconds=slowness.scaled(0.1))
    assert all(earlier - correction <= later for earlier, later in itertools.pairwise(times))


# --- repeated --------------------------------------------------------------------------------------------------------


async def test_a_repeated_publication_gives_the_first_answer(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url("/one"))
    await create_paused(service)
    event: dict[str, Any] = {
        "data_json": '{"a": 1}',
        "attributes": {"b": "2", "a": "1"},
        "occur_time": Timestamp(seconds=1_700_000_000, nanos=5),
    }
    async with service.watching() as watch:
        first = await publish(service, "order-42-paid", **event)
        at_once = await publish(service, "order-42-paid", **event)
        await watch.until_ended()
    later = await publish(service, "order-42-paid", **event)

    assert (first.delivery_count, first.duplicate) == (2, False)
    for repeated in (at_once, later):
        assert repeated == service_pb2.PublishEventResponse(
            event_id=first.event_id, delivery_count=2, duplicate=True, create_time=first.create_time
        )
    assert await deliveries_of(service, first.event_id) == 2
    assert len(receiver.requests) == 1


async def test_a_repetition_counts_what_the_first_call_counted(service: Service, receiver: Receiver) -> None:
    """Neither a webhook made since, nor one deleted since, changes to how many the event went."""
    deleted = await service.create_webhook(receiver.url("/deleted"))
    async with service.watching() as watch:
        first = await publish(service, "first")
        await watch.until_ended()
    await service.delete_webhook(deleted.webhook_id)
    await create_paused(service)
    await create_paused(service)

    assert first.delivery_count == 1
    assert (await publish(service, "first")).delivery_count == 1


async def test_a_publication_without_a_request_id_is_never_a_repetition(service: Service) -> None:
    first, second = await publish(service), await publish(service)

    assert first.event_id != second.event_id
    assert not second.duplicate


async def test_a_request_id_belongs_to_its_customer(service: Service) -> None:
    mine = await publish(service, "same")
    theirs = await publish(service, "same", customer_id=OTHER_CUSTOMER, data_json='"other"')

    assert not theirs.duplicate
    assert mine.event_id != theirs.event_id


@pytest.mark.parametrize(
    "change",
    [
        {"data_json": '{"a": 1 }'},
        {"event_type": "job.failed"},
        {"attributes": {"a": "2"}},
        {"attributes": {}},
        {"occur_time": Timestamp(seconds=1_700_000_001)},
        {"occur_time": None},
    ],
    ids=str,
)
async def test_a_request_id_serves_one_event_only(service: Service, change: dict[str, Any]) -> None:
    event: dict[str, Any] = {
        "data_json": '{"a": 1}',
        "attributes": {"a": "1"},
        "occur_time": Timestamp(seconds=1_700_000_000),
    }
    first = await publish(service, "taken", **event)

    refused = await refusal(publish(service, "taken", **{**event, **change}))

    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "REQUEST_ID_REUSED"
    assert refused.details["ResourceInfo"].resource_type == "request_id"
    assert refused.details["ResourceInfo"].resource_name == "taken"
    assert (await publish(service, "taken", **event)).event_id == first.event_id


async def test_concurrent_publications_with_one_request_id_give_one_event(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service, other = await services.start(), await services.start()
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        answers = await asyncio.gather(
            *(publish(process, "raced", data_json='{"n":1}') for _ in range(40) for process in (service, other))
        )
        [delivery] = await watch.until_ended()

    assert {answer.event_id for answer in answers} == {delivery.event_id}
    assert [answer.duplicate for answer in answers].count(False) == 1
    assert {answer.delivery_count for answer in answers} == {1}
    assert {answer.create_time.ToNanoseconds() for answer in answers} == {answers[0].create_time.ToNanoseconds()}
    assert len(receiver.requests) == 1


async def test_of_concurrent_publications_with_one_request_id_and_different_events_one_wins(
    service: Service,
) -> None:
    codes = await asyncio.gather(*(code_of(publish(service, "raced", data_json=f"{n}")) for n in range(20)))

    assert sorted(code.name for code in codes) == ["ALREADY_EXISTS"] * 19 + ["OK"]


# --- batches ---------------------------------------------------------------------------------------------------------


async def test_each_event_of_a_batch_has_a_result_of_its_own(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    earlier = await publish(service, "earlier")
    rows: list[tuple[PublishEventRequest, str, str, list[str]]] = [
        (item(), "OK", "", []),
        (item(event_type="job.exploded"), "FAILED_PRECONDITION", "EVENT_TYPE_UNKNOWN", []),
        (item(event_type="Job"), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.event_type"]),
        (item(data_json="{"), "INVALID_ARGUMENT", "DATA_NOT_JSON", ["event.data_json"]),
        (item(data_json='"' + "a" * DATA_BYTES_MAX + '"'), "INVALID_ARGUMENT", "DATA_TOO_LARGE", ["event.data_json"]),
        (item(data_json=None), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.data_json"]),
        (PublishEventRequest(), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.data_json", "event.event_type"]),
        (item("earlier", data_json="1"), "ALREADY_EXISTS", "REQUEST_ID_REUSED", []),
        (item("é"), "INVALID_ARGUMENT", "FIELD_INVALID", ["request_id"]),
        (item(customer_id=-1), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.customer_id"]),
        (item(occur_time=Timestamp(seconds=-1)), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.occur_time"]),
        (item(attributes={"": ""}), "INVALID_ARGUMENT", "FIELD_INVALID", ["event.attributes"]),
        (item("new"), "OK", "", []),
    ]

    results = await publish_batch(service, *(request for request, *_ in rows), customer_id=CUSTOMER)

    assert [
        (
            {code.value[0]: code.name for code in grpc.StatusCode}[result.error.code],
            result.error.reason,
            sorted(violation.field for violation in result.error.field_violations),
        )
        for result in results
    ] == [(code, reason, fields) for _, code, reason, fields in rows]
    assert all(bool(result.error.message) is result.HasField("error") for result in results)
    published = [result.published for result in results if result.HasField("published")]
    assert [answer.delivery_count for answer in published] == [1, 1]
    received = await receiver.wait_for(3)
    assert {request.event_id for request in received} == {earlier.event_id, *(p.event_id for p in published)}


async def test_a_refusal_in_a_batch_says_what_a_refusal_alone_says(service: Service) -> None:
    await publish(service, "taken")

    for bad in (item(event_type="job.exploded"), item(data_json="NaN"), item("taken"), item(event_type="")):
        alone = await refusal(service.stub.PublishEvent(bad))
        [result] = await publish_batch(service, bad)
        assert result.error.code == alone.code.value[0]
        assert result.error.reason == alone.reason
        assert result.error.message == alone.message
        alone_violations: list[Any] = (
            list(alone.details["BadRequest"].field_violations) if "BadRequest" in alone.details else []
        )
        assert [(violation.field, violation.description) for violation in result.error.field_violations] == [
            (violation.field, violation.description) for violation in alone_violations
        ]


async def test_a_batch_holds_up_to_500_events(service: Service) -> None:
    results = await publish_batch(service, *[item()] * 500)

    assert len({result.published.event_id for result in results}) == 500
    refused = await refusal(publish_batch(service, *[item()] * 501))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "BATCH_TOO_LARGE"
    assert refused.metadata["limit"] == "500"
    assert refused.fields == ["requests"]


async def test_an_empty_batch_is_refused(service: Service) -> None:
    refused = await refusal(publish_batch(service, customer_id=-1))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == ["customer_id", "requests"]


async def test_a_batch_holds_events_of_several_customers(service: Service) -> None:
    for customer_id in (1, 2, INT64_MAX):
        await create_paused(service, customer_id=customer_id)

    results = await publish_batch(
        service, item(customer_id=1), item(customer_id=0), item(customer_id=INT64_MAX), customer_id=2
    )

    assert [result.published.delivery_count for result in results] == [1, 1, 1]
    for result, customer_id in zip(results, (1, 2, INT64_MAX), strict=True):
        assert (await service.event(result.published.event_id, customer_id)).customer_id == customer_id
        assert await deliveries_of(service, result.published.event_id, customer_id) == 1


async def test_an_event_of_a_batch_needs_a_customer_from_somewhere(service: Service) -> None:
    first, second = await publish_batch(service, item(customer_id=0), item())

    assert first.error.reason == "FIELD_INVALID"
    assert [violation.field for violation in first.error.field_violations] == ["event.customer_id"]
    assert second.HasField("published")


async def test_a_request_id_works_within_a_batch_and_across_batches(service: Service) -> None:
    await create_paused(service)

    first, again, other = await publish_batch(service, item("one"), item("one"), item("one", data_json="1"))
    [later] = await publish_batch(service, item("one"))

    assert not first.published.duplicate
    assert other.error.reason == "REQUEST_ID_REUSED"
    for repeated in (again.published, later.published):
        assert repeated.duplicate
        assert (repeated.event_id, repeated.delivery_count) == (first.published.event_id, 1)
    assert await deliveries_of(service, first.published.event_id) == 1


# --- data ------------------------------------------------------------------------------------------------------------

KEPT = [
    "{}",
    ' \t\r\n{ "b" :1 ,\n\t"a": [ ] }\n ',
    '{"a":1,"a":2,"a":{"a":1,"a":3}}',
    '{"z":1,"a":2,"":3}',
    '"\\u0000"',
    '{"\\u0000":"a\\u0000b"}',
    '{"n":123456789012345678901234567890}',
    "[18446744073709551616,-9223372036854775809,0.1000000000000000055511151231257827,1E+2,1e-400,-0,-0.0,1.0]",
    "1.7976931348623157e308",
    '"Grüße, 你好, 🎉"',
    '"\\ud83c\\udf89 \\u00e9 \\/ \\b\\f\\n\\r\\t\\" \\\\"',
    '"\x7f\u2028\u2029\ufeff\uffff"',
    "null",
    "true",
    "0",
    '""',
    "[]",
    '"<script>&amp;</script>"',
    '{"event":"job.failed","timestamp":1,"data":{}}}'[:-1],
]


async def test_json_is_kept_and_sent_byte_for_byte(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())

    published = {text: await service.publish(text) for text in KEPT}

    bodies = {request.event_id: request.body for request in await receiver.wait_for(len(KEPT))}
    assert len(bodies) == len(KEPT)
    for text, answered in published.items():
        assert (await service.event(answered.event_id)).data_json == text
        head = f'{{"event":"job.completed","timestamp":{answered.create_time.seconds},"data":'
        timestamp = json.loads(bodies[answered.event_id])["timestamp"]
        assert timestamp in (answered.create_time.seconds, answered.create_time.seconds - 1)
        expected = head.replace(str(answered.create_time.seconds), str(timestamp)) + text + "}"
        assert bodies[answered.event_id] == expected.encode()


async def test_a_number_beyond_a_double_is_json(service: Service) -> None:
    """RFC 8259 §6 sets no limit to numbers; what we do not read we need not be able to hold."""
    published = await service.publish('{"n":1e400}')

    assert (await service.event(published.event_id)).data_json == '{"n":1e400}'


NOT_JSON = {
    "nothing": "",
    "white space": "  ",
    "NaN": "NaN",
    "NaN inside": '{"a":[NaN]}',
    "Infinity": "-Infinity",
    "a lone leading surrogate": '"\\ud800"',
    "a lone trailing surrogate": '{"a":"\\udc00"}',
    "surrogates in the wrong order": '"\\udc00\\ud800"',
    "a lone surrogate in a key": '{"\\ud83c":1}',
    "a trailing comma": "[1,]",
    "single quotes": "{'a':1}",
    "a comment": "{} // no",
    "a byte order mark": "\ufeff{}",
    "two values": "{}{}",
    "an open object": '{"a":1',
    "a closing brace too many": "{}}",
    "a NUL": "\0",
    "a NUL in a string": '"a\0b"',
    "a raw line feed in a string": '"a\nb"',
    "a leading zero": "01",
    "a plus": "+1",
    "a word": "undefined",
    "a no-break space": "\u00a0{}",
    "another envelope": '1,"event":"job.failed"',
}


async def test_what_is_not_json_is_refused(service: Service) -> None:
    for name, text in NOT_JSON.items():
        refused = await refusal(service.publish(text))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, name
        assert refused.reason == "DATA_NOT_JSON", name
        assert refused.fields == ["event.data_json"], name


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("[" * 64 + "]" * 64, True),
        ("[" * 65 + "]" * 65, False),
        ('{"a":' * 64 + "1" + "}" * 64, True),
        ('{"a":' * 65 + "1" + "}" * 65, False),
        ("[" * 1100 + "]" * 1100, False),
        ("[" * 100_000 + "]" * 100_000, False),
        ("[" * 100_000, False),
        ('{"a":[' * 33 + "]}" * 33, False),
        ("[" + "[]," * 5000 + "[]]", True),
        ('"' + "[" * 1000 + '"', True),
        ('["\\"[[' + "[" * 1000 + '\\\\","' + "{" * 100 + '"]', True),
        ('{"' + "[" * 100 + '":' + "[" * 64 + "]" * 64 + "}", False),
    ],
    ids=lambda value: f"{value[:12]}-{len(value)}" if isinstance(value, str) else "",
)
async def test_data_is_nested_64_levels_at_the_most(service: Service, text: str, accepted: bool) -> None:
    if accepted:
        published = await service.publish(text)
        assert (await service.event(published.event_id)).data_json == text
    else:
        refused = await refusal(service.publish(text))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "DATA_NOT_JSON"
        assert refused.fields == ["event.data_json"]


async def test_data_has_256_kib_at_the_most(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    largest = '"' + "é" * ((DATA_BYTES_MAX - 2) // 2) + '"'
    assert len(largest.encode()) == DATA_BYTES_MAX

    published = await service.publish(largest)
    refused = await refusal(service.publish(largest[:-1] + ' "'))

    [request] = await receiver.wait_for(1)
    assert request.event_id == published.event_id
    assert request.body.endswith(largest.encode() + b"}")
    assert (await service.event(published.event_id)).data_json == largest
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "DATA_TOO_LARGE"
    assert refused.metadata["limit"] == str(DATA_BYTES_MAX)
    assert refused.fields == ["event.data_json"]


async def test_a_structure_is_kept_as_the_json_that_is_sent(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    value: dict[str, Any] = {
        "job_id": "job-abc123",
        "duration": 3600,
        "ratio": 0.5,
        "large": 2**53 - 1,
        "negative": -7,
        "none": None,
        "yes": True,
        "list": [1, "zwei", {"drei": 3.25}, []],
        "text": 'Grüße "🎉" \u0000',
        "": {},
    }
    data = struct_pb2.Struct()
    data.update(value)

    published = await publish(service, data=data)

    event = await service.event(published.event_id)
    [request] = await receiver.wait_for(1)
    assert event.WhichOneof("content") == "data_json"
    assert json.loads(event.data_json) == value
    assert '"duration":3600,' in event.data_json, "whole numbers stay whole"
    assert list(json.loads(event.data_json)) == sorted(value), "a map has no order, so one is given"
    assert request.body.endswith(b'"data":' + event.data_json.encode() + b"}")


async def test_a_structure_may_be_published_again_in_another_order(service: Service) -> None:
    """The keys of a protobuf map come in any order, so the same call need not be the same bytes."""
    answers: list[service_pb2.PublishEventResponse] = []
    for names in ("abcdefgh", "hgfedcba", "dhbfaceg"):
        data = struct_pb2.Struct()
        data.update(dict.fromkeys(names, 1))
        event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data=data)
        request = service_pb2.PublishEventRequest(event=event, request_id="again")
        answers.append(await service.stub.PublishEvent(request))
    assert [answer.duplicate for answer in answers] == [False, True, True]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("nested", [False, True])
async def test_a_structure_with_a_number_that_json_lacks_is_refused(
    service: Service, number: float, nested: bool
) -> None:
    data = struct_pb2.Struct()
    value = data.fields["a"].list_value.values.add() if nested else data.fields["a"]
    value.number_value = number

    refused = await refusal(publish(service, data=data))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "DATA_NOT_JSON"
    assert refused.fields == ["event.data"]


async def test_a_structure_with_a_value_that_is_not_set_is_no_fault_of_ours(service: Service) -> None:
    data = struct_pb2.Struct()
    data.fields["a"].SetInParent()

    assert await code_of(publish(service, data=data)) not in UNTHOUGHT_OF


async def test_a_structure_is_bounded_as_text_is(service: Service) -> None:
    data = struct_pb2.Struct()
    data.update({"a": "b" * DATA_BYTES_MAX})

    refused = await refusal(publish(service, data=data))

    assert refused.reason == "DATA_TOO_LARGE"
    assert refused.metadata["limit"] == str(DATA_BYTES_MAX)
    assert refused.fields == ["event.data"]


async def test_an_event_without_content_is_refused(service: Service) -> None:
    refused = await refusal(publish(service, data_json=None))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == ["event.data_json"]


async def test_an_empty_structure_is_content(service: Service) -> None:
    published = await publish(service, data=struct_pb2.Struct())

    assert (await service.event(published.event_id)).data_json == "{}"


# --- type, time, attributes ------------------------------------------------------------------------------------------


async def test_an_unknown_event_type_is_refused(service: Service) -> None:
    refused = await refusal(service.publish(event_type="job.exploded"))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "EVENT_TYPE_UNKNOWN"
    [violation] = refused.details["PreconditionFailure"].violations
    assert violation.type == "EVENT_TYPE_UNKNOWN"
    assert violation.subject == "event_type:job.exploded"
    assert "job.exploded" in violation.description


@pytest.mark.parametrize(
    "event_type",
    [
        "environment.created",
        "environment.started",
        "environment.stopped",
        "job.completed",
        "job.failed",
        "alert.triggered",
        "quota.exceeded",
    ],
)
async def test_the_event_types_of_the_specification_exist(service: Service, event_type: str) -> None:
    published = await service.publish(event_type=event_type)

    assert (await service.event(published.event_id)).event_type == event_type


async def test_the_time_of_an_event_is_sent_in_whole_seconds_and_shown_in_microseconds(
    service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())

    published = await publish(service, occur_time=Timestamp(seconds=1_700_000_000, nanos=999_999_999))

    event = await service.event(published.event_id)
    assert event.occur_time == Timestamp(seconds=1_700_000_000, nanos=999_999_000)
    assert event.create_time == published.create_time
    [request] = await receiver.wait_for(1)
    assert json.loads(request.body)["timestamp"] == 1_700_000_000
    assert int(request.headers["webhook-timestamp"]) >= published.create_time.seconds - 1, "that of the attempt"


@pytest.mark.parametrize("time_zone", ["UTC", "Asia/Tokyo", "America/New_York"])
async def test_the_first_and_the_last_time_are_kept_wherever_the_database_thinks_it_is(
    services: ServiceFactory, receiver: Receiver, time_zone: str
) -> None:
    services.database_url = make_conninfo(services.database_url, options=f"-c timezone={time_zone}")
    service = await services.start()
    await service.create_webhook(receiver.url())

    for moment in (Timestamp(), Timestamp(seconds=LAST_SECOND, nanos=999_999_000)):
        published = await publish(service, occur_time=moment)
        assert (await service.event(published.event_id)).occur_time == moment

    received = await receiver.wait_for(2)
    assert sorted(json.loads(request.body)["timestamp"] for request in received) == [0, LAST_SECOND]


@pytest.mark.parametrize(
    "moment",
    [
        Timestamp(seconds=-1),
        Timestamp(seconds=-1, nanos=999_999_999),
        Timestamp(seconds=LAST_SECOND + 1),
        Timestamp(seconds=INT64_MAX),
        Timestamp(seconds=-(2**63)),
        Timestamp(seconds=1, nanos=-1),
        Timestamp(seconds=1, nanos=1_000_000_000),
        Timestamp(seconds=1, nanos=2**31 - 1),
    ],
    ids=str,
)
async def test_a_time_that_is_none_is_refused(service: Service, moment: Timestamp) -> None:
    refused = await refusal(publish(service, occur_time=moment))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["event.occur_time"]


async def test_attributes_are_kept_and_shown_but_not_sent(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    attributes = {"source": "Lager Süd", "k" * 63: "v" * 255, "empty": "", "control": "\x01\x7f"}
    attributes |= {f"key-{number}": str(number) for number in range(16)}
    assert len(attributes) == 20

    published = await publish(service, attributes=attributes)

    assert dict((await service.event(published.event_id)).attributes) == attributes
    [request] = await receiver.wait_for(1)
    assert list(json.loads(request.body)) == ["event", "timestamp", "data"]
    assert "source" not in str(request.headers)


@pytest.mark.parametrize(
    "attributes",
    [
        {f"key-{number}": "" for number in range(21)},
        {"k" * 64: ""},
        {"k": "v" * 256},
        {"": "v"},
        {"a\0b": ""},
        {"a": "\0"},
    ],
    ids=lambda attributes: repr(attributes)[:20],
)
async def test_attributes_beyond_their_bounds_are_refused(service: Service, attributes: dict[str, str]) -> None:
    refused = await refusal(publish(service, attributes=attributes))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == ["event.attributes"]


async def test_everything_that_is_wrong_with_an_event_is_told_at_once(service: Service) -> None:
    refused = await refusal(
        publish(
            service,
            "é",
            customer_id=-1,
            event_type="",
            occur_time=Timestamp(seconds=-1),
            attributes={"": "", "k": "\0"},
            data_json="{",
        )
    )

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "FIELD_INVALID"
    assert refused.fields == [
        "event.attributes",
        "event.attributes",
        "event.customer_id",
        "event.data_json",
        "event.event_type",
        "event.occur_time",
        "request_id",
    ]


async def test_what_the_service_assigns_cannot_be_given(service: Service, postgres: TestPostgres) -> None:
    published = await publish(service, event_id=ABSENT_EVENT_ID, create_time=Timestamp(seconds=5))

    event = await service.event(published.event_id)
    assert event.event_id == published.event_id != ABSENT_EVENT_ID
    assert event.create_time == published.create_time
    assert event.create_time.seconds > 1_700_000_000
    assert postgres.rows("SELECT count(*) FROM events") == [(1,)]
