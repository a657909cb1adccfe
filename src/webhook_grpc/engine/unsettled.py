"""What waits to be written: the results of turns, and commands. Whoever has one adds it here; `Settler` writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.record import record
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.queue.lane import Turn

_MANY: Final = 25  # changes: to share a statement with more makes each of them hardly cheaper


class Change(Protocol):
    """Something that is written under the fence of its shard: only while this process owns the shard."""

    @property
    def shard(self) -> int:
        """The shard that the change belongs to."""
        ...


AnyChange = TypeVar("AnyChange", bound=Change)


@record
class EndedTurn:
    """A turn, and what became of its delivery."""

    turn: Turn
    settlement: Settlement

    @property
    def shard(self) -> int:
        """The shard whose owner settles the delivery."""
        return self.settlement.shard


class FencedQueue(Generic[AnyChange]):
    """Changes of one kind, in the order in which they came. Each is answered once: written, or dropped.

    Any part adds changes. Only the settler calls `take` and `note_answered`.
    """

    def __init__(self, arrived: asyncio.Event, pressing: asyncio.Event) -> None:
        self._changes: deque[AnyChange] = deque()
        self._arrived = arrived  # the settler's: it clears the event when every queue is empty
        self._pressing = pressing
        self._added_count = 0
        self._answered_count = 0
        self._answered = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def unanswered_count(self) -> int:
        """How many changes are queued or being written."""
        return self._added_count - self._answered_count

    def add(self, change: AnyChange, *, may_wait: bool = False) -> None:
        """Takes in a change. `may_wait`: nothing is held up by it until it is written."""
        self._changes.append(change)
        self._added_count += 1
        self._arrived.set()
        if not may_wait or len(self._changes) >= _MANY:
            self._pressing.set()

    async def caught_up(self) -> None:
        """Waits until every change that was added before this call is answered; not for those that come meanwhile."""
        target = self._added_count
        self._pressing.set()
        async with self._answered:
            await self._answered.wait_for(lambda: self._answered_count >= target)

    def take(self, count_max: int) -> list[AnyChange]:
        """Takes out the changes that have waited longest, at most so many."""
        return [self._changes.popleft() for _ in range(min(len(self._changes), count_max))]

    async def note_answered(self, count: int) -> None:
        """Lets those who wait go on: so many of the changes that were taken out are answered."""
        self._answered_count += count
        async with self._answered:
            self._answered.notify_all()


class Unsettled:
    """The two queues of the settler."""

    def __init__(self, is_watched: Callable[[], bool]) -> None:
        """`is_watched` returns whether somebody waits for what is written to the log."""
        self.is_watched = is_watched
        self.arrived = asyncio.Event()
        self._pressing = asyncio.Event()  # what is queued has to be written: others would wait for it
        self.results = FencedQueue[EndedTurn](self.arrived, self._pressing)
        self.commands = FencedQueue[Command](self.arrived, self._pressing)

    async def gathered(self, seconds: float, seconds_max: float) -> None:
        """Returns after so many seconds, or later if all that is queued may wait, but not after `seconds_max`.

        The settler calls this before it takes what is queued.
        """
        now = asyncio.get_running_loop().time
        end = now() + seconds
        if seconds_max > seconds and not self._pressing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds_max):
                    await self._pressing.wait()
        if (rest := end - now()) > 0:
            await asyncio.sleep(rest)  # whoever ends meanwhile shares the statement
        self._pressing.clear()

    async def drained(self) -> None:
        """Waits until every change is answered, also of those that come meanwhile."""
        while self.results.unanswered_count or self.commands.unanswered_count:
            await self.results.caught_up()
            await self.commands.caught_up()
