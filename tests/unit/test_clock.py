"""What is a step of the database's clock, and what time is believed after one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.clock import (
    BELIEVED_AHEAD,
    DOUBT_SECONDS_MAX,
    DRIFT_MAX,
    BelievedTime,
    Offset,
    believe,
    follow,
    offset_of,
)
from webhook_grpc.store.clock import BELIEVED_NOW, DatabaseClock

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
LOOK_SECONDS = 60.0


@pytest.mark.parametrize(
    ("found", "answered_at", "stepped"),
    [
        pytest.param(1010.0, 10.0, 0.0, id="where it was expected"),
        pytest.param(1013.0, 13.0, 0.0, id="the answer took long"),
        pytest.param(1012.9, 40.0, 0.0, id="the answer took long, and nobody knows on which way"),
        pytest.param(1009.5, 10.0, 0.0, id="drift"),
        pytest.param(4610.0, 10.0, 3599.79, id="an hour ahead"),
        pytest.param(-2590.0, 10.0, -3599.79, id="an hour back"),
        pytest.param(4610.0, 20.0, 3589.79, id="an hour ahead, at least, and the answer took long"),
    ],
)
def test_a_step_is_what_neither_drift_nor_a_slow_answer_explains(
    found: float, answered_at: float, stepped: float
) -> None:
    known = Offset(999.8, 1000.2, known_at=0.0)
    after, seconds = follow(known, offset_of(found, 10.0, answered_at))
    assert seconds == pytest.approx(stepped, abs=0.05)
    assert not stepped or after == offset_of(found, 10.0, answered_at), "what was known before is of another time"


def test_an_answer_that_took_long_tells_little_and_makes_nothing_less_certain() -> None:
    known, stepped = follow(offset_of(1000.0, 0.0, 0.002), offset_of(1019.9, 10.0, 20.0))
    assert (known.middle, stepped) == (pytest.approx(1000.0, abs=0.02), 0.0)


def test_what_a_slow_answer_has_told_first_is_no_step_when_a_quick_one_tells_more() -> None:
    """Its middle was five seconds from the truth, for one who starts while the database is busy."""
    known, stepped = follow(offset_of(1000.1, 0.0, 10.0), offset_of(1010.2, 10.2, 10.202))
    assert (known.middle, stepped) == (pytest.approx(1000.0, abs=0.01), 0.0)


@given(
    ahead=st.floats(-1e9, 1e9),
    trips=st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 10.0), st.floats(0.0, 1.0)), min_size=1, max_size=20),
)
def test_the_error_is_at_most_half_of_the_shortest_round_trip_and_no_answer_is_taken_for_a_step(
    ahead: float, trips: list[tuple[float, float, float]]
) -> None:
    """Each trip: after how many seconds it begins, how many it takes, and in which part of it the clock is read."""
    now, known, error_max = 0.0, Offset(-1e12, 1e12, known_at=0.0), 1e12
    for pause_seconds, trip_seconds, part in trips:
        asked_at = now + pause_seconds
        answered_at = asked_at + trip_seconds
        known, stepped = follow(known, offset_of(ahead + asked_at + part * trip_seconds, asked_at, answered_at))
        error_max = min(error_max + DRIFT_MAX * (answered_at - now), trip_seconds / 2)
        assert stepped == 0.0
        assert abs(known.middle - ahead) <= error_max + 1e-5
        now = answered_at


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
