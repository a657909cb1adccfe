"""What was read of the table for one lane, and what to read next. Pure: no I/O, and each time is an argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from webhook_grpc.domain.model import PendingDelivery, Trigger
from webhook_grpc.store.outbox.due import FetchRequest

# A publication may become visible a little later than a younger one; within this, its row is still found.
LATE_COMMIT: Final = timedelta(seconds=10)
FULL_LOOK_SECONDS: Final = 5.0
SHARED_LOOK_SECONDS: Final = 1.0
CANCEL_AHEAD_SECONDS: Final = 400 * 86_400.0
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Reading:
    """How far the table was read for one webhook, and whether it has more. `now` is in monotonic seconds.

    Every part may read the fields; only the methods below write them. `Lanes` reports what became of rows, and the
    fetcher plans with `requests` and reports what it found.
    """

    shard: int
    webhook_id: int
    looked_at: float  # when the table was last read for it, in monotonic seconds
    fully_looked_at: float = -math.inf  # when it was last read without a floor
    behind: bool = False  # the table may have due rows that are not held
    replays_behind: bool = False  # the same for rows of replays
    is_being_read: bool = False  # the answer of a read is on its way; what it will say of `behind` is not known
    reached: datetime | None = None  # the table was read up to this due time
    fresh_floor: datetime | None = None  # while the table has a backlog: rows due from then on are fresh

    @property
    def has_more(self) -> bool:
        """Whether the table may have something for the webhook that is not held."""
        return self.behind or self.replays_behind or self.is_being_read

    def begin_with(self, delivery: PendingDelivery) -> None:
        """Notes that the lane is made for a delivery that was just published, with its row at hand.

        Rows that are due before it, without a hint, are found by the looks for webhooks that have any.
        """
        self.reached = delivery.due_at

    # --- what became of rows ---------------------------------------------------------------------------------------

    def note_due(self) -> None:
        """Notes that the table may have a due row which is not held."""
        self.behind = True

    def note_due_replays(self) -> None:
        """Notes that the table may have a row of a replay which is not held."""
        self.replays_behind = True

    def held(self, delivery: PendingDelivery) -> None:
        """Notes that a delivery is held: everything due before it was read, if it came in its order."""
        may_have_others = delivery.is_fresh and (self.behind or self.is_being_read)  # that were due before it
        is_in_order = delivery.trigger is not Trigger.REPLAY and not may_have_others
        if is_in_order and (self.reached is None or delivery.due_at > self.reached):
            self.reached = delivery.due_at

    def refused(self, delivery: PendingDelivery) -> None:
        """Notes that there was no room for a delivery: it stays in the table."""
        is_replay = delivery.trigger is Trigger.REPLAY
        self.behind |= not is_replay
        self.replays_behind |= is_replay

    def missed(self) -> None:
        """Notes that a row from before `reached` is not held any more: the next read has no floor."""
        self.behind = True
        self.reached = None

    def start_over(self) -> None:
        """Forgets how far the table was read."""
        self.behind = True
        self.reached = self.fresh_floor = None

    # --- what to read ----------------------------------------------------------------------------------------------

    def is_due(self, now: float, fresh_pause_seconds: float, *, is_low_on_fresh: bool, is_shared: bool) -> bool:
        """Returns whether to look although nothing is known to be due.

        `fresh_pause_seconds` is the pause between looks for fresh rows beside a backlog; `is_shared` is whether other
        processes publish for the webhook too.
        """
        if self.fresh_floor is not None and is_low_on_fresh:
            pause_seconds = fresh_pause_seconds
        else:
            pause_seconds = SHARED_LOOK_SECONDS if is_shared else FULL_LOOK_SECONDS
        return now - self.looked_at > pause_seconds

    def requests(
        self,
        now: float,
        held_count: int,
        *,
        room: int,
        fresh_room: int,
        is_ending: bool,
        database_time: datetime,
    ) -> list[FetchRequest]:
        """Returns what to read: the rows that have waited longest, and beside a backlog the fresh ones.

        The read begins with that, and ends with `end_read`.
        From time to time there is no floor, to find rows that became visible late. The rows of a webhook that is ending
        are read ahead of their time.
        """
        self._forget_what_is_to_come(database_time)
        self.looked_at = now
        self.behind = False  # what comes from now on counts again
        self.is_being_read = True
        if self.reached is None or is_ending or now - self.fully_looked_at > FULL_LOOK_SECONDS:
            self.fully_looked_at = now
            floor = BEGINNING
        else:
            floor = self.reached - LATE_COMMIT
        ahead_seconds = CANCEL_AHEAD_SECONDS if is_ending else 0.0
        requests = [FetchRequest(self.shard, self.webhook_id, held_count + room, floor, ahead_seconds)]
        if self.fresh_floor is not None and fresh_room:
            fresh = FetchRequest(self.shard, self.webhook_id, held_count + fresh_room, self.fresh_floor, is_fresh=True)
            requests.append(fresh)
        return requests

    def _forget_what_is_to_come(self, database_time: datetime) -> None:
        """Forgets that the table was read up to a time that is to come: the database's clock has stepped back since.

        A row that was on its way when that was noticed says so after `start_over`.
        """
        if self.reached is not None and self.reached > database_time + LATE_COMMIT:
            self.reached = None
        if self.fresh_floor is not None:
            self.fresh_floor = min(self.fresh_floor, database_time)

    def note(self, request: FetchRequest, due_times: Sequence[datetime], database_time: datetime) -> None:
        """Notes which rows one of the `requests` found, by their due times in order."""
        is_cut = len(due_times) >= request.room
        if request.is_fresh:
            if self.fresh_floor is not None:
                read_until = due_times[-1] if is_cut else database_time - LATE_COMMIT
                self.fresh_floor = max(self.fresh_floor, read_until)
        elif not is_cut:
            self.fresh_floor = None
        else:
            self.behind = True
            self.fresh_floor = self.fresh_floor or database_time

    def end_read(self) -> None:
        """Notes that the rows of a read were taken in or refused, or that it failed."""
        self.is_being_read = False

    def note_replays(self, found_count: int, room: int) -> None:
        """Notes how many rows of replays a read found, and for how many there was room."""
        self.replays_behind = found_count >= room
