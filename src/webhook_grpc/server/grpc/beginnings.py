"""Which of the calls that have come begins next: connections take turns, and a few calls begin in a turn of the loop.

A connection's first call in a turn begins at once. Of those that come together the others wait, in a line for each
connection: a client that opens a thousand streams delays only itself. A call that is reset in the line costs nothing.
When too many wait, the newest call of the longest line is refused: that line is the flood.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final

from webhook_grpc.api.codes import code_of
from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.server import header_names

from .call import Call, Handler
from .error_details import details_of, message_of

BEGUN_MAX: Final = 8  # of calls that waited, in one turn of the loop
LOOKED_MAX: Final = 200  # connections that are looked at in one turn of the loop: most have no call that waits
WAITING_MAX: Final = 10_000  # of all connections: each call takes some 10 KB
RETRY_SECONDS: Final = 1.0


class Beginnings:
    """The calls that wait for their begin."""

    def __init__(self) -> None:
        # Of the connections on which a call has begun lately, the next to be looked at first
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting_count = 0

    def in_turn(self, handler: Handler) -> Handler:
        """Returns what does the same when it is the call's turn."""

        async def begun(call: Call) -> bytes | None:
            try:
                await self.turn(call.peer.where)
            except Overloaded as error:
                call.abort(code_of(error), message_of(error), ((header_names.STATUS_DETAILS, details_of(error)),))
            return await handler(call)

        return begun

    async def turn(self, connection: str) -> None:
        """Returns when a call of this connection may begin.

        Raises Overloaded if too many wait, and this connection has the longest line, or gets it while the call waits.
        """
        line = self._lines.get(connection)
        if line is None:
            if not self._lines:
                asyncio.get_running_loop().call_soon(self._next)
            self._lines[connection] = deque()
            return
        if self.waiting_count >= WAITING_MAX and not self._refuse_newest_of_longest(line):
            raise _too_many()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        self.waiting_count += 1
        try:
            await place
        finally:
            self.waiting_count -= 1

    def _refuse_newest_of_longest(self, own: deque[asyncio.Future[None]]) -> bool:
        """Refuses a call of the longest line. Returns whether there was one that is longer than `own` will be."""
        while len(longest := max(self._lines.values(), key=len)) > len(own) + 1:
            newest = longest.pop()
            if not newest.done():  # done: its client has left
                newest.set_exception(_too_many())
                return True
        return False

    def _next(self) -> None:
        """Lets a few calls begin, of one connection after the other; forgets those connections of which none waits."""
        begun_count = 0
        for _ in range(min(LOOKED_MAX, len(self._lines) * BEGUN_MAX)):
            if begun_count == BEGUN_MAX or not self._lines:
                break
            connection, line = self._lines.popitem(last=False)
            while line and line[0].done():  # its client has left
                line.popleft()
            if line:
                begun_count += 1
                line.popleft().set_result(None)
                self._lines[connection] = line  # at the end: the others come first
        if self._lines:
            asyncio.get_running_loop().call_soon(self._next)


def _too_many() -> Overloaded:
    return Overloaded("RATE_LIMITED", f"{WAITING_MAX} calls wait to begin already; retry later", RETRY_SECONDS)
