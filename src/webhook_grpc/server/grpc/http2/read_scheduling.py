"""The time that the connections of a door together take for frames in one turn of the event loop.

Reading header blocks takes the loop, and a client can send many. While there is time, a connection is read at once; the
others line up, and are read in the turns that follow, one after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, Protocol

TURN_SECONDS: Final = 0.003


class Reader(Protocol):
    """A connection with frames that have come."""

    def look_at_frames(self) -> None:
        """Looks at them, as long as there is time. Must not raise."""
        ...


class Reading:
    """Who is read in this turn, and in the next ones."""

    def __init__(self) -> None:
        self._until: float | None = None  # when the time of this turn ends (monotonic); None: nothing was read in it
        self._waiting = deque[Reader]()

    def has_time(self) -> bool:
        """Returns whether something may be read in this turn. The first in a turn always has time."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + TURN_SECONDS
            asyncio.get_running_loop().call_soon(self._next_turn)
            return True
        return now < self._until

    def line_up(self, reader: Reader) -> None:
        """Lets a connection be read when its turn comes: once."""
        self._waiting.append(reader)

    def _next_turn(self) -> None:
        self._until = None
        for _ in range(len(self._waiting)):
            if not self.has_time():
                break
            self._waiting.popleft().look_at_frames()
