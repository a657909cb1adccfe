"""Days that are long gone: their partitions, and events, deliveries and attempts of then."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import Any, LiteralString, cast
from uuid import UUID

from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER, options
from webhook_grpc.domain.envelope import render_body
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.partitions import TABLES, ensure_partitions, first_id, make_partitions, partition_name

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s) ORDER BY 1"


class Past:
    """Makes what a service would have left."""

    def __init__(self, postgres: TestPostgres) -> None:
        self._postgres = postgres
        self._days: set[date] = set()
        self._numbers = count(1)

    async def day(self, age_days: int) -> date:
        """A day so many days ago, with its partitions."""
        [(today,)] = self._postgres.rows("SELECT (now() AT TIME ZONE 'UTC')::date")
        day: date = today - timedelta(days=age_days)
        async with self._database() as database:
            await make_partitions(database, [day])
        self._days.add(day)
        return day

    def has(self, day: date) -> list[str]:
        """Which tables still have a partition of a day."""
        return [table for table in TABLES if (partition_name(table, day),) in self._postgres.rows(PARTITIONS, (table,))]

    def event(self, day: date, customer_id: int = CUSTOMER, data: bytes = b"{}") -> UUID:
        """An event that was stored at noon of a day."""
        event_id = UUID(int=first_id(noon(day)).int + next(self._numbers))
        body, data_start = render_body("job.completed", 1_700_000_000, data)
        self._postgres.rows(
            "INSERT INTO events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start)"
            " VALUES (%s, %s, 'job.completed', %s, %s, %s, %s)",
            (event_id, customer_id, noon(day), noon(day), body, data_start),
        )
        return event_id

    def delivery(self, webhook_id: int, event_id: UUID, day: date, **fields: Any) -> None:
        """A row of the outbox for such an event that was not tried yet."""
        values = {
            "shard": shard_of(webhook_id),
            "webhook_id": webhook_id,
            "due_at": noon(day),
            "event_id": event_id,
            "customer_id": CUSTOMER,
            "attempt": 0,
            **fields,
        }
        self._insert("deliveries", values)

    def attempt(self, webhook_id: int, event_id: UUID, day: date, seq: int, **fields: Any) -> None:
        """A row of the log of that day."""
        values = {
            "shard": shard_of(webhook_id),
            "seq": seq,
            "created_at": noon(day) + timedelta(milliseconds=seq),
            "customer_id": CUSTOMER,
            "webhook_id": webhook_id,
            "event_id": event_id,
            "event_type": "job.completed",
            "event_created_at": noon(day),
            "status": "succeeded",
            "attempt_count": 1,
            "outcome": "succeeded",
            "trigger": "scheduled",
            "started_at": noon(day),
            "latency_ms": 5,
            "reason": "none",
            "response_status": 200,
            "response_body": b"ok",
            **fields,
        }
        self._insert("attempts", values)

    def remove(self) -> None:
        """Drops what is left, attached or not."""
        for name in [partition_name(table, day) for table in TABLES for day in self._days]:
            self._postgres.rows(cast("LiteralString", f"DROP TABLE IF EXISTS {name}"))

    async def restore(self) -> None:
        """Makes the partitions that other tests expect."""
        async with self._database() as database:
            await ensure_partitions(database)

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        names, places = ", ".join(values), ", ".join(["%s"] * len(values))
        self._postgres.rows(
            cast("LiteralString", f"INSERT INTO {table} ({names}) VALUES ({places})"),  # noqa: S608 - names of columns
            list(values.values()),
        )

    @asynccontextmanager
    async def _database(self) -> AsyncGenerator[Database]:
        database = Database(options(self._postgres.url))
        await database.open()
        yield database
        await database.close()


def noon(day: date) -> datetime:
    """The middle of a day, in UTC."""
    return datetime.combine(day, time(12), UTC)
