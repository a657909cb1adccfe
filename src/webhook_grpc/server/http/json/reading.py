"""JSON to messages, and query parameters and parts of paths too. Everything that is wrong is named with its path.

The text is read along the descriptor, so a field that holds JSON (an event's `data`) keeps its very bytes: they are
what will be signed and sent.
"""

from __future__ import annotations

import json
import json.decoder
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from webhook_grpc.domain.envelope import DATA_BYTES_MAX
from webhook_grpc.domain.errors import Violation, field_invalid
from webhook_grpc.domain.record import record

from .values import (
    BadValue,
    field_of,
    is_single_value,
    read_text,
    read_value,
)
from .writing import is_map

MEMBERS_MAX: Final = 50_000  # fields and items that are read along the descriptor: a full batch of events has 8,000
VALUE_CHARACTERS_MAX: Final = 320 * 1024  # of one value of lists and objects; the domain bounds data further
RAW_JSON: Final = {"webhook.v1.Event.data": "data_json"}  # fields whose JSON is kept as text, and where
_RAW_TEXTS: Final = frozenset({"webhook.v1.Event.data_json"})  # the same fields as text

_scan_text: Any = cast("Any", json.decoder).scanstring  # its types lack both of these
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class NotJson(Exception):
    """The text is not JSON (RFC 8259); the message says where."""


class _TooLong(NotJson):
    """A value is longer than any may be."""


@record
class ReadJson:
    """What came of reading a JSON object: what is wrong with it, and the names of its own members."""

    violations: Sequence[Violation]
    names: Collection[str]
    has_raw: bool  # whether a field of RAW_JSON was given, under that name


def read_json(text: str, message: Message, path: str) -> ReadJson:
    """Fills a message from a JSON object. `path`: where the message is in the request; empty for all of it.

    Raises NotJson, and InvalidArgument for data that is too large.
    """
    reader, names = _Reader(text), set[str]()
    try:
        end = reader.read_object(_skip(text, 0), message, path, names)
        if _skip(text, end) != len(text):
            raise NotJson(f"has something behind its end, at character {end + 1}")
    except (json.JSONDecodeError, StopIteration) as error:
        raise NotJson(_where(error, text)) from None
    except RecursionError:
        raise NotJson("is nested too deep") from None
    except ValueError as error:  # a number of more digits than Python converts, or a word such as NaN
        raise NotJson(str(error)) from None
    return ReadJson(reader.violations, names, reader.has_raw)


def read_parameters(pairs: Iterable[tuple[str, str]], message: Message, violations: list[Violation]) -> None:
    """Sets fields by paths: `webhook_id`, `webhook.webhook_id`, `attributes[region]`; repeated ones add up."""
    seen = set[str]()
    for path, text in pairs:
        try:
            _set_by_path(message, path, text, seen)
        except BadValue as error:
            violations.append(Violation(path, str(error)))


def _set_by_path(message: Message, path: str, text: str, seen: set[str]) -> None:
    *parents, name = path.replace("[", ".").removesuffix("]").split(".")
    for number, parent in enumerate(parents):
        field = field_of(message, parent)
        if field is None or field.message_type is None:
            raise BadValue("is not a parameter of this call")
        if is_map(field) and number == len(parents) - 1:
            getattr(message, parent)[name] = text
            return
        if field.is_repeated or is_single_value(field.message_type.full_name):
            raise BadValue("is not a parameter of this call")
        message = getattr(message, parent)
    field = field_of(message, name)
    if field is None or (field.message_type is not None and not is_single_value(field.message_type.full_name)):
        raise BadValue("is not a parameter of this call")
    if field.is_repeated:
        getattr(message, name).extend([read_text(field, one) for one in text.split(",")])
    elif path in seen:
        raise BadValue("is given twice")
    else:
        _set(message, field, read_text(field, text))
    seen.add(path)


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if isinstance(value, Message):
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


class _Reader:
    """Reads one text. Each method takes where a value begins, and returns where it ends."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._scan: Any = cast("Any", json.JSONDecoder(parse_constant=_refuse_constant)).scan_once
        self._members = 0
        self.violations: list[Violation] = []
        self.has_raw = False

    def read_object(self, at: int, message: Message, path: str, seen: set[str]) -> int:
        """Fills a message; notes the names of its members in `seen`."""
        if self._text[at : at + 1] != "{":
            return self._wrong(at, path, "must be an object")
        at = _skip(self._text, at + 1)
        if self._text[at : at + 1] == "}":
            return at + 1
        while True:
            name, at = self._name(at)
            where = f"{path}.{name}" if path else name
            if name in seen:
                self.violations.append(Violation(where, "is given twice"))
            seen.add(name)
            at = self._read_member(at, message, name, where)
            at = _skip(self._text, at)
            if self._text[at : at + 1] == "}":
                return at + 1
            at = _skip(self._text, self._past(",", at))

    def _read_member(self, at: int, message: Message, name: str, path: str) -> int:
        self._count_member(at)
        field = field_of(message, name)
        if field is None:
            return self._wrong(at, path, "is not a field of this request")
        if field.full_name in RAW_JSON:
            return self._read_raw(at, message, RAW_JSON[field.full_name], path)
        if self._text.startswith("null", at):  # as if it were not there
            return at + 4
        if is_map(field):
            return self._read_map(at, getattr(message, name), path)
        if field.is_repeated:
            return self._read_list(at, message, field, path)
        if field.message_type is not None and not is_single_value(field.message_type.full_name):
            getattr(message, name).SetInParent()
            return self.read_object(at, getattr(message, name), path, set())
        if field.full_name in _RAW_TEXTS and getattr(message, name):
            return self._wrong(at, path, "is given already as JSON")
        value, end = self._value(at)
        try:
            _set(message, field, read_value(field, value))
        except BadValue as error:
            self.violations.append(Violation(path, str(error)))
        return end

    def _read_raw(self, at: int, message: Message, name: str, path: str) -> int:
        """Keeps the text of a value, whatever it is; the domain judges it."""
        self.has_raw = True
        try:
            _, end = self._value(at)
        except _TooLong:
            problem = f"must have at most {DATA_BYTES_MAX} bytes"
            raise field_invalid(path, problem, "DATA_TOO_LARGE", limit=str(DATA_BYTES_MAX)) from None
        if getattr(message, name):
            self.violations.append(Violation(path, f"is given as `{name}` already"))
        setattr(message, name, self._text[at:end])
        return end

    def _read_list(self, at: int, message: Message, field: FieldDescriptor, path: str) -> int:
        if self._text[at : at + 1] != "[":
            return self._wrong(at, path, "must be a list")
        target = getattr(message, field.name)
        at, index = _skip(self._text, at + 1), 0
        if self._text[at : at + 1] == "]":
            return at + 1
        while True:
            at = self._read_item(at, target, field, f"{path}[{index}]")
            at, index = _skip(self._text, at), index + 1
            if self._text[at : at + 1] == "]":
                return at + 1
            at = _skip(self._text, self._past(",", at))

    def _read_item(self, at: int, target: Any, field: FieldDescriptor, path: str) -> int:
        self._count_member(at)
        if field.message_type is not None and not is_single_value(field.message_type.full_name):
            return self.read_object(at, target.add(), path, set())
        value, end = self._value(at)
        try:
            target.append(read_value(field, value))
        except BadValue as error:
            self.violations.append(Violation(path, str(error)))
        return end

    def _read_map(self, at: int, target: Any, path: str) -> int:
        value, end = self._value(at)
        if not isinstance(value, dict):
            return self._wrong(at, path, "must be an object")
        for key, text in cast("dict[str, object]", value).items():
            if isinstance(text, str) and _is_utf8(text) and _is_utf8(key):
                target[key] = text
            else:
                self.violations.append(Violation(f"{path}.{key}", "must be text"))
        return end

    def _wrong(self, at: int, path: str, problem: str) -> int:
        self.violations.append(Violation(path, problem))
        _, end = self._value(at)
        return end

    def _value(self, at: int) -> tuple[Any, int]:
        """Reads a plain value. One of lists and objects is read within a window, since nothing else runs meanwhile."""
        if self._text[at : at + 1] not in {"[", "{"} or len(self._text) - at <= VALUE_CHARACTERS_MAX:
            return self._scan(self._text, at)
        window = self._text[at : at + VALUE_CHARACTERS_MAX]
        try:
            value, end = self._scan(window, 0)
        except StopIteration as error:
            raise self._broken("", at, error.value) from None
        except json.JSONDecodeError as error:
            raise self._broken(error.msg, at, error.pos) from None
        return value, at + end

    def _broken(self, problem: str, at: int, position: int) -> Exception:
        if position >= VALUE_CHARACTERS_MAX or problem.startswith("Unterminated"):
            return _TooLong(f"has a value of more than {VALUE_CHARACTERS_MAX} characters, at character {at + 1}")
        return json.JSONDecodeError(problem, self._text, at + position)

    def _count_member(self, at: int) -> None:
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise NotJson(f"has more than {MEMBERS_MAX} fields and items, at character {at + 1}")

    def _name(self, at: int) -> tuple[str, int]:
        name, at = _scan_text(self._text, self._past('"', at), True)
        return str(name), _skip(self._text, self._past(":", _skip(self._text, at)))

    def _past(self, what: str, at: int) -> int:
        if self._text[at : at + 1] != what:
            raise json.JSONDecodeError(f"`{what}` is missing", self._text, at)
        return at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _where(error: Exception, text: str) -> str:
    at = error.pos if isinstance(error, json.JSONDecodeError) else getattr(error, "value", len(text))
    return f"is not JSON at character {at + 1}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"has the word {name}, which is not JSON")


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
