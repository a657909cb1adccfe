"""The OpenAPI document: valid, complete, in the words of HTTP, and true of what receivers get."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, cast

import jsonschema_rs
import pytest

from tests.support import iris
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, ServiceFactory
from webhook_grpc.api.methods import METHODS
from webhook_grpc.server.http.openapi.document import document

from .client import Http
from .contract import Contract, contract

DOCUMENT = contract().described
OPERATIONS = {operation["operationId"]: operation for item in DOCUMENT["paths"].values() for operation in item.values()}
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
        "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]}},
    }
)


in_one_process = pytest.mark.xdist_group("schemas")  # whose library takes more than a second to import


def problems_of(described: Any) -> list[str]:
    """Returns what OpenAPI's own schema finds wrong."""
    iris.install()
    from openapi_spec_validator import OpenAPIV31SpecValidator

    return [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()]


def of(method: str) -> dict[str, Any]:
    """Returns the operation of a method."""
    return OPERATIONS[method]


# --- the document ----------------------------------------------------------------------------------------------------


@pytest.mark.slow(2)
@in_one_process
@pytest.mark.parametrize("is_open", [False, True])
def test_it_is_valid(is_open: bool) -> None:
    assert problems_of(json.loads(document((), is_open=is_open).body)) == []


def test_every_method_is_an_operation_with_the_permission_that_it_needs() -> None:
    for method in METHODS:
        assert of(method.name)["security"] == [{"token": [method.permission]}]


def test_no_two_paths_differ_only_in_the_names_of_their_variables() -> None:
    templates = [re.sub(r"\{[^}]*\}", "{}", path) for path in DOCUMENT["paths"]]
    assert len(set(templates)) == len(templates)
    assert not re.search(r"\{[^}]*\.", "".join(DOCUMENT["paths"]))


def test_every_operation_parameter_and_property_has_a_description() -> None:
    for operation in OPERATIONS.values():
        assert operation["summary"]
        assert not re.search(r"`|_", operation["summary"].replace("json_schema", "").replace("update_mask", ""))
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for field, member in schema.get("properties", {}).items():
            assert member.get("description") or name == "Problem", (name, field)


def test_descriptions_use_the_words_of_http() -> None:
    """Comments of the protos say PENDING and data_json; JSON has `pending` and `data`."""
    words = [word for schema in DOCUMENT["components"]["schemas"].values() for word in schema.get("enum", [])]
    shouted = re.compile(rf"\b({'|'.join(word.upper() for word in words)})\b")
    for text in descriptions(DOCUMENT):
        prose = re.sub(r"`[^`]*`|HMAC-SHA256", "", text)  # that one is the algorithm's name
        assert not shouted.search(prose), text
        assert not re.search(r"\b[a-z]+_[a-z]", prose), text
        assert "grpcurl" not in text


def descriptions(node: Any) -> Iterator[str]:
    """Yields all descriptions."""
    if isinstance(node, list):
        for one in cast("list[Any]", node):
            yield from descriptions(one)
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        for value in members.values():
            yield from descriptions(value)
        if isinstance(members.get("description"), str):
            yield members["description"]


def test_numbers_are_numbers_enums_lower_case_and_data_anything() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    webhook = schemas["Webhook"]["properties"]
    assert (webhook["webhook_id"]["type"], webhook["webhook_id"]["format"]) == ("integer", "int64")
    assert schemas["WebhookStatus"]["enum"] == ["active", "paused", "disabled"]
    assert {"type", "$ref"}.isdisjoint(schemas["EventInput"]["properties"]["data"])
    assert "data_json" not in schemas["Event"]["properties"]


def test_a_request_is_bounded_and_an_answer_may_grow() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "additionalProperties" not in schemas["Webhook"]
    assert schemas["WebhookInput"]["additionalProperties"] is False
    assert schemas["WebhookInput"]["required"] == ["name", "url", "events"]
    assert "required" not in schemas["WebhookChange"]
    assert schemas["WebhookInput"]["properties"]["name"]["maxLength"] == 128
    assert schemas["WebhookInput"]["properties"]["status"]["readOnly"]
    assert {"webhook_id", "headers", "max_in_flight"} <= set(schemas["Webhook"]["required"])
    assert "secret" not in schemas["Webhook"]["required"]


def test_headers_stand_where_they_mean_something() -> None:
    def headers(method: str) -> set[str]:
        parameters = [contract().resolved(one) for one in of(method)["parameters"]]
        return {one["name"] for one in parameters if one["in"] == "header"}

    assert headers("PublishEvent") == {"Idempotency-Key", "X-Request-ID"}
    assert headers("ListEvents") == {"X-Request-ID"}, "there, request_id is a filter"
    assert headers("UpdateWebhook") == headers("DeleteWebhook") == {"If-Match", "X-Request-ID"}
    assert headers("WatchDeliveries") == {"Last-Event-ID", "X-Request-ID"}
    assert "ETag" in of("GetWebhook")["responses"]["200"]["headers"]
    for name in ("TooManyRequests", "ServiceUnavailable", "InsufficientStorage"):
        assert "Retry-After" in DOCUMENT["components"]["responses"][name]["headers"]


def test_maps_are_deep_objects_and_a_page_has_a_default_size() -> None:
    parameters = {one.get("name"): one for one in of("ListEvents")["parameters"]}
    assert (parameters["attributes"]["style"], parameters["page_size"]["schema"]["default"]) == ("deepObject", 50)


# --- examples --------------------------------------------------------------------------------------------------------


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields all bodies that the document has, of requests and of answers."""
    for name, operation in OPERATIONS.items():
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in contract().resolved(holder).get("content", {}).values():
                yield name, content


def test_examples_fit_their_schemas() -> None:
    count = 0
    for name, content in bodies():
        for example in content.get("examples", {}).values():
            contract().fits(content["schema"], example["value"], name)
            count += 1
    [problem] = DOCUMENT["components"]["schemas"]["Problem"]["examples"]
    contract().fits({"$ref": "#/components/schemas/Problem"}, problem, "problem")
    assert count > 8


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("CreateWebhook", "/api/webhooks"),
        ("PublishEvent", "/api/events"),
        ("BatchPublishEvents", "/api/events:batchPublish"),
        ("CreateReplay", "/api/replays"),
    ],
)
async def test_examples_of_requests_are_served(services: ServiceFactory, method: str, path: str) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=1)
    async with Http(service) as http:
        for example in of(method)["requestBody"]["content"]["application/json"]["examples"].values():
            body = json.dumps(example["value"]).replace("2026-01-31T00:00:00Z", recent())
            answer = await http.call("POST", path, text=body)
            assert answer.status < 300, answer.text


def recent() -> str:
    """Returns a time within the window of a replay."""
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- as it is served -------------------------------------------------------------------------------------------------


async def test_who_has_it_already_gets_nothing_and_it_is_compressed(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http:
        first = await http.get("/api/openapi.json", Accept_Encoding="gzip")
        assert (first.status, first.headers["content-encoding"]) == (200, "gzip")
        again = await http.get("/api/openapi.json", If_None_Match=first.headers["etag"])
        assert (again.status, again.text, again.headers["etag"]) == (304, "", first.headers["etag"])
        await http.post("/api/eventTypes", {"event_type": "order.paid"})
        assert (await http.get("/api/openapi.json", If_None_Match=first.headers["etag"])).status == 200


async def test_it_is_compressed_once_for_all_who_read_it(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no token, and to compress it takes ten times what it takes to refuse a call."""
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http:
        first = await http.get("/api/openapi.json", Accept_Encoding="gzip")
        for name in ("compress", "compressobj"):
            monkeypatch.setattr(zlib, name, None)
        again = await http.get("/api/openapi.json", Accept_Encoding="gzip")
    assert (again.status, again.headers["content-encoding"]) == (200, "gzip")
    assert again.body == first.body


async def test_event_types_are_for_callers_who_are_known(services: ServiceFactory) -> None:
    tokens = json.dumps([{"name": "me", "sha256": hashlib.sha256(b"foo").hexdigest()}])
    service = await services.start(http_address="127.0.0.1:0", tokens=tokens)
    async with Http(service) as http:
        assert (await http.get("/api/openapi.json")).body["webhooks"] == {}
        known = (await http.get("/api/openapi.json", Authorization="Bearer foo")).body
        assert "job.completed" in known["webhooks"]
        assert known["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_where_callers_need_no_token_there_is_no_security_scheme(services: ServiceFactory) -> None:
    async with Http(await services.start(http_address="127.0.0.1:0")) as http:
        described = (await http.get("/api/openapi.json")).body
    assert "securitySchemes" not in described["components"]
    for item in described["paths"].values():
        assert all(operation["security"] == [] and "401" not in operation["responses"] for operation in item.values())


# --- what receivers get ----------------------------------------------------------------------------------------------


@pytest.mark.slow(2)
@in_one_process
async def test_what_a_receiver_gets_is_what_the_document_says(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http:
        created = await http.post("/api/eventTypes", {"event_type": "order.paid", "json_schema": SCHEMA})
        assert created.status == 201, created.text
        described = (await http.get("/api/openapi.json")).body
        assert problems_of(described) == []
        await http.create(receiver.url())
        event = {"customer_id": CUSTOMER, "event_type": "order.paid", "data": {"lines": [{"sku": "x"}]}}
        published = await http.post("/api/events", {"event": event})
        assert published.status == 200, published.text
        [request] = await receiver.wait_for(1)
    held = Contract(described)
    operation = described["webhooks"]["order.paid"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    body = json.loads(request.body)
    assert body["event"] == "order.paid"
    held.fits(schema, body, "body")
    with pytest.raises(AssertionError):
        held.fits(schema, {**body, "data": {"lines": [{"sku": 1}]}}, "a reference leads into the schema of the type")
    headers = {name.lower(): value for name, value in request.headers.items()}
    for parameter in map(held.resolved, operation["parameters"]):
        value = headers[parameter["name"].lower()]
        jsonschema_rs.validate(parameter["schema"], int(value) if parameter["schema"]["type"] == "integer" else value)


# --- the tests' own check --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (418, "application/json", {}),
        (200, "text/html", {}),
        (200, "application/json", {"webhooks": [], "more": 1}),
        (200, "application/json", {}),
        (200, "application/json", {"webhooks": [None]}),
        (404, "application/problem+json", {}),
    ],
)
def test_an_answer_that_is_not_in_the_document_is_found(status: int, kind: str, body: Any) -> None:
    headers = {"content-type": kind, "x-request-id": "1"}
    contract().hold("GET", "/api/webhooks", 200, {**headers, "content-type": "application/json"}, '{"webhooks": []}')
    with pytest.raises(AssertionError):
        contract().hold("GET", "/api/webhooks", status, headers, json.dumps(body))
