"""Runs the small statements of the hot loops without a cursor of psycopg.

A cursor looks for a dumper for each parameter, and for a prepared statement by the types of all of them. For a
statement with one event that is half of what the driver costs. Here a statement is prepared when it first runs on a
connection, and its parameters are arrays of our own (arrays.py) and a few kinds of scalars. Waiting, errors and rows
are psycopg's.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, adapt, errors, generators
from psycopg.abc import PQGen, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from webhook_grpc.domain.record import record

from .arrays import Array, bigints, time_as_bytes
from .session import Row

_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)b::(\w+(?:\[\])?)")
_STATEMENTS_MAX: Final = 100  # whose forms are remembered: those of the hot loops are fewer
_SCALARS: Final[Mapping[tuple[type[object], str], Callable[[Any], bytes | None]]] = {
    (UUID, "uuid"): lambda value: value.bytes,
    (int, "smallint"): struct.Struct(">h").pack,
    (int, "integer"): struct.Struct(">i").pack,
    (int, "bigint"): struct.Struct(">q").pack,
    (str, "text"): lambda value: value.encode("utf-8"),
    (NoneType, "text"): lambda _: None,
    (bytes, "bytea"): lambda value: value,
    (datetime, "timestamptz"): time_as_bytes,
    (list, "bigint[]"): lambda items: bigints(items).encoded(),
}
_NO_FAULT: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


@record
class _Form:
    """A statement with numbers for names, as Postgres takes it, and the names in that order, with their types."""

    text: bytes
    casts: Sequence[tuple[str, str]]


class DirectStatements:
    """The statements that are prepared on one connection."""

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}
        self._rows: Transformer | None = None

    async def run(
        self, connection: AsyncConnection[Row], statement: str, params: Mapping[str, object]
    ) -> list[Row] | None:
        """Runs a statement and returns its rows. Raises psycopg.Error.

        None: nothing was run, for a parameter is of a kind that only psycopg can write.
        """
        form = _form_of(statement)
        values = None if form is None else _written(form, params)
        if form is None or values is None:
            return None
        async with connection.lock:
            answer = await connection.wait(self._run(connection, form.text, values))
        if self._rows is None:
            make: Any = adapt.Transformer  # written in C, without types
            self._rows = cast("Transformer", make(connection))
        self._rows.set_pgresult(answer)
        rows = self._rows.load_rows(0, answer.ntuples, tuple)
        self._rows.set_pgresult(None)
        return rows

    def _run(self, connection: AsyncConnection[Row], text: bytes, values: Sequence[bytes | None]) -> PQGen[PGresult]:
        server = connection.pgconn
        name = self._names.get(text)
        if name is None:
            name = f"direct_{len(self._names)}".encode()
            server.send_prepare(name, text)
            _sound((yield from generators.execute(server)))
            self._names[text] = name
        server.send_query_prepared(name, values, [Format.BINARY] * len(values))
        return _sound((yield from generators.execute(server)))


def _sound(results: Sequence[PGresult]) -> PGresult:
    """Returns the result of a statement. Raises psycopg.Error if it is one."""
    for result in results:
        if result.status not in _NO_FAULT:
            raise errors.error_from_result(result)
    return results[-1]


@functools.lru_cache(_STATEMENTS_MAX)
def _form_of(statement: str) -> _Form | None:
    """Returns None if a placeholder is of another form than `%(name)b::type`."""
    casts: dict[str, str] = {}
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        casts.setdefault(found[1], found[2])
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}::{found[2]}"

    text = _PLACEHOLDER.sub(numbered, statement)
    if "%" in text.replace("%%", ""):
        return None
    return _Form(text.replace("%%", "%").encode(), tuple(casts.items()))


def _written(form: _Form, params: Mapping[str, object]) -> list[bytes | None] | None:
    """Returns the parameters as Postgres reads them; None if there is one of another kind. Raises psycopg.DataError."""
    values: list[bytes | None] = []
    try:
        for name, type_name in form.casts:
            value: Any = params[name]
            kind = cast("type[object]", type(value))
            if isinstance(value, Array):
                values.append(value.encoded())
            elif (write := _SCALARS.get((kind, type_name))) is not None:
                values.append(write(value))
            else:
                return None
    except (struct.error, OverflowError, ValueError) as error:
        raise psycopg.DataError(f"an item is out of range: {error}") from error
    return values
