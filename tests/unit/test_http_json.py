"""JSON of the HTTP door: as people expect it, and everything that is wrong named with its path."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from webhook.v1 import delivery_pb2, event_pb2, replay_pb2, service_pb2, webhook_pb2

from webhook_grpc.domain.errors import Violation
from webhook_grpc.server.http.json.reading import NotJson, read_json, read_parameters
from webhook_grpc.server.http.json.values import read_duration, read_time, time_text
from webhook_grpc.server.http.json.writing import json_of

SPECIFICATION = (
    '{"name": "任务完成通知", "url": "https://example.com/webhook", "secret": "your_secret_key", '
    '"events": ["job.completed","job.failed"]}'
)


def read(text: str, message: Message, path: str = "") -> list[Violation]:
    return list(read_json(text, message, path).violations)


def written(message: Message) -> dict[str, Any]:
    return orjson.loads(json_of(message))


# --- writing ---------------------------------------------------------------------------------------------------------


def test_ids_are_numbers_enums_lower_case_words_times_rfc_3339_and_durations_seconds() -> None:
    webhook = webhook_pb2.Webhook(webhook_id=2**53 + 1, status=webhook_pb2.WEBHOOK_STATUS_ACTIVE, events=["job.*"])
    webhook.create_time.FromJsonString("2026-01-31T12:00:00.25Z")
    webhook.timeout.FromMilliseconds(1500)
    shown = written(webhook)
    assert shown["webhook_id"] == 2**53 + 1
    assert shown["status"] == "active"
    assert shown["create_time"] == "2026-01-31T12:00:00.250Z"
    assert shown["timeout"] == "1.500s"


def test_numbers_and_lists_are_always_there_and_text_times_and_messages_only_if_they_are_set() -> None:
    assert written(delivery_pb2.Delivery(delivery_id="dlv_1")) == {
        "delivery_id": "dlv_1",
        "customer_id": 0,
        "webhook_id": 0,
        "attempt_count": 0,
        "replay_id": 0,
    }
    assert written(service_pb2.ListWebhooksResponse()) == {"webhooks": []}


def test_the_data_of_an_event_is_shown_as_it_was_published() -> None:
    data = '{"price": 1.10,  "id": 12345678901234567890123}'
    text = json_of(event_pb2.Event(event_id="evt_1", data_json=data)).decode()
    assert f'"data":{data}' in text
    assert "data_json" not in text


def test_bytes_are_base64() -> None:
    assert written(delivery_pb2.DeliveryAttempt(response_body=b"\xff\x00"))["response_body"] == "/wA="


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_body_of_the_specification_is_read_whole() -> None:
    webhook = webhook_pb2.Webhook()
    result = read_json(SPECIFICATION, webhook, "webhook")
    assert not result.violations
    assert result.names == {"name", "url", "secret", "events"}
    assert (webhook.name, webhook.secret, list(webhook.events)) == (
        "任务完成通知",
        "your_secret_key",
        ["job.completed", "job.failed"],
    )


def test_the_data_of_an_event_keeps_its_very_bytes() -> None:
    request = service_pb2.BatchPublishEventsRequest()
    data = '{"b" : 1.10, "a":[1, 1e400, "\\u00e9"],"n":12345678901234567890123 }'
    assert not read(f'{{"requests": [{{"event": {{"event_type": "a.b", "data": {data} }} }}] }}', request)
    assert request.requests[0].event.data_json == data


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ('{"nam": 1}', "webhook.nam", "is not a field of this request"),
        ('{"name": 1}', "webhook.name", "must be text"),
        ('{"name": "a", "name": "b"}', "webhook.name", "is given twice"),
        ('{"name": "\\ud800"}', "webhook.name", "has half a surrogate pair"),
        ('{"events": "job.*"}', "webhook.events", "must be a list"),
        ('{"events": ["a", 1]}', "webhook.events[1]", "must be text"),
        ('{"labels": []}', "webhook.labels", "must be an object"),
        ('{"labels": {"a": 1}}', "webhook.labels.a", "must be text"),
        ('{"status": "on"}', "webhook.status", "must be one of `active`, `paused`, `disabled`"),
        ('{"timeout": 15}', "webhook.timeout", "must be a duration in seconds like `15s` or `0.5s`"),
        ('{"create_time": "yesterday"}', "webhook.create_time", "must be an RFC 3339 time like `2026-01-31T12:00:00Z`"),
        ('{"retry_policy": {"delays": ["5s", "5"]}}', "webhook.retry_policy.delays[1]", "must be a duration"),
        ('{"retry_policy": 5}', "webhook.retry_policy", "must be an object"),
        ('{"max_in_flight": 2147483648}', "webhook.max_in_flight", "must be a whole number"),
        ('{"max_in_flight": true}', "webhook.max_in_flight", "must be a whole number"),
        ('{"max_in_flight": 1.5}', "webhook.max_in_flight", "must be a whole number"),
        ("[]", "webhook", "must be an object"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(text: str, path: str, problem: str) -> None:
    [violation] = read(text, webhook_pb2.Webhook(), "webhook")
    assert violation.field == path
    assert violation.description.startswith(problem)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    violations = read('{"x": 1, "name": 2, "events": [3], "timeout": 4}', webhook_pb2.Webhook())
    assert [violation.field for violation in violations] == ["x", "name", "events[0]", "timeout"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"name"',
        '{"name":',
        '{"name": "a"',
        '{"name": "a",}',
        '{"name": "a"} x',
        "{name: 1}",
        '{"webhook_id": NaN}',
        '{"events": [}',
        '{"events": ["a" "b"]}',
        '{"name": "a\nb"}',
        '{"webhook_id": ' + "9" * 5000 + "}",
        '{"labels": ' + "[" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(NotJson):
        read(text, webhook_pb2.Webhook())


def test_null_is_as_if_the_member_were_not_there() -> None:
    webhook = webhook_pb2.Webhook()
    assert not read('{"name": null, "retry_policy": null, "events": null}', webhook)
    assert webhook == webhook_pb2.Webhook()


def test_an_id_may_be_text_because_javascript_loses_digits() -> None:
    replay = replay_pb2.Replay()
    assert not read('{"webhook_ids": ["9007199254740993", 5]}', replay)
    assert list(replay.webhook_ids) == [9007199254740993, 5]


def test_data_may_be_given_once() -> None:
    [violation] = read('{"data_json": "1", "data": 2}', event_pb2.Event(), "event")
    assert violation == Violation("event.data", "is given as `data_json` already")


# --- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_set_fields_and_repeated_ones_add_up() -> None:
    request, violations = service_pb2.ListDeliveriesRequest(), list[Violation]()
    pairs = [("customer_id", "1"), ("statuses", "pending,failed"), ("statuses", "succeeded"), ("page_size", "5")]
    read_parameters(pairs, request, violations)
    assert not violations
    assert (request.customer_id, request.page_size, len(request.statuses)) == (1, 5, 3)


def test_parameters_of_maps_and_of_messages_are_named_by_their_path() -> None:
    events, violations = service_pb2.ListEventsRequest(), list[Violation]()
    read_parameters([("attributes.region", "eu"), ("attributes[job]", "7")], events, violations)
    assert dict(events.attributes) == {"region": "eu", "job": "7"}
    update = service_pb2.UpdateWebhookRequest()
    read_parameters([("webhook.webhook_id", "7"), ("update_mask", "name,url")], update, violations)
    assert (update.webhook.webhook_id, list(update.update_mask.paths)) == (7, ["name", "url"])
    assert not violations


@pytest.mark.parametrize(
    ("name", "text"),
    [("x", "1"), ("page_size", "many"), ("customer_id.x", "1"), ("webhook_ids", "1,"), ("start_time", "now"), ("", "")],
)
def test_a_parameter_that_does_not_fit_is_named(name: str, text: str) -> None:
    violations = list[Violation]()
    read_parameters([(name, text)], service_pb2.ListDeliveriesRequest(), violations)
    assert [violation.field for violation in violations] == [name]


def test_a_single_parameter_is_given_once() -> None:
    violations = list[Violation]()
    read_parameters([("page_size", "1"), ("page_size", "2")], service_pb2.ListDeliveriesRequest(), violations)
    assert violations == [Violation("page_size", "is given twice")]


# --- there and back --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_saying_what_is_wrong(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    for candidate in (text, "{" + text + "}", '{"event": {"data": ' + text + "}}"):
        with contextlib.suppress(NotJson):
            read(candidate, service_pb2.PublishEventRequest())


@given(
    st.builds(
        webhook_pb2.Webhook,
        webhook_id=st.integers(-(2**63), 2**63 - 1),
        name=st.text(st.characters(exclude_categories=["Cs"])),
        events=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
        labels=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
        ),
        status=st.sampled_from([0, 1, 2, 3]),
    )
)
def test_what_was_written_is_read_as_the_same(webhook: webhook_pb2.Webhook) -> None:
    again = webhook_pb2.Webhook()
    assert not read(json_of(webhook).decode(), again)
    assert again == webhook


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.500Z"),
        ("2026-01-31 12:00:00.123456789+08:00", "2026-01-31T04:00:00.123456789Z"),
        ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.900Z"),
    ],
)
def test_times_are_read_in_any_zone_and_shown_in_utc(text: str, shown: str) -> None:
    assert time_text(read_time(text)) == shown


def test_a_duration_has_nine_digits_of_a_second() -> None:
    assert (read_duration("0.000000001s").nanos, read_duration("-1.5s").seconds) == (1, -1)
