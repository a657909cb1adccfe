"""How many items a statement may hold, after time-outs and after answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.group_size import COUNT_MIN, QUICK_SECONDS, SLOW_SECONDS, GroupSize

FULL = GroupSize(1000, 1000)


def test_a_time_out_halves_and_an_answer_doubles() -> None:
    after = FULL.after_time_out(1000)
    assert after.count == 500
    assert after.after_answer(500, 0.01).count == 1000
    assert FULL.after_answer(1000, 0.01) == FULL


def test_an_answer_that_took_long_halves_too_and_one_that_was_neither_slow_nor_quick_changes_nothing() -> None:
    assert FULL.after_answer(1000, SLOW_SECONDS * 1.01).count == 500
    size = GroupSize(100, 1000)
    assert size.after_answer(100, QUICK_SECONDS * 1.01) == size == size.after_answer(100, SLOW_SECONDS)


def test_what_is_halved_is_what_was_sent_not_a_bound_that_was_far_away() -> None:
    assert FULL.after_time_out(60).count == 30


def test_any_crowd_is_down_to_the_least_after_ten_time_outs_and_back_after_ten_answers() -> None:
    size = FULL
    for _ in range(10):
        size = size.after_time_out(size.count)
    assert size.count == COUNT_MIN
    for _ in range(10):
        size = size.after_answer(size.count, 0.0)
    assert size == FULL


def test_a_bound_of_weight_goes_with_it() -> None:
    assert FULL.share_of(8_000_000) == 8_000_000
    assert FULL.after_time_out(1000).share_of(8_000_000) == 4_000_000


@given(st.integers(1, 10_000), st.lists(st.tuples(st.integers(1, 20_000), st.none() | st.floats(0, 10))))
def test_it_stays_within_its_bounds(count_max: int, statements: list[tuple[int, float | None]]) -> None:
    """Each held so many items and was answered after so many seconds; None: it timed out."""
    size = GroupSize(count_max, count_max)
    for sent_count, seconds in statements:
        size = size.after_time_out(sent_count) if seconds is None else size.after_answer(sent_count, seconds)
        assert min(COUNT_MIN, count_max) <= size.count <= count_max
        assert size.share_of(1) >= 1
