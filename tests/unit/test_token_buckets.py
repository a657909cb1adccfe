"""The token bucket: so many at once, so many a second on average."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.token_buckets import TokenBucket

NOW = 1000.0


def test_a_full_bucket_admits_one_seconds_worth_at_once_and_no_more() -> None:
    bucket = TokenBucket.full(10, NOW)
    assert [bucket.take(1, NOW) for _ in range(10)] == [0.0] * 10
    assert bucket.take(1, NOW) == pytest.approx(0.1)


def test_what_is_refused_is_not_taken() -> None:
    bucket = TokenBucket.full(10, NOW)
    assert bucket.take(8, NOW) == 0
    assert bucket.take(5, NOW) == pytest.approx(0.3)
    assert bucket.take(5, NOW) == pytest.approx(0.3), "asking again does not push it off"
    assert bucket.take(2, NOW) == 0


def test_time_refills_it_up_to_its_burst() -> None:
    bucket = TokenBucket.full(10, NOW)
    assert bucket.take(10, NOW) == 0
    assert bucket.take(5, NOW + 0.5) == 0
    assert bucket.take(1, NOW + 0.5) > 0
    assert bucket.take(10, NOW + 3600) == 0
    assert bucket.take(1, NOW + 3600) > 0, "an hour of rest is worth one burst"


@pytest.mark.parametrize(("rate", "seconds"), [(0.5, 2.0), (0.1, 10.0), (1.0, 1.0)])
def test_a_rate_below_one_a_second_still_admits_one(rate: float, seconds: float) -> None:
    bucket = TokenBucket.full(rate, NOW)
    assert bucket.take(1, NOW) == 0
    assert bucket.take(1, NOW) == pytest.approx(seconds)
    assert bucket.take(1, NOW + seconds) == 0


def test_a_batch_larger_than_the_burst_goes_into_debt_and_the_debt_is_paid_first() -> None:
    bucket = TokenBucket.full(10, NOW)
    assert bucket.take(50, NOW) == 0
    assert bucket.take(1, NOW) == pytest.approx(4.1)
    assert bucket.take(1, NOW + 4) == pytest.approx(0.1)
    assert bucket.take(1, NOW + 4.2) == 0


def test_only_a_full_bucket_admits_a_batch_larger_than_the_burst() -> None:
    bucket = TokenBucket.full(10, NOW)
    assert bucket.take(1, NOW) == 0
    assert bucket.take(50, NOW) == pytest.approx(0.1)
    assert bucket.take(50, NOW + 0.2) == 0


@given(
    st.floats(min_value=0.1, max_value=1000),
    st.lists(st.tuples(st.integers(1, 50), st.floats(min_value=0, max_value=5)), max_size=50),
)
def test_no_more_than_the_rate_is_admitted_beyond_the_first_burst_and_the_last_debt(
    rate: float, asked: list[tuple[int, float]]
) -> None:
    bucket, now = TokenBucket.full(rate, NOW), NOW
    admitted = last = 0
    for count, pause in asked:
        now += pause
        if bucket.take(count, now) == 0:
            admitted += count
            last = count
    assert admitted - last <= bucket.burst + rate * (now - NOW) + 1e-6


@given(st.floats(min_value=0.1, max_value=1000), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_after_the_time_that_it_names_it_admits(rate: float, counts: list[int]) -> None:
    bucket, now = TokenBucket.full(rate, NOW), NOW
    for count in counts:
        wait = bucket.take(count, now)
        if wait:
            now += wait + 1e-6
            assert bucket.take(count, now) == 0
