"""Deadlines of statements, and the end of statements that nobody waits for any more.

A server that hangs does not answer a cancellation either. So a statement that missed its deadline is ended in the
background, and its connection with it, while its caller goes on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

_CANCEL_SECONDS: Final = 2.0  # for Postgres to end the statement; then the socket is closed


class Abandoned:
    """The statements of one connection or pool that are being ended."""

    def __init__(self) -> None:
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._ending)

    async def within(self, seconds: float, statement: Coroutine[Any, Any, Result]) -> Result:
        """Returns what the statement gives. Raises TimeoutError after so many seconds.

        A statement that took longer, or whose caller was cancelled, is abandoned.
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
        """Returns when no abandoned statement is left, at most about twice _CANCEL_SECONDS later."""
        await asyncio.gather(*self._ending)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        ending = asyncio.create_task(_end(task), name="abandoned statement")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancels a statement. At the first cancel psycopg asks Postgres to end it, at the second it closes the socket."""
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if task.done():
            break
    if task.done() and not task.cancelled():
        task.exception()  # nobody waits for it
