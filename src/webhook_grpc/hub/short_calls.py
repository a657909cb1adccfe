"""Who makes short calls: those of one answer that are no batches. Others' crowds take less of the loop meanwhile.

A call takes some twenty turns of the event loop, so it takes as long as twenty times what else is done in each.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Generator, Hashable
from typing import Final

RECENT_SECONDS: Final = 0.25  # after a call: what it caused (an attempt, its result, a change to watchers) is under way


class ShortCalls:
    """Those in progress, and who had one a moment ago. `now` is in monotonic seconds."""

    def __init__(self) -> None:
        self._in_progress = Counter[Hashable]()
        self._noted_at: OrderedDict[Hashable, float] = OrderedDict()  # by customer, the longest ago first

    @property
    def known_count(self) -> int:
        """Returns how many customers are remembered."""
        return len(self._noted_at)

    @contextlib.contextmanager
    def progress(self, whose: Hashable) -> Generator[None]:
        """Counts a call of a customer while it is in progress."""
        self.begin(whose, time.monotonic())
        try:
            yield
        finally:
            self.end(whose, time.monotonic())

    def begin(self, whose: Hashable, now: float) -> None:
        """Notes that a call of a customer begins."""
        self._in_progress[whose] += 1
        self._note(whose, now)

    def end(self, whose: Hashable, now: float) -> None:
        """Notes that a call of a customer has ended."""
        self._in_progress[whose] -= 1
        if not self._in_progress[whose]:
            del self._in_progress[whose]
        self._note(whose, now)

    def _note(self, whose: Hashable, now: float) -> None:
        self._noted_at[whose] = now
        self._noted_at.move_to_end(whose)
        while now - next(iter(self._noted_at.values())) >= RECENT_SECONDS:
            self._noted_at.popitem(last=False)

    def others_in_progress(self, whose: Hashable) -> bool:
        """Returns whether anybody but this customer has a call in progress."""
        return len(self._in_progress) > (whose in self._in_progress)

    def others_lately(self, whose: Hashable, now: float) -> bool:
        """Returns whether a call of anybody but this customer began or ended a moment ago."""
        for other in reversed(self._noted_at):
            if other != whose:
                return now - self._noted_at[other] < RECENT_SECONDS
        return False
