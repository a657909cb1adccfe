"""For how long things are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """For how long what is kept. The log must be kept as long as the events, because it tells how they stand."""

    events_days: int
    attempts_days: int
    idempotency_keys_hours: int

    def days_of(self, table: Literal["events", "attempts"]) -> int:
        """For how many days the rows of a table are kept at least."""
        return self.events_days if table == "events" else self.attempts_days


def first_day_kept(today: date, days: int) -> date:
    """The first day of which everything is kept. A day goes as a whole, when all of it is so many days old."""
    return today - timedelta(days=days)
