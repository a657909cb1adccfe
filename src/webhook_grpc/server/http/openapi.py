"""The OpenAPI 3.1 document of the HTTP door, made from the descriptors and the table that writes the JSON.

So it can't differ from what is served. The comments of the protos are its descriptions; the event types that are
registered are its webhooks: what receivers get.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import orjson
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from webhook.v1 import service_pb2

from webhook_grpc import __version__
from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.model import EventType

from .problem import CONTENT_TYPE
from .reading import RAW_JSON as RAW_INPUT
from .routes import Route, routes_of
from .words import DURATION, FIELD_MASK, TIMESTAMP, enum_words, is_single_value
from .writing import RAW_JSON as RAW_OUTPUT
from .writing import is_map

JSON: Final = "application/json"
SCHEMAS_BYTES_MAX: Final = 4 * 1024 * 1024  # of event types, all together; further types are listed without theirs

Schema = dict[str, Any]

_SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
_PREFIX: Final = "/api/"
_SINGLE: Final[Mapping[str, Schema]] = {
    TIMESTAMP: {"type": "string", "format": "date-time"},
    DURATION: {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$", "examples": ["15s"]},
    FIELD_MASK: {"type": "string", "description": "Names of fields, separated by commas."},
}
_FORMATS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "integer", "minimum": 0},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}


def document(event_types: Iterable[EventType]) -> bytes:
    """Returns the document as JSON, with the event types as they are now."""
    webhooks, room = dict[str, Schema](), SCHEMAS_BYTES_MAX
    for one in event_types:
        schema = one.spec.json_schema or ""
        room -= len(schema)
        webhooks[one.event_type] = _webhook(one, schema if room >= 0 else "")
    return orjson.dumps({**_static_part(), "webhooks": webhooks})


@functools.cache
def _static_part() -> Schema:
    paths: dict[str, Schema] = {}
    schemas: dict[str, Schema] = {"Problem": _PROBLEM}
    for route in routes_of(_SERVICE):
        if route.path.startswith(_PREFIX):
            paths.setdefault(route.path, {})[route.verb.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "webhook-grpc", "version": __version__, "description": _comment(_SERVICE.full_name)},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
    }


# --- operations ------------------------------------------------------------------------------------------------------


def _operation(route: Route, schemas: dict[str, Schema]) -> Schema:
    method = next(method for method in METHODS if method.name == route.method)
    comment = _comment(f"{_SERVICE.full_name}.{route.method}")
    operation: Schema = {
        "operationId": route.method,
        "summary": comment.partition(". ")[0].rstrip(".") + ".",
        "description": comment,
        "parameters": _parameters(route, cast("Descriptor", method.request_type.DESCRIPTOR)),
        "responses": {
            **_success(route, cast("Descriptor", method.response_type.DESCRIPTOR), streams=method.streams, to=schemas),
            "default": {
                "description": "The call failed.",
                "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if route.body:
        operation["requestBody"] = {"required": route.body != "*", "content": {JSON: {"schema": _body(route, schemas)}}}
    return operation


def _body(route: Route, schemas: dict[str, Schema]) -> Schema:
    request = _SERVICE.methods_by_name[route.method].input_type
    if route.body != "*":
        schema = _reference(cast("Descriptor", request.fields_by_name[route.body].message_type), schemas)
        return schema if route.verb != "PATCH" else {"$ref": _partial(request.fields_by_name[route.body], schemas)}
    left_out = set(route.variables)
    return _object(request, [field for field in request.fields if field.name not in left_out], schemas)


def _partial(field: FieldDescriptor, schemas: dict[str, Schema]) -> str:
    """Names the schema of a resource of which only some fields are given."""
    message = cast("Descriptor", field.message_type)
    name = f"{message.name}Change"
    schemas[name] = {**_object(message, message.fields, schemas), "required": []}
    return f"#/components/schemas/{name}"


def _success(route: Route, message: Descriptor, *, streams: bool, to: dict[str, Schema]) -> Schema:
    if not message.fields:
        return {"204": {"description": "Done."}}
    schema = _reference(message, to)
    content = {JSON: {"schema": schema}}
    if streams:
        content = {"text/event-stream": {"schema": {"type": "string"}}, "application/x-ndjson": {"schema": schema}}
    status = "201" if route.method.startswith("Create") else "200"
    return {status: {"description": _comment(message.full_name), "content": content}}


def _parameters(route: Route, request: Descriptor) -> list[Schema]:
    in_path = [_in_path(request, variable) for variable in route.variables]
    if route.body == "*":
        return in_path
    own = [field for field in request.fields if field.name not in {*route.variables, route.body}]
    return in_path + [_in_query(field) for field in own]


def _in_path(request: Descriptor, variable: str) -> Schema:
    *parents, name = variable.split(".")
    for parent in parents:
        request = cast("Descriptor", request.fields_by_name[parent].message_type)
    field = request.fields_by_name[name]
    return {
        "name": variable,
        "in": "path",
        "required": True,
        "description": _comment(field.full_name),
        "schema": _value(field, {}),
    }


def _in_query(field: FieldDescriptor) -> Schema:
    parameter: Schema = {
        "name": field.name,
        "in": "query",
        "description": _comment(field.full_name),
        "schema": _schema_of(field, {}),
    }
    if is_map(field):
        parameter |= {"style": "deepObject", "explode": True}
    elif field.is_repeated:
        parameter |= {"explode": True}
    return parameter


# --- schemas ---------------------------------------------------------------------------------------------------------


def _reference(message: Descriptor, schemas: dict[str, Schema]) -> Schema:
    if message.name not in schemas:
        schemas[message.name] = {}  # it may hold itself
        schemas[message.name] = _object(message, message.fields, schemas)
    return {"$ref": f"#/components/schemas/{message.name}"}


def _object(message: Descriptor, fields: Iterable[FieldDescriptor], schemas: dict[str, Schema]) -> Schema:
    properties: dict[str, Schema] = {}
    for field in fields:
        name = RAW_OUTPUT.get(field.full_name, field.name)
        if field.full_name in RAW_INPUT:
            continue  # as its text is shown under the same name
        schema = _schema_of(field, schemas)
        if field.full_name in RAW_OUTPUT:
            schema = {}
            properties[field.name] = {"type": "string", "writeOnly": True, "description": "The same as text."}
        properties[name] = {**schema, "description": _comment(field.full_name), **_behaviour(field)}
    required = [field.name for field in fields if field_behavior_pb2.REQUIRED in _behaviours(field)]
    return {
        "type": "object",
        "description": _comment(message.full_name),
        "properties": properties,
        "required": [name for name in required if name != "customer_id"],  # a caller of one customer leaves it out
        "additionalProperties": False,
    }


def _schema_of(field: FieldDescriptor, schemas: dict[str, Schema]) -> Schema:
    if is_map(field):
        return {"type": "object", "additionalProperties": {"type": "string"}}
    value = _value(field, schemas)
    return {"type": "array", "items": value} if field.is_repeated else value


def _value(field: FieldDescriptor, schemas: dict[str, Schema]) -> Schema:
    if field.message_type is not None:
        name = field.message_type.full_name
        return dict(_SINGLE[name]) if is_single_value(name) else _reference(field.message_type, schemas)
    if field.enum_type is not None:
        return {"type": "string", "enum": [word for number, word in enum_words(field.enum_type).items() if number]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    return dict(_FORMATS[field.cpp_type])


def _behaviour(field: FieldDescriptor) -> Schema:
    return {"readOnly": True} if field_behavior_pb2.OUTPUT_ONLY in _behaviours(field) else {}


def _behaviours(field: FieldDescriptor) -> Any:
    return field.GetOptions().Extensions[cast("Any", field_behavior_pb2).field_behavior]


@functools.cache
def _comments() -> Mapping[str, str]:
    """Returns the comments of the protos by full name: Python's descriptors carry none."""
    return orjson.loads(Path(service_pb2.__file__).with_name("comments.json").read_bytes())


def _comment(full_name: str) -> str:
    return _comments().get(full_name, "")


# --- what receivers get ----------------------------------------------------------------------------------------------


def _webhook(event_type: EventType, schema: str) -> Schema:
    spec = event_type.spec
    body = {
        "type": "object",
        "properties": {
            "event": {"const": event_type.event_type},
            "timestamp": {"type": "integer", "description": "When it happened, in Unix seconds."},
            "data": orjson.Fragment(schema) if schema else {},
        },
        "required": ["event", "timestamp", "data"],
    }
    return {
        "post": {
            "summary": spec.description or event_type.event_type,
            "deprecated": spec.archived,
            "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
            "responses": {"2XX": {"description": "Received. Anything else is tried again."}},
        }
    }


_PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "Why a call failed (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do about it."},
        "code": {"type": "string", "description": "The name of a google.rpc.Code."},
        "reason": {"type": "string", "description": "For programs, for example `EVENT_TYPE_UNKNOWN`."},
        "violations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                "required": ["field", "description"],
            },
        },
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "retry_seconds": {"type": "number", "description": "After this the same call may succeed."},
        "request_id": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "reason"],
}
