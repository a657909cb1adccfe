"""Single values between protobuf and JSON: whole numbers, enums, times, durations, bytes.

As people expect them: ids as numbers, enum values in lower case without their prefix, RFC 3339 times, durations as
`15s`. (The canonical JSON of protobuf writes 64-bit numbers as text, and enum values with their prefix.)
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

TIMESTAMP: Final = Timestamp.DESCRIPTOR.full_name
DURATION: Final = Duration.DESCRIPTOR.full_name
FIELD_MASK: Final = FieldMask.DESCRIPTOR.full_name

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNSPECIFIED: Final = "unspecified"
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_DURATION: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s", re.ASCII)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_TIME_WANTED: Final = "must be an RFC 3339 time like `2026-01-31T12:00:00Z`"
_BOUNDS: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class BadValue(Exception):
    """A value does not fit its field; the message says what would."""


# --- enums -----------------------------------------------------------------------------------------------------------


@functools.cache
def enum_words(enum: EnumDescriptor) -> Mapping[int, str]:
    """Returns the word of each value: DELIVERY_STATUS_PENDING of DeliveryStatus is `pending`."""
    prefix = _prefix(enum)
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


@functools.cache
def _enum_numbers(enum: EnumDescriptor) -> Mapping[str, int]:
    numbers = {word: number for number, word in enum_words(enum).items()}
    return numbers | {value.name: value.number for value in enum.values}


def _prefix(enum: EnumDescriptor) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"


def _enum_number(enum: EnumDescriptor, value: object) -> int:
    number = _enum_numbers(enum).get(value) if isinstance(value, str) else None
    if number is None:
        known = ", ".join(f"`{word}`" for word in enum_words(enum).values() if word != _UNSPECIFIED)
        raise BadValue(f"must be one of {known}")
    return number


# --- times and durations ---------------------------------------------------------------------------------------------


def time_text(timestamp: Timestamp) -> str:
    """Returns an RFC 3339 time in UTC, with as many digits of a second as it needs: none, 3, 6 or 9."""
    moment = _EPOCH + timedelta(seconds=timestamp.seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}{_fraction(timestamp.nanos)}Z"


def duration_text(duration: Duration) -> str:
    """Returns `15s` or `0.250s`."""
    sign = "-" if duration.seconds < 0 or duration.nanos < 0 else ""
    return f"{sign}{abs(duration.seconds)}{_fraction(abs(duration.nanos))}s"


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    digits = f"{nanos:09d}"
    return "." + (digits[:3] if digits[3:] == "000000" else digits[:6] if digits[6:] == "000" else digits)


def read_time(value: object) -> Timestamp:
    """Reads an RFC 3339 time with a zone. Raises BadValue."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadValue(_TIME_WANTED)
    zone = "+00:00" if found[4] in "Zz" else found[4]
    try:
        whole = datetime.fromisoformat(f"{found[1]}T{found[2]}{zone}") - _EPOCH
    except (ValueError, OverflowError):
        raise BadValue(_TIME_WANTED) from None
    return Timestamp(seconds=whole // timedelta(seconds=1), nanos=int(f"{found[3] or '':0<9}"))


def read_duration(value: object) -> Duration:
    """Reads `15s` or `0.25s`. Raises BadValue."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadValue("must be a duration in seconds like `15s` or `0.5s`")
    sign = -1 if found[1] else 1
    return Duration(seconds=sign * int(found[2]), nanos=sign * int(f"{found[3] or '':0<9}"))


# --- fields ----------------------------------------------------------------------------------------------------------


def field_of(message: Message, name: str) -> FieldDescriptor | None:
    """Returns the field of a message that has this name."""
    return cast("FieldDescriptor | None", message.DESCRIPTOR.fields_by_name.get(name))


# --- all values ------------------------------------------------------------------------------------------------------


def writer_of(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Returns what turns one value of a field that is no message of ours into what JSON has for it."""
    if field.message_type is not None:
        return _MESSAGE_WRITERS[field.message_type.full_name]
    if field.enum_type is not None:
        words = enum_words(field.enum_type)
        return lambda number: words.get(number, number)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode("ascii")
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return lambda value: value if math.isfinite(value) else None
    return _same


def read_value(field: FieldDescriptor, value: object) -> Any:
    """Returns a field's value for one JSON value: a message for types in _MESSAGE_READERS. Raises BadValue."""
    if field.message_type is not None:
        return _MESSAGE_READERS[field.message_type.full_name](value)
    if field.enum_type is not None:
        return _enum_number(field.enum_type, value)
    if field.cpp_type in _BOUNDS:
        return _whole_number(field, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _of_type(value, bool, "must be true or false")
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(value)
    return float(_of_type(value, (int, float), "must be a number"))


def read_text(field: FieldDescriptor, text: str) -> Any:
    """Returns the value of a field for the text of a query parameter or a part of the path. Raises BadValue."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in {"true", "false"}:
            raise BadValue("must be true or false")
        return text == "true"
    return read_value(field, text)


def is_single_value(message_name: str) -> bool:
    """Returns whether a message is one value in JSON."""
    return message_name in _MESSAGE_READERS


def _whole_number(field: FieldDescriptor, value: object) -> int:
    """Returns a whole number; text too, for JavaScript loses digits of large ones."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    least, most = _BOUNDS[field.cpp_type]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadValue(f"must be a whole number from {least} to {most}")
    return value


def _bytes(value: object) -> bytes:
    try:
        text = _of_type(value, str, "").translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError, BadValue):
        raise BadValue("must be base64") from None


def _text(value: object) -> str:
    text = _of_type(value, str, "must be text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadValue("has half a surrogate pair") from None
    return text


def _field_mask(value: object) -> FieldMask:
    text = _of_type(value, str, "must be field names separated by commas")
    return FieldMask(paths=[path.strip() for path in text.split(",") if path.strip()])


def _of_type(value: Any, kind: Any, problem: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadValue(problem)
    return value


def _same(value: Any) -> Any:
    return value


_URL_SAFE: Final = str.maketrans("-_", "+/")
_MESSAGE_WRITERS: Final[Mapping[str, Callable[[Any], str]]] = {
    TIMESTAMP: time_text,
    DURATION: duration_text,
    FIELD_MASK: lambda mask: ",".join(mask.paths),
}
_MESSAGE_READERS: Final[Mapping[str, Callable[[object], Message]]] = {
    TIMESTAMP: read_time,
    DURATION: read_duration,
    FIELD_MASK: _field_mask,
}
