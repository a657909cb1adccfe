"""An event loop in which time is a number and every order is the seed's.

There is nothing to wait for outside: when no callback is ready, time jumps to the next timer. What is ready runs in a
shuffled order, so that code which relies on one is found. Callbacks belong to the process in whose context they were
scheduled: those of a frozen process wait until it goes on, those of a dead one until the run is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import operator
import random
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from unittest import mock

WALL_CLOCK_AHEAD: Final = 7_000.0  # the machine's wall clock is wrong: nothing may depend on it

_TURN_SECONDS: Final = (
    1e-6  # what a turn of the loop takes: no time at all would let what rounds down go round for ever
)

_context_of: Final[operator.attrgetter[Context]] = operator.attrgetter("_context")


@dataclass(eq=False, slots=True)
class Fate:
    """What the loop does to the callbacks of one process."""

    name: str
    dead: bool = False
    frozen: bool = False
    waiting: list[asyncio.Handle] = field(default_factory=list[asyncio.Handle])


FATE: Final[ContextVar[Fate | None]] = ContextVar("fate", default=None)


class Stuck(AssertionError):
    """Nothing will ever happen again."""


class SimulatedTask(asyncio.Task[Any]):
    """Hashed by its number, so that sets of tasks have the same order in every run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(base_events.BaseEventLoop):
    """Begins at a time that is not 0, as a machine's clock does."""

    _ready: deque[asyncio.Handle]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now = 1_000.0
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap; numbers decide between equal times
        self.set_task_factory(self._make_task)
        self.is_over = False

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Sets a timer. Tuples are compared many times faster than asyncio's handles are."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def thaw(self, fate: Fate) -> None:
        """The process goes on."""
        fate.frozen = False
        self._ready.extend(fate.waiting)
        fate.waiting.clear()

    @contextlib.contextmanager
    def patched_time(self) -> Generator[None]:
        """The clocks of the machine, for as long as this is."""
        with mock.patch("time.monotonic", self.time), mock.patch("time.time", self._wall_clock):
            yield

    def _wall_clock(self) -> float:
        return self.now + WALL_CLOCK_AHEAD

    def _make_task(self, loop: Any, coroutine: Any, **options: Any) -> SimulatedTask:
        return SimulatedTask(coroutine, next(self._numbers), loop=loop, **options)

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._timers
        self.now += _TURN_SECONDS
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise Stuck(f"nothing is ready and no timer is set at {self.now}")
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        handles = list(ready)
        ready.clear()
        if len(handles) > 1:
            self._random.shuffle(handles)
        for handle in handles:
            fate = None if self.is_over else _context_of(handle).get(FATE)
            if fate is not None and (fate.dead or fate.frozen):
                fate.waiting.append(handle)
            elif not handle.cancelled():
                handle._run()  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def _forbidden(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("the simulation has no threads, no sockets and no names")

    run_in_executor = _forbidden  # pyright: ignore[reportAssignmentType]
    getaddrinfo = _forbidden  # pyright: ignore[reportAssignmentType]
    create_connection = _forbidden  # pyright: ignore[reportAssignmentType]
    create_datagram_endpoint = _forbidden  # pyright: ignore[reportAssignmentType]
