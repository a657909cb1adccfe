"""Messages read from JSON in the spelling of the HTTP door: the counterpart of `values`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from .kinds import span_seconds
from .values import RAW, duration, enum_words, timestamp

SHOWN_AS: Final = {full_name.rpartition(".")[0] + "." + shown: full_name for full_name, shown in RAW.items()}
M = TypeVar("M", bound=Message)


class Misread(ValueError):
    """The JSON does not fit the message; says where."""


def read_into(message: M, value: object, path: str = "") -> M:
    """Fills a message from a plain value, and returns it. Raises Misread."""
    if not isinstance(value, Mapping):
        raise Misread(f"{path or 'the request'}: must be an object")
    for name, one in cast("Mapping[str, Any]", value).items():
        here = f"{path}.{name}".lstrip(".")
        field = _field(cast("Descriptor", message.DESCRIPTOR), name)
        if field is None:
            known = ", ".join(cast("Descriptor", message.DESCRIPTOR).fields_by_name)
            raise Misread(f"{here}: there is no such field; there are {known}")
        try:
            _fill(message, field, json.dumps(one, ensure_ascii=False) if field.name != name else one, here)
        except Misread:
            raise
        except (ValueError, TypeError, KeyError, OverflowError, binascii.Error) as error:
            raise Misread(f"{here}: {_wanted(field)}") from error
    return message


def members(text: str) -> Iterator[tuple[str, str]]:
    """Yields the names of a JSON object's members, and the source text of each value. Raises ValueError."""
    # A number is only passed over: Python makes none of one with thousands of digits.
    decoder, at = json.JSONDecoder(parse_int=len), _after_blanks(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("must be a JSON object")
    at = _after_blanks(text, at + 1)
    while text[at : at + 1] != "}":
        name, end = decoder.raw_decode(text, at)
        colon = _after_blanks(text, end)
        if not isinstance(name, str) or text[colon : colon + 1] != ":":
            raise ValueError("a name, a colon and a value are expected")
        start = _after_blanks(text, colon + 1)
        _, end = decoder.raw_decode(text, start)
        yield name, text[start:end]
        at = _after_blanks(text, end)
        if text[at : at + 1] not in {",", "}"}:
            raise ValueError("a comma or the end of the object is expected")
        at = _after_blanks(text, at + 1) if text[at] == "," else at
    if _after_blanks(text, at + 1) != len(text):
        raise ValueError("something follows the object")


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    raw = SHOWN_AS.get(f"{descriptor.full_name}.{name}", "").rpartition(".")[2]
    return descriptor.fields_by_name.get(raw or name)


def _fill(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if value is None:
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name).update(value)
    elif field.is_repeated:
        for number, item in enumerate(_list(value)):
            _add(getattr(message, field.name), field, item, f"{path}[{number}]")
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_read_message(field, value, path))
    else:
        setattr(message, field.name, _read(field, value))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is wanted")
    return cast("list[Any]", value)


def _add(items: Any, field: FieldDescriptor, value: Any, path: str) -> None:
    items.append(_read_message(field, value, path) if field.message_type is not None else _read(field, value))


def _read_message(field: FieldDescriptor, value: Any, path: str) -> Message:
    descriptor = field.message_type
    assert descriptor is not None
    if reader := _READERS.get(descriptor.full_name):
        return reader(value)
    made: Message = GetMessageClass(descriptor)()
    return read_into(made, value, path)


def _read(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        words = {word: number for number, word in enum_words(field.enum_type).items()}
        return words[value] if value in words else field.enum_type.values_by_name[value].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64decode(value, validate=True)
    if field.cpp_type in {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_INT32} and isinstance(value, str):
        return int(value)
    return value


def _wanted(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"must be one of {', '.join(word for number, word in enum_words(field.enum_type).items() if number)}"
    name = field.message_type.full_name if field.message_type is not None else ""
    return _EXAMPLES.get(name, "has a value of the wrong kind")


def _time(value: Any) -> Timestamp:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("without a time zone")
    return timestamp(at)


_READERS: Final[Mapping[str, Callable[[Any], Message]]] = {
    Timestamp.DESCRIPTOR.full_name: _time,
    Duration.DESCRIPTOR.full_name: lambda value: duration(span_seconds(value)),
    FieldMask.DESCRIPTOR.full_name: lambda value: FieldMask(paths=[path.strip() for path in value.split(",")]),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    Timestamp.DESCRIPTOR.full_name: "must be a time such as 2026-01-31T12:00:00Z",
    Duration.DESCRIPTOR.full_name: "must be a duration such as 15s",
    FieldMask.DESCRIPTOR.full_name: "must be field names separated by commas",
}
