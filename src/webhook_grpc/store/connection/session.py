"""What every connection of ours rests on: how it is opened, and the settings of its session.

Roles, databases and clusters have settings of their own, and some of them would break a promise (an acknowledged event
is on disk) or our reading of what Postgres sends. So they are set here, for each new connection, in one statement;
nothing else in the program sets them. Behind a pooler in transaction mode a session is not ours: see `Pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, Connection

Row = tuple[Any, ...]

_MARGIN_SECONDS: Final = 1.0  # by which the server's deadline lies behind the client's, which knows who waits
_LOCK_SHARE: Final = 0.9  # of the client's deadline: then Postgres says in its own words that it was a lock


class Pooling(StrEnum):
    """What stands between us and Postgres: `transaction` gives each statement another session, `session` does not."""

    NONE = "none"
    SESSION = "session"
    TRANSACTION = "transaction"


# What may stand for "an acknowledged event is on disk"; `remote_apply` is the stricter one.
SYNCHRONOUS_COMMIT: Final = frozenset({"on", "remote_apply"})

# Keeps a stricter synchronous_commit; pins search_path to the schema that holds our tables (of a new database: to the
# one that they would be made in), with temporary tables last, which anybody may make.
SET_SESSION: Final[LiteralString] = """
SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
    set_config('search_path', coalesce(
        (
            SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = to_regclass('meta')
        ),
        quote_ident(current_schema()),
        current_setting('search_path')
    ) || ', pg_temp', false),
    (SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS s(name, value))
"""

# A plan that a loop made for a queue of ten rows must not be used when there are a million. What this costs is time
# for planning: docs/decisions/0019-plans.md. Lists, which the pool runs, would pay more.
_LOOPS: Final = {"plan_cache_mode": "force_custom_plan"}

# Everything else that must be as said here, whatever the role, the database or the cluster says.
REQUIRED: Final[Mapping[str, str]] = {
    "jit": "off",  # compiling one of our statements takes longer than running it
    "enable_bitmapscan": "off",  # would sort a whole backlog for its first rows, where the statistics call it empty
    "datestyle": "ISO, MDY",  # psycopg reads no other
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "array_nulls": "on",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",  # a statement that waited for a lock must see what was committed
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "row_security": "off",  # an error rather than rows that are silently missing
}


def connection_arguments(name: str = "", pooling: Pooling = Pooling.NONE) -> dict[str, Any]:
    """What a connection is opened with. A peer that vanished is noticed within about ten seconds.

    `name` says in pg_stat_activity which loop it is of.
    """
    return {
        "autocommit": True,
        "connect_timeout": 5,
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "application_name": f"webhook-grpc {name}".strip(),
        "client_encoding": "UTF8",  # in the start packet, so that it also holds behind a pooler
        **({"prepare_threshold": None} if pooling is Pooling.TRANSACTION else {}),
    }


def session_parameters(
    server_version: int, statement_timeout_seconds: float | None, *, is_loop: bool = False
) -> tuple[list[str], list[str]]:
    """Names and values for SET_SESSION. The timeouts end on the server what the client has given up on; None: never.

    Only what waits for a lock ends a little earlier than the client's deadline.
    """
    is_bounded = statement_timeout_seconds is not None
    timeout_ms = str(int((statement_timeout_seconds + _MARGIN_SECONDS) * 1000)) if is_bounded else "0"
    lock_timeout_ms = str(max(1, int(statement_timeout_seconds * _LOCK_SHARE * 1000))) if is_bounded else "0"
    settings = {
        **REQUIRED,
        **(_LOOPS if is_loop else {}),
        "statement_timeout": timeout_ms,
        "lock_timeout": lock_timeout_ms,
        "idle_in_transaction_session_timeout": timeout_ms,
        **({"transaction_timeout": "0"} if server_version >= 170_000 else {}),
    }
    return list(settings), list(settings.values())


async def set_session(
    connection: AsyncConnection[Row], statement_timeout_seconds: float | None, *, is_loop: bool
) -> None:
    """Gives a new connection our settings. Raises psycopg.Error."""
    version = connection.info.server_version
    parameters = session_parameters(version, statement_timeout_seconds, is_loop=is_loop)
    await connection.execute(SET_SESSION, parameters, prepare=False)


def set_session_sync(connection: Connection[Row], statement_timeout_seconds: float | None) -> None:
    """The same for a connection without an event loop."""
    connection.execute(
        SET_SESSION, session_parameters(connection.info.server_version, statement_timeout_seconds), prepare=False
    )
