"""Histograms of plain numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.tally import LONG_SECONDS, SECONDS, SIZES, Histogram


@given(st.lists(st.floats(0, 1e6)))
def test_each_value_counts_once_at_the_first_bound_that_it_does_not_exceed(values: list[float]) -> None:
    histogram = Histogram((1.0, 2.5, 10.0))
    for value in values:
        histogram.add(value)
    for number, bound in enumerate(histogram.bounds):
        assert sum(histogram.counts[: number + 1]) == len([value for value in values if value <= bound])
    assert sum(histogram.counts) == len(values)
    assert histogram.total == sum(values)


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.add(1.0)
    assert histogram.counts == [1, 0, 0]


def test_a_negative_duration_of_clocks_that_differ_counts_as_none() -> None:
    histogram = Histogram((1.0,))
    histogram.add(-5.0)
    assert (histogram.counts, histogram.total) == ([1, 0], 0.0)


def test_bounds_grow() -> None:
    for bounds in (SECONDS, LONG_SECONDS, SIZES):
        assert list(bounds) == sorted(set(bounds))
