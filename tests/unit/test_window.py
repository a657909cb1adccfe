"""How often something happened lately, in constant memory."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.window import Window

NOW = 1000.0
SECONDS = 300.0
SLICES = 10
SLICE_SECONDS = SECONDS / SLICES


def make_window() -> Window:
    """Of the length that breakers use."""
    return Window(SECONDS, SLICES)


def test_a_new_window_has_seen_nothing() -> None:
    assert make_window().total(NOW) == 0


def test_it_counts_what_happened() -> None:
    window = make_window()
    for second in range(5):
        window.add(NOW + second)
    assert window.total(NOW + 5) == 5


@pytest.mark.parametrize(("seconds_ago", "total"), [(0, 1), (60, 1), (269, 1), (301, 0), (3600, 0), (1e7, 0)])
def test_it_forgets_what_happened_before_the_window(seconds_ago: float, total: int) -> None:
    window = make_window()
    window.add(NOW)
    assert window.total(NOW + seconds_ago) == total


def test_it_forgets_slice_by_slice() -> None:
    window = make_window()
    for number in range(SLICES):
        window.add(NOW + number * SLICE_SECONDS)
    totals = [window.total(NOW + number * SLICE_SECONDS) for number in range(SLICES - 1, 2 * SLICES + 1)]
    assert totals == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


def test_after_a_long_rest_it_begins_anew() -> None:
    window = make_window()
    for _ in range(7):
        window.add(NOW)
    window.add(NOW + 100 * SECONDS)
    assert window.total(NOW + 100 * SECONDS) == 1


def test_what_is_told_late_counts_now() -> None:
    window = make_window()
    window.add(NOW)
    window.add(NOW - 200)
    assert window.total(NOW) == 2


def test_it_takes_no_more_memory_however_much_happens() -> None:
    window = make_window()
    window.add(NOW)
    size = len(pickle.dumps(window._counts))
    for number in range(100):
        window.add(NOW + number * 17)
    assert len(pickle.dumps(window._counts)) == size


@given(st.lists(st.floats(0, 200), max_size=100), st.floats(0, 400))
def test_it_is_exact_to_within_one_slice(pauses: list[float], rest: float) -> None:
    window, now, times = make_window(), NOW, list[float]()
    for pause in pauses:
        now += pause
        window.add(now)
        times.append(now)
    now += rest
    surely = sum(now - time < SECONDS - SLICE_SECONDS - 1e-6 for time in times)
    perhaps = sum(now - time < SECONDS + 1e-6 for time in times)
    assert surely <= window.total(now) <= perhaps
