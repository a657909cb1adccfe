"""Happy Eyeballs (RFC 8305): addresses are dialled one after the other, and the first that answers is taken."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from .faults import BlockedDestination

DIAL_NEXT_SECONDS: Final = 0.25  # after which the next address is dialled beside the one before
OWN_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class _Abortable(Protocol):
    def abort(self) -> None: ...


Dialled = TypeVar("Dialled", bound=_Abortable)


async def first_of(dials: Sequence[Callable[[], Awaitable[Dialled]]]) -> Dialled:
    """Returns the first connection that is made; the others are given up. Raises OSError if none can be made.

    A dial that fails makes the next one begin at once. There must be a dial.
    """
    if len(dials) == 1:
        return await dials[0]()
    tasks = list[asyncio.Task[Dialled]]()
    try:
        winner = await _winner(dials, tasks)
        await _give_up([task for task in tasks if task is not winner])
    except BaseException:  # also whoever waits may leave while the others are given up
        await _give_up(tasks)
        raise
    return winner.result()


async def _winner(
    dials: Sequence[Callable[[], Awaitable[Dialled]]], tasks: list[asyncio.Task[Dialled]]
) -> asyncio.Task[Dialled]:
    """Returns the first dial that made a connection; `tasks` gets all that have begun. Raises as first_of does."""
    waiting, running, errors = list(dials), set[asyncio.Task[Dialled]](), list[OSError]()
    while waiting or running:
        if waiting:
            tasks.append(asyncio.create_task(_made(waiting.pop(0)), name="dial"))
            running.add(tasks[-1])
        done, running = await asyncio.wait(
            running, timeout=DIAL_NEXT_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
        )
        made = _sorted_out(done, errors)
        if made:
            return made[0]
    raise _worst(errors)


async def _made(dial: Callable[[], Awaitable[Dialled]]) -> Dialled:
    return await dial()


def _sorted_out(done: Iterable[asyncio.Task[Dialled]], errors: list[OSError]) -> list[asyncio.Task[Dialled]]:
    """Returns those that made a connection; what failed goes to the errors, and what nobody thought of is raised."""
    made = list[asyncio.Task[Dialled]]()
    for task in done:
        error = task.exception()
        if error is None:
            made.append(task)
        elif isinstance(error, OSError):
            errors.append(error)
        else:
            raise error
    return made


async def _give_up(tasks: Sequence[asyncio.Task[Dialled]]) -> None:
    """Ends dials; closes each connection that was made, or is in this moment, even if this wait is cancelled."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
        task.add_done_callback(_abort_made)
    for task in tasks:
        if task not in running:
            _abort_made(task)
    if running:
        await asyncio.wait(running)


def _abort_made(task: asyncio.Task[Dialled]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _worst(errors: Sequence[OSError]) -> OSError:
    """Returns a fault of this process if there is one, else any error before BlockedDestination, which says least."""
    by_weight = sorted(errors, key=lambda error: (error.errno not in OWN_FAULTS, isinstance(error, BlockedDestination)))
    return by_weight[0]
