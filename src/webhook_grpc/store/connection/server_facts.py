"""Reads what a server, a database and a role are like before any of our settings, for whoever looks. Sets nothing."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import SELECT_CONNECTION_LIMITS

from .conninfo import checked
from .opening import bounded, opened
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
    "synchronous_commit",
)  # fmt: skip
# The same of deadlines, in milliseconds. While we look they have values of ours, so who has set them is looked up.
SELECT_DEADLINES: Final = """
SELECT s.name, s.reset_val::bigint, coalesce((
    SELECT CASE WHEN g.setrole = 0 THEN 'database' WHEN g.setdatabase = 0 THEN 'user' ELSE 'database user' END
    FROM pg_db_role_setting g
    WHERE g.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
        AND g.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND EXISTS (SELECT FROM unnest(g.setconfig) c WHERE split_part(c, '=', 1) = s.name)
    ORDER BY g.setrole <> 0 DESC, g.setdatabase <> 0 DESC
    LIMIT 1
), 'configuration file')
FROM pg_settings s
WHERE s.name = ANY(%s::text[]) AND s.reset_val <> s.boot_val
ORDER BY s.name
"""
DEADLINES: Final = (
    "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "statement_timeout",
    "transaction_timeout",
)  # fmt: skip
# Our tables and partitions: the rows and pages of when Postgres last counted, the pages of now, the rows that it has
# seen come and go since its own figures began, whether it has counted since then, and whether it knows their values.
SELECT_COUNTED: Final = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.relname::text, c.reltuples::double precision, c.relpages,
    pg_relation_size(c.oid) / current_setting('block_size')::bigint, coalesce(s.n_live_tup, 0),
    coalesce(s.last_analyze, s.last_autoanalyze) IS NOT NULL,
    NOT has_table_privilege(c.oid, 'SELECT')
        OR EXISTS (SELECT FROM pg_stats v WHERE v.schemaname = n.nspname AND v.tablename = c.relname)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE n.nspname = %(schema)s AND c.relkind = 'r' AND (c.relname = ANY(%(tables)s::text[]) OR c.relispartition)
ORDER BY 1
"""
SELECT_AUTOVACUUM: Final = "SELECT current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean"
# Connections that are open: of the server, the database, the role.
SELECT_OPEN: Final = """
SELECT (SELECT coalesce(sum(numbackends), 0)::integer FROM pg_stat_database),
    (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),
    (SELECT count(*)::integer FROM pg_stat_activity WHERE usename = current_user)
"""
SELECT_TLS: Final = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

# A role by its name, or the one that connects: is it there, may it log in, is it a superuser, does it own our tables.
SELECT_ROLE: Final = """
SELECT s.name::text, r.oid IS NOT NULL, coalesce(r.rolcanlogin, false), coalesce(r.rolsuper, false),
    coalesce(pg_has_role(r.oid, c.relowner, 'USAGE'), false)
FROM (SELECT coalesce(%(role)s::text, current_user::text) AS name) s
LEFT JOIN pg_roles r ON r.rolname = s.name
LEFT JOIN pg_class c ON c.oid = to_regclass(format('%%I.webhook_migrations', %(schema)s::text))
"""
# What of what the service does a role may not do, object by object, each with its name as GRANT has it.
SELECT_LACKING: Final = """
WITH role AS (
    SELECT r.oid FROM pg_roles r WHERE r.rolname = coalesce(%(role)s::text, current_user::text)
), schema AS (
    SELECT n.oid, quote_ident(n.nspname) AS name FROM pg_namespace n WHERE n.nspname = %(schema)s
), ours AS (
    SELECT c.oid, format('%%s.%%I', s.name, c.relname) AS name, w.privilege
    FROM schema s
    JOIN pg_class c ON c.relnamespace = s.oid
    JOIN unnest(%(tables)s::text[], %(privileges)s::text[]) AS w(relname, privilege) ON w.relname = c.relname::text
), sequences AS (
    SELECT DISTINCT q.oid, format('%%s.%%I', s.name, q.relname) AS name
    FROM schema s
    JOIN pg_class q ON q.relnamespace = s.oid AND q.relkind = 'S'
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = q.oid AND d.deptype = 'a'
    JOIN ours o ON d.refclassid = 'pg_class'::regclass AND d.refobjid = o.oid
), functions AS (
    SELECT p.oid, format('%%s.%%I(%%s)', s.name, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM schema s JOIN pg_proc p ON p.pronamespace = s.oid AND p.proname = ANY(%(functions)s::text[])
)
SELECT 'DATABASE', quote_ident(current_database()), 'CONNECT'
FROM role r WHERE NOT has_database_privilege(r.oid, current_database(), 'CONNECT')
UNION ALL
SELECT 'SCHEMA', s.name, 'USAGE' FROM role r, schema s WHERE NOT has_schema_privilege(r.oid, s.oid, 'USAGE')
UNION ALL
SELECT 'TABLE', o.name, o.privilege FROM role r, ours o WHERE NOT has_table_privilege(r.oid, o.oid, o.privilege)
UNION ALL
SELECT 'SEQUENCE', q.name, 'USAGE' FROM role r, sequences q WHERE NOT has_sequence_privilege(r.oid, q.oid, 'USAGE')
UNION ALL
SELECT 'FUNCTION', f.name, 'EXECUTE'
FROM role r, functions f WHERE NOT has_function_privilege(r.oid, f.oid, 'EXECUTE')
"""
_KINDS: Final = ("DATABASE", "SCHEMA", "TABLE", "SEQUENCE", "FUNCTION")
_OF_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_PRIVILEGES: Final = ("CONNECT", "USAGE", *_OF_ROWS, "EXECUTE")
_TABLES: Final = (
    "attempts", "believed_time", "commands", "deliveries", "erasures", "event_types", "events", "idempotency_keys",
    "meta", "replay_webhooks", "replays", "shards", "signing_keys", "tokens", "webhook_health", "webhooks", "workers",
)  # fmt: skip
RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_TABLES, _OF_ROWS),
    "audit_entries": ("SELECT", "INSERT"),
    "webhook_migrations": ("SELECT",),
}
"""What the service does with each of our tables."""
FUNCTIONS: Final = (
    "make_partition", "detach_partition", "drop_partition", "analyse_table", "delete_audit_entries",
)  # fmt: skip
"""Those that the owner lets the service run."""
_QUEUES: Final = frozenset({"commands", "deliveries"})


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
    deadlines: Mapping[str, tuple[int, str]]
    """The same of deadlines, in milliseconds."""
    role: str
    database: str
    limits: Mapping[str, int]
    open_count: Mapping[str, int]


@record
class Counted:
    """A table, and what Postgres believes of it: `rows` and `pages` are of when it last counted, below 0 for never."""

    name: str
    is_queue: bool
    """Whether rows come and go, so that what was counted a minute ago says little."""
    rows: float
    pages: int
    pages_now: int
    rows_seen: int
    """What it has seen come and go since its own figures began; a crash begins them again."""
    is_seen_whole: bool
    """Whether these began before it last counted."""
    has_values: bool

    @property
    def rows_believed(self) -> float:
        """Returns the rows that statements are planned for: as many on a page as when it last counted."""
        return self.rows / self.pages * self.pages_now if self.pages else self.rows


@record
class Right:
    """One that a role lacks, in the words of GRANT: `name` is quoted where that is needed, and has the schema."""

    kind: str
    name: str
    privilege: str


@record
class RoleStanding:
    """What a role is and may do in the schema of our tables."""

    name: str
    is_superuser: bool
    is_owner: bool
    lacking: tuple[Right, ...] = ()
    """What it may not do of what the service does."""
    exists: bool = True
    may_log_in: bool = True


def look(conninfo: str) -> Standing:
    """Returns how a server is found. Raises BadConninfo, DatabaseUnreachable, UnsuitableServer."""
    with _opened(conninfo) as connection, _opened(conninfo) as second:
        pooling = _pooling(connection, second)
        with bounded(connection):
            [(encoding, collation, made_with, now_with)] = connection.execute(SELECT_DATABASE).fetchall()
            given = {name: (value, source) for name, value, source in connection.execute(SELECT_SET, [list(SETTINGS)])}
            deadlines = _deadlines(connection)
            [(role, of_role, of_database, of_server)] = connection.execute(SELECT_CONNECTION_LIMITS).fetchall()
            [(all_open, database_open, role_open)] = connection.execute(SELECT_OPEN).fetchall()
            route = _route(conninfo, connection, pooling)
        names = ("the server", "the database", f"the role {role}")
        return Standing(
            route,
            encoding,
            collation,
            made_with != now_with,
            given,
            deadlines,
            role,
            connection.info.dbname,
            dict(zip(names, (of_server, of_database, of_role), strict=True)),
            dict(zip(names, (all_open, database_open, role_open), strict=True)),
        )


def look_at_role(conninfo: str, schema: str, role: str | None = None) -> RoleStanding:
    """Returns what a role may do, by default the one that connects.

    Raises BadConninfo, DatabaseUnreachable, UnsuitableServer.
    """
    tables, privileges = zip(*((table, one) for table, rights in RIGHTS.items() for one in rights), strict=True)
    wanted = {"tables": list(tables), "privileges": list(privileges), "functions": list(FUNCTIONS)}
    with _opened(conninfo) as connection, bounded(connection):
        [(name, exists, may_log_in, is_superuser, is_owner)] = connection.execute(
            SELECT_ROLE, {"schema": schema, "role": role}
        ).fetchall()
        lacking = connection.execute(SELECT_LACKING, {"schema": schema, "role": role, **wanted}).fetchall()
        rights = sorted((Right(*row) for row in lacking), key=_place)
        return RoleStanding(name, is_superuser, is_owner, tuple(rights), exists, may_log_in)


def look_at_statistics(conninfo: str, schema: str) -> tuple[Sequence[Counted], bool]:
    """Returns what Postgres believes of our tables, and whether it counts them by itself.

    Raises BadConninfo, DatabaseUnreachable, UnsuitableServer.
    """
    with _opened(conninfo) as connection, bounded(connection):
        rows = connection.execute(SELECT_COUNTED, {"schema": schema, "tables": list(RIGHTS)}).fetchall()
        [(counts_by_itself,)] = connection.execute(SELECT_AUTOVACUUM).fetchall()
        return [Counted(name, table in _QUEUES, *counted) for name, table, *counted in rows], counts_by_itself


def _deadlines(connection: Connection[Row]) -> dict[str, tuple[int, str]]:
    found = connection.execute(SELECT_DEADLINES, [list(DEADLINES)])
    of_client = set(re.findall(r"\w+", connection.info.options))  # of the connection string, or of PGOPTIONS
    return {name: (ms, "client" if name in of_client else source) for name, ms, source in found}


def _place(right: Right) -> tuple[int, str, int]:
    """Returns where a right stands among others."""
    return _KINDS.index(right.kind), right.name, _PRIVILEGES.index(right.privilege)


def _pooling(connection: Connection[Row], second: Connection[Row]) -> Pooling:
    if not is_behind_pooler(connection):
        return Pooling.NONE
    return Pooling.TRANSACTION if is_session_shared(connection, second) else Pooling.SESSION


def _route(conninfo: str, connection: Connection[Row], pooling: Pooling) -> Route:
    info = connection.info
    given = {**info.get_parameters(), **conninfo_to_dict(checked(conninfo))}
    version = connection.execute(SELECT_TLS).fetchone()
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
