"""The error table of the API over HTTP: which input or state gives which status, code, reason and detail."""

from __future__ import annotations

import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.api.asking import ABSENT_DELIVERY_ID, ABSENT_EVENT_ID, INT64_MAX, OTHER_CUSTOMER, World, furnish
from tests.engine.test_stalls import answered
from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET, ServiceFactory
from webhook_grpc.api.events import batch

from .client import URL, Answer, Http

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
WHOSE = f"?customer_id={CUSTOMER}"
WEBHOOK: dict[str, Any] = {"customer_id": CUSTOMER, "name": "x", "url": URL, "events": ["*"]}
EVENT: dict[str, Any] = {"customer_id": CUSTOMER, "event_type": "job.completed", "data": {}}
TEXT: dict[str, Any] = {"customer_id": CUSTOMER, "event_type": "job.completed", "data_json": "NaN"}
NO_EVENT = ["event.customer_id", "event.data_json", "event.event_type"]
DEEP = "[" * 65 + "]" * 65


def event(**fields: Any) -> dict[str, Any]:
    """Returns the body of a publication."""
    return {"event": {**EVENT, **fields}}


def text_of(data: str) -> str:
    """Returns the same with this text as data."""
    return json.dumps(event(data="@")).replace('"@"', data)


@pytest_asyncio.fixture(loop_scope="module")
async def world(http: Http) -> World:
    """A paused webhook, an event with a pending delivery, and a replay."""
    return await furnish(http.service)


def row(status: int, reason: str, verb: str, path: str, body: Any = None, **more: Any) -> Any:
    """A row: a call with a JSON body, or with a `text`; `{webhook_id}` and the like are those of the world."""
    name = more.pop("name", f"{verb} {path} {json.dumps(body)}"[:70])
    return pytest.param(verb, path, body, more, status, reason, id=f"{reason} {name}")


MALFORMED = [
    # bodies, types, parameters
    row(400, "FIELD_INVALID", "POST", "/api/events", text="{", fields=["body"]),
    row(400, "FIELD_INVALID", "POST", "/api/events", text="", fields=NO_EVENT, name="nothing"),
    row(400, "FIELD_INVALID", "POST", "/api/events", text='{"event": 1}', fields=["event"]),
    row(400, "FIELD_INVALID", "POST", "/api/events", {"evnt": {}}, fields=["evnt"]),
    row(415, "CONTENT_TYPE_UNSUPPORTED", "POST", "/api/events", text="a=1", kind="application/x-www-form-urlencoded"),
    row(415, "CONTENT_ENCODING_UNSUPPORTED", "POST", "/api/events", {}, headers={"Content-Encoding": "gzip"}),
    row(413, "BODY_TOO_LARGE", "POST", "/api/events", text=" " * (5 * 1024 * 1024 + 1), name="5 MiB"),
    row(404, "PATH_UNKNOWN", "GET", "/api/webhook"),
    row(405, "METHOD_NOT_ALLOWED", "DELETE", "/api/events"),
    row(400, "FIELD_INVALID", "GET", "/api/events?limit=5", fields=["limit"]),
    row(400, "FIELD_INVALID", "GET", "/api/events?page_size=-1", fields=["page_size"]),
    row(400, "FIELD_INVALID", "GET", "/api/events?start_time=yesterday", fields=["start_time"]),
    row(400, "FIELD_INVALID", "GET", "/api/deliveries?statuses=lost", fields=["statuses"]),
    row(400, "FIELD_INVALID", "GET", "/api/deliveries?webhook_ids=1,x", fields=["webhook_ids"]),
    row(400, "FIELD_INVALID", "GET", "/api/webhooks/0" + WHOSE, fields=["webhook_id"]),
    row(400, "FIELD_INVALID", "GET", "/api/events/evt_1" + WHOSE, fields=["event_id"]),
    # fields
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {}, fields=["customer_id", "events", "name", "url"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "name": "a\0"}, fields=["name"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "customer_id": -1}, fields=["customer_id"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "timeout": "31s"}, fields=["timeout"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "timeout": 15}, fields=["timeout"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "events": ["Job"]}, fields=["events[0]"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks", {**WEBHOOK, "secret": " x"}, fields=["secret"]),
    row(400, "FIELD_INVALID", "POST", "/api/webhooks?request_id=%C3%A9", WEBHOOK, fields=["request_id"]),
    row(400, "FIELD_INVALID", "POST", "/api/events", event(data_json="{}"), name="both", fields=["event.data_json"]),
    row(
        *(400, "FIELD_INVALID", "POST", "/api/events"),
        text=json.dumps({"event": {"data_json": "{}", **EVENT}}),
        name="both, the other way round",
        fields=["event.data"],
    ),
    row(400, "FIELD_INVALID", "POST", "/api/events:batchPublish", {"requests": []}, fields=["requests"]),
    row(400, "URL_NOT_ALLOWED", "POST", "/api/webhooks", {**WEBHOOK, "url": "https://10.0.0.1/"}, fields=["url"]),
    row(400, "FIELD_MASK_INVALID", "PATCH", "/api/webhooks/{webhook_id}?update_mask=colour", {"customer_id": CUSTOMER}),
    row(
        *(400, "FIELD_IMMUTABLE", "PATCH", "/api/webhooks/{webhook_id}?update_mask=secret"),
        {"customer_id": CUSTOMER, "secret": SECRET},
        fields=["secret"],
    ),
    row(400, "PAGE_TOKEN_INVALID", "GET", f"/api/events{WHOSE}&page_token=x", fields=["page_token"]),
    row(400, "CURSOR_INVALID", "GET", f"/api/deliveries:watch{WHOSE}&cursor=AAAA", fields=["cursor"]),
    # data
    row(400, "FIELD_INVALID", "POST", "/api/events", text=text_of("NaN"), name="NaN", fields=["body"]),
    row(400, "DATA_NOT_JSON", "POST", "/api/events", {"event": TEXT}, fields=["event.data_json"]),
    row(400, "DATA_NOT_JSON", "POST", "/api/events", text=text_of(DEEP), name="deep", fields=["event.data"]),
    row(400, "DATA_NOT_JSON", "POST", "/api/events", text=text_of(r'"\ud800"'), name="half", fields=["event.data"]),
    row(
        *(400, "DATA_TOO_LARGE", "POST", "/api/events"),
        text=text_of(f'"{"x" * 270_000}"'),
        name="data",
        metadata={"limit": "262144"},
        fields=["event.data"],
    ),
    row(
        *(400, "BATCH_TOO_LARGE", "POST", "/api/events:batchPublish", {"requests": [event()] * 501}),
        fields=["requests"],
        metadata={"limit": "500"},
    ),
]
STATES = [
    row(409, "EVENT_TYPE_UNKNOWN", "POST", "/api/events", event(event_type="no.such"), code="FAILED_PRECONDITION"),
    *(
        row(404, f"{kind}_NOT_FOUND", verb, path, body, code="NOT_FOUND")
        for kind, verb, path, body in (
            ("WEBHOOK", "GET", f"/api/webhooks/{INT64_MAX}{WHOSE}", None),
            ("WEBHOOK", "PATCH", f"/api/webhooks/{INT64_MAX}", {"customer_id": CUSTOMER, "name": "y"}),
            ("WEBHOOK", "DELETE", f"/api/webhooks/{INT64_MAX}{WHOSE}", None),
            ("WEBHOOK", "POST", f"/api/webhooks/{INT64_MAX}:pause", {"customer_id": CUSTOMER}),
            ("WEBHOOK", "GET", f"/api/webhooks/{{webhook_id}}?customer_id={OTHER_CUSTOMER}", None),
            ("EVENT", "GET", f"/api/events/{ABSENT_EVENT_ID}{WHOSE}", None),
            ("DELIVERY", "GET", f"/api/deliveries/{ABSENT_DELIVERY_ID}{WHOSE}", None),
            ("DELIVERY", "GET", f"/api/deliveries/{ABSENT_DELIVERY_ID}/attempts{WHOSE}", None),
            ("EVENT_TYPE", "GET", "/api/eventTypes/job.exploded", None),
            ("REPLAY", "GET", f"/api/replays/{INT64_MAX}{WHOSE}", None),
        )
    ),
    row(409, "EVENT_TYPE_EXISTS", "POST", "/api/eventTypes", {"event_type": "job.completed"}, code="ALREADY_EXISTS"),
    row(
        *(412, "ETAG_MISMATCH", "PATCH", "/api/webhooks/{webhook_id}", {"customer_id": CUSTOMER, "name": "y"}),
        headers={"If-Match": '"7"'},
        code="ABORTED",
        metadata={"current_etag": "2"},
    ),
    *(
        row(409, reason, "POST", path, {"customer_id": CUSTOMER}, code="FAILED_PRECONDITION")
        for reason, path in (
            ("WEBHOOK_STATUS", "/api/webhooks/{webhook_id}:pause"),
            ("DELIVERY_STATUS", "/api/deliveries/{delivery_id}:retry"),
        )
    ),
]


async def asked(http: Http, verb: str, path: str, body: Any, more: dict[str, Any]) -> Answer:
    """Makes the call of a row."""
    headers = {**more.get("headers", {}), **({"Content-Type": more["kind"]} if "kind" in more else {})}
    return await http.call(verb, path, body, text=more.get("text"), headers=headers)


@IN_MODULE
@pytest.mark.parametrize(("verb", "path", "body", "more", "status", "reason"), [*MALFORMED, *STATES])
async def test_each_row_of_the_error_table(
    http: Http, world: World, verb: str, path: str, body: Any, more: dict[str, Any], status: int, reason: str
) -> None:
    known = {"{webhook_id}": str(world.webhook_id), "{delivery_id}": world.delivery_id}
    for name, value in known.items():
        path = path.replace(name, value)
    answer = await asked(http, verb, path, body, more)
    assert (answer.status, answer.reason) == (status, reason), answer.text
    if status == 400:
        assert (answer.body["code"], bool(answer.fields)) == ("INVALID_ARGUMENT", True)
    if "fields" in more:
        assert sorted(answer.fields) == sorted(more["fields"])
    assert answer.body["code"] == more.get("code", answer.body["code"])
    assert more.get("metadata", {}).items() <= answer.body.get("metadata", {}).items()


@IN_MODULE
async def test_data_that_does_not_fit_the_schema_is_named_by_pointers(http: Http) -> None:
    schema = '{"properties": {"lines": {"items": {"required": ["sku"]}}}}'
    await http.post("/api/eventTypes", {"event_type": "order.paid", "json_schema": schema})
    answer = await http.post("/api/events", event(event_type="order.paid", data={"lines": [{}]}))
    assert (answer.status, answer.reason) == (400, "DATA_SCHEMA_MISMATCH")
    assert answer.fields == ["event.data#/lines/0"], "by the name that the caller gave"


@IN_MODULE
async def test_an_archived_type_and_a_used_request_id_are_conflicts(http: Http) -> None:
    await http.post("/api/eventTypes", {"event_type": "order.old", "archived": True})
    archived = await http.post("/api/events", event(event_type="order.old"))
    assert (archived.status, archived.reason) == (409, "EVENT_TYPE_ARCHIVED")
    await http.post("/api/events", event(), Idempotency_Key="1")
    reused = await http.post("/api/events", event(data={"n": 2}), Idempotency_Key="1")
    assert (reused.status, reused.reason, reused.body["code"]) == (409, "REQUEST_ID_REUSED", "ALREADY_EXISTS")


# --- who calls -------------------------------------------------------------------------------------------------------


def token(name: str, **fields: Any) -> dict[str, Any]:
    """Returns a configured token whose text is its name."""
    return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **fields}


async def test_tokens_that_are_missing_wrong_old_doubled_of_another_customer_or_too_weak(
    services: ServiceFactory,
) -> None:
    tokens = [
        token("old", expires="2020-01-01T00:00:00Z"),
        token("one", customer_id=CUSTOMER),
        token("reader", permissions=["read"]),
    ]
    service = await services.start(http_address="127.0.0.1:0", tokens=json.dumps(tokens))
    async with Http(service) as http:
        for authorization, reason in (
            (None, "TOKEN_MISSING"),
            ("Bearer unknown", "TOKEN_INVALID"),
            ("Basic b25lOg==", "TOKEN_INVALID"),
            ("Bearer ", "TOKEN_INVALID"),
            ("Bearer old", "TOKEN_EXPIRED"),
        ):
            headers = {} if authorization is None else {"Authorization": authorization}
            answer = await http.call("GET", "/api/webhooks", headers=headers)
            assert (answer.status, answer.reason, answer.body["code"]) == (401, reason, "UNAUTHENTICATED")
        other = await http.get(f"/api/webhooks?customer_id={OTHER_CUSTOMER}", Authorization="Bearer one")
        assert (other.status, other.reason) == (403, "CUSTOMER_NOT_ALLOWED")
        weak = await http.post("/api/events", event(), Authorization="Bearer reader")
        assert (weak.status, weak.reason, weak.body["code"]) == (403, "PERMISSION_MISSING", "PERMISSION_DENIED")


# --- limits, and a service that cannot answer ------------------------------------------------------------------------


async def test_a_quota_is_429_without_a_time_to_come_back(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", webhooks_per_customer_max=1)
    async with Http(service) as http:
        await http.create()
        answer = await http.post("/api/webhooks", WEBHOOK)
    assert (answer.status, answer.reason, answer.body["code"]) == (429, "WEBHOOK_QUOTA", "RESOURCE_EXHAUSTED")
    assert "retry-after" not in answer.headers


async def test_who_publishes_too_fast_learns_when_to_come_back(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # no time passes between the calls
    service = await services.start(http_address="127.0.0.1:0", publish_rate_per_customer=1.0)
    async with Http(service) as http:
        await http.post("/api/events", event())
        answer = await http.post("/api/events", event())
    assert (answer.status, answer.reason, answer.headers["retry-after"]) == (429, "RATE_LIMITED", "1")
    assert 0 < answer.body["retry_seconds"] <= 1


async def test_a_cursor_from_before_the_log_is_410(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    watch = f"/api/deliveries:watch{WHOSE}"
    async with Http(service) as http:
        await http.create(receiver.url())
        async with http.watch(watch) as stream:
            start = await stream.begun()
            await service.publish_many(3)
            await stream.deliveries(3)
        postgres.rows("DELETE FROM attempts WHERE seq = 1")
        answer = await http.get(watch, Last_Event_ID=start)
    assert (answer.status, answer.reason, answer.body["code"]) == (410, "CURSOR_EXPIRED", "OUT_OF_RANGE")
    assert answer.body["metadata"]["oldest_time"].startswith("20")


@pytest.mark.slow(2)
async def test_a_database_that_does_not_answer_is_503_in_time(services: ServiceFactory, postgres: TestPostgres) -> None:
    timeout = slowness.scaled(1.0)
    service = await answered(lambda: services.start(http_address="127.0.0.1:0", database_timeout_seconds=timeout))
    async with Http(service) as http:
        with psycopg.connect(postgres.url) as blocker:
            blocker.execute("LOCK TABLE webhooks IN ACCESS EXCLUSIVE MODE")
            answer = await http.get(f"/api/webhooks/1{WHOSE}")  # to make one may take longer than that
    assert (answer.status, answer.reason, answer.body["code"]) == (503, "STORAGE_UNAVAILABLE", "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_service_that_stops_is_503(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http:
        server: Any = service.app._server  # pyright: ignore[reportPrivateUsage]
        server._calls.stop()
        answer = await http.get(f"/api/webhooks{WHOSE}")
    assert (answer.status, answer.reason) == (503, "SERVER_STOPPING")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.slow(2)
async def test_a_call_that_takes_too_long_is_504(services: ServiceFactory, postgres: TestPostgres) -> None:
    service = await services.start(http_address="127.0.0.1:0", call_seconds_max=1)
    async with Http(service) as http:
        with psycopg.connect(postgres.url) as blocker:
            blocker.execute("LOCK TABLE webhooks IN ACCESS EXCLUSIVE MODE")
            answer = await http.get(f"/api/webhooks/1{WHOSE}")  # to make one may take longer than that
    assert (answer.status, answer.reason) == (504, "DEADLINE_EXCEEDED")


async def test_a_bug_is_500_without_its_text(services: ServiceFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr("webhook_grpc.api.webhooks.webhooks.WebhookMethods.get", broken)
    async with Http(await services.start(http_address="127.0.0.1:0")) as http:
        answer = await http.get(f"/api/webhooks/1{WHOSE}")
    assert (answer.status, answer.reason, answer.body["code"]) == (500, "INTERNAL", "INTERNAL")
    assert "inside" not in answer.text
    assert answer.body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.slow(2)
async def test_more_events_than_may_wait_are_429_and_those_that_wait_are_stored(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start(http_address="127.0.0.1:0", publish_waiting_max=500)
    batch = {"requests": [event()] * 500}
    async with Http(service) as http:
        with psycopg.connect(postgres.url) as blocker:
            blocker.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            calls = [asyncio.create_task(http.post("/api/events:batchPublish", batch)) for _ in range(4)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)  # one is refused while the others wait
        answers = await asyncio.gather(*calls)
    refused = [answer for answer in answers if answer.status != 200]
    stored = [answer.body["results"] for answer in answers if answer.status == 200]
    assert {(one.status, one.reason, one.headers["retry-after"]) for one in refused} == {(429, "BACKLOG_FULL", "1")}
    assert stored
    assert all("published" in result for results in stored for result in results)


@IN_MODULE
async def test_the_errors_in_a_batch_name_the_data_as_the_caller_does(http: Http) -> None:
    text = json.dumps({"requests": [event(data="@")]}).replace('"@"', DEEP)
    [result] = (await http.call("POST", "/api/events:batchPublish", text=text)).body["results"]
    assert [violation["field"] for violation in result["error"]["field_violations"]] == ["event.data"]
    assert "data_json" not in json.dumps(result)
    [result] = (await http.post("/api/events:batchPublish", {"requests": [{"event": TEXT}]})).body["results"]
    assert [violation["field"] for violation in result["error"]["field_violations"]] == ["event.data_json"]
