"""How fast a webhook may be sent requests: its own limit, and less for a while after a 429."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.throttle import Slowdown, Throttle

NOW = 1000.0
MINUTE = 60.0
TEN_MINUTES = 600.0
DAY = 86_400.0

rates = st.integers(1, 1000)


def make_throttle(own_rate: float | None = None, owned_since: float = NOW) -> Throttle:
    """Of a webhook that this process owns since then."""
    throttle = Throttle.since(owned_since, TEN_MINUTES)
    throttle.own_rate = own_rate
    return throttle


def rested(own_rate: float | None) -> Throttle:
    """One whose bucket is full NOW."""
    throttle = make_throttle(own_rate, NOW - DAY)
    throttle.wait_seconds(NOW - DAY / 2)
    return throttle


def start_all(throttle: Throttle, now: float, at_most: int = 5000) -> int:
    """How many requests may be started at once."""
    for number in range(at_most):
        if throttle.wait_seconds(now) > 0:
            return number
        throttle.started(now)
    return at_most


# --- the webhook's own limit -----------------------------------------------------------------------------------------


def test_a_webhook_without_a_limit_never_waits() -> None:
    throttle = make_throttle()
    assert throttle.rate(NOW) is None
    assert start_all(throttle, NOW) == 5000


@pytest.mark.parametrize("rate", [1, 2, 10, 1000])
def test_the_burst_is_one_seconds_worth(rate: int) -> None:
    throttle = rested(rate)
    assert throttle.rate(NOW) == rate
    assert start_all(throttle, NOW) == rate
    assert throttle.wait_seconds(NOW) == pytest.approx(1 / rate)


@pytest.mark.parametrize("rate", [1, 7, 100, 1000])
def test_a_backlog_is_sent_at_the_rate(rate: int) -> None:
    throttle, now, started = rested(rate), NOW, 0
    start_all(throttle, now)
    while True:
        now += throttle.wait_seconds(now) + 1e-9
        if now > NOW + 10:
            break
        throttle.started(now)
        started += 1
    assert started == pytest.approx(10 * rate, abs=1)


def test_asking_does_not_push_the_turn_off() -> None:
    throttle = rested(10)
    start_all(throttle, NOW)
    for _ in range(100):
        throttle.wait_seconds(NOW + 0.05)
    assert throttle.wait_seconds(NOW + 0.05) == pytest.approx(0.05)
    assert throttle.wait_seconds(NOW + 0.1001) == 0


@given(rates, st.lists(st.floats(0, 3), min_size=1, max_size=30))
def test_after_the_time_that_it_names_a_request_may_start(rate: int, pauses: list[float]) -> None:
    throttle, now = make_throttle(rate), NOW
    for pause in pauses:
        now += pause
        start_all(throttle, now)
        now += throttle.wait_seconds(now) + 1e-6
        assert throttle.wait_seconds(now) == 0


@given(rates, st.lists(st.tuples(st.floats(0, 3), st.integers(1, 2000), st.booleans()), max_size=40))
def test_in_no_span_of_time_more_is_started_than_the_rate_and_one_burst(
    rate: int, asked: list[tuple[float, int, bool]]
) -> None:
    """Whatever the pattern of asking, and with any number of 429s."""
    throttle, now, starts = rested(rate), NOW, list[tuple[float, int]]()
    for pause, wanted, is_overloaded in asked:
        now += pause
        starts.append((now, start_all(throttle, now, wanted)))
        if is_overloaded:
            throttle.overloaded(now, now)
    for first, (began, _) in enumerate(starts):
        count = 0
        for ended, started in starts[first:]:
            count += started
            assert count <= 1.05 * rate * (ended - began) + max(1, rate) + 1e-6


@given(rates, rates, st.lists(st.tuples(st.floats(0, 3), st.integers(1, 2000)), max_size=20))
def test_a_limit_that_is_changed_holds_at_once(
    before: int, after: int, asked: list[tuple[float, int]]
) -> None:  # fmt: skip
    throttle, now = rested(before), NOW
    throttle.wait_seconds(now)
    throttle.own_rate = after
    count = 0
    for pause, wanted in asked:
        now += pause
        count += start_all(throttle, now, wanted)
        assert count <= after * (now - NOW) + max(after, 1) + 1e-6


def test_a_limit_that_is_taken_away_is_no_limit() -> None:
    throttle = make_throttle(1)
    assert throttle.wait_seconds(NOW) > 0
    throttle.own_rate = None
    assert throttle.wait_seconds(NOW) == 0


# --- hand-over -------------------------------------------------------------------------------------------------------


def test_a_new_owner_begins_without_tokens() -> None:
    throttle = make_throttle(100)
    assert start_all(throttle, NOW) == 0
    assert throttle.wait_seconds(NOW) == pytest.approx(0.01)


def test_who_has_been_the_owner_for_long_may_start_one_at_once_and_then_saves_up() -> None:
    throttle = make_throttle(100, NOW - DAY)
    assert start_all(throttle, NOW) == 1
    assert start_all(throttle, NOW + DAY) == 100


@given(
    rates, st.lists(st.tuples(st.floats(0.01, 5), st.lists(st.floats(0, 2), max_size=8)), min_size=1, max_size=6)
)  # fmt: skip
def test_a_hand_over_never_gives_a_second_burst(rate: int, owners: list[tuple[float, list[float]]]) -> None:
    """Each owner starts as much as it may; together no more than one would."""
    throttle, now, count = rested(rate), NOW, start_all(rested(rate), NOW)
    for takes, pauses in owners:
        now += takes
        throttle = make_throttle(rate, now)
        count += start_all(throttle, now)
        for pause in pauses:
            now += pause
            count += start_all(throttle, now)
        assert count <= 1.05 * rate * (now - NOW) + rate + len(owners), "one burst, and not even one for each owner"


# --- 429 -------------------------------------------------------------------------------------------------------------


def test_a_429_halves_the_rate_which_grows_back_in_a_straight_line_in_10_minutes() -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    grown = [throttle.rate(NOW + minute * MINUTE) for minute in range(11)]
    assert grown == pytest.approx([50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100])
    assert throttle.rate(NOW + TEN_MINUTES) == 100


@pytest.mark.parametrize(("started", "metered"), [(200, 20), (1000, 100), (10, 1), (1, 1), (0, 1)])
def test_without_a_limit_of_its_own_it_was_the_rate_of_the_last_10_seconds(started: int, metered: float) -> None:
    """At least one a second: from fewer, nothing can be told."""
    throttle = make_throttle()
    for number in range(started):
        throttle.started(NOW + 9 * number / started)
    now = NOW + 9
    throttle.overloaded(now, now)
    assert throttle.rate(now) == pytest.approx(metered / 2)
    assert throttle.rate(now + TEN_MINUTES / 2) == pytest.approx(metered * 3 / 4)
    assert throttle.rate(now + TEN_MINUTES - 0.001) == pytest.approx(metered, rel=0.001)
    assert throttle.rate(now + TEN_MINUTES) is None


def test_what_was_started_longer_ago_does_not_count_for_the_rate() -> None:
    throttle = make_throttle()
    for _ in range(10_000):
        throttle.started(NOW)
    throttle.overloaded(NOW, NOW + 11)
    assert throttle.rate(NOW + 11) == 0.5


def test_a_volley_of_429s_is_one_cut() -> None:
    throttle = rested(100)
    started_at = NOW - 2
    for number in range(50):
        throttle.overloaded(started_at + number / 100, NOW + number / 100)
    assert throttle.rate(NOW) == pytest.approx(50, rel=0.01)


def test_a_429_of_what_was_started_after_the_cut_is_another() -> None:
    throttle = rested(100)
    for number in range(1, 4):
        throttle.overloaded(NOW + number, NOW + number)
    assert throttle.rate(NOW + 3) == pytest.approx(12.5, rel=0.05)


def test_after_several_cuts_it_grows_back_to_where_it_was_before_the_first() -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    throttle.overloaded(NOW, NOW)
    assert throttle.rate(NOW) == pytest.approx(25)
    assert throttle.rate(NOW + TEN_MINUTES / 2) == pytest.approx(62.5)
    assert throttle.rate(NOW + TEN_MINUTES) == 100


def test_however_many_cuts_one_request_in_10_seconds_is_always_sent() -> None:
    throttle = rested(100)
    for _ in range(50):
        throttle.overloaded(NOW, NOW)
    assert throttle.rate(NOW) == 0.1
    assert throttle.wait_seconds(NOW) == pytest.approx(10)


def test_a_cut_long_after_the_last_begins_from_the_rate_of_then() -> None:
    throttle = make_throttle()
    for _ in range(1000):
        throttle.started(NOW)
    throttle.overloaded(NOW, NOW)
    assert throttle.rate(NOW) == 50
    later = NOW + DAY
    throttle.started(later)
    throttle.overloaded(later, later)
    assert throttle.rate(later) == 0.5
    assert throttle.rate(later + TEN_MINUTES / 2) == pytest.approx(0.75)


def test_after_a_cut_there_is_no_burst() -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    assert start_all(throttle, NOW) == 0
    assert throttle.wait_seconds(NOW) == pytest.approx(1 / 50)


def test_a_limit_of_its_own_that_is_lower_than_the_slowed_rate_holds() -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    throttle.own_rate = 10
    assert throttle.rate(NOW) == 10


@given(
    st.one_of(st.none(), rates),
    st.lists(st.tuples(st.floats(0, 400), st.integers(0, 50), st.booleans()), min_size=1, max_size=60),
)
def test_the_rate_stays_within_its_bounds_whatever_comes(
    own_rate: int | None, steps: list[tuple[float, int, bool]]
) -> None:
    """Never above the webhook's own, never so low that nothing would be sent, halved at the most by each cut."""
    throttle, now = make_throttle(own_rate), NOW
    for pause, wanted, is_overloaded in steps:
        now += pause
        start_all(throttle, now, wanted)
        before = throttle.rate(now)
        if is_overloaded:
            throttle.overloaded(now, now)
            after = throttle.rate(now)
            assert after is not None
            assert after >= 0.1
            if before is not None:
                assert after == pytest.approx(max(before / 2, 0.1))
        rate = throttle.rate(now)
        if own_rate is not None:
            assert rate is not None
            assert rate <= own_rate
        if rate is not None:
            assert throttle.wait_seconds(now) <= 1 / rate + 1e-6
    assert throttle.rate(now + TEN_MINUTES + 0.001) == own_rate, "ten quiet minutes and it is as before"


@given(st.lists(st.floats(0, 600), min_size=2, max_size=20))
def test_without_another_429_the_rate_only_grows(times: list[float]) -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    grown = [throttle.rate(NOW + time) or 0 for time in sorted(times)]
    assert grown == sorted(grown)


# --- across processes ------------------------------------------------------------------------------------------------


def test_one_that_is_not_slowed_down_has_nothing_to_hand_over() -> None:
    throttle = rested(100)
    assert throttle.slowdown(NOW) is None
    throttle.overloaded(NOW, NOW)
    assert throttle.slowdown(NOW + 599) == Slowdown(1, 50, 100)
    assert throttle.slowdown(NOW + 600) is None


@given(rates, st.lists(st.floats(0, 400), min_size=1, max_size=5), st.floats(0, 599), st.floats(0, 700))
def test_whoever_takes_over_has_the_same_rate_at_every_moment(
    own_rate: int, pauses: list[float], handed_over: float, later: float
) -> None:
    throttle, now = rested(own_rate), NOW
    for pause in pauses:
        now += pause
        throttle.overloaded(now, now)
    slowdown = throttle.slowdown(now + handed_over)
    assert slowdown is not None
    other, there = make_throttle(own_rate, owned_since=3.0), 3.0
    other.slow_down(slowdown, there)
    expected = throttle.rate(now + handed_over + later)
    assert expected is not None
    assert other.rate(there + later) == pytest.approx(expected, rel=1e-6)


def test_a_slow_down_that_was_forgotten_is_over_and_the_webhooks_own_limit_stays() -> None:
    throttle = rested(100)
    throttle.overloaded(NOW, NOW)
    throttle.forget()
    assert throttle.rate(NOW) == 100
    assert throttle.slowdown(NOW) is None


# --- when it may be forgotten ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own_rate", "is_cut", "seconds", "is_idle"),
    [
        (None, False, 0, True),
        (None, True, 599, False),
        (None, True, 600, True),
        (10, False, 0, False),  # what it has started is not forgotten
        (10, False, 0.5, False),
        (10, False, 1.1, True),
        (10, True, 599, False),
        (10, True, 600, True),
    ],
)
def test_it_may_be_forgotten_when_a_new_one_would_not_allow_more(
    own_rate: float | None, *, is_cut: bool, seconds: float, is_idle: bool
) -> None:
    throttle = rested(own_rate)
    start_all(throttle, NOW, 1000)
    if is_cut:
        throttle.overloaded(NOW, NOW)
    assert throttle.is_idle(NOW + seconds) is is_idle
