"""Checks sessions behind a pooler in transaction mode: each must get our settings from the role or the database.

Such a pooler gives each transaction any session of its pool. So we set nothing in a session, because the next client
would have it too. A session with a wrong setting is refused at the start, with the statements that an operator runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.errors import QueryCanceled

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import DatabaseOptions, translated_errors

from .server_checks import UnsuitableServer
from .session import REQUIRED, SYNCHRONOUS_COMMIT, Pooling, Row, connection_arguments

# One statement runs in one backend: the schema that it looks into first, and its settings. The pause keeps a backend
# busy, so that statements that run at the same time need several backends.
SELECT_BACKEND_SETTINGS: Final[LiteralString] = """
SELECT current_user::text, current_database()::text, current_schema()::text, lower(s.name), s.setting, s.reset_val
FROM (SELECT pg_sleep(0.1) OFFSET 0) AS pause, pg_settings s
WHERE lower(s.name) = ANY(%s::text[])
"""

_BACKENDS_READ: Final = 8  # at the same time
_SECONDS_MAX: Final = 20.0  # of looking at them

# The settings that can break a promise, or our reading of answers.
_NEEDED: Final = (
    "jit", "datestyle", "intervalstyle", "array_nulls", "bytea_output", "standard_conforming_strings",
    "default_transaction_isolation",
)  # fmt: skip
_DEADLINES: Final = (
    "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
)  # fmt: skip
# PgBouncer keeps these for each client: what another client sets does not concern us.
_KEPT_BY_THE_POOLER: Final = frozenset({"datestyle", "standard_conforming_strings"})


@record
class _Setting:
    """One setting of one backend: its value, and the one that the role, the database or the server gives it."""

    value: str
    given: str


async def check_sessions(options: DatabaseOptions) -> None:
    """Returns if every session that the pooler may give us is as we need it, or if there is no such pooler.

    Raises UnsuitableServer, whose message has the statements to run, and Unavailable.
    """
    if options.pooling is not Pooling.TRANSACTION:
        return
    with translated_errors(options.errors):
        async with asyncio.timeout(_SECONDS_MAX), _connections(options, _BACKENDS_READ) as connections:
            parameters = [[*_NEEDED, *_DEADLINES, "synchronous_commit"]]
            looks = (_rows(connection, SELECT_BACKEND_SETTINGS, parameters) for connection in connections)
            try:
                sessions = await asyncio.gather(*looks)
            except QueryCanceled:  # by a deadline that is too short to look
                info = connections[0].info
                raise _refusal([_alter(info.user, info.dbname, "statement_timeout", sql.Literal("0"))]) from None
            _judge(sessions, options)


def _judge(sessions: Sequence[Sequence[Row]], options: DatabaseOptions) -> None:
    missing: dict[str, str] = {}
    for rows in sessions:
        settings = {name: _Setting(value, given) for *_, name, value, given in rows}
        missing |= _missing(settings, options.statement_timeout_seconds)
    role, database, *_ = sessions[0][0]
    schemas = {schema for rows in sessions for _, _, schema, *_ in rows}
    lines = [_alter(role, database, name, sql.Literal(value)) for name, value in missing.items()]
    if options.schema is not None and schemas != {options.schema}:
        lines.append(_alter(role, database, "search_path", sql.Identifier(options.schema)))
    if lines:
        raise _refusal(lines)
    if len(schemas) > 1:
        raise UnsuitableServer("the sessions of the pooler have different search_paths; set one for the role")


def _refusal(lines: Sequence[str]) -> UnsuitableServer:
    return UnsuitableServer(
        "behind a pooler in transaction mode each session must have our settings from the role or the database; "
        "run the following, let the pooler make new connections (PgBouncer: RECONNECT), and start again:\n"
        + "\n".join(lines)
    )


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
    if name == "datestyle":  # the order of day and month does not matter in ISO
        return value.startswith("ISO")
    return value == REQUIRED[name]


def _alter(role: str, database: str, name: str, value: sql.Composable) -> str:
    statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {};").format(
        sql.Identifier(role), sql.Identifier(database), sql.Identifier(name), value
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
