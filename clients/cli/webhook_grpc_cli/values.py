"""Messages as plain values and as JSON, spelt as the HTTP door spells them, so that what is learnt once is known.

Every field is there, but text, times and messages that are not set. Ids are numbers, enum values lower-case words,
times RFC 3339, durations `15s`. An event's `data_json` is shown as `data`: the very bytes that were published.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

RAW: Final = {"webhook.v1.Event.data_json": "data"}  # fields that hold JSON, and the name under which they are shown
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_IF_SET: Final = frozenset({FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM})
_LINE_ENDS: Final = str.maketrans("\r\n", "  ")  # between the words of JSON, where blanks mean the same


class RawJson(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def plain(message: Message) -> dict[str, Any]:
    """Returns a message as a dict."""
    shown: dict[str, Any] = {}
    for field in cast("Descriptor", message.DESCRIPTOR).fields:
        if _is_shown(message, field):
            value = _value(field, getattr(message, field.name))
            if value is not None:
                shown[RAW.get(field.full_name, field.name)] = value
    return shown


def json_text(value: Any) -> str:
    """Returns a plain value as JSON on one line."""
    if isinstance(value, RawJson):
        return value.translate(_LINE_ENDS)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return "{" + ",".join(f"{json_text(str(name))}:{json_text(one)}" for name, one in members.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(json_text, cast("Sequence[Any]", value))) + "]"
    return json.dumps(value, ensure_ascii=False)


def field_at(value: Any, path: str) -> Any:
    """Returns what stands at a path such as `last_attempt.response_status`, None if nothing does."""
    for name in path.split("."):
        value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None
    return value


@cache
def enum_words(enum: EnumDescriptor) -> Mapping[int, str]:
    """Returns the word of each value: DELIVERY_STATUS_PENDING of DeliveryStatus is `pending`."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


def known_words(enum: Any) -> tuple[str, ...]:
    """Returns the words of an enum of the stubs that a caller may use."""
    return tuple(word for number, word in enum_words(enum.DESCRIPTOR).items() if number)


def enum_number(enum: Any, word: str) -> Any:
    """Returns the value of an enum of the stubs that has this word. Raises KeyError."""
    return {word: number for number, word in enum_words(enum.DESCRIPTOR).items()}[word]


def time_text(timestamp: Timestamp) -> str:
    """Returns an RFC 3339 time in UTC, with as many digits of a second as it needs: none, 3, 6 or 9."""
    moment = _EPOCH + timedelta(seconds=timestamp.seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}{_fraction(timestamp.nanos)}Z"


def duration_text(duration: Duration) -> str:
    """Returns `15s` or `0.250s`."""
    sign = "-" if duration.seconds < 0 or duration.nanos < 0 else ""
    return f"{sign}{abs(duration.seconds)}{_fraction(abs(duration.nanos))}s"


def timestamp(moment: datetime) -> Timestamp:
    """Returns a time that has a zone as a message."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def duration(seconds: float) -> Duration:
    """Returns seconds as a message, exact to the millisecond."""
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


def _fraction(nanos: int) -> str:
    if not nanos:
        return ""
    digits = f"{nanos:09d}"
    return "." + (digits[:3] if digits[3:] == "000000" else digits[:6] if digits[6:] == "000" else digits)


def _is_shown(message: Message, field: FieldDescriptor) -> bool:
    if field.is_repeated or not (field.has_presence or field.cpp_type in _SHOWN_IF_SET):
        return True
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    return [_one(field, item) for item in value] if field.is_repeated else _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.full_name in RAW:
        return RawJson(value)
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        return enum_words(field.enum_type).get(value, value) if value else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _message(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return time_text(value)
    if isinstance(value, Duration):
        return duration_text(value)
    return ",".join(value.paths) if isinstance(value, FieldMask) else plain(value)
