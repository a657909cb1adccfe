"""Messages as JSON.

Every field is there, except text, enums, times and messages that are not set: 0 and an empty list are values, an empty
text is none. An event's `data_json` is shown as `data`: the very bytes that were published.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from .values import is_single_value, writer_of

RAW_JSON: Final = {"webhook.v1.Event.data_json": "data"}  # fields that hold JSON, and the name under which it is shown

WRITTEN_AT_ONCE: Final = 50  # of a list, before others get the event loop

NOTHING: Final = frozenset[str]()
LEFT_OUT_BY_STREAMS: Final = frozenset(
    f"webhook.v1.DeliveryAttempt.{name}" for name in ("response_body", "response_headers", "request_headers")
)  # unless they are wanted: 16 KiB for each attempt, which most readers of a stream throw away

_Writer = Callable[[Any], Any]


def json_of(message: Message) -> bytes:
    """Returns a message as JSON text in UTF-8. It ends with a line, as terminals like it."""
    return orjson.dumps(plain(message), option=orjson.OPT_APPEND_NEWLINE)


async def json_in_steps(message: Message) -> bytes:
    """Returns the same; of a long list a few messages are written in one turn of the event loop."""
    fields = _writers(message.DESCRIPTOR, NOTHING)
    if not any(_is_long(message, field) for field, *_ in fields):
        return json_of(message)
    shown: dict[str, Any] = {}
    for field, name, write in fields:
        if _is_shown(message, field):
            value: Any = getattr(message, field.name)
            written = await _in_steps(write, value) if _is_long(message, field) else write(value)
            if written is not None:
                shown[name] = written
    return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def _is_long(message: Message, field: FieldDescriptor) -> bool:
    return field.is_repeated and not is_map(field) and len(getattr(message, field.name)) > WRITTEN_AT_ONCE


async def _in_steps(write: _Writer, values: Sequence[Any]) -> list[Any]:
    written = list[Any]()
    for start in range(0, len(values), WRITTEN_AT_ONCE):
        written += write(values[start : start + WRITTEN_AT_ONCE])
        await asyncio.sleep(0)  # calls get a turn between pieces
    return written


def plain(message: Message, left_out: frozenset[str] = NOTHING) -> dict[str, Any]:
    """Returns a message as a dict that orjson can write. `left_out`: full names of fields, at any depth."""
    shown: dict[str, Any] = {}
    for field, name, write in _writers(message.DESCRIPTOR, left_out):
        if _is_shown(message, field):
            value = write(getattr(message, field.name))
            if value is not None:
                shown[name] = value
    return shown


def _is_shown(message: Message, field: FieldDescriptor) -> bool:
    if is_always_shown(field):
        return True
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def is_always_shown(field: FieldDescriptor) -> bool:
    """Returns whether a field is there even if it is not set."""
    return field.is_repeated or not (field.has_presence or field.cpp_type in _SHOWN_IF_SET)


@functools.cache
def _writers(descriptor: Descriptor, left_out: frozenset[str]) -> tuple[tuple[FieldDescriptor, str, _Writer], ...]:
    fields = [field for field in descriptor.fields if field.full_name not in left_out]
    return tuple((field, RAW_JSON.get(field.full_name, field.name), _writer(field, left_out)) for field in fields)


def _writer(field: FieldDescriptor, left_out: frozenset[str]) -> _Writer:
    if field.full_name in RAW_JSON:
        return orjson.Fragment
    if is_map(field):
        return dict
    one = _writer_of_one(field, left_out)
    if field.is_repeated:
        return lambda values: [one(value) for value in values]
    return one


def _writer_of_one(field: FieldDescriptor, left_out: frozenset[str]) -> _Writer:
    if field.message_type is not None and not is_single_value(field.message_type.full_name):
        return lambda message: plain(message, left_out)
    write = writer_of(field)
    if field.enum_type is not None:  # what is not set has no word
        return lambda number: write(number) if number else None
    return write


def is_map(field: FieldDescriptor) -> bool:
    """Returns whether a field is a map; all of ours are of text."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


_SHOWN_IF_SET: Final = frozenset({FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM})
