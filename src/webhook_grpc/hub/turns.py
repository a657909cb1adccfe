"""Turns of the event loop for work that comes in crowds: one piece of it in each, customers in turn.

A change wakes a thousand watchers at once, and a batch is read event by event: each piece takes as much of the loop as
a call does. Without turns all of them are one turn of the loop, in which no call is accepted and no result is read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial


class LoopTurns:
    """The pieces of work that wait, in a line for each customer. A watcher or a call has one at most."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[Callable[[], None]]] = OrderedDict()  # the next first; none is empty
        self._is_scheduled = False

    def soon(self, whose: Hashable, call: Callable[[], None]) -> None:
        """Calls something short when it is the customer's turn. Never waits."""
        self._lines.setdefault(whose, deque()).append(call)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    async def wait(self, whose: Hashable) -> None:
        """Returns when it is the customer's turn."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.soon(whose, partial(_grant, granted))
        await granted

    def _next(self) -> None:
        whose, line = self._lines.popitem(last=False)
        call = line.popleft()
        if line:
            self._lines[whose] = line  # at the end: the others come first
        self._is_scheduled = bool(self._lines)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._next)
        call()


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():  # done: who waited has left
        granted.set_result(None)
