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
    waiting, running, errors = list(dials), set[asyncio.Task[Dialled]](), list[OSError]()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_made(waiting.pop(0)), name="dial"))
            done, running = await asyncio.wait(
                running, timeout=DIAL_NEXT_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            made = _sorted_out(done, errors)
            if made:
                _abort(made[1:])
                return made[0]
    finally:
        await _give_up(running)
    raise _worst(errors)


async def _made(dial: Callable[[], Awaitable[Dialled]]) -> Dialled:
    return await dial()


def _sorted_out(done: Iterable[asyncio.Task[Dialled]], errors: list[OSError]) -> list[Dialled]:
    """Returns the connections that were made; what failed goes to the errors, and what nobody thought of is raised."""
    made = list[Dialled]()
    for task in done:
        error = task.exception()
        if error is None:
            made.append(task.result())
        elif isinstance(error, OSError):
            errors.append(error)
        else:
            raise error
    return made


async def _give_up(running: Iterable[asyncio.Task[Dialled]]) -> None:
    """Ends the dials; one may have been made in this moment."""
    for task in running:
        task.cancel()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome.abort()


def _abort(connections: Iterable[_Abortable]) -> None:
    for connection in connections:
        connection.abort()


def _worst(errors: Sequence[OSError]) -> OSError:
    """A fault of ours says nothing of the receiver; an address that is blocked says less than one that refuses."""
    by_weight = sorted(errors, key=lambda error: (error.errno not in OWN_FAULTS, isinstance(error, BlockedDestination)))
    return by_weight[0]
