"""Which read for watchers is next: a few run at a time, and customers take turns.

The bounds on calls do not hold for watchers, so without turns any number of their statements could wait for the pool.
A customer with hundreds of watchers that begin at once, or begin and leave again and again, delays only its own.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from functools import partial
from typing import Any


class ReadTurns:
    """The reads that wait, in a line for each customer. One that several customers wait for is in the line of each."""

    def __init__(self, at_once: int) -> None:
        self._free_count = at_once
        self._lines: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()  # the next first; none is empty

    def line_up(self, whose: Hashable, granted: asyncio.Future[None]) -> None:
        """Adds a read to the line of a customer. Sets `granted` when it may begin, perhaps at once."""
        if not granted.done():
            self._lines.setdefault(whose, deque()).append(granted)
            self._grant()

    def hold(self, granted: asyncio.Future[None], task: asyncio.Task[Any]) -> None:
        """Gives the turn back when the task ends that reads, whether or not it had begun."""
        task.add_done_callback(partial(self._end, granted))

    def _end(self, granted: asyncio.Future[None], _: asyncio.Task[Any]) -> None:
        if granted.done() and not granted.cancelled():
            self._free_count += 1
            self._grant()
        else:
            granted.cancel()  # the lines pass it over

    def _grant(self) -> None:
        while self._free_count and self._lines:
            whose, line = self._lines.popitem(last=False)
            granted = line.popleft()
            if line:
                self._lines[whose] = line  # at the end: the others come first
            if not granted.done():
                self._free_count -= 1
                granted.set_result(None)
