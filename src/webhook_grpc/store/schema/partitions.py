"""Makes daily partitions of `events` (by the time in the id) and `attempts` (by time), ahead of need.

upkeep/retention.py drops them. A partition's name is that of its table and its day: `events_20261124`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from uuid import UUID

from psycopg import AsyncConnection

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store import literals
from webhook_grpc.store.connection.failures import LOST_RACES
from webhook_grpc.store.db import Database, Row, run

Table = Literal["events", "attempts"]
TABLES: Final[tuple[Table, ...]] = ("events", "attempts")

DAYS_BEHIND: Final = 1  # a clock a little behind, just after midnight
DAYS_AHEAD: Final = 7

# Statements wait behind this one while it waits for a lock, so not for long; there is a week for the next try.
SET_SHORT_LOCK_TIMEOUT: Final = "SELECT set_config('lock_timeout', '300ms', true)"
_PAUSE_SECONDS: Final = (0.05, 0.15)  # between two tries at the start
# Two processes must not make the same partition at once; the lock ends with the transaction.
LOCK_PARTITIONS: Final = (
    f"SELECT pg_advisory_xact_lock(hashtext('webhook-grpc partitions')::bigint # {literals.SCHEMA_SEED})"
)
SELECT_PARTITIONS: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(%s)
"""
# A function of the owner of the tables (0014): our own role may not be allowed to make any.
MAKE_PARTITIONS: Final = "SELECT make_partition(%(table)s, day) FROM unnest(%(days)s::date[]) day"
SELECT_TODAY: Final = "SELECT (now() AT TIME ZONE 'UTC')::date"


def is_partition_missing(error: Unavailable) -> bool:
    """Returns whether a statement failed, and did nothing, because there is no partition for what it stores."""
    return getattr(error.__cause__, "sqlstate", None) == "23514"


async def ensure_partitions(database: Database) -> list[str]:
    """Makes the missing partitions from yesterday to a week ahead; returns their names.

    Raises Unavailable.
    """
    return await make_partitions(database, await _days_wanted(database))


async def ensure_partitions_at_start(database: Database) -> None:
    """Returns when there is a partition for each day from yesterday to a week ahead.

    Processes that start in the same second on a new database wait for the one that makes them, until the statement
    deadline. Raises Unavailable.
    """
    days = await _days_wanted(database)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + database.options.statement_timeout_seconds
    while True:
        try:
            await make_partitions(database, days)
        except Unavailable as error:
            if getattr(error.__cause__, "sqlstate", None) not in LOST_RACES:
                raise
            if loop.time() >= deadline:
                raise Unavailable(
                    "STORAGE_UNAVAILABLE",
                    "the partitions of the next days could not be made: "
                    "something else in the database has held their locks all the time; start again when it has ended",
                ) from error.__cause__
        else:
            return
        await asyncio.sleep(database.options.random.uniform(*_PAUSE_SECONDS))  # for the process that makes them now


async def make_partitions(database: Database, days: Iterable[date]) -> list[str]:
    """Makes the missing partitions of these days; returns their names. Locks nothing if none is missing.

    Raises Unavailable.
    """
    wanted = list(days)
    async with database.connection(LOST_RACES) as connection:
        if not any([await _missing(connection, table, wanted) for table in TABLES]):
            return []
        async with connection.transaction():
            await run(connection, SET_SHORT_LOCK_TIMEOUT, None)
            await run(connection, LOCK_PARTITIONS, None)
            return [name for table in TABLES for name in await _make(connection, table, wanted)]


async def partition_days(database: Database, table: Table) -> dict[date, str]:
    """Returns the days for which a table has partitions, oldest first, and their names. Raises Unavailable."""
    names = [name for (name,) in await database.rows(SELECT_PARTITIONS, (table,))]
    return {day: name for name in sorted(names) if (day := day_of(table, name)) is not None}


async def today_of(database: Database) -> date:
    """Returns today in UTC by the database's clock. Raises Unavailable."""
    [(today,)] = await database.rows(SELECT_TODAY)
    return today


def partition_name(table: Table, day: date) -> str:
    """Returns the name of a day's partition."""
    return f"{table}_{day:%Y%m%d}"


def day_of(table: Table, name: str) -> date | None:
    """Returns the day of a partition by its name; None for a name that no partition of ours has."""
    try:
        day = datetime.strptime(name.removeprefix(f"{table}_"), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return day if name == partition_name(table, day) else None


def next_day(day: date) -> date:
    """Returns the day after."""
    return day + timedelta(days=1)


def start_of(day: date) -> datetime:
    """Returns midnight at the beginning of a day, in UTC."""
    return datetime.combine(day, time.min, UTC)


def first_id(at: datetime) -> UUID:
    """Returns the smallest UUIDv7 of a moment: 48 bits of Unix milliseconds, then zeros."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


async def _days_wanted(database: Database) -> Sequence[date]:
    today = await today_of(database)
    return [today + timedelta(days=offset) for offset in range(-DAYS_BEHIND, DAYS_AHEAD + 1)]


async def _missing(connection: AsyncConnection[Row], table: Table, days: Iterable[date]) -> dict[str, date]:
    existing = {name for (name,) in await run(connection, SELECT_PARTITIONS, (table,))}
    return {name: day for day in days if (name := partition_name(table, day)) not in existing}


async def _make(connection: AsyncConnection[Row], table: Table, days: Iterable[date]) -> list[str]:
    missing = await _missing(connection, table, days)  # once more: another process may have made them under the lock
    if missing:
        await run(connection, MAKE_PARTITIONS, {"table": table, "days": list(missing.values())})
    return list(missing)
