"""The database's clock, carried between two looks at it by this machine's monotonic clock.

All processes of a cell share the database, so its clock is the one that they agree on: for ids, for the time in
signatures, for Retry-After dates. A jump of this machine's own wall clock changes nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from .db import Database

NOW = "SELECT clock_timestamp()"


class DatabaseClock:
    """Tells the database's time to within a round trip."""

    def __init__(self) -> None:
        self._offset_seconds = time.time() - time.monotonic()

    def now(self) -> datetime:
        """The time by the database's clock."""
        return datetime.fromtimestamp(self.unix_seconds(), UTC)

    def unix_seconds(self) -> float:
        """The same in Unix seconds."""
        return time.monotonic() + self._offset_seconds

    def observe(self, database_time: datetime, asked_at: float, answered_at: float) -> None:
        """Takes in an answer of the database, given between two readings of the monotonic clock."""
        self._offset_seconds = database_time.timestamp() - (asked_at + answered_at) / 2

    async def synchronise(self, database: Database) -> None:
        """Asks the database. Raises Unavailable."""
        asked_at = time.monotonic()
        [(database_time,)] = await database.rows(NOW)
        self.observe(database_time, asked_at, time.monotonic())
