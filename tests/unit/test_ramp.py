"""Few requests in a process's first seconds, and twice as many at each step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.ramp import DOUBLING_SECONDS, FIRST, Ramp

BEGAN = 1000.0
PROCESS_MAX = 2000


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [(0, 16), (0.19, 16), (0.21, 32), (0.41, 64), (0.61, 128), (0.81, 256), (1.01, 512), (1.21, 1024), (1.41, 2000)],
)
def test_the_limit_doubles_every_fifth_of_a_second_until_all_may_be_used(seconds: float, limit: int) -> None:
    assert Ramp(BEGAN).limit(PROCESS_MAX, BEGAN + seconds) == limit


@pytest.mark.parametrize("seconds", [2, 60, 86_400, 1e9])
def test_later_all_may_be_used_however_much_that_is(seconds: float) -> None:
    ramp = Ramp(BEGAN)
    assert ramp.limit(PROCESS_MAX, BEGAN + seconds) == PROCESS_MAX
    assert ramp.next_step_at(PROCESS_MAX, BEGAN + seconds) is None


def test_a_small_limit_is_there_from_the_start() -> None:
    ramp = Ramp(BEGAN)
    for limit in (1, FIRST):
        assert ramp.limit(limit, BEGAN) == limit
        assert ramp.next_step_at(limit, BEGAN) is None


def test_it_tells_when_the_next_step_is() -> None:
    ramp = Ramp(BEGAN)
    assert ramp.next_step_at(PROCESS_MAX, BEGAN) == pytest.approx(BEGAN + DOUBLING_SECONDS)
    assert ramp.next_step_at(PROCESS_MAX, BEGAN + 0.3) == pytest.approx(BEGAN + 2 * DOUBLING_SECONDS)


def test_a_clock_that_is_a_little_behind_does_no_harm() -> None:
    assert Ramp(BEGAN).limit(PROCESS_MAX, BEGAN - 5) == FIRST


@given(st.integers(1, 100_000), st.floats(0, 10))
def test_at_the_next_step_more_may_be_used_and_not_before(limit: int, seconds: float) -> None:
    ramp = Ramp(BEGAN)
    now = BEGAN + seconds
    at = ramp.next_step_at(limit, now)
    if at is None:
        assert ramp.limit(limit, now) == limit
        return
    assert now - 1e-9 < at <= now + DOUBLING_SECONDS + 1e-9
    assert ramp.limit(limit, at - 2e-9) == ramp.limit(limit, min(now, at - 2e-9)) < limit
    assert ramp.limit(limit, at + 2e-9) == min(limit, 2 * ramp.limit(limit, at - 2e-9))
