"""Turns of the event loop for work that comes in crowds: one piece of it in a turn at most, customers in turn.

A change wakes a thousand watchers at once, and a batch is read event by event: each piece takes as much of the loop as
a call does. Without this they would all run in one turn of
the loop, and until its end no call is accepted and no result is read.
Which piece is next, and which turns have none, is decided in `domain/crowds.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from webhook_grpc.domain.crowds import Crowds, Spacing

EACH_TURN: Final = Spacing(turns=1, seconds_max=0.0)


class LoopTurns:
    """The pieces of work that wait. A watcher or a call has one at most."""

    def __init__(self, spacing: Spacing = EACH_TURN) -> None:
        self._crowds: Crowds[Callable[[], None]] = Crowds(spacing)
        self._is_scheduled = False

    def soon(self, whose: Hashable, call: Callable[[], None]) -> None:
        """Calls something short when it is the customer's turn, unless it is withdrawn before. Never waits."""
        self._crowds.add(whose, call, time.monotonic())
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def withdraw(self, whose: Hashable, call: Callable[[], None]) -> None:
        """Forgets what was to be called, if it was not called yet."""
        self._crowds.withdraw(whose, call)

    async def wait(self, whose: Hashable) -> None:
        """Returns when it is the customer's turn. Who is cancelled meanwhile gives the turn up."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        grant = partial(_grant, granted)
        self.soon(whose, grant)
        try:
            await granted
        finally:
            self.withdraw(whose, grant)

    def hurry(self) -> None:
        """Leaves out no turns any more: the process is about to stop."""
        self._crowds.spacing = EACH_TURN

    def _next(self) -> None:
        call = self._crowds.next(time.monotonic())
        self._is_scheduled = bool(self._crowds)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._next)
        if call is not None:
            call()


def _grant(granted: asyncio.Future[None]) -> None:
    if not granted.done():  # done: who waited has just left
        granted.set_result(None)
