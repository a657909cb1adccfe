"""What the Postgres that we are given must be: looked at once, at the start, before anything is set or written.

A pooler is noticed by the process id that it gives to its client, which is not the backend's. One in transaction mode
gives each transaction some backend, so nothing may be set there and nothing rests on the session: each setting that we
need has to come from the role or the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import AsyncConnection, sql

from .db import DatabaseOptions, translated_errors
from .session import REQUIRED, SYNCHRONOUS_COMMIT, Pooling, Row, connection_arguments

# Text and booleans only: nothing that a setting of the session could make unreadable.
FACTS: Final[LiteralString] = """
SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_setting('default_transaction_read_only'),
    current_setting('fsync'), current_setting('full_page_writes'), pg_backend_pid(), current_user::text,
    current_database()::text
"""
BACKEND: Final[LiteralString] = "SELECT pg_backend_pid()"
# One statement, so one backend: what it calls `meta`, and its settings. The pause lets several run at once, so
# that they need several backends.
BACKEND_SETTINGS: Final[LiteralString] = """
SELECT to_regclass('meta')::text, lower(s.name), s.setting, s.reset_val
FROM (SELECT pg_sleep(0.1) OFFSET 0) AS pause, pg_settings s
WHERE lower(s.name) = ANY(%s::text[])
"""

_ROUNDS: Final = 8  # of two connections that take turns, to see whether they share backends
_BACKENDS_READ: Final = 8  # behind a pooler in transaction mode, at the same time
_SECONDS_MAX: Final = 20.0  # of all looks together

_WARNINGS: Final[Mapping[str, str]] = {
    "fsync": "fsync=off: a crash of the machine can lose acknowledged events and damage the database",
    "full_page_writes": "full_page_writes=off: a crash of the machine can damage the database",
}
# Behind a transaction pooler: what must be so, as far as it can break a promise or our reading of answers.
_NEEDED: Final = (
    "jit", "datestyle", "intervalstyle", "array_nulls", "bytea_output", "standard_conforming_strings",
    "default_transaction_isolation",
)  # fmt: skip
_DEADLINES: Final = (
    "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
)  # fmt: skip
# PgBouncer keeps these for each client, so what another client sets is not ours to fear.
_KEPT_BY_THE_POOLER: Final = frozenset({"datestyle", "standard_conforming_strings"})


class ServerRefused(Exception):
    """The server, the database or the role can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting of one backend: its value, and the one that the role, the database or the server gives it."""

    value: str
    given: str


async def check_server(options: DatabaseOptions) -> list[str]:
    """Returns warnings for operators. Raises ServerRefused, and Unavailable if the server can't be reached."""
    with translated_errors():
        async with asyncio.timeout(_SECONDS_MAX), _connections(options, 1) as [connection]:
            [row] = await _rows(connection, FACTS)
            encoding, in_recovery, read_only, fsync, full_page_writes, backend, role, database = row
            _refuse_unusable(encoding, is_standby=in_recovery, is_read_only=read_only == "on")
            if connection.info.backend_pid != backend:
                await _check_pooler(options, role, database)
            values = {"fsync": fsync, "full_page_writes": full_page_writes}
            return [text for name, text in _WARNINGS.items() if values[name] == "off"]


def _refuse_unusable(encoding: str, *, is_standby: bool, is_read_only: bool) -> None:
    if encoding != "UTF8":
        raise ServerRefused(
            f"the database has the encoding {encoding}, which can't hold every text; "
            "make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    if is_standby:
        raise ServerRefused("the server is a standby, which can't be written to; connect to the primary")
    if is_read_only:
        raise ServerRefused(
            "the role or the database is read-only (default_transaction_read_only=on); "
            "ALTER ROLE … SET default_transaction_read_only = off"
        )


# --- poolers ---------------------------------------------------------------------------------------------------------


async def _check_pooler(options: DatabaseOptions, role: str, database: str) -> None:
    if options.pooling is Pooling.TRANSACTION:
        await _check_backends(options, role, database)
    elif await _is_shared(options):
        raise ServerRefused(
            "WEBHOOK_DATABASE_URL leads to a pooler in transaction mode; set WEBHOOK_DATABASE_POOLER=transaction, "
            "or give the address of Postgres itself"
        )


async def _is_shared(options: DatabaseOptions) -> bool:
    """Whether two connections, which both stay open, are given the same backend, or one is given several."""
    async with _connections(options, 2) as pair:
        seen = [[(await _rows(connection, BACKEND))[0][0] for connection in pair] for _ in range(_ROUNDS)]
    return len({backend for row in seen for backend in row}) != len(pair) or len({tuple(row) for row in seen}) > 1


async def _check_backends(options: DatabaseOptions, role: str, database: str) -> None:
    names = [*_NEEDED, *_DEADLINES, "synchronous_commit"]
    async with _connections(options, _BACKENDS_READ) as connections:
        answers = await asyncio.gather(*(_rows(connection, BACKEND_SETTINGS, [names]) for connection in connections))
    missing: dict[str, str] = {}
    for rows in answers:
        settings = {name: _Setting(value, given) for _, name, value, given in rows}
        missing |= _missing(settings, options.statement_timeout_seconds)
    if missing:
        lines = [_alter(role, database, name, value) for name, value in missing.items()]
        raise ServerRefused(
            "behind a pooler in transaction mode each session must have our settings from the role or the database; "
            "run the following, let the pooler make new connections (PgBouncer: RECONNECT), and start again:\n"
            + "\n".join(lines)
        )
    if len({table for rows in answers for table, *_ in rows}) > 1:
        raise ServerRefused("the sessions of the pooler have different search_paths; set one for the role")


def _missing(settings: Mapping[str, _Setting], deadline_seconds: float) -> dict[str, str]:
    """The settings of a backend that are not as we need them, and what they should be."""
    missing = {
        name: REQUIRED[name]
        for name in _NEEDED
        if not _is_as_needed(name, settings[name].value)
        or (name not in _KEPT_BY_THE_POOLER and not _is_as_needed(name, settings[name].given))
    }
    commit = settings["synchronous_commit"]
    if not {commit.value, commit.given} <= SYNCHRONOUS_COMMIT:
        missing["synchronous_commit"] = "on"
    deadline_ms = deadline_seconds * 1000
    for name in _DEADLINES:
        if name in settings and any(0 < int(ms) < deadline_ms for ms in (settings[name].value, settings[name].given)):
            missing[name] = "0"
    return missing


def _is_as_needed(name: str, value: str) -> bool:
    if name == "datestyle":  # how days and months are told apart does not matter in ISO
        return value.startswith("ISO")
    return value == REQUIRED[name]


def _alter(role: str, database: str, name: str, value: str) -> str:
    statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {};").format(
        sql.Identifier(role), sql.Identifier(database), sql.Identifier(name), sql.Literal(value)
    )
    return statement.as_string()


@contextlib.asynccontextmanager
async def _connections(options: DatabaseOptions, count: int) -> AsyncGenerator[Sequence[AsyncConnection[Row]]]:
    """So many connections at once, in which nothing was set."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(await _connect(options)) for _ in range(count)]


async def _connect(options: DatabaseOptions) -> AsyncConnection[Row]:
    return await AsyncConnection.connect(
        options.conninfo,
        **connection_arguments("start", Pooling.TRANSACTION),  # prepares nothing, whatever is there
    )


async def _rows(
    connection: AsyncConnection[Row], statement: LiteralString, params: Sequence[object] | None = None
) -> list[Row]:
    return await (await connection.execute(statement, params)).fetchall()
