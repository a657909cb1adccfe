"""Turns of the event loop for work that comes in crowds: one piece of it in each, customers in turn.

A change wakes a thousand watchers at once, and a batch is read event by event: each piece takes as much of the loop as
a call does. Without turns all of them are one turn of the loop, in which no call is accepted and no result is read.

While others make short calls, a customer's crowd gets only a share of the loop's time: each piece is timed, and its
line pauses for so long that the share holds. A call needs some fifteen turns, so it feels how long they are.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from .short_calls import ShortCalls

_PAUSE_SECONDS_MIN: Final = 0.001  # timers are no finer; what is owed below that is kept
PAUSE_SECONDS_BESIDE_CALLS: Final = 0.01  # at least, while such a call is in progress: most have ended by then
_PAUSE_SECONDS_MAX: Final = 0.25  # a piece may have been long because the whole process stood still


class LoopTurns:
    """The pieces of work that wait, in a line for each customer. A watcher or a call has one at most."""

    def __init__(self, short_calls: ShortCalls | None = None, share_max: float = 1.0) -> None:
        """`share_max`: of the loop's time, for all crowds together while others than theirs make short calls."""
        self._short_calls = short_calls or ShortCalls()
        self._share_max = share_max
        self._lines: dict[Hashable, _Line] = {}  # those with pieces, and those that pause
        self._ready: deque[_Line] = deque()  # the next first
        self._pausing: list[tuple[float, int, _Line]] = []
        self._numbers = itertools.count()
        self._is_scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._began_at = 0.0

    def apart(self) -> LoopTurns:
        """Returns turns for a crowd of another kind, which give way to the same calls."""
        return LoopTurns(self._short_calls, self._share_max)

    @property
    def is_beside_calls(self) -> bool:
        """Returns whether anybody makes short calls at the moment."""
        return self._short_calls.others_in_progress(None)

    def soon(self, whose: Hashable, call: Callable[[], None]) -> None:
        """Calls something short, which lets one task go on, when it is the customer's turn. Never waits."""
        line = self._lines.get(whose)
        if line is None:
            line = self._lines[whose] = _Line(whose)
        line.calls.append(call)
        if not line.is_lined_up:
            self._line_up(line)

    async def wait(self, whose: Hashable) -> None:
        """Returns when it is the customer's turn."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.soon(whose, partial(_grant, granted))
        await granted

    def hurry(self) -> None:
        """Lets nobody pause any more: the process is about to stop."""
        self._share_max = 1.0
        self._ring(math.inf)

    def _line_up(self, line: _Line) -> None:
        line.is_lined_up = True
        if self._share_max == 1 or line.free_at - time.monotonic() < _PAUSE_SECONDS_MIN:
            self._ready.append(line)
            self._schedule()
        else:
            line.is_pausing = True
            heapq.heappush(self._pausing, (line.free_at, next(self._numbers), line))
            self._set_alarm()

    def _schedule(self) -> None:
        if self._ready and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        line = self._ready.popleft()
        line.is_lined_up, call = False, line.calls.popleft()
        line.running_count += 1
        if line.calls:
            self._line_up(line)  # at the end: the others come first
        self._schedule()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._begin)  # the step of the task that `call` lets go on is between these two
        call()
        loop.call_soon(self._end, line)

    def _begin(self) -> None:
        self._began_at = time.monotonic()

    def _end(self, line: _Line) -> None:
        """Charges a piece to its line."""
        now = time.monotonic()
        if self._share_max < 1 and self._short_calls.others_lately(line.whose, now):
            crowds = len(self._pausing) + (not line.is_pausing)
            pause = (now - self._began_at) * (crowds / self._share_max - 1)
            if self._short_calls.others_in_progress(line.whose):
                pause = max(pause, PAUSE_SECONDS_BESIDE_CALLS)
            line.free_at = min(max(line.free_at, now) + pause, now + _PAUSE_SECONDS_MAX)
        line.running_count -= 1
        if line.free_at - now < _PAUSE_SECONDS_MIN:
            self._forget(line)
        elif not line.is_lined_up:  # no piece of it waits: it is known until it has paused
            self._line_up(line)

    def _set_alarm(self) -> None:
        at = self._pausing[0][0]
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        seconds = max(0.0, at - time.monotonic())
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self, until: float = 0.0) -> None:
        """Lets the lines go on that have paused."""
        self._alarm, until = None, until or time.monotonic() + _PAUSE_SECONDS_MIN
        while self._pausing and self._pausing[0][0] < until:
            _, _, line = heapq.heappop(self._pausing)
            line.is_pausing, line.is_lined_up = False, bool(line.calls)
            if line.calls:
                self._ready.append(line)
            else:
                self._forget(line)
        self._schedule()
        if self._pausing:
            self._set_alarm()

    def _forget(self, line: _Line) -> None:
        if not line.is_lined_up and not line.running_count:
            del self._lines[line.whose]


class _Line:
    """The pieces of one customer that wait. `free_at`: until when it pauses, monotonic."""

    __slots__ = ("calls", "free_at", "is_lined_up", "is_pausing", "running_count", "whose")

    def __init__(self, whose: Hashable) -> None:
        self.whose = whose
        self.calls: deque[Callable[[], None]] = deque()
        self.free_at = 0.0
        self.is_lined_up = False  # among those that are ready, or that pause
        self.is_pausing = False
        self.running_count = 0  # pieces that have their turn, and are not charged yet


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():  # done: who waited has left
        granted.set_result(None)
