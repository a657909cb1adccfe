"""Which rows are read for a lane: within its room, and so that each due row is found in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_lanes import START, make_delivery
from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.engine.queue.reading import (
    BEGINNING,
    CANCEL_AHEAD_SECONDS,
    FULL_LOOK_SECONDS,
    LATE_COMMIT,
    SHARED_LOOK_SECONDS,
    Reading,
)
from webhook_grpc.store.outbox.due import FetchRequest

ROOM = 4  # for the backlog, and as much again for what is fresh
POLL_SECONDS = 0.5
LATER = START + timedelta(days=365)  # by the database's clock; each delivery of the tests is due before


def make_reading() -> Reading:
    """Of a webhook that nothing was read of."""
    return Reading(shard=1, webhook_id=1, looked_at=0.0)


def read(
    reading: Reading, now: float, held_count: int = 0, *, is_ending: bool = False, database_time: datetime = LATER
) -> list[FetchRequest]:
    return reading.requests(
        now, held_count, room=ROOM, fresh_room=ROOM, is_ending=is_ending, database_time=database_time
    )


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# --- one by one ------------------------------------------------------------------------------------------------------


def test_the_first_read_begins_at_the_beginning_and_asks_for_as_many_rows_as_there_is_room() -> None:
    reading = make_reading()
    [request] = read(reading, 1.0, held_count=2)
    assert (request.shard, request.webhook_id) == (1, 1)
    assert (request.floor, request.room, request.ahead_seconds) == (BEGINNING, 2 + ROOM, 0.0)
    assert (reading.looked_at, reading.fully_looked_at) == (1.0, 1.0)


def test_later_reads_begin_where_the_last_one_ended_less_what_may_become_visible_late() -> None:
    reading, delivery = make_reading(), make_delivery()
    read(reading, 1.0)
    reading.held(delivery)
    [request] = read(reading, 2.0)
    assert request.floor == delivery.due_at - LATE_COMMIT


def test_from_time_to_time_a_read_has_no_floor() -> None:
    reading = make_reading()
    read(reading, 1.0)
    reading.held(make_delivery())
    [request] = read(reading, 1.0 + FULL_LOOK_SECONDS)
    assert request.floor > BEGINNING
    [request] = read(reading, 1.1 + FULL_LOOK_SECONDS)
    assert request.floor == BEGINNING


@pytest.mark.parametrize("forget", [Reading.missed, Reading.start_over])
def test_after_a_row_was_lost_from_memory_the_next_read_has_no_floor(forget: object) -> None:
    reading = make_reading()
    read(reading, 1.0)
    reading.held(make_delivery())
    assert callable(forget)
    forget(reading)
    assert reading.has_more
    [request] = read(reading, 2.0)
    assert request.floor == BEGINNING


def test_the_rows_of_a_webhook_that_is_ending_are_read_ahead_of_their_time_from_the_beginning_on() -> None:
    reading = make_reading()
    read(reading, 1.0)
    reading.held(make_delivery())
    [request] = read(reading, 2.0, is_ending=True)
    assert (request.floor, request.ahead_seconds) == (BEGINNING, CANCEL_AHEAD_SECONDS)


def test_a_read_that_is_full_leaves_a_backlog_beside_which_fresh_rows_are_read() -> None:
    reading = make_reading()
    [request] = read(reading, 1.0)
    reading.note(request, [at(second) for second in range(ROOM)], at(100))
    assert reading.behind
    backlog, fresh = read(reading, 2.0)
    assert not backlog.is_fresh
    assert fresh.is_fresh
    assert fresh.floor == at(100), "what is due from the full read on"

    reading.note(fresh, [], at(130))
    assert reading.fresh_floor == at(130) - LATE_COMMIT
    reading.note(backlog, [at(1)], at(130))
    assert reading.fresh_floor is None, "there is no backlog any more"


def test_rows_of_a_clock_that_was_ahead_do_not_say_how_far_the_table_was_read() -> None:
    """They were on their way when the step back was noticed, and come after the lane has started over."""
    reading = make_reading()
    reading.note(read(reading, 1.0)[0], [at(second) for second in range(ROOM)], at(3600))
    backlog, fresh = read(reading, 2.0, database_time=at(3600))
    reading.start_over()  # the clock is an hour back
    ahead = [at(3590 + second) for second in range(ROOM)]
    reading.note(backlog, ahead, at(0))
    reading.note(fresh, ahead, at(0))
    for due_at in ahead:
        reading.held(replace(make_delivery(), due_at=due_at))
    reading.end_read()
    backlog, fresh = read(reading, 3.0, database_time=at(1))
    assert backlog.floor == BEGINNING, "else nothing that is due now is found until the next look without a floor"
    assert fresh.floor == at(1)


def test_no_fresh_rows_are_asked_for_without_room_for_them() -> None:
    reading = make_reading()
    [request] = read(reading, 1.0)
    reading.note(request, [at(second) for second in range(ROOM)], at(100))
    assert len(reading.requests(2.0, 0, room=ROOM, fresh_room=0, is_ending=False, database_time=LATER)) == 1


def test_a_read_notes_that_nothing_is_behind_and_what_comes_during_the_read_counts_again() -> None:
    reading = make_reading()
    reading.note_due()
    [request] = read(reading, 1.0)
    assert not reading.behind
    reading.note_due()
    reading.note(request, [], START)
    assert reading.behind


def test_a_fresh_delivery_before_which_there_may_be_others_does_not_say_how_far_the_table_was_read() -> None:
    reading = make_reading()
    reading.note_due()
    reading.held(make_delivery(is_fresh=True))
    reading.held(make_delivery(is_replay=True))
    assert reading.reached is None


def test_a_fresh_delivery_that_comes_during_a_read_does_not_say_how_far_the_table_was_read() -> None:
    """The read may find that there is a backlog: the next one would begin behind it."""
    reading = make_reading()
    [request] = read(reading, 1.0)
    reading.held(make_delivery(is_fresh=True))
    reading.note(request, [at(second) for second in range(ROOM)], at(100))
    reading.end_read()
    assert reading.reached is None


@pytest.mark.parametrize("is_replay", [False, True])
def test_what_is_refused_is_in_the_table(*, is_replay: bool) -> None:
    reading = make_reading()
    reading.refused(make_delivery(is_replay=is_replay))
    assert (reading.behind, reading.replays_behind) == (not is_replay, is_replay)


def test_there_are_more_replays_if_a_read_of_them_was_full() -> None:
    reading = make_reading()
    reading.note_replays(3, 3)
    assert reading.has_more
    reading.note_replays(2, 3)
    assert not reading.has_more


@pytest.mark.parametrize(
    ("has_backlog", "is_low_on_fresh", "is_shared", "pause_seconds"),
    [
        (False, True, False, FULL_LOOK_SECONDS),
        (False, True, True, SHARED_LOOK_SECONDS),
        (True, False, False, FULL_LOOK_SECONDS),
        (True, True, False, POLL_SECONDS),
        (True, True, True, POLL_SECONDS),
    ],
)
def test_how_long_a_lane_of_which_nothing_is_known_to_be_due_is_left_alone(
    *, has_backlog: bool, is_low_on_fresh: bool, is_shared: bool, pause_seconds: float
) -> None:
    reading = make_reading()
    reading.fresh_floor = START if has_backlog else None
    read(reading, 100.0)
    for now, is_due in [(100.0 + pause_seconds, False), (100.01 + pause_seconds, True)]:
        assert reading.is_due(now, POLL_SECONDS, is_low_on_fresh=is_low_on_fresh, is_shared=is_shared) is is_due


# --- all together ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Rows that become visible, each due so many seconds before, what is sent then, and what is lost from memory.

    `meanwhile` are published here while the table is read.
    """

    seconds: float
    visible: list[float]
    meanwhile: list[float]
    is_handed_over: bool
    sent_count: int
    is_lost: bool


steps = st.builds(
    Step,
    seconds=st.sampled_from([0.1, 0.6, 2.0, 11.0]),
    visible=st.lists(st.sampled_from([0.0, 0.01, 5.0, 9.9]), max_size=5),
    meanwhile=st.lists(st.sampled_from([0.0, 0.01]), max_size=2),
    is_handed_over=st.booleans(),
    sent_count=st.integers(0, 2 * ROOM),
    is_lost=st.booleans(),
)


@dataclass
class Webhook:
    """The table's rows of one webhook, those that are held, and what sends them: as the fetcher and lanes do it."""

    now: float = 100.0
    reading: Reading = field(default_factory=make_reading)
    table: dict[UUID, PendingDelivery] = field(default_factory=dict[UUID, PendingDelivery])
    held: dict[UUID, PendingDelivery] = field(default_factory=dict[UUID, PendingDelivery])

    def hold(self, delivery: PendingDelivery) -> None:
        of_its_kind = sum(other.is_fresh is delivery.is_fresh for other in self.held.values())
        if delivery.event_id in self.held:
            return
        if of_its_kind >= ROOM:
            self.reading.refused(delivery)
        else:
            self.held[delivery.event_id] = delivery
            self.reading.held(delivery)

    def publish(self, age_seconds: float, *, is_handed_over: bool) -> None:
        """A row becomes visible, so long after it was due. If this process has published it, it is handed over too."""
        delivery = replace(make_delivery(is_fresh=True), due_at=at(self.now - age_seconds))
        self.table[delivery.event_id] = delivery
        if is_handed_over:
            self.hold(delivery)

    def look(self, meanwhile: Sequence[float] = ()) -> int:
        """One look at the table. Returns how many rows it read."""
        held_fresh = sum(delivery.is_fresh for delivery in self.held.values())
        requests = self.reading.requests(
            self.now,
            len(self.held),
            room=ROOM - (len(self.held) - held_fresh),
            fresh_room=ROOM - held_fresh,
            is_ending=False,
            database_time=at(self.now),
        )
        found = [(request, self.rows(request)) for request in requests]
        for age_seconds in meanwhile:
            self.publish(age_seconds, is_handed_over=True)
        for request, rows in found:
            self.reading.note(request, [row.due_at for row in rows], at(self.now))
        for _, rows in found:
            for row in rows:
                self.hold(row)
        self.reading.end_read()
        return sum(len(rows) for _, rows in found)

    def rows(self, request: FetchRequest) -> list[PendingDelivery]:
        due = sorted(self.table.values(), key=lambda row: row.due_at)
        rows = [row for row in due if row.due_at >= request.floor][: request.room]
        return [replace(row, is_fresh=request.is_fresh) for row in rows]

    def send(self, count: int) -> None:
        for event_id in list(self.held)[:count]:
            del self.table[event_id], self.held[event_id]

    def lose(self) -> None:
        """The receiver is left alone for a while: what is queued goes back to the table."""
        self.held.clear()
        self.reading.start_over()


@given(st.lists(steps, max_size=30))
def test_however_rows_come_each_is_found_with_bounded_reads_in_the_end(course: list[Step]) -> None:
    webhook = Webhook()
    for step in course:
        webhook.now += step.seconds
        for age_seconds in step.visible:
            webhook.publish(age_seconds, is_handed_over=step.is_handed_over)
        assert webhook.look(step.meanwhile) <= 2 * (len(webhook.held) + ROOM)
        webhook.send(step.sent_count)
        if step.is_lost:
            webhook.lose()
    looks_max = 2 * len(webhook.table) + 2
    for _ in range(looks_max):
        webhook.now += FULL_LOOK_SECONDS + 0.1  # no hint comes: only polling finds what is left
        webhook.look()
        webhook.send(2 * ROOM)
    assert not webhook.table


@given(st.lists(steps, max_size=30))
def test_what_was_not_held_when_the_last_read_was_not_full_became_visible_later(course: list[Step]) -> None:
    """While nothing is known to be behind, each row of the table that was visible at the last look is held."""
    webhook = Webhook()
    for step in course:
        webhook.now += step.seconds
        for age_seconds in step.visible:
            webhook.publish(age_seconds, is_handed_over=step.is_handed_over)
        webhook.look(step.meanwhile)
        if not webhook.reading.behind:
            assert webhook.table.keys() <= webhook.held.keys()
        webhook.send(step.sent_count)
        if step.is_lost:
            webhook.lose()
