"""Reads whose answer is the same for all who ask for the same at the same time: made once for all of them.

Watchers come in crowds: after a restart of the service, or of a network, a thousand ask where the log ends. Nobody gets
what was read before it asked: whoever asks while a read is under way waits for the next one, together with all others
who come meanwhile. So of equal reads one runs and one waits at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


class SharedReads:
    """The reads that are under way, and those that wait for their begin."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, asyncio.Task[Any]] = {}  # have not begun, so whoever comes may join
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def read(self, key: Hashable, make: Callable[[], Awaitable[Value]]) -> Value:
        """Returns what `make` of one of those with an equal key returned, begun after this call. Raises what it raised.

        `make` must depend on nothing but the key and the database. Whoever leaves takes it from nobody else.
        """
        task = self._waiting.get(key)
        if task is None:
            task = asyncio.create_task(self._made(key, make, self._running.get(key)), name="shared read")
            task.add_done_callback(_take_exception)
            self._waiting[key] = task
        return cast("Any", await asyncio.shield(task))

    async def _made(
        self, key: Hashable, make: Callable[[], Awaitable[Value]], before: asyncio.Task[Any] | None
    ) -> Value:
        if before is not None:
            await asyncio.wait([before])
        self._running[key] = self._waiting.pop(key)
        try:
            return await make()
        finally:
            del self._running[key]


def _take_exception(task: asyncio.Task[Any]) -> None:
    """Marks the exception of a read as seen: those who wait have it, if there are any left."""
    if not task.cancelled():
        task.exception()
