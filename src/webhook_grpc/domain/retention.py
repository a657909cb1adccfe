"""For how long things are kept."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal

from .errors import NotFound
from .record import record


@record
class RetentionPolicy:
    """For how long what is kept. The log must be kept as long as the events, because it holds their results."""

    events_days: int
    attempts_days: int
    idempotency_keys_hours: int
    audit_days: int

    def days_of(self, table: Literal["events", "attempts"]) -> int:
        """Returns for how many days at least the rows of a table are kept."""
        return self.events_days if table == "events" else self.attempts_days


def first_day_kept(today: date, days: int) -> date:
    """Returns the first day of which everything is kept. A day is dropped as a whole, once all of it is that old."""
    return today - timedelta(days=days)


def with_age(error: NotFound, policy: RetentionPolicy, now: datetime) -> NotFound:
    """Returns the error, with a hint that the object may have been dropped if its id is older than such are kept."""
    if error.made_at is None:
        return error
    days = policy.days_of("events" if error.resource_type == "event" else "attempts")
    age = now - error.made_at
    if age <= timedelta(days=days):
        return error
    hint = f": its id is {age.days} days old, they are kept for {days}, so it may have been dropped"
    return NotFound(error.resource_type, error.resource_name, error.made_at, hint)
