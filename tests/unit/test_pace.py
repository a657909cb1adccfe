"""What the answers of a receiver teach: the numbers are those of the delivery policy."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.disabling import DisablePolicy, FailureRecord
from webhook_grpc.domain.model import AttemptResult, DisableReason, Outcome
from webhook_grpc.domain.pace import Pace, PacePolicy, SavedHealth, Signal, signal_of
from webhook_grpc.domain.throttle import Slowdown

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 10_000_000.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
UNBOUNDED = 1_000_000


def http(status: int) -> AttemptResult:
    """The receiver answered, but not with a success."""
    return AttemptResult(Outcome.HTTP_ERROR, START, 5, response_status=status)


def without_answer(outcome: Outcome) -> AttemptResult:
    """The attempt ended before a status line."""
    return AttemptResult(outcome, START, 5)


SUCCESS = AttemptResult(Outcome.SUCCEEDED, START, 5, response_status=200)
TIMEOUT = without_answer(Outcome.TIMEOUT)
BLOCKED = without_answer(Outcome.BLOCKED)
OURS = without_answer(Outcome.INTERNAL_ERROR)
REFUSED = http(404)
OVERLOADED = http(429)


def make_pace(*, in_flight_max: int = 10, rate: float | None = None, owned_since: float = NOW) -> Pace:
    """A webhook of which nothing is known yet."""
    pace = Pace(PacePolicy(), owned_since)
    pace.configure(in_flight_max, rate)
    return pace


def end(
    pace: Pace, result: AttemptResult, *, count: int = 1, now: float = NOW, asked_seconds: float | None = None
) -> DisableReason | None:
    """So many requests end like this, each started just before. The last one's verdict."""
    reason = None
    for _ in range(count):
        pace.started(now)
        reason = pace.ended(result, asked_seconds, started_at=now, now=now, jitter=0.5)
    return reason


def make_open() -> Pace:
    """Its breaker has opened NOW; the first probe is 30 s later."""
    pace = make_pace()
    end(pace, TIMEOUT, count=10)
    assert pace.breaker.state is BreakerState.OPEN
    return pace


def make_half_open() -> Pace:
    """Its first probe was answered, half a minute after NOW."""
    pace = make_open()
    end(pace, SUCCESS, now=NOW + 30)
    assert pace.breaker.state is BreakerState.HALF_OPEN
    return pace


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "signal"),
    [
        (Outcome.SUCCEEDED, Signal.HEALTHY),
        (Outcome.TIMEOUT, Signal.DOWN),
        (Outcome.CONNECTION_ERROR, Signal.DOWN),
        (Outcome.TLS_ERROR, Signal.DOWN),
        (Outcome.PROTOCOL_ERROR, Signal.DOWN),
        (Outcome.BLOCKED, Signal.BLOCKED),
        (Outcome.INTERNAL_ERROR, Signal.NOTHING),
    ],
)
def test_what_an_outcome_says_about_the_receiver(outcome: Outcome, signal: Signal) -> None:
    assert signal_of(without_answer(outcome)) is signal


def test_every_outcome_says_something() -> None:
    assert {signal_of(without_answer(outcome)) for outcome in Outcome} <= set(Signal)


@pytest.mark.parametrize(
    ("signal", "statuses"),
    [
        (Signal.REFUSING, [100, 301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 428]),
        (Signal.REFUSING, [430, 499]),
        (Signal.OVERLOADED, [429]),
        (Signal.DOWN, [500, 501, 502, 503, 504, 505, 507, 599, 999]),
    ],
)
def test_what_a_status_says_about_the_receiver(signal: Signal, statuses: list[int]) -> None:
    assert {signal_of(http(status)) for status in statuses} == {signal}


def test_an_answer_without_a_known_status_is_an_answer() -> None:
    assert signal_of(AttemptResult(Outcome.HTTP_ERROR, START, 5)) is Signal.REFUSING


# --- how many requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "in_flight", "wait"), [(None, 9, 0), (None, 10, math.inf), (3, 2, 0), (3, 3, math.inf), (3, 4, math.inf)]
)
def test_a_webhook_has_its_own_limit_in_flight_or_the_default(own: int | None, in_flight: int, wait: float) -> None:
    pace = Pace(PacePolicy(in_flight_max=10), NOW)
    pace.configure(own, None)
    assert pace.wait_seconds(in_flight, NOW) == wait


def test_its_own_limit_can_be_taken_away() -> None:
    pace = make_pace(in_flight_max=3, rate=1)
    pace.configure(None, None)
    assert pace.in_flight_max == 10
    assert pace.wait_seconds(9, NOW) == 0


def test_a_rate_limit_makes_it_wait_for_the_next_token() -> None:
    pace = make_pace(rate=4)
    assert pace.wait_seconds(0, NOW) == 0.25
    assert pace.wait_seconds(0, NOW + 0.25) == 0
    pace.started(NOW + 0.25)
    assert pace.wait_seconds(1, NOW + 0.25) == 0.25
    assert pace.wait_seconds(10, NOW + 0.25) == math.inf, "time alone is not enough"


def test_what_cannot_be_signed_waits_until_a_later_look_says_otherwise() -> None:
    pace = make_pace()
    pace.lock(math.inf, NOW)
    assert pace.wait_seconds(0, NOW + DAY) == math.inf
    assert pace.useful(NOW + DAY) == 0
    assert not pace.is_new(NOW + DAY)
    pace.lock(60, NOW)
    assert pace.wait_seconds(0, NOW + 20) == 40
    assert pace.wait_seconds(0, NOW + 60) == 0
    pace.lock(0, NOW + 1)
    assert pace.wait_seconds(0, NOW + 1) == 0
    assert pace.is_new(NOW + 1)


def test_an_open_breaker_waits_for_its_probe_and_then_for_its_result() -> None:
    pace = make_open()
    assert pace.wait_seconds(0, NOW) == 30
    assert pace.wait_seconds(5, NOW + 20) == 10
    assert pace.wait_seconds(0, NOW + 30) == 0
    assert pace.wait_seconds(1, NOW + 30) == math.inf


def test_a_half_open_breaker_sends_one_at_a_time_and_more_as_they_are_answered() -> None:
    pace = make_half_open()
    now = NOW + 31
    assert pace.wait_seconds(0, now) == 0
    assert pace.wait_seconds(1, now) == math.inf
    end(pace, SUCCESS, count=5, now=now)
    assert pace.wait_seconds(1, now) == 0
    assert pace.wait_seconds(2, now) == math.inf


def test_a_hold_is_longer_than_anything_else() -> None:
    pace = make_pace(rate=4)
    pace.hold(100, NOW)
    assert pace.wait_seconds(0, NOW + 40) == 60
    assert pace.wait_seconds(10, NOW + 40) == 60
    assert pace.wait_seconds(0, NOW + 100) == 0


def test_a_hold_does_not_shorten_another() -> None:
    pace = make_pace()
    pace.hold(100, NOW)
    pace.hold(5, NOW + 1)
    assert pace.wait_seconds(0, NOW + 1) == 99


# --- what is worth holding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "useful"), [(None, UNBOUNDED), (1, 2), (2, 4), (10, 20), (1000, 2000)]
)  # fmt: skip
def test_of_a_limited_webhook_two_seconds_are_worth_holding(rate: float | None, useful: int) -> None:
    assert make_pace(rate=rate).useful(NOW) == useful


def test_of_a_slowed_webhook_at_least_two_deliveries() -> None:
    pace = make_pace(rate=1)
    for _ in range(10):
        end(pace, OVERLOADED)
    assert pace.useful(NOW) == 2


def test_of_a_receiver_that_is_left_alone_nothing_is_worth_holding_until_its_probe() -> None:
    pace = make_open()
    assert pace.useful(NOW) == 0
    assert pace.useful(NOW + 29.9) == 0
    assert pace.useful(NOW + 30) == 1


def test_of_one_that_has_come_back_twice_what_may_be_in_flight() -> None:
    pace = make_half_open()
    assert pace.useful(NOW + 30) == 2
    end(pace, SUCCESS, count=10, now=NOW + 30)
    assert pace.useful(NOW + 30) == 8
    end(pace, SUCCESS, count=10, now=NOW + 30)
    assert pace.useful(NOW + 30) == UNBOUNDED


def test_during_a_hold_nothing_is_worth_holding() -> None:
    pace = make_pace()
    pace.hold(10, NOW)
    assert pace.useful(NOW + 9.9) == 0
    assert pace.useful(NOW + 10) == UNBOUNDED


# --- what results do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (TIMEOUT, BreakerState.OPEN),
        (without_answer(Outcome.CONNECTION_ERROR), BreakerState.OPEN),
        (without_answer(Outcome.TLS_ERROR), BreakerState.OPEN),
        (without_answer(Outcome.PROTOCOL_ERROR), BreakerState.OPEN),
        (http(500), BreakerState.OPEN),
        (http(503), BreakerState.OPEN),
        (SUCCESS, BreakerState.CLOSED),
        (REFUSED, BreakerState.CLOSED),
        (http(302), BreakerState.CLOSED),
        (OVERLOADED, BreakerState.CLOSED),
        (BLOCKED, BreakerState.OPEN),
        (OURS, BreakerState.CLOSED),
    ],
)
def test_only_a_receiver_that_looks_down_opens_the_breaker(result: AttemptResult, state: BreakerState) -> None:
    pace = make_pace()
    end(pace, result, count=25)
    assert pace.breaker.state is state


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (SUCCESS, BreakerState.HALF_OPEN),
        (REFUSED, BreakerState.HALF_OPEN),
        (OVERLOADED, BreakerState.HALF_OPEN),
        (TIMEOUT, BreakerState.OPEN),
        (BLOCKED, BreakerState.OPEN),
        (OURS, BreakerState.OPEN),
    ],
)
def test_a_probe_that_is_answered_shows_that_the_receiver_is_there(result: AttemptResult, state: BreakerState) -> None:
    pace = make_open()
    end(pace, result, now=NOW + 30)
    assert pace.breaker.state is state


def test_a_probe_that_fails_makes_the_next_come_later() -> None:
    pace = make_open()
    end(pace, TIMEOUT, now=NOW + 30)
    assert pace.wait_seconds(0, NOW + 30) == 60


@pytest.mark.parametrize("result", [OURS, BLOCKED])
def test_what_says_nothing_about_a_receiver_does_not_interrupt_its_failures(result: AttemptResult) -> None:
    pace = make_pace()
    end(pace, TIMEOUT, count=9)
    end(pace, result)
    end(pace, TIMEOUT)
    assert pace.breaker.state is BreakerState.OPEN


def test_a_429_halves_the_rate_and_a_volley_of_them_does_no_more() -> None:
    pace = make_pace(rate=100)
    for number in range(5):
        pace.ended(OVERLOADED, None, started_at=NOW - 1, now=NOW + number / 100, jitter=0.5)
    assert pace.useful(NOW) == 100, "2 seconds at 50"


@pytest.mark.parametrize("result", [SUCCESS, REFUSED, http(503), TIMEOUT, OURS, BLOCKED])
def test_nothing_else_slows_a_webhook_down(result: AttemptResult) -> None:
    pace = make_pace(rate=100)
    end(pace, result)
    assert pace.useful(NOW) == 200


def test_what_was_started_counts_against_the_rate() -> None:
    pace = make_pace(rate=1, owned_since=NOW - 10)
    assert pace.wait_seconds(0, NOW) == 0
    pace.started(NOW)
    assert pace.wait_seconds(0, NOW) == 1


@pytest.mark.parametrize(
    ("result", "asked_seconds", "held_seconds"),
    [
        (OVERLOADED, 120, 120),
        (http(503), 120, 120),
        (http(503), 0, 0),
        (http(503), HOUR, HOUR),
        (http(503), DAY, HOUR),  # the delivery waits for longer, the webhook does not
        (http(503), None, 0),
        (http(500), 120, 0),
        (http(502), 120, 0),
        (http(404), 120, 0),
        (http(301), 120, 0),
        (AttemptResult(Outcome.SUCCEEDED, START, 5, response_status=200), 120, 0),
    ],
)
def test_retry_after_with_a_429_or_503_holds_the_whole_webhook_for_an_hour_at_most(
    result: AttemptResult, asked_seconds: float | None, held_seconds: float
) -> None:
    pace = make_pace()
    end(pace, result, asked_seconds=asked_seconds)
    assert (pace.useful(NOW + max(0, held_seconds - 0.1)) == 0) is (held_seconds > 0)
    assert pace.useful(NOW + held_seconds) > 0


# --- when it is switched off -----------------------------------------------------------------------------------------


def test_the_policy() -> None:
    assert PacePolicy().in_flight_max == 10
    assert PacePolicy().throttle_seconds == 10 * MINUTE
    policy = DisablePolicy()
    assert (policy.failing_seconds, policy.failures_min) == (5 * DAY, 20)
    assert (policy.blocked_count, policy.blocked_apart_seconds) == (3, 10 * MINUTE)


def verdict_after(seconds: float, failures: int, policy: DisablePolicy | None = None) -> DisableReason | None:
    """The verdict at the last of so many failures, spread over that time."""
    record = FailureRecord()
    for number in range(failures):
        record.failed(NOW + seconds * number / max(1, failures - 1))
    return record.verdict(policy or DisablePolicy(), NOW + seconds)


@pytest.mark.parametrize(
    ("seconds", "failures", "reason"),
    [
        (5 * DAY, 20, DisableReason.FAILING),
        (5 * DAY, 19, None),
        (5 * DAY - 1, 20, None),
        (5 * DAY - 1, 10_000, None),
        (30 * DAY, 19, None),
        (30 * DAY, 20, DisableReason.FAILING),
        (30 * DAY, 0, None),
    ],
)
def test_a_webhook_is_disabled_after_5_days_and_20_attempts_of_nothing_but_failures(
    seconds: float, failures: int, reason: DisableReason | None
) -> None:
    assert verdict_after(seconds, failures) is reason


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (TIMEOUT, DisableReason.FAILING),
        (http(500), DisableReason.FAILING),
        (REFUSED, DisableReason.FAILING),
        (http(302), DisableReason.FAILING),
        (OVERLOADED, None),
        (OURS, None),
        (SUCCESS, None),
    ],
)
def test_which_results_disable_a_webhook_when_there_is_nothing_else(
    result: AttemptResult, reason: DisableReason | None
) -> None:
    pace = make_pace()
    for number in range(30):
        assert end(pace, result, now=NOW + number * 4 * HOUR) is None
    assert end(pace, result, now=NOW + 5 * DAY) is reason


def test_one_success_begins_the_5_days_anew() -> None:
    pace = make_pace()
    for number in range(29):
        end(pace, TIMEOUT, now=NOW + number * 4 * HOUR)
    end(pace, SUCCESS, now=NOW + 4.9 * DAY)
    for number in range(29):
        assert end(pace, TIMEOUT, now=NOW + 5 * DAY + number * 4 * HOUR) is None
    assert end(pace, TIMEOUT, now=NOW + 10 * DAY) is DisableReason.FAILING


@pytest.mark.parametrize(
    ("minutes", "reason"),
    [
        ([0], None),
        ([0, 10], None),
        ([0, 10, 20], DisableReason.BLOCKED),
        ([0, 1, 2, 3, 4, 5], None),
        ([0, 9.9, 19.8], None),
        ([0, 1, 10, 11, 19], None),
        ([0, 1, 10, 11, 20], DisableReason.BLOCKED),
        ([0, 1000, 2000], DisableReason.BLOCKED),
    ],
)
def test_three_blocked_addresses_ten_minutes_apart_disable_a_webhook(
    minutes: list[float], reason: DisableReason | None
) -> None:
    pace = make_pace()
    reasons = [end(pace, BLOCKED, now=NOW + minute * MINUTE) for minute in minutes]
    assert reasons[:-1] == [None] * (len(minutes) - 1)
    assert reasons[-1] is reason


@pytest.mark.parametrize(
    ("between", "reason"),
    [(SUCCESS, None), (REFUSED, None), (TIMEOUT, None), (http(500), None), (OURS, DisableReason.BLOCKED)],
)
def test_only_in_a_row(between: AttemptResult, reason: DisableReason | None) -> None:
    """What reached another address shows that the name was wrong for a moment only."""
    pace = make_pace()
    end(pace, BLOCKED, now=NOW)
    end(pace, BLOCKED, now=NOW + 10 * MINUTE)
    end(pace, between, now=NOW + 15 * MINUTE)
    assert end(pace, BLOCKED, now=NOW + 20 * MINUTE) is reason


def test_blocked_addresses_are_failures_too() -> None:
    record = FailureRecord()
    pace = make_pace()
    pace.record = record
    end(pace, BLOCKED)
    assert (record.failure_count, record.failing_since, record.blocked_count, record.blocked_at) == (1, NOW, 1, NOW)


def test_a_record_counts_since_its_first_failure() -> None:
    record = FailureRecord()
    record.failed(NOW)
    record.failed(NOW + 5)
    assert record == FailureRecord(failing_since=NOW, failure_count=2)


@pytest.mark.parametrize("result", [OVERLOADED, OURS])
def test_what_is_no_failure_does_not_disable_a_webhook_that_has_long_failed(result: AttemptResult) -> None:
    pace = make_pace()
    end(pace, REFUSED, count=20)
    assert end(pace, result, now=NOW + 5 * DAY) is None


def test_a_429_breaks_a_row_of_blocked_addresses() -> None:
    pace = make_pace()
    end(pace, BLOCKED, now=NOW)
    end(pace, BLOCKED, now=NOW + 10 * MINUTE)
    end(pace, OVERLOADED, now=NOW + 15 * MINUTE)
    assert end(pace, BLOCKED, now=NOW + 20 * MINUTE) is None


# --- when it is switched on again ------------------------------------------------------------------------------------


def test_a_webhook_that_is_switched_on_again_begins_with_one_request_and_a_clean_record() -> None:
    pace = make_open()
    end(pace, BLOCKED, now=NOW + 1)
    pace.resumed()
    assert pace.record == FailureRecord()
    assert pace.breaker.state is BreakerState.HALF_OPEN
    assert pace.wait_seconds(0, NOW + 2) == 0
    assert pace.wait_seconds(1, NOW + 2) == math.inf
    for _ in range(3):
        assert pace.wait_seconds(0, NOW + 2) == 0
        end(pace, TIMEOUT, now=NOW + 2)
    assert pace.wait_seconds(0, NOW + 2) == 30, "the first probe again"


def test_it_keeps_its_limits_and_its_policy() -> None:
    pace = Pace(PacePolicy(), NOW)
    pace.configure(3, 1)
    pace.resumed()
    end(pace, SUCCESS, count=10)
    assert pace.breaker.state is BreakerState.CLOSED, "after two steps, because its limit is 3"
    assert pace.breaker.policy is pace.policy.breaker
    assert pace.useful(NOW) == 2


# --- what is worth remembering ---------------------------------------------------------------------------------------


def test_a_new_flow_has_nothing_to_remember() -> None:
    pace = make_pace()
    assert not pace.has_learnt(NOW)
    assert pace.is_new(NOW)


def test_one_that_has_only_seen_successes_has_not_either() -> None:
    pace = make_pace()
    end(pace, SUCCESS, count=1000)
    assert not pace.has_learnt(NOW)
    assert pace.is_new(NOW)


@pytest.mark.parametrize("result", [TIMEOUT, REFUSED, BLOCKED])
def test_a_failure_is_remembered_until_a_success(result: AttemptResult) -> None:
    pace = make_pace()
    end(pace, result)
    assert pace.has_learnt(NOW)
    assert not pace.is_new(NOW + DAY)
    end(pace, SUCCESS)
    assert not pace.has_learnt(NOW)
    assert pace.is_new(NOW)


def test_a_breaker_that_is_not_closed_is_remembered() -> None:
    pace = make_half_open()
    assert pace.record == FailureRecord()
    assert pace.has_learnt(NOW)
    end(pace, SUCCESS, count=20)
    assert not pace.has_learnt(NOW)


def test_a_hold_and_a_slowed_rate_are_for_the_next_owner_too_a_limit_and_a_fault_of_ours_are_not() -> None:
    held, slowed, limited, paused = make_pace(), make_pace(), make_pace(rate=10), make_pace()
    paces = (held, slowed, limited, paused)
    held.hold(60, NOW)
    end(slowed, OVERLOADED)
    paused.pause(60, NOW)
    assert [pace.has_learnt(NOW) for pace in paces] == [True, True, False, False]
    assert [pace.is_new(NOW) for pace in paces] == [False] * 4
    assert [pace.has_learnt(NOW + 60) for pace in paces] == [False, True, False, False]
    assert [pace.is_new(NOW + 60) for pace in paces] == [True, False, True, True]
    assert slowed.is_new(NOW + 600)
    assert not slowed.has_learnt(NOW + 600)


def test_a_pause_of_ours_is_waited_for_as_a_hold_is() -> None:
    pace = make_pace()
    pace.hold(5, NOW)
    pace.pause(20, NOW)
    assert pace.wait_seconds(0, NOW + 5) == 15
    assert pace.useful(NOW + 19.9) == 0
    assert pace.useful(NOW + 20) == UNBOUNDED
    assert pace.save(NOW).hold_seconds == 5, "the receiver did not ask for more"


@pytest.mark.parametrize("result", [TIMEOUT, REFUSED, BLOCKED, OVERLOADED, SUCCESS])
def test_a_result_that_changes_nothing_of_what_is_saved_need_not_be_saved(result: AttemptResult) -> None:
    well, failing = make_pace(), make_pace()
    end(failing, REFUSED)
    for pace in (well, failing):
        before, memory = pace.save(NOW), pace.memory()
        end(pace, result)
        assert (pace.memory() == memory) is (pace.save(NOW) == before)


def test_a_hold_is_something_new_to_save() -> None:
    pace = make_pace()
    memory = pace.memory()
    end(pace, http(503), asked_seconds=10)
    assert pace.memory() != memory
    memory = pace.memory()
    pace.hold(60, NOW)
    assert pace.memory() != memory


def test_what_was_learnt_of_a_webhook_that_is_switched_on_again_holds_it_no_more() -> None:
    pace = make_pace(rate=100)
    end(pace, OVERLOADED, asked_seconds=100)
    pace.resumed()
    assert pace.wait_seconds(0, NOW + 1) == 0
    assert pace.save(NOW).hold_seconds == 0
    assert pace.save(NOW).slowdown is None


# --- across processes ------------------------------------------------------------------------------------------------

WELL = SavedHealth(BreakerState.CLOSED, 0.0, 0, None, 0, 0, None)


def test_a_webhook_that_is_well_has_nothing_to_save() -> None:
    assert make_pace().save(NOW) == WELL


def test_health_is_saved_as_durations() -> None:
    pace = make_open()
    end(pace, BLOCKED, now=NOW + 5)
    assert pace.save(NOW + 10) == SavedHealth(
        breaker=BreakerState.OPEN,
        probe_in_seconds=20.0,
        probe_count=1,
        failing_seconds=10.0,
        failure_count=11,
        blocked_count=1,
        blocked_seconds=5.0,
        hold_seconds=0.0,
        slowdown=None,
    )


def test_a_hold_and_a_slow_down_are_saved_as_what_is_left_of_them() -> None:
    pace = make_pace(rate=100)
    end(pace, OVERLOADED, asked_seconds=60)
    saved = pace.save(NOW + 20)
    assert saved.hold_seconds == 40
    assert saved.slowdown == Slowdown(580, 50, 100)
    assert pace.save(NOW + 60).hold_seconds == 0
    assert pace.save(NOW + 600) == make_pace().save(NOW)


def test_the_next_owner_honours_the_hold_and_goes_on_slowly() -> None:
    pace = make_pace(rate=100)
    end(pace, OVERLOADED, asked_seconds=60)
    other, there = make_pace(rate=100, owned_since=5.0), 5.0
    other.restore(pace.save(NOW + 20), there)
    assert other.wait_seconds(0, there) == 40
    for seconds in (40, 300, 500):
        assert other.useful(there + seconds) == pace.useful(NOW + 20 + seconds) < 200
    assert other.useful(there + 580) == 200


def test_a_probe_that_is_due_is_saved_as_due_now() -> None:
    assert make_open().save(NOW + 100).probe_in_seconds == 0


def test_the_next_owner_goes_on_by_its_own_clock() -> None:
    saved = make_open().save(NOW + 10)
    pace, there = make_pace(owned_since=5.0), 5.0
    pace.restore(saved, there)
    assert pace.wait_seconds(0, there) == 20
    assert pace.wait_seconds(0, there + 20) == 0
    end(pace, TIMEOUT, now=there + 20)
    assert pace.wait_seconds(0, there + 20) == 60, "it knows which probe this was"


def test_the_next_owner_of_a_half_open_webhook_begins_with_one_request() -> None:
    pace = make_half_open()
    end(pace, SUCCESS, count=15, now=NOW + 30)
    assert pace.wait_seconds(7, NOW + 30) == 0
    other = make_pace()
    other.restore(pace.save(NOW + 30), NOW)
    assert other.wait_seconds(0, NOW) == 0
    assert other.wait_seconds(1, NOW) == math.inf


def test_the_next_owner_goes_on_counting_days_and_blocked_addresses() -> None:
    pace = make_pace()
    for number in range(20):
        end(pace, TIMEOUT, now=NOW + number * HOUR)
    other = make_pace(owned_since=0)
    other.restore(pace.save(NOW + 5 * DAY - 1), 100.0)
    assert end(other, TIMEOUT, now=100.0) is None
    assert end(other, TIMEOUT, now=101.0) is DisableReason.FAILING

    pace = make_pace()
    end(pace, BLOCKED, now=NOW)
    end(pace, BLOCKED, now=NOW + 10 * MINUTE)
    other.restore(pace.save(NOW + 11 * MINUTE), 100.0)
    assert end(other, BLOCKED, now=100.0 + 8 * MINUTE) is None
    assert end(other, BLOCKED, now=100.0 + 9 * MINUTE) is DisableReason.BLOCKED


@given(
    st.lists(
        st.tuples(
            st.sampled_from([SUCCESS, TIMEOUT, REFUSED, BLOCKED, OURS, OVERLOADED, http(500)]),
            st.floats(0, HOUR),
            st.floats(0, 1, exclude_max=True),
            st.one_of(st.none(), st.floats(0, 2 * HOUR)),
        ),
        max_size=60,
    ),
    st.floats(0, 1e6),
)
def test_what_was_saved_is_saved_again_by_the_next_owner(
    results: list[tuple[AttemptResult, float, float, float | None]], there: float
) -> None:
    pace, now = make_pace(), NOW
    for result, pause, jitter, asked_seconds in results:
        now += pause
        pace.ended(result, asked_seconds, started_at=now, now=now, jitter=jitter)
    saved = pace.save(now)
    other = make_pace()
    other.restore(saved, there)
    again = other.save(there)
    assert (again.breaker, again.probe_count) == (saved.breaker, saved.probe_count)
    assert (again.failure_count, again.blocked_count) == (saved.failure_count, saved.blocked_count)
    assert again.probe_in_seconds == pytest.approx(saved.probe_in_seconds, abs=1e-6)
    assert again.failing_seconds == pytest.approx(saved.failing_seconds, abs=1e-6)
    assert again.blocked_seconds == pytest.approx(saved.blocked_seconds, abs=1e-6)
    assert again.hold_seconds == pytest.approx(saved.hold_seconds, abs=1e-6)
    assert (again.slowdown is None) is (saved.slowdown is None)
    if again.slowdown is not None and saved.slowdown is not None:
        assert again.slowdown.seconds == pytest.approx(saved.slowdown.seconds, abs=1e-6)
        assert (again.slowdown.rate, again.slowdown.ceiling) == (saved.slowdown.rate, saved.slowdown.ceiling)
    assert other.has_learnt(there) is pace.has_learnt(now)


def test_what_was_saved_by_a_clock_that_was_ahead_lasts_no_longer_than_it_can() -> None:
    """Else nothing is sent to a webhook for as long as the clock has stepped back by."""
    pace, policy = Pace(PacePolicy(), NOW), PacePolicy()
    pace.restore(
        SavedHealth(BreakerState.OPEN, DAY, 3, -DAY, 5, 0, None, hold_seconds=DAY, slowdown=Slowdown(DAY, 1.0, 2.0)),
        NOW,
    )
    saved = pace.save(NOW)
    assert saved.probe_in_seconds == policy.breaker.probe_seconds_max
    assert saved.hold_seconds == policy.hold_seconds_max
    assert saved.failing_seconds == 0
    assert saved.slowdown is not None
    assert saved.slowdown.seconds <= policy.throttle_seconds
