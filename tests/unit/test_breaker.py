"""The circuit breaker. The numbers are those of the delivery policy: docs/delivery.md."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.breaker import Breaker, BreakerPolicy, BreakerState

NOW = 1000.0
LIMIT = 10
MIDDLE = 0.5  # the jitter that leaves a time as it is
MINUTE = 60.0
HOUR = 3600.0

jitters = st.floats(min_value=0, max_value=1, exclude_max=True)


def make_breaker() -> Breaker:
    """A closed one."""
    return Breaker(BreakerPolicy())


def fail(breaker: Breaker, count: int = 1, now: float = NOW) -> list[bool]:
    """So many failures; for each, whether the breaker opened."""
    return [breaker.failed(now, MIDDLE) for _ in range(count)]


def answer(breaker: Breaker, count: int = 1, limit: int = LIMIT, now: float = NOW) -> None:
    """So many answers."""
    for _ in range(count):
        breaker.answered(limit, now)


def make_open() -> Breaker:
    """One that has opened NOW; its first probe is 30 s later."""
    breaker = make_breaker()
    fail(breaker, 10)
    assert breaker.state is BreakerState.OPEN
    return breaker


def make_half_open() -> Breaker:
    """One whose first probe was answered."""
    breaker = make_open()
    answer(breaker, now=breaker.probe_at)
    assert breaker.state is BreakerState.HALF_OPEN
    return breaker


def tell(breaker: Breaker, results: str, now: float = NOW) -> None:
    """Answers (`+`) and failures (`-`) in this order."""
    for result in results:
        if result == "+":
            answer(breaker, now=now)
        else:
            fail(breaker, now=now)


# --- closed ----------------------------------------------------------------------------------------------------------


def test_the_policy() -> None:
    policy = BreakerPolicy()
    assert policy.consecutive_failures == 10
    assert (policy.failure_share, policy.window_attempts_min, policy.window_seconds) == (0.7, 20, 5 * MINUTE)
    assert (policy.probe_seconds_min, policy.probe_seconds_max) == (30, HOUR)
    assert policy.successes_per_step == 5


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_a_closed_breaker_lets_everything_through(limit: int) -> None:
    assert make_breaker().slots(limit, NOW) == limit


def test_it_opens_at_the_tenth_failure_in_a_row_and_says_so_once() -> None:
    breaker = make_breaker()
    assert fail(breaker, 10) == [False] * 9 + [True]
    assert breaker.state is BreakerState.OPEN
    assert fail(breaker, 10) == [False] * 10


def test_failures_in_a_row_count_however_slowly_they_come() -> None:
    breaker = make_breaker()
    for number in range(9):
        assert fail(breaker, now=NOW + number * HOUR) == [False]
    assert fail(breaker, now=NOW + 9 * HOUR) == [True]


def test_any_answer_in_between_begins_the_count_anew() -> None:
    breaker = make_breaker()
    fail(breaker, 9)
    answer(breaker)
    assert fail(breaker, 9) == [False] * 9
    assert fail(breaker) == [True]


@pytest.mark.parametrize(
    ("results", "state"),
    [
        (("++++++-------+------"), BreakerState.CLOSED),  # 13 of 20
        (("+++++-------+-------"), BreakerState.OPEN),  # 14 of 20: 70 %
        (("++++-------+-------"), BreakerState.CLOSED),  # 14 of 19: too few attempts for a verdict
        (("+++---------+------"), BreakerState.CLOSED),  # 15 of 19
        ("+" * 7 + "-------" * 2, BreakerState.OPEN),  # ten in a row
        ("-+" * 500, BreakerState.CLOSED),  # half of them
        ("+--" * 500, BreakerState.CLOSED),  # two thirds
        ("---+" * 500, BreakerState.OPEN),  # three quarters
        ("++---------" * 6, BreakerState.OPEN),  # 82 %
    ],
)  # fmt: skip
def test_it_opens_when_70_percent_of_20_or_more_have_failed(results: str, state: BreakerState) -> None:
    breaker = make_breaker()
    for result in results:
        if breaker.state is BreakerState.OPEN:
            break
        tell(breaker, result)
    assert breaker.state is state


def test_what_is_longer_ago_than_5_minutes_does_not_count() -> None:
    breaker = make_breaker()
    tell(breaker, "---+---+---+---+---")  # 15 of 19
    tell(breaker, "+-", now=NOW + 301)
    assert breaker.state is BreakerState.CLOSED
    late = make_breaker()
    tell(late, "---+---+---+---+---")
    tell(late, "+-", now=NOW + 200)
    assert late.state is BreakerState.OPEN


def test_answers_of_long_ago_do_not_help() -> None:
    breaker = make_breaker()
    answer(breaker, 1000)
    tell(breaker, "---+---+---+---+---+-", now=NOW + 301)
    assert breaker.state is BreakerState.OPEN


# --- open ------------------------------------------------------------------------------------------------------------


def test_an_open_breaker_lets_nothing_through_until_the_probe_and_then_one_request() -> None:
    breaker = make_open()
    assert breaker.slots(100, NOW) == 0
    assert breaker.slots(100, NOW + 29.999) == 0
    assert breaker.slots(100, NOW + 30) == 1
    assert breaker.slots(100, NOW + HOUR) == 1


def test_probes_are_at_30_s_1_m_2_m_and_so_on_up_to_an_hour() -> None:
    breaker, now, waits = make_open(), NOW, list[float]()
    for _ in range(10):
        waits.append(breaker.probe_at - now)
        now = breaker.probe_at
        assert fail(breaker, now=now) == [True]
    assert waits == pytest.approx([30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])


def test_after_thousands_of_probes_it_is_still_an_hour() -> None:
    breaker, now = make_open(), NOW
    for _ in range(5000):
        now = breaker.probe_at
        fail(breaker, now=now)
    assert breaker.probe_at - now == pytest.approx(HOUR)


@given(jitters, st.integers(0, 12))
def test_a_probe_is_20_percent_early_or_late_at_the_most(jitter: float, failed_probes: int) -> None:
    breaker, now = make_open(), NOW
    for _ in range(failed_probes):
        now = breaker.probe_at
        breaker.failed(now, jitter)
    seconds = min(30 * 2**failed_probes, HOUR)
    assert 0.8 * seconds - 1e-6 <= breaker.probe_at - now <= 1.2 * seconds + 1e-6


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 24), (0.5, 30), (0.999_999, 36)])
def test_jitter_moves_a_probe_both_ways(jitter: float, seconds: float) -> None:
    breaker = make_breaker()
    for _ in range(10):
        breaker.failed(NOW, jitter)
    assert breaker.probe_at - NOW == pytest.approx(seconds, abs=0.001)


def test_failures_of_requests_from_before_it_opened_do_not_push_the_probe_off() -> None:
    breaker = make_open()
    assert fail(breaker, 90, NOW + 15) == [False] * 90
    assert breaker.probe_at == NOW + 30
    assert breaker.probe_count == 1


def test_an_answer_makes_it_half_open() -> None:
    breaker = make_open()
    answer(breaker, now=NOW + 30)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.slots(LIMIT, NOW + 30) == 1


# --- half-open -------------------------------------------------------------------------------------------------------


def test_requests_double_with_every_5_successes_until_the_limit() -> None:
    breaker, slots = make_half_open(), list[int]()
    for _ in range(20):
        slots.append(breaker.slots(LIMIT, NOW))
        answer(breaker)
    assert slots == [1] * 5 + [2] * 5 + [4] * 5 + [8] * 5
    assert breaker.state is BreakerState.CLOSED
    assert breaker.slots(LIMIT, NOW) == LIMIT


@pytest.mark.parametrize(("limit", "answers"), [(1, 5), (2, 5), (3, 10), (4, 10), (5, 15), (10, 20), (100, 35)])
def test_it_closes_when_the_limit_is_reached(limit: int, answers: int) -> None:
    breaker = make_half_open()
    answer(breaker, answers - 1, limit)
    assert breaker.state is BreakerState.HALF_OPEN
    answer(breaker, 1, limit)
    assert breaker.state is BreakerState.CLOSED


def test_a_lower_limit_of_the_webhook_holds_while_it_is_half_open() -> None:
    breaker = make_half_open()
    answer(breaker, 15)
    assert breaker.slots(LIMIT, NOW) == 8
    assert breaker.slots(3, NOW) == 3


def test_a_failure_among_answers_steps_down_and_the_next_answers_step_up_again() -> None:
    breaker = make_half_open()
    answer(breaker, 10)
    assert breaker.slots(LIMIT, NOW) == 4
    assert fail(breaker) == [False]
    assert (breaker.state, breaker.slots(LIMIT, NOW)) == (BreakerState.HALF_OPEN, 2)
    answer(breaker)
    assert breaker.slots(LIMIT, NOW) == 4


def test_a_failure_costs_what_makes_the_share_of_a_closed_breaker_get_nowhere() -> None:
    """At 70 % failures a closed breaker opens: seven failures cost what three answers bring."""
    breaker = make_half_open()
    answer(breaker, 8)
    tell(breaker, "---+---+-+")  # seven to three
    assert breaker.slots(LIMIT, NOW) == 2
    answer(breaker, 1)
    assert breaker.slots(LIMIT, NOW) == 2
    answer(breaker, 1)
    assert breaker.slots(LIMIT, NOW) == 4


def test_three_failures_at_one_slot_open_it_again_for_as_long_as_its_answers_have_earned() -> None:
    breaker = make_open()
    for probes in (2, 3, 4):
        assert fail(breaker, now=breaker.probe_at) == [True]
        assert breaker.probe_count == probes
    answer(breaker, 3, now=breaker.probe_at)  # the probe and two more
    assert breaker.probe_count == 1
    now = breaker.probe_at + 1
    tell(breaker, "---", now=now)
    assert breaker.state is BreakerState.HALF_OPEN, "the two answers pay for failures"
    fail(breaker, 4, now=now)
    assert breaker.state is BreakerState.OPEN
    assert breaker.probe_at == now + 60


def test_a_receiver_that_fails_right_after_its_probe_was_answered_gets_three_requests() -> None:
    breaker = make_half_open()
    assert fail(breaker, 3, now=NOW + 100) == [False, False, True]
    assert breaker.slots(LIMIT, NOW + 100) == 0
    assert breaker.probe_at == NOW + 100 + 30, "the answer has taken back one doubling"


def test_ten_failures_in_a_row_open_it_whatever_it_had_climbed() -> None:
    breaker = make_half_open()
    answer(breaker, 34, limit=100)
    assert breaker.slots(100, NOW) == 64
    assert fail(breaker, 10) == [False] * 9 + [True]
    assert breaker.slots(100, NOW) == 0


def test_70_percent_of_20_open_it_as_they_open_a_closed_one() -> None:
    breaker = make_half_open()
    answer(breaker, 6, limit=100)
    tell(breaker, "-------+------")  # 13 of 20
    assert breaker.state is BreakerState.HALF_OPEN
    fail(breaker)  # 14 of 21
    assert breaker.state is BreakerState.HALF_OPEN
    breaker = make_half_open()
    answer(breaker, 5, limit=100)
    tell(breaker, "-------+-------")  # 14 of 20
    assert breaker.state is BreakerState.OPEN


def test_failures_in_flight_when_it_opened_do_not_count_when_it_is_tried_again() -> None:
    breaker = make_half_open()
    assert [breaker.failed(NOW + 31, MIDDLE, started_at=NOW - 1) for _ in range(20)] == [False] * 20
    assert breaker.slots(LIMIT, NOW + 31) == 1
    assert breaker.state is BreakerState.HALF_OPEN


def test_after_it_opened_again_it_begins_with_one_request() -> None:
    breaker = make_half_open()
    answer(breaker, 14)
    fail(breaker, 10, now=NOW + 100)
    answer(breaker, now=breaker.probe_at)
    assert breaker.slots(LIMIT, NOW) == 1
    answer(breaker, 4)
    assert breaker.slots(LIMIT, NOW) == 1
    answer(breaker)
    assert breaker.slots(LIMIT, NOW) == 2


def test_once_closed_the_past_is_forgotten() -> None:
    breaker = make_half_open()
    fail(breaker, 3, now=NOW + 100)
    answer(breaker, now=NOW + 160)
    answer(breaker, 20, now=NOW + 160)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.probe_count == 0
    assert fail(breaker, 9, NOW + 161) == [False] * 9
    assert fail(breaker, now=NOW + 161) == [True]
    assert breaker.probe_at == NOW + 161 + 30


def test_it_can_be_made_half_open_from_outside() -> None:
    breaker = make_breaker()
    breaker.half_open()
    assert breaker.slots(LIMIT, NOW) == 1


# --- whatever comes --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("+-"), st.floats(0, 100), jitters), max_size=200), st.integers(1, 100)
)  # fmt: skip
def test_there_are_never_fewer_than_no_slots_nor_more_than_the_limit(
    results: list[tuple[str, float, float]], limit: int
) -> None:
    breaker, now = make_breaker(), NOW
    for result, pause, jitter in results:
        now += pause
        if result == "+":
            breaker.answered(limit, now)
        else:
            breaker.failed(now, jitter)
        slots = breaker.slots(limit, now)
        assert 0 <= slots <= limit
        if breaker.state is BreakerState.CLOSED:
            assert slots == limit
        elif breaker.state is BreakerState.OPEN:
            assert slots == (now >= breaker.probe_at)
        else:
            assert slots >= 1


@given(
    st.lists(st.tuples(st.sampled_from("+-"), st.floats(0, 30), jitters), max_size=60),
    st.lists(st.tuples(st.floats(0.01, 15), st.floats(0, 100), jitters), min_size=5, max_size=40),
)
def test_while_nothing_answers_one_request_passes_in_a_probes_time(
    before: list[tuple[str, float, float]], later: list[tuple[float, float, float]]
) -> None:
    """Whatever came before. A request fails after some seconds; another is asked for when a slot is free, or later."""
    breaker, now = make_breaker(), NOW
    for result, pause, jitter in before:
        now += pause
        if result == "+":
            breaker.answered(LIMIT, now)
        else:
            breaker.failed(now, jitter)
    while breaker.state is not BreakerState.OPEN:
        breaker.failed(now, MIDDLE)

    failed_at = now
    for takes, idles, jitter in later:
        seconds = min(30 * 2 ** (breaker.probe_count - 1), HOUR)
        assert breaker.slots(LIMIT, failed_at) == 0
        assert breaker.slots(LIMIT, failed_at + 0.79 * seconds) == 0
        now = max(breaker.probe_at, now) + idles
        assert breaker.slots(LIMIT, now) == 1, "one, however long nobody asked"
        now += takes
        assert breaker.failed(now, jitter)
        failed_at = now


@given(st.integers(1, 100), st.integers(0, 20))
def test_whoever_answers_always_gets_its_full_limit_back(limit: int, failed_probes: int) -> None:
    breaker, now = make_open(), NOW
    for _ in range(failed_probes):
        now = breaker.probe_at
        fail(breaker, now=now)
    answer(breaker, 1 + 5 * 7, limit, breaker.probe_at)
    assert breaker.slots(limit, now) == limit


# --- receivers that answer some of what they get ---------------------------------------------------------------------

DAY = 24 * HOUR
RECEIVERS = 60


@dataclass
class Receiver:
    """One that is down for ten requests, and then answers a share of them, each after 0.2 to 1 s. Always more waits."""

    breaker: Breaker
    share: float
    random: Random
    now: float = NOW
    sent: int = 0
    closed_after: float = math.inf  # seconds from the outage
    in_flight: list[float] = field(default_factory=list[float])  # when each ends

    def run(self, until: float) -> None:
        """Sends what the breaker lets through, until then."""
        while self.now < until:
            while len(self.in_flight) < self.breaker.slots(LIMIT, self.now):
                heapq.heappush(self.in_flight, self.now + self.random.uniform(0.2, 1.0))
                self.sent += 1
            if not self.in_flight:
                self.now = self.breaker.probe_at
                continue
            self.now = heapq.heappop(self.in_flight)
            self.end()

    def end(self) -> None:
        """One request ends."""
        if self.random.random() < self.share:
            self.breaker.answered(LIMIT, self.now)
        else:
            self.breaker.failed(self.now, self.random.random())
        if self.breaker.state is BreakerState.CLOSED:
            self.closed_after = min(self.closed_after, self.now - NOW)


def receivers(share: float, seconds: float, *, until_closed: bool = True) -> list[Receiver]:
    """Sixty after their outage, by seed; the seconds are counted from it."""
    found = [Receiver(make_open(), share, Random(seed)) for seed in range(RECEIVERS)]
    for receiver in found:
        for step in range(1, 1 + math.ceil(seconds / MINUTE)):
            if until_closed and receiver.closed_after < math.inf:
                break
            receiver.run(NOW + min(step * MINUTE, seconds))
    return found


@pytest.mark.parametrize(
    ("share", "half_of_them", "each"),
    [(0.95, MINUTE, 5 * MINUTE), (0.9, MINUTE, 5 * MINUTE), (0.8, MINUTE, 10 * MINUTE), (0.7, MINUTE, 20 * MINUTE)],
)
def test_a_receiver_that_answers_most_of_its_requests_is_closed_again_within_minutes(
    share: float, half_of_them: float, each: float
) -> None:
    seconds = sorted(receiver.closed_after for receiver in receivers(share, each))
    assert seconds[RECEIVERS // 2] <= half_of_them
    assert seconds[-1] <= each


def test_a_receiver_that_answers_half_of_its_requests_is_closed_again_too() -> None:
    """Probes that fail by chance put off the next one, so some take longer."""
    seconds = sorted(receiver.closed_after for receiver in receivers(0.5, DAY))
    assert seconds[RECEIVERS // 2] <= 5 * MINUTE
    assert seconds[int(RECEIVERS * 0.9)] <= HOUR
    assert seconds[-1] < DAY


@pytest.mark.parametrize(("share", "requests_max"), [(0.0, 35), (0.1, 150)])
def test_a_receiver_that_is_dead_gets_probes_and_nothing_else(share: float, requests_max: int) -> None:
    """In a day: 7 while the time between them doubles, then one an hour, a fifth earlier or later."""
    found = receivers(share, DAY)
    assert all(receiver.closed_after == math.inf for receiver in found)
    assert max(receiver.sent for receiver in found) <= requests_max


def test_a_receiver_that_was_closed_again_gets_what_it_can_take() -> None:
    """Which is ten at once, each for 0.6 s."""
    for receiver in receivers(0.8, 10 * MINUTE)[:10]:
        sent_before, closed_at = receiver.sent, receiver.now
        receiver.run(closed_at + MINUTE)
        assert receiver.sent - sent_before > 0.8 * 10 * MINUTE / 0.6
