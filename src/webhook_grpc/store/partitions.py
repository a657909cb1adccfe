"""Daily partitions of `events` (by the time in the id) and `attempts` (by time), made ahead of need."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection, sql

from .db import Database, Row, run

DAYS_BEHIND: Final = 1  # a clock a little behind, just after midnight
DAYS_AHEAD: Final = 7

# Nobody may wait for us, so we wait for nobody for long; the next try comes soon enough, a week ahead of need.
LOCK_TIMEOUT: Final = "SELECT set_config('lock_timeout', '300ms', true)"
# Two processes must not make the same partition at once; the lock ends with the transaction.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('webhook-grpc partitions'))"
EXISTING: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)
"""
TODAY: Final = "SELECT (now() AT TIME ZONE 'UTC')::date"


async def ensure_partitions(database: Database) -> list[str]:
    """Makes the partitions that are missing from yesterday to a week ahead and returns their names.

    Raises Unavailable.
    """
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_TIMEOUT, None)
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
        # Made apart and attached: CREATE TABLE … PARTITION OF would lock the parent against everybody.
        lower, upper = (sql.Literal(str(bound)) for bound in bounds[day])
        names = {"name": sql.Identifier(name), "table": sql.Identifier(table), "lower": lower, "upper": upper}
        await connection.execute(sql.SQL("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)").format(**names))
        attach = sql.SQL("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({lower}) TO ({upper})")
        await connection.execute(attach.format(**names))
    return list(missing)


def _next(day: date) -> date:
    return day + timedelta(days=1)


def _start(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _first_id(day: date) -> UUID:
    """The smallest UUIDv7 of a day: 48 bits of Unix milliseconds, then zeros."""
    return UUID(int=int(_start(day).timestamp() * 1000) << 80)
