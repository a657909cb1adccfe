"""The database's clock, carried between two looks at it by this machine's monotonic clock; and the believed time.

All processes of a cell share the database, so its clock is the one that they agree on: for ids, for the time in
signatures, for Retry-After dates. A jump of this machine's own wall clock changes nothing. The database's clock may
step too (somebody sets it, or a standby with another clock takes over): a step is noticed, logged and announced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from webhook_grpc.domain.clock import BelievedTime, Offset, believe, follow, offset_of

from . import literals
from .db import Database, Queries

log = structlog.get_logger(__name__)

SELECT_DATABASE_TIME = "SELECT clock_timestamp()"

# For whatever deletes by age: the time, but not when it is implausible.
BELIEVED_NOW: Final = f"least(now(), (SELECT b.at + {literals.BELIEVED_AHEAD} FROM believed_time b))"
SELECT_BELIEVED_TIME: Final = f"SELECT {BELIEVED_NOW}"

SELECT_CLOCKS: Final = "SELECT now(), b.at, b.doubted_seconds FROM believed_time b"
# Only if no other process has written meanwhile: two that count the same seconds would doubt for half as long.
UPDATE_BELIEVED_TIME: Final = """
UPDATE believed_time SET at = %(at)s, doubted_seconds = %(doubted_seconds)s
WHERE at = %(before)s AND doubted_seconds = %(doubted_before)s
"""


class DatabaseClock:
    """Knows the database's time to within half of the shortest round trip of late."""

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.monotonic()
        self._known: Offset | None = None  # until the database has answered: its first answer is no step
        self._on_step: list[Callable[[], None]] = []

    def on_step(self, listener: Callable[[], None]) -> None:
        """Registers a listener, called after each step of the database's clock, when `now` has followed it."""
        self._on_step.append(listener)

    def now(self) -> datetime:
        """Returns the time by the database's clock."""
        return datetime.fromtimestamp(self.unix_seconds(), UTC)

    def unix_seconds(self) -> float:
        """Returns the time by the database's clock in Unix seconds."""
        return time.monotonic() + self._offset_seconds

    def observe(self, at: datetime, asked_at: float, answered_at: float) -> None:
        """Takes an answer of the database, given between two readings of the monotonic clock."""
        answer, stepped = offset_of(at.timestamp(), asked_at, answered_at), 0.0
        if self._known is None:
            self._known = answer
        else:
            self._known, stepped = follow(self._known, answer)
        self._offset_seconds = self._known.middle
        if stepped:
            log.warning("the database's clock stepped", seconds=round(stepped, 3), database_time=at.isoformat())
            for listener in self._on_step:
                listener()

    async def synchronise(self, database: Database) -> None:
        """Reads the database's clock. Raises Unavailable."""
        asked_at = time.monotonic()
        self.observe(await database_time(database), asked_at, time.monotonic())


async def database_time(database: Queries) -> datetime:
    """Returns the time by the database's clock. Raises Unavailable."""
    [(now,)] = await database.rows(SELECT_DATABASE_TIME)
    return now


async def believed_now(database: Queries) -> datetime:
    """Returns the time; if the clock is implausibly far ahead, the latest that is believed. Raises Unavailable."""
    [(now,)] = await database.rows(SELECT_BELIEVED_TIME)
    return now


async def look_at_clock(database: Queries, ran_seconds: float) -> tuple[BelievedTime, BelievedTime]:
    """Moves the believed time on, `ran_seconds` after the last call; returns what was believed before and is now.

    Raises Unavailable.
    """
    [(now, believed_at, doubted_seconds)] = await database.rows(SELECT_CLOCKS)
    before = BelievedTime(at=believed_at, doubted_seconds=doubted_seconds)
    after = believe(before, now, ran_seconds)
    parameters = {"at": after.at, "doubted_seconds": after.doubted_seconds}
    await database.rows(
        UPDATE_BELIEVED_TIME, {**parameters, "before": before.at, "doubted_before": before.doubted_seconds}
    )
    return before, after
