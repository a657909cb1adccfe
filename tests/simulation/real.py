"""The real store for one test: its tables, its statements called without asyncio, and a clock that the test sets."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, LiteralString, Self, TypeVar

import psycopg
import uvloop
from psycopg.conninfo import make_conninfo

from tests.support.postgres import TestPostgres
from tests.support.store import options
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.store.db import Database, LoopConnection, Pooling
from webhook_grpc.store.ownership.marks import ProcessMark
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.partitions import ensure_partitions

from .model.rows import CommandRow, EventRow, HealthRow, Key, LogRow, OutboxRow, ShardRow, State, WorkerRow

T = TypeVar("T")

# Only the database's clock counts, so putting another before pg_catalog in the search path is enough to turn it.
CLOCK = """
DROP SCHEMA IF EXISTS simulated CASCADE;
CREATE SCHEMA simulated;
CREATE TABLE simulated.clock (at timestamptz NOT NULL);
INSERT INTO simulated.clock VALUES (now());
CREATE FUNCTION simulated.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM simulated.clock';
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM simulated.clock';
"""
SEARCH_PATH = "-c search_path=simulated,webhook_grpc,pg_catalog"

WEBHOOKS = "SELECT " + webhooks.COLUMNS + " FROM webhooks"  # noqa: S608 - the columns are the store's own
HEALTH = """
SELECT webhook_id, breaker, probe_at, probe_count, failing_since, failure_count, blocked_count, blocked_at, hold_until,
    throttled_until, throttle_rate, throttle_ceiling, updated_at
FROM webhook_health
"""
OUTBOX = """
SELECT webhook_id, due_at, event_id, attempt, customer_id, danger, trigger, replay_id FROM deliveries ORDER BY 1, 2, 3
"""
LOG = """
SELECT shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status, attempt_count,
    next_due_at, outcome, started_at, reason, response_status, trigger, replay_id
FROM attempts ORDER BY shard, seq
"""
COMMANDS = "SELECT webhook_id, event_id, command, customer_id, replay_id, created_at FROM commands"
WORKERS = """
SELECT worker_id, lease_until, lease_seconds, retiring, isolated_webhook_id, isolated_event_id,
    machine, namespaces, pid, started_ticks
FROM workers
"""


class RealStore:
    """Used as a context manager."""

    def __init__(self, postgres: TestPostgres) -> None:
        self._postgres = postgres
        self._loop = uvloop.new_event_loop()  # asyncio.Runner sets a signal handler for each of thousands of calls
        url = make_conninfo(postgres.url, options=SEARCH_PATH)
        # Our session settings would lead now() to pg_catalog again; behind such a pooler none are set.
        self.database = Database(replace(options(url), pooling=Pooling.TRANSACTION))
        self.connection = LoopConnection(self.database.options, "simulation")
        self.second_connection = LoopConnection(self.database.options, "simulation 2")

    def __enter__(self) -> Self:
        self._sql = psycopg.connect(self._postgres.url, autocommit=True)
        self._sql.execute(CLOCK)
        [(self._next_webhook_id,)] = self.sql("SELECT nextval(pg_get_serial_sequence('webhooks', 'id'))")
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._loop.close()
        self._empty()
        self.next_webhook_id(self._next_webhook_id)
        self._sql.execute("DROP SCHEMA simulated CASCADE")
        self._sql.close()

    def run(self, statement: Coroutine[Any, Any, T]) -> T:
        """Runs a statement of the store to its end."""
        return self._loop.run_until_complete(statement)

    def sql(self, statement: LiteralString, *params: object) -> list[tuple[Any, ...]]:
        """Runs a statement of the test's own, by the real clock."""
        cursor = self._sql.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []

    def reset(self, now: datetime) -> None:
        """Nothing is stored, and it is `now`."""
        self._empty()
        self.set_clock(now)
        self.sql("UPDATE believed_time SET at = %s", now)

    def set_clock(self, now: datetime) -> None:
        self.sql("UPDATE simulated.clock SET at = %s", now)

    def next_webhook_id(self, webhook_id: int) -> None:
        """Which id, and so which shard, the next webhook gets."""
        self.sql("SELECT setval(pg_get_serial_sequence('webhooks', 'id'), %s, false)", webhook_id)

    def state(self) -> State:
        """What the tables say."""
        return State(
            webhooks={row[0]: webhooks.webhook_of(row) for row in self.sql(WEBHOOKS)},
            health={row[0]: HealthRow(BreakerState(row[1]), *row[2:]) for row in self.sql(HEALTH)},
            events={
                row[0]: EventRow(*row[1:])
                for row in self.sql(
                    "SELECT event_id, customer_id, event_type, created_at, body, traceparent FROM events"
                )
            },
            keys={
                (row[0], row[1]): (row[2], row[3])
                for row in self.sql("SELECT customer_id, request_id, event_id, fingerprint FROM idempotency_keys")
            },
            outbox=[OutboxRow(*row) for row in self.sql(OUTBOX)],
            log=[LogRow(*row)._replace(status=DeliveryStatus(row[8])) for row in self.sql(LOG)],
            commands=sorted(
                CommandRow(webhook_id, event_id, Kind(kind), *rest)
                for webhook_id, event_id, kind, *rest in self.sql(COMMANDS)
            ),
            skipped=dict(self.sql("SELECT replay_id, skipped_count FROM replays WHERE skipped_count > 0")),
            shards={
                row[0]: ShardRow(*row[1:])
                for row in self.sql("SELECT shard, owner, epoch, last_seq, abandoned_at FROM shards")
            },
            workers={row[0]: _worker(row) for row in self.sql(WORKERS)},
        )

    def _empty(self) -> None:
        self._postgres.empty()
        self.sql("DELETE FROM webhook_health")  # ids are used again here

    async def _open(self) -> None:
        await self.database.open()
        # By the real clock, like the ids of the sequence: partitions reach a week ahead.
        database = Database(options(self._postgres.url))
        await database.open()
        await ensure_partitions(database)
        await database.close()

    async def _close(self) -> None:
        await self.connection.close()
        await self.second_connection.close()
        await self.database.close()


def _worker(row: tuple[Any, ...]) -> WorkerRow:
    _, lease_until, lease_seconds, retiring, webhook_id, event_id, *mark = row
    isolated: Key | None = None if webhook_id is None else (webhook_id, event_id)
    return WorkerRow(lease_until, lease_seconds, retiring, isolated, ProcessMark(*mark))
