"""Who is served next when there is more than can be done: callers wait in turn, by customer, and few are refused.

So many calls are carried out at a time. Further ones wait, in a bounded queue and for a bounded time; each customer has
a line of its own, and the lines are served in turn, so a customer that floods waits behind itself. When the queue is
full, the newest call of the longest line is refused: that is a flood's, not the call of somebody who made one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from webhook_grpc.domain.errors import Overloaded

RETRY_SECONDS: Final = 1.0

_Line = OrderedDict[asyncio.Future[None], None]


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """How many calls are carried out at a time, how many wait, and for how long at most."""

    at_once: int
    waiting_max: int
    waiting_seconds_max: float


class Turns:
    """The places of calls, and the lines of those that wait for one."""

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._taken = 0
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()  # the next to be served first; none is empty
        self._waiting_count = 0

    @property
    def waiting_count(self) -> int:
        """Returns how many calls wait for a place."""
        return self._waiting_count

    def take(self) -> bool:
        """Takes a place if one is free. While others wait none is."""
        if self._taken >= self._limits.at_once:
            return False
        self._taken += 1
        return True

    async def wait(self, customer: Hashable) -> None:
        """Returns with a place, when it is the customer's turn.

        Raises Overloaded if it takes too long, or if the queue is full and this customer has the longest line.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._join(customer, place)
        try:
            async with asyncio.timeout(self._limits.waiting_seconds_max):
                await place
        except BaseException as error:
            self._abandon(customer, place)
            if isinstance(error, TimeoutError):
                raise _refused(f"waited {self._limits.waiting_seconds_max:g} s for its turn") from None
            raise

    def leave(self) -> None:
        """Gives the place to the next: the first of the line whose turn it is."""
        while self._lines:
            customer, line = self._lines.popitem(last=False)
            place, _ = line.popitem(last=False)
            if line:
                self._lines[customer] = line  # at the end: the others come first
            self._waiting_count -= 1
            if not place.done():  # done: its caller is just leaving
                place.set_result(None)
                return
        self._taken -= 1

    def _join(self, customer: Hashable, place: asyncio.Future[None]) -> None:
        if self._waiting_count >= self._limits.waiting_max:
            self._make_room(customer)
        self._lines.setdefault(customer, _Line())[place] = None
        self._waiting_count += 1

    def _make_room(self, customer: Hashable) -> None:
        """Refuses the newest call of the longest line. Raises Overloaded if that would be the one that comes."""
        refused = _refused(f"{self._limits.waiting_max} calls wait already")
        longest = max(self._lines, key=lambda name: len(self._lines[name]), default=None)
        if longest is None or len(self._lines[longest]) <= len(self._lines.get(customer, ())) + 1:
            raise refused
        place = next(reversed(self._lines[longest]))
        self._drop(longest, place)
        if not place.done():  # done: its caller is just leaving
            place.set_exception(refused)

    def _abandon(self, customer: Hashable, place: asyncio.Future[None]) -> None:
        """Ends a wait: its caller left, or it was refused. A place that came at that very moment goes to the next."""
        if not self._drop(customer, place) and place.done() and not place.cancelled() and place.exception() is None:
            self.leave()

    def _drop(self, customer: Hashable, place: asyncio.Future[None]) -> bool:
        """Takes a call out of its line; returns whether it was there."""
        line = self._lines.get(customer)
        if line is None or place not in line:
            return False
        del line[place]
        if not line:
            del self._lines[customer]
        self._waiting_count -= 1
        return True


def _refused(why: str) -> Overloaded:
    return Overloaded("RATE_LIMITED", f"this server is overloaded: {why}; retry later", RETRY_SECONDS)
