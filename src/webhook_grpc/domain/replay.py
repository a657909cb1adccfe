"""Replays: which past events are delivered once more, and how far that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from .errors import Violation
from .ids import earliest_id, event_id_time, latest_id
from .matching import matches
from .model import DeliveryStatus
from .record import record

WINDOW_MAX: Final = timedelta(days=31)
NO_END: Final = datetime(9998, 12, 31, tzinfo=UTC)  # later than any call
DEFAULT_STATUSES: Final = (DeliveryStatus.FAILED, DeliveryStatus.CANCELLED, DeliveryStatus.EXPIRED)


class ReplayStatus(StrEnum):
    """Where a replay stands. All but RUNNING are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@record
class ReplaySpec:
    """What a caller chose. No webhooks and no types mean all of the customer's, no statuses mean none."""

    customer_id: int
    webhook_ids: Sequence[int]
    event_types: Sequence[str]
    statuses: Sequence[DeliveryStatus]
    include_undelivered: bool  # also what has no delivery to a webhook that matches it now
    start_time: datetime
    end_time: datetime  # exclusive

    def admits(self, event_type: str, create_time: datetime) -> bool:
        """Returns whether an event is in the window and of the types."""
        is_of_window = self.start_time <= create_time < self.end_time
        return is_of_window and (not self.event_types or matches(event_type, self.event_types))

    def ending_by(self, moment: datetime) -> ReplaySpec:
        """Returns the same spec with a window that ends at this moment at the latest."""
        return replace(self, end_time=min(self.end_time, moment))

    @property
    def first_position(self) -> UUID:
        """Returns an id before that of every event that can be in the window."""
        return UUID(int=max(0, earliest_id(self.start_time).int - 1))

    @property
    def end_position(self) -> UUID:
        """Returns an id after that of every event that can be in the window."""
        return latest_id(self.end_time)

    def progress_time(self, position: UUID | None) -> datetime:
        """Up to which time of the window events have been looked at, to the millisecond; None: all have been."""
        if position is None:
            return self.end_time
        return min(max(event_id_time(position), self.start_time), self.end_time)


@record
class Replay:
    """A replay as it stands. `delivery_count`, what it has chosen, is the sum of the other five counts."""

    replay_id: int
    spec: ReplaySpec
    status: ReplayStatus
    progress_time: datetime
    create_time: datetime
    finish_time: datetime | None
    delivery_count: int = 0
    pending_count: int = 0
    succeeded_count: int = 0
    failed_count: int = 0
    cancelled_count: int = 0
    skipped_count: int = 0


def window_violations(start_time: datetime | None, end_time: datetime | None, now: datetime) -> list[Violation]:
    """Returns everything that is wrong with a window; without an end, or with one to come, it ends now."""
    if start_time is None:
        return [Violation("replay.start_time", "must be set")]
    end_time = min(end_time or now, now)
    if start_time >= end_time:
        return [Violation("replay.start_time", "must be in the past, and before end_time")]
    if end_time - start_time > WINDOW_MAX:
        return [Violation("replay.start_time", f"must be at most {WINDOW_MAX.days} days before end_time")]
    return []
