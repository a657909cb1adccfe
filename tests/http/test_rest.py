"""REST: every method by its annotated path, JSON as people expect it, problem documents for what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from webhook.v1 import service_pb2

from tests.support.service import CUSTOMER
from webhook_grpc.server.http.routes import routes_of

from .client import Answer, Http

pytestmark = pytest.mark.asyncio(loop_scope="module")
SERVICE = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
SPECIFICATION = (
    '{"name": "任务完成通知", "url": "https://example.com/webhook", "secret": "your_secret_key", '
    '"events": ["job.completed","job.failed"]}'
)


async def test_every_route_reaches_its_method(http: Http) -> None:
    """Each is called with a token that no service knows, or with nothing in it: never an unknown path, never a 500."""
    for route in routes_of(SERVICE):
        if route.method == "WatchDeliveries":
            continue  # see test_live.py
        path = re.sub(r"\{[^}]*\}", "1", route.path)
        answer = await http.call(route.verb, path, {} if route.body else None)
        assert answer.headers["x-request-id"], route
        assert answer.status in {200, 201, 400, 404, 409}, (route, answer)
        if answer.status >= 400:
            assert answer.reason != "PATH_UNKNOWN"


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
    everything = {**changed.body, "name": "renamed"}  # as forms send it: all that GET returned
    whole = await http.call("PATCH", path, everything)
    assert (whole.status, whole.body["name"]) == (200, "renamed")
    masked = await http.call(
        "PATCH", f"{path}?update_mask=name", {"customer_id": CUSTOMER, "name": "a", "description": "b"}
    )
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
    event: dict[str, Any] = {"event": {"customer_id": CUSTOMER, "event_type": "job.completed", "data": {"a": 1}}}
    first = await http.post("/api/events", event, Idempotency_Key="order-42")
    again = await http.post("/api/events", event, Idempotency_Key="order-42")
    assert (first.body["duplicate"], again.body["duplicate"]) == (False, True)
    assert first.body["event_id"] == again.body["event_id"]
    event["event"]["data"] = {"a": 2}
    assert (await http.post("/api/events", event, Idempotency_Key="order-42")).reason == "REQUEST_ID_REUSED"


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
    body: dict[str, Any] = {"customer_id": CUSTOMER, "name": 5, "url": "x", "events": [], "nam": 1}
    answer = await refused(http, "POST", "/api/webhooks", body=body)
    assert (answer.status, answer.reason) == (400, "FIELD_INVALID")
    assert answer.fields == ["name", "nam"], "by the names that the caller gave"


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
    assert (await http.call("PUT", "/api/events")).headers["allow"] == "GET, POST"


async def test_an_unknown_event_type_and_a_used_name_are_conflicts(http: Http) -> None:
    event: dict[str, Any] = {"event": {"customer_id": CUSTOMER, "event_type": "no.such", "data": {}}}
    unknown = await http.post("/api/events", event)
    assert (unknown.status, unknown.reason, unknown.body["code"]) == (409, "EVENT_TYPE_UNKNOWN", "FAILED_PRECONDITION")


async def test_a_body_of_more_than_five_mebibytes_is_refused_unread(http: Http) -> None:
    text = '{"event": {"data": "' + "x" * (5 * 1024 * 1024) + '"}}'
    answer = await refused(http, "POST", "/api/events", text=text)
    assert (answer.status, answer.reason) == (413, "BODY_TOO_LARGE")
