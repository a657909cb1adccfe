"""Reads what a server, a database and a role are like before any of our settings, for whoever looks. Sets nothing."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import SELECT_CONNECTION_LIMITS

from .conninfo import checked
from .opening import opened
from .server_checks import UnsuitableServer, is_behind_pooler, is_session_shared
from .session import Pooling, Row

SELECT_DATABASE: Final = """
SELECT pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datcollversion,
    pg_database_collation_actual_version(d.oid)
FROM pg_database d WHERE d.datname = current_database()
"""
# What somebody has set for the server, the database or the role. A time zone is chosen when a server is made.
SELECT_SET: Final = """
SELECT s.name, current_setting(s.name), s.source
FROM pg_settings s
WHERE s.name = ANY(%s::text[]) AND s.source NOT IN ('default', 'override', 'session')
    AND s.setting IS DISTINCT FROM s.boot_val
ORDER BY s.name
"""
SETTINGS: Final = (
    "DateStyle", "TimeZone", "bytea_output", "default_transaction_isolation", "default_transaction_read_only",
    "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "statement_timeout",
    "synchronous_commit", "transaction_timeout",
)  # fmt: skip
# Connections that are open: of the server, the database, the role.
SELECT_OPEN: Final = """
SELECT (SELECT coalesce(sum(numbackends), 0)::integer FROM pg_stat_database),
    (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),
    (SELECT count(*)::integer FROM pg_stat_activity WHERE usename = current_user)
"""
SELECT_TLS: Final = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

SELECT_ROLE: Final = """
SELECT current_user::text, r.rolsuper, coalesce(pg_has_role(c.relowner, 'USAGE'), false)
FROM pg_roles r LEFT JOIN pg_class c ON c.oid = to_regclass(format('%%I.webhook_migrations', %(schema)s::text))
WHERE r.rolname = current_user
"""
# Those of our tables that the role may not read and write as the service does.
SELECT_LACKING: Final = """
SELECT c.relname::text FROM pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = %(schema)s)
    AND c.relname = ANY(%(tables)s::text[]) AND NOT (
    has_table_privilege(c.oid, 'SELECT')
    AND (has_table_privilege(c.oid, 'INSERT') OR c.relname = 'webhook_migrations')
    AND (
        has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
        OR c.relname IN ('webhook_migrations', 'audit_entries')
    )
)
ORDER BY c.relname
"""
TABLES: Final = (
    "attempts", "audit_entries", "believed_time", "commands", "deliveries", "erasures", "event_types", "events",
    "idempotency_keys", "meta", "replay_webhooks", "replays", "shards", "signing_keys", "tokens", "webhook_health",
    "webhook_migrations", "webhooks", "workers",
)  # fmt: skip


@record
class Route:
    """How a connection came about. `hosts` are those of the connection string, `host` the one that answered."""

    host: str
    port: int
    hosts: tuple[str, ...]
    target_session_attrs: str
    sslmode: str
    has_tls: bool
    tls_version: str | None
    """What the server says; behind a pooler it is of another connection."""
    pooling: Pooling

    @property
    def is_local(self) -> bool:
        """Returns whether it does not leave the machine."""
        return self.host.startswith(("/", "@")) or self.host in {"", "localhost", "127.0.0.1", "::1"}


@record
class Standing:
    """What was found. Limits and counts of connections are by who has them; a limit below 0 is none."""

    route: Route
    encoding: str
    collation: str
    is_collation_changed: bool
    """Whether the library that sorts has another version than when the database was made."""
    given: Mapping[str, tuple[str, str]]
    """The settings that somebody has set: value and for what."""
    limits: Mapping[str, int]
    open_count: Mapping[str, int]


@record
class RoleStanding:
    """What a role is and may do in the schema of our tables."""

    name: str
    is_superuser: bool
    is_owner: bool
    lacking: tuple[str, ...]
    """Tables that it may not read and write."""


def look(conninfo: str) -> Standing:
    """Returns how a server is found. Raises BadConninfo, DatabaseUnreachable, UnsuitableServer."""
    with _opened(conninfo) as connection, _opened(conninfo) as second:
        [(encoding, collation, made_with, now_with)] = connection.execute(SELECT_DATABASE).fetchall()
        given = {name: (value, source) for name, value, source in connection.execute(SELECT_SET, [list(SETTINGS)])}
        [(role, of_role, of_database, of_server)] = connection.execute(SELECT_CONNECTION_LIMITS).fetchall()
        [(all_open, database_open, role_open)] = connection.execute(SELECT_OPEN).fetchall()
        names = ("the server", "the database", f"the role {role}")
        return Standing(
            _route(conninfo, connection, second),
            encoding,
            collation,
            made_with != now_with,
            given,
            dict(zip(names, (of_server, of_database, of_role), strict=True)),
            dict(zip(names, (all_open, database_open, role_open), strict=True)),
        )


def look_at_role(conninfo: str, schema: str) -> RoleStanding:
    """Returns what our role may do. Raises BadConninfo, DatabaseUnreachable, UnsuitableServer."""
    with _opened(conninfo) as connection:
        [(name, is_superuser, is_owner)] = connection.execute(SELECT_ROLE, {"schema": schema}).fetchall()
        lacking = connection.execute(SELECT_LACKING, {"schema": schema, "tables": list(TABLES)}).fetchall()
        return RoleStanding(name, is_superuser, is_owner, tuple(table for (table,) in lacking))


def _route(conninfo: str, connection: Connection[Row], second: Connection[Row]) -> Route:
    info = connection.info
    given = {**info.get_parameters(), **conninfo_to_dict(checked(conninfo))}
    version = connection.execute(SELECT_TLS).fetchone()
    pooling = Pooling.NONE
    if is_behind_pooler(connection):
        pooling = Pooling.TRANSACTION if is_session_shared(connection, second) else Pooling.SESSION
    return Route(
        host=info.host,
        port=info.port,
        hosts=tuple(str(given.get("host") or "").split(",")),
        target_session_attrs=str(given.get("target_session_attrs") or "any"),
        sslmode=str(given.get("sslmode") or "prefer"),
        has_tls=bool(connection.pgconn.ssl_in_use),
        tls_version=version[0] if version and pooling is Pooling.NONE else None,
        pooling=pooling,
    )


@contextmanager
def _opened(conninfo: str) -> Generator[Connection[Row]]:
    with opened(conninfo, "doctor") as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise UnsuitableServer(f"looking at the server failed: {str(error).splitlines()[0]}") from error
