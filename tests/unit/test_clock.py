"""What is a step of the database's clock, and what time is believed after one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from webhook_grpc.domain.clock import BELIEVED_AHEAD, DOUBT_SECONDS_MAX, BelievedTime, believe, step_seconds
from webhook_grpc.store.clock import BELIEVED_NOW, DatabaseClock

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
LOOK_SECONDS = 60.0


@pytest.mark.parametrize(
    ("found", "stepped"),
    [
        pytest.param(1000.0, 0.0, id="where it was expected"),
        pytest.param(1003.0, 0.0, id="the answer took long"),
        pytest.param(999.5, 0.0, id="drift"),
        pytest.param(4600.0, 3597.0, id="an hour ahead"),
        pytest.param(-2600.0, -3600.0, id="an hour back"),
    ],
)
def test_a_step_is_what_neither_drift_nor_a_slow_answer_explains(found: float, stepped: float) -> None:
    assert step_seconds(1000.0, 1003.0, found) == stepped


@pytest.mark.symptom("stepped")
def test_a_step_is_announced_once_and_the_clock_follows_it() -> None:
    clock, steps = DatabaseClock(), list[datetime]()
    clock.on_step(lambda: steps.append(clock.now()))
    clock.observe(NOON, 5.0, 5.0)
    assert steps == [], "its first answer is no step, whatever this machine's clock says"
    for asked_at in (6.0, 7.0):
        clock.observe(NOON + timedelta(hours=1, seconds=asked_at - 5), asked_at, asked_at)
    assert len(steps) == 1
    assert abs(steps[0] - clock.now()) < timedelta(minutes=1)


def test_a_clock_that_runs_is_believed() -> None:
    believed = BelievedTime(NOON)
    for minute in range(1, 3000):
        believed = believe(believed, NOON + timedelta(minutes=minute), LOOK_SECONDS)
        assert believed == BelievedTime(NOON + timedelta(minutes=minute))


def test_a_clock_that_steps_far_ahead_is_not_believed_until_processes_have_run_with_it_for_a_day() -> None:
    believed, looks = BelievedTime(NOON), 0
    ahead = NOON + timedelta(days=30)
    while believed.at < ahead:
        looks += 1
        believed = believe(believed, ahead + timedelta(seconds=looks * LOOK_SECONDS), LOOK_SECONDS)
        assert believed.at == NOON or believed.at > ahead
    assert looks * LOOK_SECONDS == DOUBT_SECONDS_MAX


def test_what_steps_back_in_time_leaves_no_doubt() -> None:
    doubted = believe(BelievedTime(NOON), NOON + timedelta(days=30), LOOK_SECONDS)
    assert doubted.is_doubted
    assert believe(doubted, NOON + timedelta(minutes=2), LOOK_SECONDS) == BelievedTime(NOON + timedelta(minutes=2))


def test_a_service_that_runs_for_an_hour_a_week_believes_the_clock_in_the_end() -> None:
    """Its doubt is the time for which it has run, not the time for which the clock has stood anywhere."""
    believed = BelievedTime(NOON)
    for week in range(1, 25):
        for minute in range(60):
            believed = believe(believed, NOON + timedelta(weeks=week, minutes=minute), LOOK_SECONDS)
    assert believed.at > NOON + timedelta(weeks=23)


def test_a_clock_that_is_behind_is_believed_at_once() -> None:
    assert believe(BelievedTime(NOON), NOON - timedelta(days=1), LOOK_SECONDS) == BelievedTime(NOON - timedelta(days=1))


def test_the_statement_has_the_bound_of_the_policy() -> None:
    assert timedelta(hours=1) == BELIEVED_AHEAD
    assert "interval '1 hour'" in BELIEVED_NOW
