"""How many items one statement may hold: half as many after each that timed out, twice as many after each answer.

A statement that is too big for the moment times out, its callers repeat, and the next is bigger still: a smaller one
ends that. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

COUNT_MIN: Final = 8  # items; fewer would not make a statement noticeably quicker


@dataclass(frozen=True, slots=True)
class GroupSize:
    """The bound of the next statement, which is never below COUNT_MIN nor above `count_max`."""

    count: int
    count_max: int

    def after_time_out(self, sent_count: int) -> GroupSize:
        """Returns half of what the statement that timed out held: its bound may have been far away."""
        return replace(self, count=min(self.count_max, max(COUNT_MIN, min(self.count, sent_count) // 2)))

    def after_answer(self) -> GroupSize:
        """Returns twice the bound: ten answers lead from the least to any that is configured."""
        return replace(self, count=min(self.count * 2, self.count_max))

    def share_of(self, amount: int) -> int:
        """Returns the part of another bound of a statement that goes with this one."""
        return max(1, amount * self.count // self.count_max)
