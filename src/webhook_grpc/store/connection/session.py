"""How a connection is opened, and the settings of its session.

Roles, databases and clusters have settings of their own. Some would break a promise (an acknowledged event is on disk)
or our reading of what Postgres sends. So each new connection gets ours here, in one statement, and nothing else in the
program sets any, but for one transaction (`bounded` in `opening.py`). Behind a pooler in transaction mode nothing is
set: see `poolers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.errors import QueryCanceled

Row = tuple[Any, ...]

_MARGIN_SECONDS: Final = 1.0  # the server's deadline is so much later than the client's, which knows who waits
_LOCK_SHARE: Final = 0.9  # of the client's deadline: then the error is Postgres' own, and says that it was a lock


class Pooling(StrEnum):
    """What pooler stands before Postgres. In mode `transaction` any two statements may run in different sessions."""

    NONE = "none"
    SESSION = "session"
    TRANSACTION = "transaction"


# The values with which an acknowledged event is on disk; `remote_apply` is stricter.
SYNCHRONOUS_COMMIT: Final = frozenset({"on", "remote_apply"})

# Where tables of ours are: in schemas of search_path, in its order, then where they are by default. Until 0004 yoyo
# kept the record of migrations. Read from the catalog, which everybody may read.
FOUND: Final[LiteralString] = """
SELECT n.nspname::text AS name, n.nspname = ANY(current_schemas(false)) AS is_on_path
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (
        c.relname = 'webhook_migrations' OR c.relname = 'webhook_logs' AND EXISTS (
            SELECT 1 FROM pg_class y WHERE y.relname = '_yoyo_migration' AND y.relnamespace = c.relnamespace
        )
    ) AND (n.nspname = ANY(current_schemas(false)) OR n.nspname IN ('public', 'webhook_grpc'))
ORDER BY array_position(current_schemas(false), n.nspname) NULLS LAST, n.nspname
"""

# Keeps a stricter synchronous_commit. Sets search_path to the schema of our tables, and puts temporary tables last,
# because anybody may make those.
SET_SESSION: Final[LiteralString] = f"""
SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
    set_config('search_path', coalesce(
        quote_ident(%s::text), (SELECT quote_ident(name) FROM ({FOUND}) f LIMIT 1), quote_ident(current_schema()),
        current_setting('search_path')
    ) || ', pg_temp', false),
    (SELECT count(set_config(name, value, false)) FROM unnest(%s::text[], %s::text[]) AS s(name, value))
"""

# The deadline of the role, if it has one that is shorter than SET_SESSION takes.
_WITHOUT_DEADLINE: Final[LiteralString] = "SET statement_timeout = 0"

# A plan that was made for a queue of ten rows must not be used for a million. The price is time for planning:
# docs/decisions/0019-plans.md. Lists, which the pool runs, would pay more.
_PLANS_OF_LOOPS: Final = "force_custom_plan"

# Settings that must have these values, whatever the role, the database or the cluster says.
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
    "exit_on_error": "off",  # each lost race would cost a connection
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",  # names are compared as quote_ident() gives them
}


def connection_arguments(name: str = "", pooling: Pooling = Pooling.NONE) -> dict[str, Any]:
    """Returns what a connection is opened with. A peer that vanished is noticed within about ten seconds.

    `name` is shown in pg_stat_activity: the loop that has the connection.
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
    """Returns the names and values for SET_SESSION. None: no timeout.

    The timeouts end on the server what the client has abandoned. Only waiting for a lock ends a little before the
    client's deadline.
    """
    is_bounded = statement_timeout_seconds is not None
    timeout_ms = str(int((statement_timeout_seconds + _MARGIN_SECONDS) * 1000)) if is_bounded else "0"
    lock_timeout_ms = str(max(1, int(statement_timeout_seconds * _LOCK_SHARE * 1000))) if is_bounded else "0"
    settings = {
        **REQUIRED,
        "plan_cache_mode": _PLANS_OF_LOOPS if is_loop else "auto",
        "statement_timeout": timeout_ms,
        "lock_timeout": lock_timeout_ms,
        "idle_in_transaction_session_timeout": timeout_ms,
        **({"transaction_timeout": "0"} if server_version >= 170_000 else {}),
    }
    return list(settings), list(settings.values())


async def set_session(
    connection: AsyncConnection[Row], schema: str | None, statement_timeout_seconds: float | None, *, is_loop: bool
) -> None:
    """Gives a new connection our settings. Without a `schema` it is where our tables are. Raises psycopg.Error."""
    version = connection.info.server_version
    parameters = session_parameters(version, statement_timeout_seconds, is_loop=is_loop)
    try:
        await connection.execute(SET_SESSION, (schema, *parameters), prepare=False)
    except QueryCanceled:
        await connection.execute(_WITHOUT_DEADLINE)
        await connection.execute(SET_SESSION, (schema, *parameters), prepare=False)


def set_session_sync(connection: Connection[Row], schema: str | None, statement_timeout_seconds: float | None) -> None:
    """Gives a new connection without an event loop our settings. Raises psycopg.Error."""
    parameters = session_parameters(connection.info.server_version, statement_timeout_seconds)
    try:
        connection.execute(SET_SESSION, (schema, *parameters), prepare=False)
    except QueryCanceled:
        connection.execute(_WITHOUT_DEADLINE)
        connection.execute(SET_SESSION, (schema, *parameters), prepare=False)
