"""JSON Schemas of messages. What is sent and what is answered differ, so most messages have two.

An answer has every field that is always shown; a client has to bear further ones. A request is bounded, and has no
field that the call does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from webhook_grpc.server.http.json.reading import RAW_JSON as RAW_INPUT
from webhook_grpc.server.http.json.values import (
    DURATION,
    FIELD_MASK,
    TIMESTAMP,
    enum_words,
    is_single_value,
)
from webhook_grpc.server.http.json.writing import LEFT_OUT_BY_STREAMS, is_always_shown, is_map
from webhook_grpc.server.http.json.writing import RAW_JSON as RAW_OUTPUT

from .bounds import bounds_of
from .comments import markdown, values_markdown

Schema = dict[str, Any]

_CUSTOMER: Final = "customer_id"  # a caller of one customer leaves it out
_SINGLE: Final[Mapping[str, Schema]] = {
    TIMESTAMP: {"type": "string", "format": "date-time"},
    DURATION: {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    FIELD_MASK: {"type": "string"},
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


class Schemas:
    """Makes schemas, and collects those that others refer to."""

    def __init__(self, components: dict[str, Schema]) -> None:
        self.components = components

    def answered(self, message: Descriptor) -> Schema:
        """Returns a reference to what an answer holds of a message."""
        if message.name not in self.components:
            self.components[message.name] = {}  # it may hold itself
            self.components[message.name] = self._answered(message)
        return _reference(message.name)

    def sent(self, message: Descriptor) -> Schema:
        """Returns a reference to what a request holds of a message."""
        name = message.name if message.name.endswith("Request") else f"{message.name}Input"
        if name not in self.components:
            self.components[name] = {}
            self.components[name] = self.sent_fields(message, message.fields)
        return _reference(name)

    def changed(self, message: Descriptor) -> Schema:
        """Returns a reference to a message of which only some fields are given."""
        name = f"{message.name}Change"
        if name not in self.components:
            whole = self.sent_fields(message, message.fields)
            self.components[name] = {key: value for key, value in whole.items() if key != "required"}
        return _reference(name)

    def sent_fields(self, message: Descriptor, fields: Iterable[FieldDescriptor]) -> Schema:
        """Returns what a request holds of these fields of a message."""
        fields = list(fields)
        required = [field.name for field in fields if _has_behaviour(field, "REQUIRED") and field.name != _CUSTOMER]
        schema = {
            **_object(message, {field.name: self._member(field) for field in fields}, required),
            "additionalProperties": False,
        }
        return schema | _one_of(message, {field.name for field in fields})

    def value(self, field: FieldDescriptor, *, is_sent: bool) -> Schema:
        """Returns the schema of a field, a list or a map of it if it is one."""
        bounds: Mapping[str, Any] = bounds_of(field) if is_sent else {}
        if is_map(field):
            return {"type": "object", "additionalProperties": {"type": "string"}, **bounds}
        one = self._one(field, is_sent=is_sent)
        return {"type": "array", "items": one, **bounds} if field.is_repeated else {**one, **bounds}

    def _answered(self, message: Descriptor) -> Schema:
        fields = {RAW_OUTPUT.get(one.full_name, one.name): one for one in message.fields if not _is_input_form(one)}
        properties = {name: self._shown(field) for name, field in fields.items()}
        required = [
            name
            for name, field in fields.items()
            if is_always_shown(field) and field.full_name not in LEFT_OUT_BY_STREAMS
        ]
        return _object(message, properties, required) | _one_of(message, fields)

    def _shown(self, field: FieldDescriptor) -> Schema:
        schema = {} if field.full_name in RAW_OUTPUT else self.value(field, is_sent=False)
        return schema | {"description": markdown(_described(field))}

    def _member(self, field: FieldDescriptor) -> Schema:
        schema = {} if field.full_name in RAW_INPUT else self.value(field, is_sent=True)
        only_answered = {"readOnly": True} if _has_behaviour(field, "OUTPUT_ONLY") else {}
        return schema | {"description": markdown(field.full_name)} | only_answered

    def _one(self, field: FieldDescriptor, *, is_sent: bool) -> Schema:
        if field.message_type is not None:
            name = field.message_type.full_name
            if is_single_value(name):
                return dict(_SINGLE[name])
            return self.sent(field.message_type) if is_sent else self.answered(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return dict(_FORMATS[field.cpp_type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        self.components[enum.name] = {
            "type": "string",
            "enum": [word for number, word in enum_words(enum).items() if number],
            "description": values_markdown(enum),
        }
        return _reference(enum.name)


def _object(message: Descriptor, properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    schema = {"type": "object", "description": markdown(message.full_name), "properties": dict(properties)}
    return schema | ({"required": list(required)} if required else {})


def _one_of(message: Descriptor, names: Iterable[str]) -> Schema:
    """Returns that one member of a oneof is there. Of which one name only is left, may have none: see ExplainEvent."""
    kept = set(names)
    for group in message.oneofs:
        members = [field.name for field in group.fields if field.name in kept]
        if len(members) > 1:
            return {"oneOf": [{"required": [name]} for name in members]}
    return {}


def _is_input_form(field: FieldDescriptor) -> bool:
    return field.full_name in RAW_INPUT


def _described(field: FieldDescriptor) -> str:
    """Returns the full name under which the comment of a field stands."""
    shown = RAW_OUTPUT.get(field.full_name)
    return f"{field.full_name.rpartition('.')[0]}.{shown}" if shown else field.full_name


def _has_behaviour(field: FieldDescriptor, name: str) -> bool:
    behaviours: Any = field.GetOptions().Extensions[cast("Any", field_behavior_pb2).field_behavior]
    return field_behavior_pb2.FieldBehavior.Value(name) in behaviours


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
