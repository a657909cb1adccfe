"""Reads that many watchers need at the same time: equal reads are made once, for all of them.

Watchers come in crowds: after a restart of the service, or of a network, a thousand ask where the log ends. No
watcher gets what was read before it came: one that comes while a read runs waits for the next read, together with all
that come meanwhile. So of equal reads one runs and one waits at most; of all reads a few run, customers in turn. A
read that nobody waits for any more is not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .read_turns import ReadTurns

READS_AT_ONCE: Final = 4  # so that calls keep half of the pool, and more of a larger one

Value = TypeVar("Value")


@dataclass(slots=True, eq=False)
class _Read:
    """A read that has not begun, or is under way."""

    granted: asyncio.Future[None]  # when it may begin
    task: asyncio.Task[Any]
    waiting_count: int = 0


class SharedReads:
    """The reads that are under way, and those that wait for their begin."""

    def __init__(self) -> None:
        self._turns = ReadTurns(READS_AT_ONCE)
        self._waiting: dict[Hashable, _Read] = {}  # have not begun, so whoever comes may join
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def read(self, whose: Hashable, key: Hashable, make: Callable[[], Awaitable[Value]]) -> Value:
        """Returns, or raises, what `make` gives in a read that begins after this call. Equal keys share a read.

        `make` must depend on nothing but the key and the database. Callers that leave end no other's read.
        `whose`: who shares the turns of this read.
        """
        read = self._waiting.get(key) or self._new(key, make)
        self._turns.line_up(whose, read.granted)
        read.waiting_count += 1
        try:
            return await asyncio.shield(read.task)
        finally:
            read.waiting_count -= 1
            if not read.waiting_count and self._waiting.get(key) is read:
                del self._waiting[key]
                read.task.cancel()

    def _new(self, key: Hashable, make: Callable[[], Awaitable[Value]]) -> _Read:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        made = self._made(key, make, self._running.get(key), granted)
        read = self._waiting[key] = _Read(granted, asyncio.create_task(made, name="shared read"))
        read.task.add_done_callback(_take_exception)
        self._turns.hold(granted, read.task)
        return read

    async def _made(
        self,
        key: Hashable,
        make: Callable[[], Awaitable[Value]],
        before: asyncio.Task[Any] | None,
        granted: asyncio.Future[None],
    ) -> Value:
        await granted
        if before is not None:
            await asyncio.wait([before])
        self._running[key] = self._waiting.pop(key).task
        try:
            return await make()
        finally:
            del self._running[key]


def _take_exception(task: asyncio.Task[Any]) -> None:
    """Marks the exception of a read as seen: those who wait have it, if there are any left."""
    if not task.cancelled():
        task.exception()
