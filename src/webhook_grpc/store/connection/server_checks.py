"""Checks whether the service can work with a server, a database and a role. One sentence says what must change."""

from __future__ import annotations

from typing import Final

from psycopg import Connection, sql

from webhook_grpc.store.db import Queries

from .opening import bounded
from .session import Row

SELECT_DURABILITY: Final = "SELECT current_setting('fsync'), current_setting('full_page_writes')"
SELECT_VERSION: Final = "SELECT current_setting('server_version')"
SELECT_READ_ONLY: Final = "SELECT current_setting('transaction_read_only') = 'on', pg_is_in_recovery(), current_user"

# What the role may do with a schema: it is there, USAGE, CREATE; whether it may make one; whether its name is no key
# word, which people would have to quote.
SELECT_SCHEMA_RIGHTS: Final = """
SELECT current_user::text, current_database()::text, n.oid IS NOT NULL,
    coalesce(has_schema_privilege(n.oid, 'USAGE'), false), coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
    has_database_privilege(current_database(), 'CREATE'), quote_ident(s.name) = s.name
FROM (SELECT %s::text AS name) s LEFT JOIN pg_namespace n ON n.nspname = s.name
"""
CREATE_SCHEMA: Final = sql.SQL("CREATE SCHEMA {}")

SELECT_MAY_NOT_RUN: Final = """
SELECT split_part(f, '(', 1), current_user FROM unnest(%(functions)s::text[]) f
WHERE NOT coalesce(
    has_function_privilege(to_regprocedure(quote_ident(%(schema)s::text) || '.' || f), 'EXECUTE'), false
)
"""
# What is done to tables while the service runs (0014). `analyse_table` is not needed to serve.
_FUNCTIONS_NEEDED: Final = (
    "make_partition(text,date)",
    "detach_partition(text,date)",
    "drop_partition(text,date)",
)

# Ours whose names lead to another schema than the one they are in: it was renamed, or they were copied there.
SELECT_LOOKING_ELSEWHERE: Final = """
SELECT format('%%I.%%I', n.nspname, p.proname), quote_ident(n.nspname)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = ANY(%(functions)s::text[])
    AND NOT EXISTS (
        SELECT FROM unnest(p.proconfig) AS s(given)  -- quoted or not: quote_all_identifiers of who made it says
        WHERE replace(s.given, '"', '') = replace(format('search_path=%%s, pg_temp', n.nspname), '"', '')
    )
ORDER BY p.proname
"""
_FUNCTIONS_BOUND: Final = (
    "publish_event", "make_partition", "detach_partition", "drop_partition", "analyse_table", "delete_audit_entries",
)  # fmt: skip

SELECT_BACKEND: Final = "SELECT pg_backend_pid()"

SERVER_VERSION_MIN: Final = 150_000

_POOLER_ROUNDS: Final = 8


class UnsuitableServer(Exception):
    """The server, the database or the role can't be used. The message says what to change."""


async def durability_warnings(database: Queries) -> list[str]:
    """Returns a sentence for each setting of the server with which a crash can lose what was acknowledged.

    Raises Unavailable.
    """
    [(fsync, full_page_writes)] = await database.rows(SELECT_DURABILITY)
    warnings = {
        "fsync=off: a crash of the machine can lose acknowledged events and damage the database": fsync,
        "full_page_writes=off: a crash of the machine can damage the database": full_page_writes,
    }
    return [warning for warning, value in warnings.items() if value == "off"]


async def server_version(database: Queries) -> str:
    """Returns the version of Postgres, such as `17.2`. Raises Unavailable."""
    [(version,)] = await database.rows(SELECT_VERSION)
    return version


def check_version(version: int) -> None:
    """Raises UnsuitableServer unless the server is new enough. `version`: as libpq gives it, 150_018 for 15.18."""
    if version < SERVER_VERSION_MIN:
        raise UnsuitableServer(
            f"the server is Postgres {version // 10_000}, and at least {SERVER_VERSION_MIN // 10_000} is needed; "
            "upgrade it, or name another in WEBHOOK_DATABASE_URL"
        )


def check_encoding(connection: Connection[Row]) -> None:
    """Raises UnsuitableServer unless the database can hold every text: JSON, names and headers are Unicode."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise UnsuitableServer(
            f"the database {connection.info.dbname} has the encoding {encoding}, which cannot hold every text; make "
            "one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def check_writable(connection: Connection[Row]) -> None:
    """Raises UnsuitableServer on a standby, and where every transaction is read-only."""
    [(is_read_only, is_standby, role)] = connection.execute(SELECT_READ_ONLY).fetchall()
    if is_standby:
        raise UnsuitableServer(
            "the server is a standby, which is read-only; connect to the primary (with several hosts: "
            "target_session_attrs=read-write)"
        )
    if is_read_only:
        raise UnsuitableServer(
            f"transactions of the role {role} are read-only here; see default_transaction_read_only of the role, the "
            "database and the server"
        )


def check_usable(connection: Connection[Row], schema: str) -> None:
    """Raises UnsuitableServer if the schema is there and the role may not use what is in it."""
    [(role, database, exists, may_use, *_)] = connection.execute(SELECT_SCHEMA_RIGHTS, [schema]).fetchall()
    if exists and not may_use:
        raise UnsuitableServer(
            f"the role {role} may not use the schema {schema} of the database {database}; as its owner, run: "
            f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}" (all grants: docs/operations.md, Two roles)'
        )


def ensure_may_create(connection: Connection[Row], schema: str) -> None:
    """Makes the schema if it is not there. Raises UnsuitableServer if the role may not, or may make no tables in it."""
    rights = connection.execute(SELECT_SCHEMA_RIGHTS, [schema]).fetchall()
    [(role, database, exists, _, may_create, may_make, is_plain)] = rights
    if not exists and not is_plain:
        raise UnsuitableServer(f"{schema} is a key word of SQL: choose another name with WEBHOOK_DATABASE_SCHEMA")
    if not exists and not may_make:
        raise UnsuitableServer(
            f"the role {role} may not make the schema {schema} in the database {database}; choose one that there is "
            "with WEBHOOK_DATABASE_SCHEMA, or, as the database's owner or a superuser, "
            f'run: CREATE SCHEMA "{schema}"; GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{role}"'
        )
    if not exists:
        connection.execute(CREATE_SCHEMA.format(sql.Identifier(schema)))
    elif not may_create:
        raise UnsuitableServer(
            f"the role {role} may not make tables in the schema {schema} of the database {database}; as its owner, "
            f'run: GRANT CREATE ON SCHEMA "{schema}" TO "{role}"'
        )


def check_may_keep_partitions(connection: Connection[Row], schema: str) -> None:
    """Raises UnsuitableServer unless the role may run the functions that make and drop daily partitions."""
    parameters = {"functions": list(_FUNCTIONS_NEEDED), "schema": schema}
    lacking = connection.execute(SELECT_MAY_NOT_RUN, parameters).fetchall()
    if lacking:
        names, role = ", ".join(f'"{schema}".{name}' for name, _ in lacking), lacking[0][1]
        raise UnsuitableServer(
            f"the role {role} may not make and drop daily partitions; connect as the role of `webhook-grpc migrate`, "
            f'or run as that: GRANT EXECUTE ON FUNCTION {names} TO "{role}" (all grants: docs/operations.md, Two roles)'
        )


def check_functions_look_here(connection: Connection[Row], schema: str) -> None:
    """Raises UnsuitableServer if functions of ours work in another schema: they might drop the days of its tables."""
    parameters = {"functions": list(_FUNCTIONS_BOUND), "schema": schema}
    elsewhere = connection.execute(SELECT_LOOKING_ELSEWHERE, parameters).fetchall()
    if elsewhere:
        lines = (f"ALTER FUNCTION {name} SET search_path = {quoted}, pg_temp" for name, quoted in elsewhere)
        raise UnsuitableServer(
            f"functions in the schema {schema} look for our tables in another one, as after ALTER SCHEMA … RENAME; as "
            f"their owner, run: {'; '.join(lines)}"
        )


def is_behind_pooler(connection: Connection[Row]) -> bool:
    """Returns whether a pooler stands between: another process answers than the one that accepted the connection."""
    return _backend(connection) != connection.info.backend_pid


def is_session_shared(first: Connection[Row], second: Connection[Row]) -> bool:
    """Returns whether statements of two connections ran in one session, as behind a transaction pooler.

    False proves nothing while other clients keep the pooler busy.
    """
    seen: tuple[set[int], set[int]] = (set(), set())
    for _ in range(_POOLER_ROUNDS):
        for connection, backends in zip((first, second), seen, strict=True):
            backends.add(_backend(connection))
    return any(len(backends) > 1 for backends in seen) or bool(seen[0] & seen[1])


def _backend(connection: Connection[Row]) -> int:
    with bounded(connection):
        [(backend,)] = connection.execute(SELECT_BACKEND).fetchall()
        return backend
