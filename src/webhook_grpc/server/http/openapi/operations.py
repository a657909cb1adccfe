"""The operations of the methods, along their routes; and those of the door itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from webhook.v1 import service_pb2

from webhook_grpc.api.methods import METHODS, Method
from webhook_grpc.server.http.json.writing import is_map
from webhook_grpc.server.http.routes import Route, routes_of

from .comments import markdown, summary
from .examples import ANSWERS, REQUESTS
from .refusals import ALWAYS, Schema, refusals
from .schemas import Schemas

JSON: Final = "application/json"

_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
_METHODS: Final = {method.name: method for method in METHODS}
_PREFIX: Final = "/api/"
_NAMES_OTHERS: Final = frozenset({"CreateReplay", "ListDeliveryAttempts"})  # not in the path
_REQUEST_ID: Final = {"$ref": "#/components/parameters/X-Request-ID"}
_LAST_EVENT_ID: Final[Schema] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The `id` of the last event that was received: the stream goes on behind it.",
    "schema": {"type": "string"},
}

_BODIES: Final[Schema] = {
    "name": "bodies",
    "in": "query",
    "description": "Whether `last_attempt` has what the receiver answered, and the headers that were sent.",
    "schema": {"type": "boolean", "default": False},
}


def paths(schemas: Schemas, *, is_open: bool) -> dict[str, Schema]:
    """Returns the operations by path and verb. `is_open`: callers need no token."""
    found: dict[str, Schema] = {}
    for route in routes_of(_SERVICE):
        if route.path.startswith(_PREFIX):
            found.setdefault(_path(route), {})[route.verb.lower()] = _Operation(route, schemas, is_open=is_open).made()
    return found


def _path(route: Route) -> str:
    """Returns the path with short variables: `{webhook.webhook_id}` and `{webhook_id}` are the same one."""
    path = route.path
    for variable in route.variables:
        path = path.replace(f"{{{variable}}}", f"{{{_last(variable)}}}")
    return path


class _Operation:
    """Makes the operation of one route."""

    def __init__(self, route: Route, schemas: Schemas, *, is_open: bool) -> None:
        self._route = route
        self._schemas = schemas
        self._is_open = is_open
        self._method: Method[Any, Any] = _METHODS[route.method]
        self._request = cast("Descriptor", self._method.request_type.DESCRIPTOR)
        self._response = cast("Descriptor", self._method.response_type.DESCRIPTOR)

    def made(self) -> Schema:
        """Returns it."""
        name = f"{_SERVICE.full_name}.{self._route.method}"
        operation: Schema = {
            "operationId": self._id(),
            "tags": [self._route.path.removeprefix(_PREFIX).partition("/")[0].partition(":")[0]],
            "summary": summary(name),
            "description": f"{markdown(name)}\n\nNeeds the permission `{self._method.permission}`.",
            "parameters": list(self._parameters()),
            "responses": self._success() | refusals(self._statuses()),
            "security": [] if self._is_open else [{"token": [self._method.permission]}],
        }
        return operation | ({"requestBody": self._request_body()} if self._route.body else {})

    def _id(self) -> str:
        """Returns the name of the method; of a second route with the name of what is in its path."""
        first = next(one for one in routes_of(_SERVICE) if one.method == self._route.method and _PREFIX in one.path)
        if first == self._route:
            return self._route.method
        return self._route.method + "By" + "".join(_camel(_last(one)) for one in self._route.variables)

    # --- the request -----------------------------------------------------------------------------------------------

    def _request_body(self) -> Schema:
        content: Schema = {"schema": self._body()}
        if self._route.method in REQUESTS:
            content["examples"] = REQUESTS[self._route.method]
        return {"required": self._route.body != "*" or self._has_required_field(), "content": {JSON: content}}

    def _body(self) -> Schema:
        if self._route.body == "*":
            return self._schemas.sent_fields(self._request, self._fields_of_body())
        message = cast("Descriptor", self._request.fields_by_name[self._route.body].message_type)
        return self._schemas.changed(message) if self._route.verb == "PATCH" else self._schemas.sent(message)

    def _fields_of_body(self) -> list[FieldDescriptor]:
        return [field for field in self._request.fields if field.name not in self._route.variables]

    def _has_required_field(self) -> bool:
        return "required" in self._body()

    def _parameters(self) -> Iterator[Schema]:
        for variable in self._route.variables:
            yield self._in_path(variable)
        for field in self._fields_of_query():
            yield self._in_query(field)
        if self._route.verb != "GET" and "request_id" in self._request.fields_by_name:
            yield {"$ref": "#/components/parameters/Idempotency-Key"}
        if self._takes_etag():
            yield {"$ref": "#/components/parameters/If-Match"}
        if self._method.streams:
            yield _LAST_EVENT_ID
            yield _BODIES
        yield _REQUEST_ID

    def _fields_of_query(self) -> list[FieldDescriptor]:
        if self._route.body == "*":
            return []
        others = {*self._route.variables, self._route.body}
        return [field for field in self._request.fields if field.name not in others]

    def _in_path(self, variable: str) -> Schema:
        message = self._request
        *parents, name = variable.split(".")
        for parent in parents:
            message = cast("Descriptor", message.fields_by_name[parent].message_type)
        field = message.fields_by_name[name]
        return {
            "name": name,
            "in": "path",
            "required": True,
            "description": markdown(field.full_name),
            "schema": self._schemas.value(field, is_sent=True),
        }

    def _in_query(self, field: FieldDescriptor) -> Schema:
        parameter: Schema = {
            "name": field.name,
            "in": "query",
            "description": markdown(field.full_name),
            "schema": self._schemas.value(field, is_sent=True),
        }
        if is_map(field):
            parameter |= {"style": "deepObject", "explode": True}
        return parameter

    def _takes_etag(self) -> bool:
        holder = self._request
        if self._route.body not in {"", "*"}:
            holder = cast("Descriptor", self._request.fields_by_name[self._route.body].message_type)
        return "etag" in holder.fields_by_name and self._route.verb != "POST"

    # --- the answer ------------------------------------------------------------------------------------------------

    def _success(self) -> Schema:
        headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
        if not self._response.fields:
            return {"204": {"description": "Done.", "headers": headers}}
        if "etag" in self._response.fields_by_name:
            headers["ETag"] = {"$ref": "#/components/headers/ETag"}
        status = "201" if self._route.method.startswith("Create") else "200"
        answer = {"description": markdown(self._response.full_name), "headers": headers, "content": self._content()}
        return {status: answer}

    def _content(self) -> Schema:
        schema = self._schemas.answered(self._response)
        if self._method.streams:
            return _stream_content(schema)
        answer: Schema = {"schema": schema}
        if self._route.method in ANSWERS:
            answer["examples"] = ANSWERS[self._route.method]
        return {JSON: answer}

    def _statuses(self) -> set[int]:
        found = {*ALWAYS} if self._is_open else {*ALWAYS, 401}
        if self._route.variables or self._route.method in _NAMES_OTHERS:
            found.add(404)
        if self._route.verb != "GET":
            found |= {409, 507}
        if self._route.body:
            found |= {408, 413, 415}
        if self._takes_etag():
            found.add(412)
        return found | {409, 410} if self._method.streams else found


def _stream_content(schema: Schema) -> Schema:
    """Returns both forms of a stream. OpenAPI 3.1 has no word for many messages: the schema is that of a line."""
    problem = {
        "type": "object",
        "description": "Why the stream ends: its last line.",
        "properties": {"problem": {"$ref": "#/components/schemas/Problem"}},
        "required": ["problem"],
    }
    return {
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "Server-sent events. The data of each is the same JSON as a line of the other form.",
            }
        },
        "application/x-ndjson": {"schema": {"description": "One line.", "anyOf": [schema, problem]}},
    }


def _last(variable: str) -> str:
    return variable.rpartition(".")[2]


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
