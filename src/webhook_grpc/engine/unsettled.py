"""What waits to be written: the results of turns, and commands. Whoever has one adds it here; `Settler` writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.record import record
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.queue.lane import Turn


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
    """Changes of one kind, in the order in which they came. Each is answered once: written, or dropped with its shard.

    Any part adds changes. Only the settler calls `take` and `note_answered`.
    """

    def __init__(self, arrived: asyncio.Event) -> None:
        self._changes: deque[AnyChange] = deque()
        self._arrived = arrived  # the settler's: it clears the event when every queue is empty
        self._added_count = 0
        self._answered_count = 0
        self._answered = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def unanswered_count(self) -> int:
        """How many changes are queued or being written."""
        return self._added_count - self._answered_count

    def add(self, change: AnyChange) -> None:
        """Takes in a change."""
        self._changes.append(change)
        self._added_count += 1
        self._arrived.set()

    async def caught_up(self) -> None:
        """Waits until every change that was added before this call is answered; not for those that come meanwhile."""
        target = self._added_count
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

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.results = FencedQueue[EndedTurn](self.arrived)
        self.commands = FencedQueue[Command](self.arrived)

    async def drained(self) -> None:
        """Waits until every change is answered, also of those that come meanwhile."""
        while self.results.unanswered_count or self.commands.unanswered_count:
            await self.results.caught_up()
            await self.commands.caught_up()
