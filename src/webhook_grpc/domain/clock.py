"""What to make of the database's clock: how far it is ahead of ours, when it has stepped, what time is believed.

Each answer that names the database's time shows how far that clock is ahead, to within half of the round trip (Cristian
1989): somewhere in it the clock was read. What several answers show is put together, so that one that was long on its
way makes nothing that is known less certain, and is not taken for a step.

A clock that runs ahead would expire and drop everything that is kept. So whatever deletes by age goes by the time that
is *believed*: it follows the clock, but never by more than an hour at once. When the clock is further ahead, the
service was off for that long, or the clock is wrong; which of the two shows only with time. Until processes have run at
the new time for a day, the believed time stands still. See docs/decisions/0017-clocks.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from .record import record

STEP_SECONDS_MIN: Final = 1.0
"""A difference between the database's clock and this machine's monotonic one that is not a step: drift, rounding."""
DRIFT_MAX: Final = 0.001
"""By how much of a second the two clocks may run apart in a second. A clock that is corrected slowly does by half."""
BELIEVED_AHEAD: Final = timedelta(hours=1)
"""By how much the clock may be ahead of the believed time and still be believed. store/clock.py has it in SQL."""
DOUBT_SECONDS_MAX: Final = 86_400.0
"""For how long processes run at a time that is not believed before it is believed after all."""


@record
class BelievedTime:
    """The time that was last believed, and for how long processes have run since at a time that is not."""

    at: datetime
    doubted_seconds: float = 0.0

    @property
    def is_doubted(self) -> bool:
        """Whether the clock was not believed when it was last looked at."""
        return self.doubted_seconds > 0


@record
class Offset:
    """By how many seconds the database's clock is ahead of this machine's monotonic one: between two bounds."""

    least: float
    most: float
    known_at: float  # in monotonic seconds

    @property
    def middle(self) -> float:
        """Returns what to go by: no more than half of the distance of the bounds from the truth."""
        return (self.least + self.most) / 2

    def later(self, now: float) -> Offset:
        """Returns what is left of this knowledge after some time: the clocks may have run apart meanwhile."""
        drift_seconds = DRIFT_MAX * max(0.0, now - self.known_at)
        return Offset(self.least - drift_seconds, self.most + drift_seconds, now)


def offset_of(found: float, asked_at: float, answered_at: float) -> Offset:
    """Returns what one answer tells. `found`: the database's time in Unix seconds; the others are monotonic."""
    return Offset(found - answered_at, found - asked_at, answered_at)


def follow(known: Offset, answer: Offset) -> tuple[Offset, float]:
    """Returns what is known after an answer, and by how many seconds the clock has stepped: 0.0 if it has not.

    Where the two agree, each bound is the closer one. Else the answer is right: the clock has been set. If that is by
    little, it counts as drift.
    """
    before = known.later(answer.known_at)
    least, most = max(before.least, answer.least), min(before.most, answer.most)
    if least <= most:
        return Offset(least, most, answer.known_at), 0.0
    apart = answer.least - before.most if answer.least > before.most else answer.most - before.least
    return answer, 0.0 if abs(apart) <= STEP_SECONDS_MIN else apart


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
