"""The Postgres that tests talk to: the embedded one, or the one in WEBHOOK_TEST_DATABASE_URL."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support import roles, slowness
from webhook_grpc.store.schema.embedded import EmbeddedPostgres
from webhook_grpc.store.schema.migrate import migrate

# What tests see without a schema before a name. What is under test decides by itself where its tables are: search_path
# of the server or a database is not meant for it.
SEARCH_PATH: Final = "webhook_grpc, public"

_RECOVERS = re.compile("in recovery mode|not yet accepting connections")
_RECOVERY_SECONDS_MAX = 20

TABLES = (
    "deliveries", "attempts", "events", "idempotency_keys", "webhooks", "webhook_health", "workers", "commands",
    "replays", "replay_webhooks", "erasures", "tokens", "audit_entries", "signing_keys",
)  # fmt: skip
# One message, and so one transaction.
FORGET: Final[LiteralString] = ";".join((
    # as before a day is dropped: a log that becomes shorter is one that lost commits
    """
    UPDATE shards s SET last_seq = a.seq
    FROM (SELECT shard, max(seq) AS seq FROM attempts GROUP BY shard ORDER BY shard) a
    WHERE s.shard = a.shard AND s.last_seq < a.seq
    """,
    *(f"DELETE FROM {table}" for table in TABLES if table != "workers"),  # noqa: S608 - constants
    "DELETE FROM event_types WHERE NOT built_in",
    """
    UPDATE event_types SET json_schema = NULL, archived = false, version = 1
    WHERE json_schema IS NOT NULL OR archived OR version <> 1
    """,
))  # fmt: skip
RESET: Final[LiteralString] = """
DELETE FROM workers;
UPDATE believed_time SET at = now(), doubted_seconds = 0;
UPDATE shards SET owner = NULL, epoch = 0, last_seq = 0, abandoned_at = NULL
WHERE (owner, epoch, last_seq, abandoned_at) IS DISTINCT FROM (NULL, 0, 0, NULL);
"""
_TRIES_MAX = 5


class TestPostgres:
    """One database, made for one test process."""

    __test__ = False  # not a test class

    def __init__(self, admin_url: str, name: str, embedded: EmbeddedPostgres | None, directory: Path | None) -> None:
        self._admin_url = admin_url
        self._name = name
        self._embedded = embedded
        self._directory = directory
        self._kept: psycopg.Connection[tuple[Any, ...]] | None = None
        self.url = make_conninfo(admin_url, dbname=name)

    @classmethod
    def start(cls, worker_id: str) -> TestPostgres:
        """Starts Postgres if there is none to use, and makes a migrated database.

        Not below pytest's own folder: each new session of pytest closes that to other users, and Postgres runs as one.
        """
        admin_url, embedded, directory = os.environ.get("WEBHOOK_TEST_DATABASE_URL"), None, None
        if admin_url is None:
            directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-test-"))
            embedded = EmbeddedPostgres(directory)
            admin_url = embedded.start()
            with psycopg.connect(admin_url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here has to survive a power cut
                connection.execute("SELECT pg_reload_conf()")
        server = cls(admin_url, f"webhook_test_{worker_id}", embedded, directory)
        server.create_database(server._name)
        if roles.is_runtime():
            server._migrate_in_two_roles()
        else:
            migrate(server.url)
        return server

    def stop(self) -> None:
        """Drops the database, and stops Postgres if it was started here."""
        if self._kept is not None:
            self._kept.close()
        self.drop_database(self._name)
        if roles.is_runtime():
            self._drop_roles()
        if self._embedded is not None:
            self._embedded.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _migrate_in_two_roles(self) -> None:
        """Makes the roles and the tables as docs/operations.md says; services connect as the second role then."""
        self._drop_roles()  # what a run that was killed has left
        owner, service = self._roles
        query(self.url, roles.block("roles", owner, service))
        migrate(make_conninfo(self.url, user=owner))
        query(self.url, roles.block("roles after migrate", owner, service))
        roles.serve_as(self._name, service)

    @property
    def _roles(self) -> tuple[str, str]:
        return f"{self._name}_owner", f"{self._name}_service"

    def _drop_roles(self) -> None:
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            for role in self._roles:
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))

    def create_database(self, name: str) -> str:
        """Makes an empty database and returns its connection string."""
        self.drop_database(name)
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET search_path = " + SEARCH_PATH).format(sql.Identifier(name))
            )
        return make_conninfo(self._admin_url, dbname=name)

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is connected to it."""
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextlib.contextmanager
    def role(self, options: LiteralString = "") -> Generator[str]:
        """Makes a role that may log in, yields its name, and drops the role and what it owns or was granted here.

        It may look into the schema of our tables.

        The name is new each time: roles belong to the server, which the processes of a test run may share.
        """
        name = f"webhook_test_{secrets.token_hex(8)}"
        role = sql.Identifier(name)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN " + options).format(role))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA webhook_grpc TO {}").format(role))
            try:
                yield name
            finally:
                connection.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(role, role))

    def empty(self) -> None:
        """Removes what a test left."""
        self.rows(f"{FORGET};{RESET}")

    def forget(self) -> None:
        """Removes what callers made, below a service that goes on running with its shards, and may be in the way."""
        for _ in range(_TRIES_MAX - 1):
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                self.rows(FORGET)
                return
        self.rows(FORGET)

    def rows(self, statement: LiteralString, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Runs a statement of a test's own, on a connection that is kept: it must not change the session."""
        try:
            return _rows(self._connection(), statement, params)
        except psycopg.OperationalError:
            if self._kept is None or not self._kept.closed:
                raise
        return _rows(self._connection(), statement, params)  # a test had cut all connections

    def _connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A new one for each statement would cost as much as dozens of statements."""
        if self._kept is None or self._kept.closed:
            self._kept = connected(self.url)
        return self._kept


def query(
    url: str, statement: LiteralString | sql.Composed, params: Sequence[Any] | Mapping[str, Any] = ()
) -> list[tuple[Any, ...]]:
    """Runs a statement in autocommit mode and returns its rows, if it gives any. Waits for a server that recovers."""
    with connected(url) as connection:
        return _rows(connection, statement, params)


def _rows(
    connection: psycopg.Connection[tuple[Any, ...]],
    statement: LiteralString | sql.Composed,
    params: Sequence[Any] | Mapping[str, Any],
) -> list[tuple[Any, ...]]:
    cursor = connection.execute(statement, params or None, prepare=False)
    return cursor.fetchall() if cursor.description else []


def connected(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Returns a connection in autocommit mode. Waits for a server that recovers.

    Under libfaketime Postgres sometimes restarts by itself when its clock is set back.
    """
    until = time.monotonic() + slowness.scaled(_RECOVERY_SECONDS_MAX)
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError as error:
            if not _RECOVERS.search(str(error)) or time.monotonic() > until:
                raise
        time.sleep(0.05)


def until(url: str, statement: LiteralString, seconds: float = 20) -> None:
    """Waits until the first column of a statement's first row is true."""
    ends_at = time.monotonic() + slowness.scaled(seconds)
    with connected(url) as connection:
        while not any(row[0] for row in _rows(connection, statement, ())[:1]):
            assert time.monotonic() < ends_at, statement
            time.sleep(0.02)


def dump(url: str) -> str:
    """Every row of every table as text, bytes too: what a dump of the database would hold."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET bytea_output = 'escape'")
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::text::regnamespace"
        ).fetchall()
        read = sql.SQL("SELECT t::text FROM {} t")
        texts = [connection.execute(read.format(sql.Identifier(table))).fetchall() for (table,) in tables]
    return "\n".join(text for rows in texts for (text,) in rows)
