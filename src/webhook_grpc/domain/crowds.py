"""Which piece of work that comes in crowds gets the next turn of the event loop, and which turns are left to others.

A crowd is what waits of one customer, like a thousand watchers whom a change wakes. A call needs several turns of
the loop, so it takes as long as several pieces if each turn has one. So crowds leave turns out, always as many, whoever
else has work: pieces are put off by turns, not by time, and a loop with nothing else to do is at the next one at once.

Whoever had no turn lately is no crowd, and goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from .record import record

Piece = TypeVar("Piece", bound=Hashable)


@record
class Spacing:
    """How far apart the pieces of crowds are: so many turns, but no longer than so many seconds."""

    turns: int
    seconds_max: float


_Moment = tuple[int, float]
"""A turn and its time."""


class Crowds(Generic[Piece]):
    """The pieces that wait, in a line for each customer. `now` is in monotonic seconds."""

    def __init__(self, spacing: Spacing) -> None:
        self.spacing = spacing
        self._lines: dict[Hashable, OrderedDict[Piece, None]] = {}  # none is empty; each is in one of the next two
        self._rested: OrderedDict[Hashable, None] = OrderedDict()  # those that had no turn lately; the next first
        self._crowded: OrderedDict[Hashable, None] = OrderedDict()  # the others; the next first
        self._served: OrderedDict[Hashable, _Moment] = OrderedDict()  # who had a turn lately, the longest ago first
        self._turn = 0
        self._last: _Moment = (-spacing.turns, float("-inf"))  # of a crowd
        self._is_passed_over = False  # a crowd whose piece was due, by somebody who is rested

    def __bool__(self) -> bool:
        """Whether a piece waits."""
        return bool(self._lines)

    @property
    def remembered_count(self) -> int:
        """Returns how many customers are remembered, with what waits or without."""
        return len(self._lines.keys() | self._served.keys())

    def add(self, whose: Hashable, piece: Piece, now: float) -> None:
        """Lets a piece of a customer wait for its turn. No other that waits may be equal to it."""
        line = self._lines.get(whose)
        if line is None:
            line = self._lines[whose] = OrderedDict()
            last = self._served.get(whose)
            (self._rested if last is None or self._is_over(last, now) else self._crowded)[whose] = None
        line[piece] = None

    def withdraw(self, whose: Hashable, piece: Piece) -> None:
        """Forgets a piece if it still waits: whose it is has left, and holds up nobody."""
        line = self._lines.get(whose)
        if line is not None and piece in line:
            del line[piece]
            if not line:
                del self._lines[whose]
                self._rested.pop(whose, None)
                self._crowded.pop(whose, None)

    def next(self, now: float) -> Piece | None:
        """Returns the piece that has this turn, None if the turn is left to others. Call it once a turn."""
        self._turn += 1
        is_due = bool(self._crowded) and self._is_over(self._last, now)
        if not is_due and not self._rested:
            return None
        while self._served and self._is_over(next(iter(self._served.values())), now):
            self._served.popitem(last=False)
        if self._rested and not (is_due and self._is_passed_over):  # once: however long turns take, both are served
            self._is_passed_over = is_due
            return self._taken(self._rested, now)
        self._is_passed_over, self._last = False, (self._turn, now)
        return self._taken(self._crowded, now)

    def _taken(self, lines: OrderedDict[Hashable, None], now: float) -> Piece:
        whose, _ = lines.popitem(last=False)
        line = self._lines[whose]
        piece, _ = line.popitem(last=False)
        if line:
            self._crowded[whose] = None  # at the end: the others come first
        else:
            del self._lines[whose]
        self._served[whose] = (self._turn, now)
        self._served.move_to_end(whose)
        return piece

    def _is_over(self, last: _Moment, now: float) -> bool:
        """Returns whether the next piece may follow one at that moment."""
        turn, at = last
        return self._turn - turn >= self.spacing.turns or now - at >= self.spacing.seconds_max
