"""Deadlines of statements, and the end of statements that nobody waits for any more.

A server that hangs does not answer a cancellation either. So a statement that missed its deadline is ended in the
background, and its connection with it, while its caller goes on at once.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
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

        A statement that took longer, or whose caller was cancelled, is abandoned. It runs in a task of its own, which
        costs three turns of the event loop.
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

    async def in_place(self, seconds: float, statement: Coroutine[Any, Any, Result]) -> Result:
        """Does what `within` does in the task of the caller, which costs no turns of the event loop.

        Only a statement that is abandoned gets a task. So nothing that belongs to a task may begin in it: neither
        asyncio.timeout nor a TaskGroup.
        """
        async with asyncio.timeout(seconds):
            return await _led(statement, self._go_on_without_caller)

    async def ended(self) -> None:
        """Returns when no abandoned statement is left, at most about twice _CANCEL_SECONDS later."""
        await asyncio.gather(*self._ending)

    def _abandon(self, task: asyncio.Task[Any], *, is_cancelled: bool = False) -> None:
        ending = asyncio.create_task(_end(task, is_cancelled=is_cancelled), name="abandoned statement")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _go_on_without_caller(self, statement: Coroutine[Any, Any, Any]) -> None:
        self._abandon(asyncio.create_task(_cancelled(statement), name="statement"), is_cancelled=True)


@types.coroutine
def _led(
    statement: Coroutine[Any, Any, Result],
    caller_left: Callable[[Coroutine[Any, Any, Result]], None] | None,
    error: BaseException | None = None,
) -> Generator[Any, Any, Result]:
    """Leads a statement from one wait to the next, as `await` does; an error is raised where the statement stands.

    If the task is cancelled, `caller_left` gets the statement as it stands. None: the statement is cancelled.
    """
    try:
        while True:
            waits_for = statement.send(None) if error is None else statement.throw(error)
            error = None
            try:
                yield waits_for
            except asyncio.CancelledError as cancelled:
                if caller_left is not None:
                    caller_left(statement)
                    raise
                error = cancelled
            except BaseException as thrown:  # noqa: BLE001 - whatever it is, it is the statement's
                error = thrown
    except StopIteration as ended:
        return ended.value
    finally:
        error = None  # it holds this frame


async def _cancelled(statement: Coroutine[Any, Any, Result]) -> Result:
    """Cancels a statement where it stands, and runs what is left of it."""
    return await _led(statement, None, asyncio.CancelledError())


async def _end(task: asyncio.Task[Any], *, is_cancelled: bool) -> None:
    """Cancels a statement. At the first cancel psycopg asks Postgres to end it, at the second it closes the socket."""
    for number in range(2):
        if number or not is_cancelled:
            task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if task.done():
            break
    if task.done() and not task.cancelled():
        task.exception()  # nobody waits for it
