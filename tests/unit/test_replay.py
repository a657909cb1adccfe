"""Which events a replay admits, between which ids they are, and which windows are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from webhook_grpc.domain.ids import event_id_time, first_event_id
from webhook_grpc.domain.replay import NO_END, WINDOW_MAX, ReplaySpec, window_violations

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def spec(start_time: datetime, end_time: datetime, *event_types: str) -> ReplaySpec:
    return ReplaySpec(42, (), event_types, (), include_undelivered=True, start_time=start_time, end_time=end_time)


def test_an_id_tells_its_time_and_the_first_of_a_time_is_before_all_others() -> None:
    first = first_event_id(NOW)
    assert event_id_time(first) == NOW
    assert first < UUID(int=first.int + 1) < first_event_id(NOW + timedelta(milliseconds=1))
    assert first_event_id(datetime(1960, 1, 1, tzinfo=UTC)) == UUID(int=0)


def test_a_window_contains_its_start_and_not_its_end() -> None:
    wanted = spec(NOW - DAY, NOW, "job.*")
    assert wanted.admits("job.completed", NOW - DAY)
    assert wanted.admits("job.completed", NOW - timedelta(microseconds=1))
    assert not wanted.admits("job.completed", NOW)
    assert not wanted.admits("job.completed", NOW - DAY - timedelta(microseconds=1))
    assert not wanted.admits("alert.triggered", NOW - DAY)


@pytest.mark.parametrize("off", [timedelta(minutes=-9), timedelta(0), timedelta(minutes=9)])
def test_an_id_made_some_minutes_before_or_after_its_event_was_stored_is_looked_at(off: timedelta) -> None:
    wanted = spec(NOW - DAY, NOW)
    for create_time in (NOW - DAY, NOW - timedelta(microseconds=1)):
        assert wanted.first_position < first_event_id(create_time + off) < wanted.end_position


def test_progress_never_leaves_the_window() -> None:
    wanted = spec(NOW - DAY, NOW)
    assert wanted.progress_time(wanted.first_position) == NOW - DAY
    assert wanted.progress_time(first_event_id(NOW - DAY / 2)) == NOW - DAY / 2
    assert wanted.progress_time(wanted.end_position) == NOW
    assert wanted.progress_time(None) == NOW


def test_no_window_reaches_beyond_the_call() -> None:
    assert spec(NOW - DAY, NO_END).ending_by(NOW).end_time == NOW
    assert spec(NOW - DAY, NOW - DAY / 2).ending_by(NOW).end_time == NOW - DAY / 2


@pytest.mark.parametrize(
    ("start_time", "end_time", "is_served"),
    [
        (NOW - DAY, None, True),
        (NOW - WINDOW_MAX, None, True),
        (NOW - WINDOW_MAX, NOW + DAY, True),
        (NOW - 3 * WINDOW_MAX, NOW - 2 * WINDOW_MAX, True),
        (None, None, False),
        (NOW, None, False),
        (NOW + DAY, NOW + 2 * DAY, False),
        (NOW - DAY, NOW - DAY, False),
        (NOW - WINDOW_MAX - timedelta(seconds=1), None, False),
    ],
)
def test_a_window_has_a_start_in_the_past_and_at_most_31_days(
    start_time: datetime | None, end_time: datetime | None, *, is_served: bool
) -> None:
    found = window_violations(start_time, end_time, NOW)
    assert [violation.field for violation in found] == ([] if is_served else ["replay.start_time"])
