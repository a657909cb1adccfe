"""Parsing large requests: nothing is built of one that has too many parts, and others get turns meanwhile.

To parse a message costs more by its parts than by its bytes: a field of two bytes can be a message of its own. The
parser of protobuf can't be interrupted, so a large message is judged by its encoding first
(https://protobuf.dev/programming-guides/encoding), and then read in pieces: fields that are merged one after the other
are the same as all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, TypeVar, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from webhook_grpc.domain.envelope import DATA_BYTES_MAX
from webhook_grpc.domain.errors import InvalidArgument, field_invalid

SMALL_BYTES: Final = 16 * 1024  # parsed as it is: within 2 ms, whatever it holds
FIELDS_MAX: Final = 2000  # of the request itself: a full batch has 501
PARTS_MAX: Final = 1000  # in one field of the request: a webhook that is valid has less than 200

# Up to here a field can't have too many parts: each takes two bytes or more. Most events of a batch are smaller, and to
# count their parts took a tenth of all that publishing one costs.
_UNCOUNTED_BYTES: Final = 2 * (PARTS_MAX - 1)
_STRUCT: Final = "google.protobuf.Struct"
# Each value in a list and each member of an object begins with one of these bytes, and takes a byte of JSON at least;
# so does every other such byte that a Struct of valid data holds.
_STRUCT_MARKS: Final = (b"\x0a", b"\x8a")

_VARINT, _I64, _LENGTH, _I32 = 0, 1, 2, 5

Request = TypeVar("Request", bound=Message)


async def parse(raw: bytes, request_type: type[Request]) -> Request:
    """Returns the message. Raises DecodeError if it is none, and InvalidArgument if it has too many parts."""
    if len(raw) <= SMALL_BYTES:
        return request_type.FromString(raw)
    message = request_type()
    for piece in _pieces(raw, cast("Descriptor", message.DESCRIPTOR)):
        message.MergeFromString(piece)
        await asyncio.sleep(0)
    return message


def field(number: int, raw: bytes) -> bytes:
    """Returns a message, given as its bytes, as it stands in a field of another one."""
    head, length = bytearray([number << 3 | _LENGTH]), len(raw)  # a number below 16 is one byte
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + raw


def _pieces(raw: bytes, descriptor: Descriptor) -> Iterator[bytes]:
    """Yields the fields of a message, several small ones together: in all no more bytes than a small message has."""
    begin = end = parts = 0
    for count, (number, start, after) in enumerate(_fields(raw, 0, len(raw)), 1):
        if count > FIELDS_MAX:
            raise _too_many(FIELDS_MAX)
        field = descriptor.fields_by_number.get(number)
        if after - start > _UNCOUNTED_BYTES and field is not None and field.message_type is not None:
            of_field = _count(raw, start, after, field.message_type, PARTS_MAX)
        else:
            of_field = 1
        parts += of_field
        if begin < end and (after - begin > SMALL_BYTES or parts > PARTS_MAX):
            yield raw[begin:end]
            begin, parts = end, of_field
        end = after
    if begin < len(raw):
        yield raw[begin:]


def _count(raw: bytes, start: int, end: int, descriptor: Descriptor, room: int) -> int:
    """Returns how many parts a message has, itself included. Raises InvalidArgument if there are more than `room`."""
    if descriptor.full_name == _STRUCT:
        if sum(raw.count(mark, start, end) for mark in _STRUCT_MARKS) > DATA_BYTES_MAX:
            raise field_invalid(
                "event.data", f"must have at most {DATA_BYTES_MAX} bytes", "DATA_TOO_LARGE", limit=str(DATA_BYTES_MAX)
            )
        return 1
    parts = 1
    for number, inner, after in _fields(raw, start, end):
        field = descriptor.fields_by_number.get(number)
        is_map = field is not None and field.message_type is not None and field.message_type.GetOptions().map_entry
        if field is not None and field.message_type is not None and not is_map and inner < after:
            parts += _count(raw, inner, after, field.message_type, room - parts)
        else:
            parts += 1
        if parts > room:
            raise _too_many(PARTS_MAX)
    return parts


def _fields(raw: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the number of each field, where what it holds begins if it has a length, and where it ends.

    Of other fields both are their end. Raises DecodeError.
    """
    at = start
    while at < end:
        tag, at = _varint(raw, at, end)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(raw, at, end)
            inner, at = at, at + length
        elif kind == _VARINT:
            _, at = _varint(raw, at, end)
            inner = at
        elif kind in {_I64, _I32}:
            inner = at = at + (8 if kind == _I64 else 4)
        else:
            raise DecodeError("groups are not used by any message here")
        if at > end:
            raise DecodeError("a field ends behind its message")
        yield tag >> 3, inner, at


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise DecodeError("a number is not whole")


def _too_many(limit: int) -> InvalidArgument:
    return field_invalid("", f"the request, or a field of it, has more than {limit} parts", "TOO_MANY_PARTS")
