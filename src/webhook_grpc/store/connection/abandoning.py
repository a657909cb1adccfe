"""Deadlines of statements, and what becomes of a statement that nobody waits for any more.

Its cancellation may take as long as the server likes to be silent, so nobody waits for that either: it is ended in the
background, and its connection with it. Whoever waited goes on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_CANCEL_SECONDS: Final = 2.0  # for asking Postgres to end the statement; then the socket is closed


class Abandoned:
    """The statements that are being ended, of one connection or pool."""

    def __init__(self) -> None:
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._ending)

    async def within(self, seconds: float, statement: Coroutine[Any, Any, Result]) -> Result:
        """Returns what the statement gives. Raises TimeoutError after so many seconds.

        Then, and when the caller is cancelled, the statement is abandoned.
        """
        task = asyncio.create_task(statement, name="statement")
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise TimeoutError
        return task.result()

    async def ended(self) -> None:
        """Returns when none is left, at most about twice _CANCEL_SECONDS later."""
        await asyncio.gather(*self._ending)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        ending = asyncio.create_task(_end(task), name="abandoned statement")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancels a statement: once, and psycopg asks Postgres to end it; twice, and psycopg closes the socket."""
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if task.done():
            break
    if task.done() and not task.cancelled():
        task.exception()  # nobody waits for it
