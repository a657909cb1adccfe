"""REST: every method by its annotated path, JSON as people expect it, problem documents for what is refused."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, ServiceFactory
from webhook_grpc.api.methods import METHODS
from webhook_grpc.server.http.routes import PREFIXES, routes_of

from .client import URL, Answer, Http

SERVICE = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
SPECIFICATION = (
    '{"name": "任务完成通知", "url": "https://example.com/webhook", "secret": "your_secret_key", '
    '"events": ["job.completed","job.failed"]}'
)


def test_every_method_has_a_route_under_both_prefixes() -> None:
    routes = routes_of(SERVICE)
    for prefix in PREFIXES:
        assert {route.method for route in routes if route.path.startswith(prefix)} == {one.name for one in METHODS}
    patterns = [(route.verb, route.pattern) for route in routes]
    assert len(set(patterns)) == len(patterns)


async def test_every_route_reaches_its_method(http: Http) -> None:
    """Each is called with a token that no service knows, or with nothing in it: never an unknown path, never a 500."""
    for route in routes_of(SERVICE):
        path = re.sub(r"\{[^}]*\}", "1", route.path)
        answer = await http.call(
            route.verb, path, {} if route.body else None, headers={"Accept": "application/x-ndjson"}
        )
        if route.method != "WatchDeliveries":
            assert answer.headers["x-request-id"], route
        assert answer.status in {200, 201, 400, 404, 409}, (route, answer)
        if answer.status >= 400:
            assert answer.reason != "PATH_UNKNOWN"


# --- the specification -----------------------------------------------------------------------------------------------


async def test_the_body_of_the_specification_is_answered_as_it_says(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=None)
    async with Http(service) as http:
        answer = await http.call("POST", "/api/webhooks", text=SPECIFICATION)
        assert answer.status == 201
        assert (answer.body["webhook_id"], answer.body["status"], answer.body["customer_id"]) == (1, "active", 1)
        assert answer.body["name"] == "任务完成通知"
        assert "secret" not in answer.body, "the caller knows it"


async def test_a_caller_who_names_no_customer_acts_for_the_default_one_over_grpc_too(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=7)
    created = await service.create_webhook(URL, customer_id=0)
    assert created.customer_id == 7


# --- one resource ----------------------------------------------------------------------------------------------------


async def test_a_webhook_is_created_read_changed_paused_resumed_and_deleted(http: Http) -> None:
    created = await http.create(timeout="2.5s", retry_policy={"delays": ["5s", "60s"]}, labels={"team": "x"})
    path, customer = f"/api/webhooks/{created['webhook_id']}", {"customer_id": CUSTOMER}
    assert (created["timeout"], created["retry_policy"]) == ("2.500s", {"delays": ["5s", "60s"]})
    assert (await http.get(f"{path}?customer_id={CUSTOMER}")).body == {
        name: value for name, value in created.items() if name != "secret"
    }
    changed = await http.call("PATCH", path, {**customer, "name": "new", "labels": {}})
    assert (changed.body["name"], changed.body["labels"], changed.body["timeout"]) == ("new", {}, "2.500s")
    assert (await http.post(f"{path}:pause", customer)).body["status"] == "paused"
    assert (await http.post(f"{path}:resume", customer)).body["status"] == "active"
    deleted = await http.call("DELETE", f"{path}?customer_id={CUSTOMER}")
    assert (deleted.status, deleted.text) == (204, "")
    assert (await http.get(f"{path}?customer_id={CUSTOMER}")).reason == "WEBHOOK_NOT_FOUND"


async def test_patch_changes_the_members_that_the_body_has_and_only_those(http: Http) -> None:
    created = await http.create(description="old", max_in_flight=5)
    path = f"/api/webhooks/{created['webhook_id']}"
    changed = await http.call("PATCH", path, {"customer_id": CUSTOMER, "description": ""})
    assert ("description" in changed.body, changed.body["max_in_flight"]) == (False, 5)
    whole = await http.call(
        "PATCH", path, {**changed.body, "name": "renamed"}
    )  # all that GET returned, as forms send it
    assert (whole.status, whole.body["name"]) == (200, "renamed")
    masked = await http.call("PATCH", f"{path}?update_mask=name", {**changed.body, "name": "a", "description": "b"})
    assert (masked.body["name"], "description" in masked.body) == ("a", False)


async def test_an_etag_that_is_not_the_current_one_changes_nothing(http: Http) -> None:
    created = await http.create()
    path, body = f"/api/webhooks/{created['webhook_id']}", {"customer_id": CUSTOMER, "name": "mine"}
    first = await http.get(f"{path}?customer_id={CUSTOMER}")
    assert first.headers["etag"] == f'"{created["etag"]}"'
    assert (await http.call("PATCH", path, body, headers={"If-Match": first.headers["etag"]})).status == 200
    late = await http.call("PATCH", path, body, headers={"If-Match": first.headers["etag"]})
    assert (late.status, late.reason) == (412, "ETAG_MISMATCH")
    assert late.body["metadata"] == {"current_etag": "2"}
    gone = await http.call("DELETE", f"{path}?customer_id={CUSTOMER}", headers={"If-Match": '"1"'})
    assert gone.status == 412


async def test_an_idempotency_key_makes_a_call_safe_to_repeat(http: Http) -> None:
    event = {"event": {"customer_id": CUSTOMER, "event_type": "job.completed", "data": {"a": 1}}}
    first = await http.post("/api/events", event, Idempotency_Key="order-42")
    again = await http.post("/api/events", event, Idempotency_Key="order-42")
    assert (first.body["duplicate"], again.body["duplicate"]) == (False, True)
    assert first.body["event_id"] == again.body["event_id"]
    event["event"]["data"] = {"a": 2}
    assert (await http.post("/api/events", event, Idempotency_Key="order-42")).reason == "REQUEST_ID_REUSED"


async def test_the_data_of_an_event_is_signed_and_shown_byte_for_byte(http: Http, receiver: Receiver) -> None:
    await http.create(receiver.url())
    data = '{"price": 1.10,  "id": 12345678901234567890123}'
    text = f'{{"event": {{"customer_id": {CUSTOMER}, "event_type": "job.completed", "data": {data} }} }}'
    published = await http.call("POST", "/api/events", text=text)
    async with slowness.timeout(10):
        while not receiver.requests:
            await asyncio.sleep(0.01)
    assert receiver.requests[0].body.endswith(f'"data":{data}}}'.encode())
    event = await http.get(f"/api/events/{published.body['event_id']}?customer_id={CUSTOMER}")
    assert f'"data":{data}' in event.text


async def test_lists_are_filtered_and_paged_by_query_parameters(http: Http) -> None:
    for number in range(3):
        await http.create(name=f"webhook {number}")
    first = await http.get(f"/api/webhooks?customer_id={CUSTOMER}&page_size=2&statuses=active,paused")
    assert [one["name"] for one in first.body["webhooks"]] == ["webhook 2", "webhook 1"]
    token = first.body["next_page_token"]
    last = await http.get(f"/api/webhooks?customer_id={CUSTOMER}&page_size=2&statuses=active,paused&page_token={token}")
    assert [one["name"] for one in last.body["webhooks"]] == ["webhook 0"]
    assert "next_page_token" not in last.body


# --- what is refused -------------------------------------------------------------------------------------------------


async def refused(http: Http, verb: str, path: str, **call: Any) -> Answer:
    answer = await http.call(verb, path, **call)
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert answer.body["title"]
    assert answer.body["detail"]
    return answer


async def test_everything_that_is_wrong_is_named_at_once(http: Http) -> None:
    body = {"customer_id": CUSTOMER, "name": 5, "url": "x", "events": [], "nam": 1}
    answer = await refused(http, "POST", "/api/webhooks", body=body)
    assert (answer.status, answer.reason) == (400, "FIELD_INVALID")
    assert answer.fields == ["webhook.name", "webhook.nam"]


@pytest.mark.parametrize(
    ("verb", "path", "call", "status", "reason"),
    [
        ("GET", "/api/nothing", {}, 404, "PATH_UNKNOWN"),
        ("PUT", "/api/events", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/events", {"text": "{"}, 400, "FIELD_INVALID"),
        ("POST", "/api/events", {"text": '{"event": {"data": NaN}}'}, 400, "FIELD_INVALID"),
        ("POST", "/api/events", {"text": '{"event": {"event_type": "\\ud800"}}'}, 400, "FIELD_INVALID"),
        ("POST", "/api/events", {"text": "\ud800"}, 400, "FIELD_INVALID"),
        (
            "POST",
            "/api/events",
            {"text": "{}", "headers": {"Content-Type": "text/plain"}},
            415,
            "CONTENT_TYPE_UNSUPPORTED",
        ),
        ("POST", "/api/events", {"text": "[]"}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks?page_size=many", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks?colour=red", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks?page_size=1&page_size=2", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks?page_token=x", {}, 400, "PAGE_TOKEN_INVALID"),
        ("GET", "/api/webhooks/x", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks/99999999999999999999", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks/1?customer_id=42", {}, 404, "WEBHOOK_NOT_FOUND"),
        ("GET", "/api/deliveries/dlv_x?customer_id=42", {}, 400, "FIELD_INVALID"),
        ("GET", "/api/webhooks/%00?customer_id=42", {}, 400, "FIELD_INVALID"),
    ],
)
async def test_what_does_not_fit_is_a_problem_document(
    http: Http, verb: str, path: str, call: dict[str, Any], status: int, reason: str
) -> None:
    answer = await refused(http, verb, path, **call)
    assert (answer.status, answer.reason) == (status, reason)


async def test_a_method_that_a_path_does_not_take_is_answered_with_those_that_it_takes(http: Http) -> None:
    assert (await http.call("PUT", "/api/events")).headers["allow"] == "GET,POST"


async def test_an_unknown_event_type_and_a_used_name_are_conflicts(http: Http) -> None:
    event = {"event": {"customer_id": CUSTOMER, "event_type": "no.such", "data": {}}}
    unknown = await http.post("/api/events", event)
    assert (unknown.status, unknown.reason, unknown.body["code"]) == (409, "EVENT_TYPE_UNKNOWN", "FAILED_PRECONDITION")


async def test_a_body_of_more_than_five_mebibytes_is_refused_unread(http: Http) -> None:
    text = '{"event": {"data": "' + "x" * (5 * 1024 * 1024) + '"}}'
    answer = await refused(http, "POST", "/api/events", text=text)
    assert (answer.status, answer.reason) == (413, "BODY_TOO_LARGE")


async def test_a_body_that_does_not_come_is_not_waited_for(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", http_read_seconds_max=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    writer.write(
        b"POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    )
    async with slowness.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_token_is_a_bearer_token_and_without_one_the_answer_is_401(services: ServiceFactory) -> None:
    tokens = '[{"name": "me", "sha256": "%s"}]' % ("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
    service = await services.start(http_address="127.0.0.1:0", tokens=tokens)
    async with Http(service) as http:
        missing = await http.get("/api/webhooks")
        assert (missing.status, missing.reason) == (401, "TOKEN_MISSING")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        assert (await http.get("/api/webhooks", Authorization="Bearer foo")).status == 200
        wrong = await http.call("POST", "/api/events", text="{", headers={"Authorization": "Bearer bar"})
        assert (wrong.status, wrong.reason) == (401, "TOKEN_INVALID"), "nothing is parsed before its caller is known"


async def test_a_server_that_is_full_names_the_seconds_after_which_to_come_back(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", streams_max=1)
    async with (
        Http(service) as http,
        http.session.get(f"/api/deliveries:watch?customer_id={CUSTOMER}") as first,
    ):
        assert first.status == 200
        await first.content.readline()
        second = await http.get(f"/api/deliveries:watch?customer_id={CUSTOMER}")
        assert (second.status, second.reason) == (429, "TOO_MANY_STREAMS")
        assert second.headers["retry-after"] == "1"
