"""Daily partitions of `events` (by the time in the id) and `attempts` (by time), made ahead of need."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection, sql

from .db import Database, Row, run

DAYS_BEHIND: Final = 1  # a clock a little behind, just after midnight
DAYS_AHEAD: Final = 7

# Two processes must not make the same partition at once; the lock ends with the transaction.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('webhook-grpc partitions'))"
EXISTING: Final = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)"
)
TODAY: Final = "SELECT (now() AT TIME ZONE 'UTC')::date"


async def ensure_partitions(database: Database) -> list[str]:
    """Makes the partitions that are missing from yesterday to a week ahead and returns their names.

    Raises Unavailable.
    """
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK, None)
        [(today,)] = await run(connection, TODAY, None)
        days = [today + timedelta(days=offset) for offset in range(-DAYS_BEHIND, DAYS_AHEAD + 1)]
        made = await _ensure(connection, "events", {day: (_first_id(day), _first_id(_next(day))) for day in days})
        made += await _ensure(connection, "attempts", {day: (_start(day), _start(_next(day))) for day in days})
        return made


async def _ensure(
    connection: AsyncConnection[Row], table: str, bounds: dict[date, tuple[UUID, UUID] | tuple[datetime, datetime]]
) -> list[str]:
    existing = {name for (name,) in await run(connection, EXISTING, (table,))}
    missing = {f"{table}_{day:%Y%m%d}": day for day in bounds if f"{table}_{day:%Y%m%d}" not in existing}
    for name, day in missing.items():
        lower, upper = bounds[day]
        await connection.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(name), sql.Identifier(table), sql.Literal(str(lower)), sql.Literal(str(upper))
            )
        )
    return list(missing)


def _next(day: date) -> date:
    return day + timedelta(days=1)


def _start(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _first_id(day: date) -> UUID:
    """The smallest UUIDv7 of a day: 48 bits of Unix milliseconds, then zeros."""
    return UUID(int=int(_start(day).timestamp() * 1000) << 80)
