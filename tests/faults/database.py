"""Postgres for the suite: a server that may be crashed, a database for each round, and what is read at its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.invariants.history import LogRow, Pending, Shown
from tests.support import slowness
from tests.support.postgres import SEARCH_PATH, connected, query
from webhook_grpc.domain.ids import event_id_text
from webhook_grpc.store.schema.embedded import EmbeddedPostgres
from webhook_grpc.store.schema.migrate import migrate

from .scenario import DRAIN_PATIENCE

CONNECTIONS_MAX = 60
TEMPLATE = "webhook_faults_template"

LOG: LiteralString = """
SELECT shard, seq, webhook_id, event_id, attempt_count, status, outcome, extract(epoch FROM created_at)::float8,
    extract(epoch FROM event_created_at)::float8, extract(epoch FROM next_due_at)::float8, response_status, reason,
    trigger, latency_ms / 1000.0::float8
FROM attempts ORDER BY shard, seq, created_at
"""
# `id` is seq * 64 + shard.
SHOWN: LiteralString = """
SELECT id % 64, id / 64, webhook_id, retry_count, response_status, event_type, payload->'data'->>'request'
FROM webhook_logs
"""
EVENTS: LiteralString = "SELECT event_id FROM events"
PENDING: LiteralString = "SELECT webhook_id, event_id, attempt FROM deliveries ORDER BY webhook_id, due_at"
UNDONE: LiteralString = "SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM commands)"


class DatabaseServer:
    """A server of this suite's own, in a folder of its own."""

    def __init__(self) -> None:
        # Not below pytest's folder: each new session of pytest closes that to other users, and Postgres runs as one.
        self._directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-faults-"))
        self._embedded = EmbeddedPostgres(self._directory)
        self._databases = 0
        self.url = ""

    @classmethod
    def need(cls) -> None:
        """Skips the test where something is missing that this kind of server needs."""

    def start(self) -> None:
        """Starts it and makes the template of all databases."""
        self.url = self._embedded.start()
        query(self.url, "ALTER SYSTEM SET fsync = off")  # processes crash here, the machine does not
        query(self.url, sql.SQL("ALTER SYSTEM SET max_connections = {}").format(CONNECTIONS_MAX).as_string())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        query(self.url, f"ALTER SYSTEM SET search_path = {SEARCH_PATH}")
        self.crash()
        self.start_again()
        query(self.url, "CREATE DATABASE webhook_faults_template")
        migrate(make_conninfo(self.url, dbname=TEMPLATE))

    def stop(self) -> None:
        """Stops it and removes its folder."""
        self._embedded.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def crash(self) -> None:
        """Stops it without a checkpoint; connections are cut, what was not committed is gone."""
        self._control("-m", "immediate", "stop")

    def stop_fast(self) -> None:
        """Stops it as for a restart: a checkpoint, and each connection gets a last message."""
        self._control("-m", "fast", "stop")

    def start_again(self) -> None:
        """Starts it after a crash: it recovers from its log."""
        server: Any = self._embedded._server  # pyright: ignore[reportPrivateUsage]
        server.ensure_postgres_running()

    def set_read_only(self, *, is_read_only: bool) -> None:
        """Sets default_transaction_read_only for all: for open connections, too."""
        if is_read_only:
            query(self.url, "ALTER SYSTEM SET default_transaction_read_only = on")
        else:
            query(self.url, "ALTER SYSTEM RESET default_transaction_read_only")
        query(self.url, "SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """A migrated database with nothing in it."""
        return self._new_database(TEMPLATE)

    def empty_database(self) -> str:
        """A database without a schema."""
        return self._new_database("template1")

    def _new_database(self, template: str, tablespace: str = "pg_default") -> str:
        self._databases += 1
        name = f"webhook_faults_{self._databases}"
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {} TABLESPACE {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(make.format(*map(sql.Identifier, (name, template, tablespace))))
        return make_conninfo(self.url, dbname=name)

    def drop_database(self, url: str) -> None:
        """Drops it, whoever is connected to it."""
        name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
        query(self.url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def stop_answering(self) -> None:
        """SIGSTOP to all of its processes: connections stay open and new ones are made, but nobody answers."""
        for process in self._processes():
            process.suspend()

    def answer_again(self) -> None:
        """SIGCONT."""
        for process in reversed(self._processes()):
            process.resume()

    @property
    def socket_path(self) -> str:
        """The Unix socket that it listens on."""
        parameters = conninfo_to_dict(self.url)
        return f"{parameters['host']}/.s.PGSQL.{parameters.get('port') or 5432}"

    @property
    def _data(self) -> Path:
        """The folder of its data."""
        return self._directory / "postgres"

    @property
    def _postmaster(self) -> int:
        """The id of its first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _processes(self) -> list[psutil.Process]:
        """The postmaster first: one that is stopped forks no more."""
        postmaster = psutil.Process(self._postmaster)
        return [postmaster, *postmaster.children(recursive=True)]

    def _control(self, *arguments: str) -> None:
        server: Any = self._embedded._server  # pyright: ignore[reportPrivateUsage]
        user = ["runuser", "-u", server.system_user, "--"] if server.system_user else []
        subprocess.run(
            [*user, str(server.bin_path / "pg_ctl"), "-D", str(self._data), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
        )


class Asker:
    """Asks the database of a round again and again, on one connection: new ones would cost more than the load does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def __call__(self, statement: LiteralString, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows. Connects again if a fault has cut the connection."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.OperationalError):
                return self._connection.execute(statement, params or None, prepare=False).fetchall()
            self.close()
        self._connection = connected(self._url)
        return self._connection.execute(statement, params or None, prepare=False).fetchall()

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def through(url: str, port: int) -> str:
    """The same database by way of a proxy on 127.0.0.1."""
    return make_conninfo(url, host="127.0.0.1", port=port)


def log_rows(url: str) -> tuple[LogRow, ...]:
    """The log as it stands, by shard and `seq`."""
    return tuple(
        LogRow(shard, seq, webhook_id, event_id_text(event_id), *rest)
        for shard, seq, webhook_id, event_id, *rest in query(url, LOG)
    )


def shown_rows(url: str) -> tuple[Shown, ...]:
    """What the view `webhook_logs` shows."""
    return tuple(Shown(*row) for row in query(url, SHOWN))


def stored_events(url: str) -> frozenset[str]:
    """The ids of all events that the database has."""
    return frozenset(event_id_text(event_id) for (event_id,) in query(url, EVENTS))


def pending_rows(url: str) -> tuple[Pending, ...]:
    """What remains to be delivered."""
    return tuple(
        Pending(webhook_id, event_id_text(event_id), attempt) for webhook_id, event_id, attempt in query(url, PENDING)
    )


def _undone_count(ask: Asker) -> int | None:
    try:
        [(count,)] = ask(UNDONE)
    except psycopg.OperationalError:  # seen once: Postgres restarted by itself, its clock had been set back by 40 days
        return None
    return count


async def until_nothing_is_pending(ask: Asker, seconds: float) -> bool:
    """Waits until there is neither an outbox nor a command. False: something is stuck.

    Nothing is stuck while more and more ends: how long a backlog takes depends on how much there is. So it waits for
    `seconds` since there was last less than ever before, and `DRAIN_PATIENCE` times as long in all.
    """
    least = math.inf
    progressed_at = started_at = time.monotonic()
    while (now := time.monotonic()) < started_at + slowness.scaled(DRAIN_PATIENCE * seconds):
        count = await asyncio.to_thread(_undone_count, ask)
        if count == 0:
            return True
        if count is not None and count < least:
            least, progressed_at = count, now
        elif now > progressed_at + slowness.scaled(seconds):
            return False
        await asyncio.sleep(0.05)
    return False
