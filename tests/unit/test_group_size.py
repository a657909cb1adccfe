"""How many items a statement may hold, after time-outs and after answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.group_size import COUNT_MIN, GroupSize

FULL = GroupSize(1000, 1000)


def test_a_time_out_halves_and_an_answer_doubles() -> None:
    after = FULL.after_time_out(1000)
    assert after.count == 500
    assert after.after_answer().count == 1000
    assert FULL.after_answer() == FULL


def test_what_is_halved_is_what_was_sent_not_a_bound_that_was_far_away() -> None:
    assert FULL.after_time_out(60).count == 30


def test_any_crowd_is_down_to_the_least_after_ten_time_outs_and_back_after_ten_answers() -> None:
    size = FULL
    for _ in range(10):
        size = size.after_time_out(size.count)
    assert size.count == COUNT_MIN
    for _ in range(10):
        size = size.after_answer()
    assert size == FULL


def test_a_bound_of_weight_goes_with_it() -> None:
    assert FULL.share_of(8_000_000) == 8_000_000
    assert FULL.after_time_out(1000).share_of(8_000_000) == 4_000_000


@given(st.integers(1, 10_000), st.lists(st.one_of(st.none(), st.integers(1, 20_000))))
def test_it_stays_within_its_bounds(count_max: int, happened: list[int | None]) -> None:
    """None is an answer; a number is a time-out of a statement that held so many."""
    size = GroupSize(count_max, count_max)
    for sent_count in happened:
        size = size.after_answer() if sent_count is None else size.after_time_out(sent_count)
        assert min(COUNT_MIN, count_max) <= size.count <= count_max
        assert size.share_of(1) >= 1
