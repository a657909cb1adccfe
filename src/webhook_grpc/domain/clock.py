"""What to make of the database's clock when it steps: which steps are noticed, and what time is believed for deleting.

A clock that runs ahead would expire and drop everything that is kept. So whatever deletes by age goes by the time that
is *believed*: it follows the clock, but never by more than an hour at once. When the clock is further ahead, the
service was off for that long, or the clock is wrong; which of the two shows only with time. Until processes have run at
the new time for a day, the believed time stands still. See docs/decisions/0017-clocks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

STEP_SECONDS_MIN: Final = 1.0
"""A difference between the database's clock and this machine's monotonic one that is not a step: drift, rounding."""
BELIEVED_AHEAD: Final = timedelta(hours=1)
"""By how much the clock may be ahead of the believed time and still be believed. store/clock.py has it in SQL."""
DOUBT_SECONDS_MAX: Final = 86_400.0
"""For how long processes run at a time that is not believed before it is believed after all."""


@dataclass(frozen=True, slots=True)
class BelievedTime:
    """The time that was last believed, and for how long processes have run since at a time that is not."""

    at: datetime
    doubted_seconds: float = 0.0

    @property
    def is_doubted(self) -> bool:
        """Whether the clock was not believed when it was last looked at."""
        return self.doubted_seconds > 0


def step_seconds(expected_min: float, expected_max: float, found: float) -> float:
    """Returns by how many seconds the clock has stepped: 0.0 if it lies where it was expected, or almost.

    It was expected between two times, because nobody knows when in the round trip it was read. All in Unix seconds.
    """
    if expected_min - STEP_SECONDS_MIN <= found <= expected_max + STEP_SECONDS_MIN:
        return 0.0
    return found - (expected_min if found < expected_min else expected_max)


def believe(before: BelievedTime, now: datetime, ran_seconds: float) -> BelievedTime:
    """Returns what to believe after a look at the clock, `ran_seconds` of running after the look before.

    A clock that is behind is believed at once: deleting too little does no harm.
    """
    if now <= before.at + BELIEVED_AHEAD:
        return BelievedTime(now)
    doubted_seconds = before.doubted_seconds + max(ran_seconds, STEP_SECONDS_MIN)
    if doubted_seconds >= DOUBT_SECONDS_MAX:
        return BelievedTime(now)
    return BelievedTime(before.at, doubted_seconds)
