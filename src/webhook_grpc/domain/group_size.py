"""How many items one statement may hold: fewer after each that took too long, more after each that was quick.

A statement that is too big for the moment times out, its callers repeat, and the next is bigger still: a smaller one
ends that. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .record import record

COUNT_MIN: Final = 8  # items; fewer would not make a statement noticeably quicker
QUICK_SECONDS: Final = 0.25  # a statement that took less may be followed by one twice as big
SLOW_SECONDS: Final = 1.0  # one that took more is followed by one half as big, although it was answered


@record
class GroupSize:
    """The bound of the next statement, which is never below COUNT_MIN nor above `count_max`."""

    count: int
    count_max: int

    def after_time_out(self, sent_count: int) -> GroupSize:
        """Returns half of what the statement that timed out held: its bound may have been far away."""
        return replace(self, count=min(self.count_max, max(COUNT_MIN, min(self.count, sent_count) // 2)))

    def after_answer(self, sent_count: int, took_seconds: float) -> GroupSize:
        """Returns twice the bound after a quick answer, so that ten lead from the least to any that is configured.

        Half after a slow one; the same in between, which is where it comes to rest while the database is slow.
        """
        if took_seconds > SLOW_SECONDS:
            return self.after_time_out(sent_count)
        if took_seconds > QUICK_SECONDS:
            return self
        return replace(self, count=min(self.count * 2, self.count_max))

    def share_of(self, amount: int) -> int:
        """Returns the part of another bound of a statement that goes with this one."""
        return max(1, amount * self.count // self.count_max)
