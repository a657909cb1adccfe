"""Crowds leave turns of the event loop to others; whoever has work is served within a bound, whatever others do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.crowds import Crowds, Spacing

SPACING = Spacing(turns=8, seconds_max=0.02)
SHORT, LONG = 0.001, 0.05  # turns, in seconds: of which 8 take less, and one more, than pieces may be apart
CUSTOMERS = "abcd"


@dataclass
class Course:
    """Turns of a loop, and who was served in each."""

    crowds: Crowds[tuple[str, int]]
    now: float = 1000.0
    served: list[str | None] = field(default_factory=list[str | None])
    pieces: int = 0

    def join(self, whose: str, count: int = 1) -> list[tuple[str, int]]:
        """Adds pieces of a customer; returns them."""
        added = [(whose, self.pieces + number) for number in range(count)]
        self.pieces += count
        for piece in added:
            self.crowds.add(whose, piece, self.now)
        return added

    def turn(self, seconds: float = SHORT, count: int = 1) -> Sequence[str | None]:
        """Lets turns pass; returns who was served in them."""
        for _ in range(count):
            self.now += seconds
            piece = self.crowds.next(self.now)
            self.served.append(piece[0] if piece else None)
        return self.served[-count:]


@pytest.fixture
def course() -> Course:
    return Course(Crowds(SPACING))


def test_a_crowd_gets_every_eighth_turn_and_leaves_the_others_out(course: Course) -> None:
    course.join("crowd", 10)
    course.turn(count=80)
    turns = [turn for turn, whose in enumerate(course.served) if whose]
    assert turns[:3] == [0, 1, 9], "the first is no crowd yet, and the next finds that none was served for long"
    assert [after - before for before, after in itertools.pairwise(turns[1:])] == [8] * 8
    assert not course.crowds


def test_where_turns_take_long_a_crowd_waits_no_longer_than_the_time_between_two(course: Course) -> None:
    course.join("crowd", 10)
    assert course.turn(LONG, 10) == ["crowd"] * 10


def test_who_had_no_turn_lately_does_not_wait_for_the_crowd(course: Course) -> None:
    course.join("crowd", 100)
    course.turn(count=2)
    course.join("other")
    assert course.turn() == ["other"]


def test_crowds_of_several_customers_take_turns_in_the_same_share(course: Course) -> None:
    course.join("first", 20)
    course.join("second", 20)
    served = [whose for whose in course.turn(count=80) if whose]
    assert len(served) <= 80 / SPACING.turns + 3, "all together"
    assert abs(served.count("first") - served.count("second")) <= 1


def test_who_has_left_takes_no_turn(course: Course) -> None:
    pieces = course.join("crowd", 100)
    for piece in pieces[:-1]:
        course.crowds.withdraw("crowd", piece)
    assert course.crowds.next(course.now) == pieces[-1]
    course.crowds.withdraw("crowd", pieces[-1])  # it has had its turn: nothing is left to withdraw
    assert not course.crowds


def test_a_customer_whose_only_piece_is_withdrawn_is_not_waited_for_and_comes_back(course: Course) -> None:
    for _ in range(3):  # rested, and as a crowd
        for piece in course.join("crowd"):
            course.crowds.withdraw("crowd", piece)
        assert not course.crowds
        assert course.turn() == [None]
        course.join("crowd")
        assert "crowd" in course.turn(count=SPACING.turns + 1)


def test_newcomers_without_end_do_not_starve_a_crowd(course: Course) -> None:
    course.join("crowd", 10)
    course.turn(count=2)
    for number in range(8 * (SPACING.turns + 1)):
        course.join(f"newcomer {number}")
        course.turn()
    assert course.served[2:].count("crowd") == 8


def test_an_empty_line_wakes_again(course: Course) -> None:
    """At once if it rested for long enough, and with the crowds if not."""
    for _ in range(5):
        course.join("crowd", 2)
        while course.crowds:
            course.turn()
        course.join("crowd")
        assert "crowd" in course.turn(count=SPACING.turns)
        assert not course.crowds


def test_when_the_process_stops_no_turns_are_left_out(course: Course) -> None:
    course.join("crowd", 50)
    course.crowds.spacing = Spacing(1, 0.0)
    assert course.turn(count=50) == ["crowd"] * 50


def test_of_customers_that_have_no_work_nothing_is_kept(course: Course) -> None:
    for number in range(1000):
        course.join(f"customer {number}")
        course.turn()
        assert course.crowds.remembered_count <= SPACING.turns + 1


class Bounded:
    """Crowds, and how many turns each piece that waits may still have to wait."""

    def __init__(self, spacing: Spacing) -> None:
        self.crowds = Crowds[tuple[str, int]](spacing)
        self.waiting: dict[str, list[tuple[str, int]]] = {}
        self.bounds: dict[tuple[str, int], int] = {}
        self._now = 1000.0
        self._pieces = itertools.count()
        # Of each customer (there are four) as many as are in the line may come before a piece. Each costs all turns
        # that are left out, and one more that somebody who is rested may have first.
        self._turns_each = len(CUSTOMERS) * (spacing.turns + 1)

    def join(self, whose: str, count: int) -> None:
        for _ in range(count):
            piece = (whose, next(self._pieces))
            self.crowds.add(whose, piece, self._now)
            line = self.waiting.setdefault(whose, [])
            line.append(piece)
            self.bounds[piece] = len(line) * self._turns_each + len(CUSTOMERS)

    def leave(self, whose: str, place: int) -> None:
        line = self.waiting.get(whose, [])
        if place < len(line):
            self.crowds.withdraw(whose, line[place])
            del self.bounds[line.pop(place)]

    def turn(self, seconds: float) -> None:
        self._now += seconds
        piece = self.crowds.next(self._now)
        self.bounds = {other: left - 1 for other, left in self.bounds.items()}
        assert min(self.bounds.values(), default=0) >= 0, "starves"
        if piece is not None:
            assert self.waiting[piece[0]].pop(0) == piece, "each once, in order"
            del self.bounds[piece]
        assert bool(self.crowds) == any(self.waiting.values()), "nothing gets lost"


def _turns(seconds: float, count: int) -> Callable[[Bounded], None]:
    def step(bounded: Bounded) -> None:
        for _ in range(count):
            bounded.turn(seconds)

    return step


def _join(whose: str, count: int) -> Callable[[Bounded], None]:
    return lambda bounded: bounded.join(whose, count)


def _leave(whose: str, place: int) -> Callable[[Bounded], None]:
    return lambda bounded: bounded.leave(whose, place)


_WHOSE = st.sampled_from(CUSTOMERS)
_STEPS = st.lists(
    st.one_of(
        st.builds(_join, _WHOSE, st.integers(1, 5)),
        st.builds(_leave, _WHOSE, st.integers(0, 9)),
        st.builds(_turns, st.sampled_from([0.0, SHORT, LONG]), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(steps=_STEPS, turns=st.integers(1, 10), seconds_max=st.sampled_from([0.001, 0.02, 1.0]))
def test_each_piece_is_served_once_in_order_and_within_the_turns_of_its_place_in_line(
    steps: Sequence[Callable[[Bounded], None]], turns: int, seconds_max: float
) -> None:
    bounded = Bounded(Spacing(turns, seconds_max))
    for step in steps:
        step(bounded)
    for _ in range(max(bounded.bounds.values(), default=0)):
        bounded.turn(SHORT)
    assert not bounded.crowds
