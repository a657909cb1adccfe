"""Arrays as parameters of the statements of the hot loops, in the binary form that Postgres reads.

A list that psycopg writes costs a walk through its items to find their type, and the type depends on the values: a list
of small numbers is a `smallint[]`, one of NULLs is an unknown array. Each mix of types is a statement of its own to
psycopg and to Postgres, prepared and planned apart. These say their type, and leave it to the cast in the statement:
each parameter needs one, as in `%(webhook_id)b::bigint[]`.

The form: number of dimensions, whether there are NULLs, type of the items, their count, the first index, the items
(https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c, array_recv).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD: Final = struct.Struct(">iiIii")
_EMPTY: Final = struct.Struct(">iiI")
_NULL: Final = b"\xff\xff\xff\xff"  # a length of -1
_LENGTH: Final = struct.Struct(">i")
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # of Postgres
_BIGINT: Final = struct.Struct(">q")
_UUID_LENGTH: Final = _LENGTH.pack(16)


@dataclass(slots=True)
class Array:
    """The items of a parameter, NULL where there is None."""

    items: Sequence[Any]
    oid: int
    write: Callable[[Any], bytes]
    """Returns an item behind its length."""

    def encoded(self) -> bytes:
        """Returns the array as Postgres reads it. Raises struct.error, OverflowError or ValueError."""
        items = self.items
        if not items:
            return _EMPTY.pack(0, 0, self.oid)
        first, count, write = items[0], len(items), self.write
        if items.count(first) == count:  # many columns have one value throughout
            written = (_NULL if first is None else write(first)) * count
        else:
            written = b"".join([_NULL if item is None else write(item) for item in items])
        return _HEAD.pack(1, 1, self.oid, count, 1) + written


class _ArrayDumper(Dumper):
    format = Format.BINARY
    oid = 0  # the statement's cast says it

    def dump(self, obj: Array) -> bytes:
        try:
            return obj.encoded()
        except (struct.error, OverflowError, ValueError) as error:
            raise psycopg.DataError(f"an item is out of range: {error}") from error


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def _number(code: str) -> Callable[[Any], bytes]:
    form = struct.Struct(f">i{code}")
    return functools.partial(form.pack, form.size - _LENGTH.size)


def _text(item: str) -> bytes:
    return _bytes(item.encode("utf-8"))


def _bytes(item: bytes) -> bytes:
    return _LENGTH.pack(len(item)) + item


def _uuid(item: UUID) -> bytes:
    return _UUID_LENGTH + item.bytes


_bigint: Final = _number("q")


def _microseconds(item: datetime) -> int:
    since = item - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _time(item: datetime) -> bytes:
    return _bigint(_microseconds(item))


def time_as_bytes(item: datetime) -> bytes:
    """Returns a time by itself as Postgres reads it. Raises struct.error, OverflowError or ValueError."""
    return _BIGINT.pack(_microseconds(item))


def _of(oid: int, write: Callable[[Any], bytes]) -> Callable[[Sequence[Any]], Array]:
    def array(items: Sequence[Any]) -> Array:
        return Array(items, oid, write)

    return array


smallints: Final[Callable[[Sequence[int | None]], Array]] = _of(21, _number("h"))
integers: Final[Callable[[Sequence[int | None]], Array]] = _of(23, _number("i"))
bigints: Final[Callable[[Sequence[int | None]], Array]] = _of(20, _bigint)
doubles: Final[Callable[[Sequence[float | None]], Array]] = _of(701, _number("d"))
booleans: Final[Callable[[Sequence[bool | None]], Array]] = _of(16, _number("?"))
texts: Final[Callable[[Sequence[str | None]], Array]] = _of(25, _text)
byteas: Final[Callable[[Sequence[bytes | None]], Array]] = _of(17, _bytes)
uuids: Final[Callable[[Sequence[UUID | None]], Array]] = _of(2950, _uuid)
times: Final[Callable[[Sequence[datetime | None]], Array]] = _of(1184, _time)
