"""Who is served next when there is more than can be done: callers wait in turn, by customer, and few are refused.

So many calls are carried out at a time. Further ones wait, in a bounded queue and for a bounded time; each customer has
a line of its own, and the lines are served in turn, so a customer that floods waits behind itself. When the queue is
full, the newest call of the longest line is refused: that is a flood's, not the call of somebody who made one. The
queue has a bound of calls and one of bytes, because each call that waits holds its request; for bytes the longest line
is the one that holds most.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.domain.record import record

RETRY_SECONDS: Final = 1.0


class _Line(OrderedDict[asyncio.Future[None], int]):
    """The calls of one customer that wait: the bytes of the request of each."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0

    def join(self, place: asyncio.Future[None], size_bytes: int) -> None:
        """Adds a call at the end."""
        self[place] = size_bytes
        self.size_bytes += size_bytes

    def leave(self, place: asyncio.Future[None]) -> int:
        """Takes a call out; returns its bytes."""
        size_bytes = self.pop(place)
        self.size_bytes -= size_bytes
        return size_bytes


@record
class TurnLimits:
    """How many calls are carried out at a time, how many wait, for how long and with how many bytes at most."""

    at_once: int
    waiting_max: int
    waiting_bytes_max: int
    waiting_seconds_max: float


class Turns:
    """The places of calls, and the lines of those that wait for one."""

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._taken = 0
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()  # the next to be served first; none is empty
        self._waiting_count = 0
        self._waiting_bytes = 0

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

    async def wait(self, customer: Hashable, size_bytes: int) -> None:
        """Returns with a place, when it is the customer's turn. `size_bytes`: what the call holds meanwhile.

        Raises Overloaded if it takes too long, or if the queue is full and this customer has the longest line.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._join(customer, place, size_bytes)
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
            place = next(iter(line))
            self._waiting_bytes -= line.leave(place)
            self._waiting_count -= 1
            if line:
                self._lines[customer] = line  # at the end: the others come first
            if not place.done():  # done: its caller is just leaving
                place.set_result(None)
                return
        self._taken -= 1

    def _join(self, customer: Hashable, place: asyncio.Future[None], size_bytes: int) -> None:
        self._make_room(customer, size_bytes)
        self._lines.setdefault(customer, _Line()).join(place, size_bytes)
        self._waiting_count += 1
        self._waiting_bytes += size_bytes

    def _make_room(self, customer: Hashable, size_bytes: int) -> None:
        """Makes room for a call and for its bytes. Raises Overloaded if it is the one that has to go."""
        limits = self._limits
        if (too_many := self._waiting_count + 1 - limits.waiting_max) > 0:
            self._shorten(customer, 1, too_many, len, f"{limits.waiting_max} calls wait already")
        if (too_many := self._waiting_bytes + size_bytes - limits.waiting_bytes_max) > 0:
            why = f"the calls that wait have {limits.waiting_bytes_max} bytes already"
            self._shorten(customer, size_bytes, too_many, _bytes_of, why)

    def _shorten(self, customer: Hashable, size: int, too_many: int, length: Callable[[_Line], int], why: str) -> None:
        """Refuses the newest calls of the longest line until that line is shorter by `too_many`.

        Raises Overloaded instead if the customer's own line, with the new call of `size`, would then be the longest.
        """
        longest = max(self._lines, key=lambda name: length(self._lines[name]), default=customer)
        line = self._lines.get(longest, _EMPTY)
        own = length(self._lines.get(customer, _EMPTY))
        if longest == customer or length(line) - too_many < own + size:
            raise _refused(why)
        until = length(line) - too_many
        while length(line) > until:
            place = next(reversed(line))
            self._drop(longest, place)
            if not place.done():  # done: its caller is just leaving
                place.set_exception(_refused(why))

    def _abandon(self, customer: Hashable, place: asyncio.Future[None]) -> None:
        """Ends a wait: its caller left, or it was refused. A place that came at that very moment goes to the next."""
        if not self._drop(customer, place) and place.done() and not place.cancelled() and place.exception() is None:
            self.leave()

    def _drop(self, customer: Hashable, place: asyncio.Future[None]) -> bool:
        """Takes a call out of its line; returns whether it was there."""
        line = self._lines.get(customer)
        if line is None or place not in line:
            return False
        self._waiting_bytes -= line.leave(place)
        self._waiting_count -= 1
        if not line:
            del self._lines[customer]
        return True


_EMPTY: Final = _Line()


def _bytes_of(line: _Line) -> int:
    return line.size_bytes


def _refused(why: str) -> Overloaded:
    return Overloaded("RATE_LIMITED", f"this server is overloaded: {why}; retry later", RETRY_SECONDS)
