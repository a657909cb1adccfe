"""SIGTERM, SIGINT and SIGHUP of `serve`, from its first line to its last: the process drains and ends with status 0.

SIGUSR1 is taken over for as long: files are read again (Reload).

A signal never interrupts what is being done and never ends the process by itself, so a second one changes nothing. It
is noted, and whoever waits is woken; between the steps of a start somebody looks. An event loop's own handlers would
not do: they come with the loop and go with it, and before and after a signal would kill, or be lost as PID 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from types import FrameType, TracebackType
from typing import Final, TypeVar, cast

Result = TypeVar("Result")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Request:
    """Something that a signal requests, of whoever waits."""

    def __init__(self) -> None:
        self.is_requested = False
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def request(self) -> None:
        """Requests it. Safe in a signal handler, and more than once."""
        self.is_requested = True
        if self._waiting is not None:
            loop, event = self._waiting
            loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        """Returns when it was requested. One task at a time may wait."""
        async with self._event() as event:
            if not self.is_requested:
                await event.wait()

    @contextlib.asynccontextmanager
    async def _event(self) -> AsyncGenerator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting = (asyncio.get_running_loop(), event)
        try:
            yield event
        finally:
            self._waiting = None


class Stop(Request):
    """Whether the process was asked to stop."""


class Reload(Request):
    """Whether it was asked to look at its files now."""

    async def wait(self) -> None:
        """Returns when it was requested since it last returned."""
        await super().wait()
        self.is_requested = False


async def in_daemon_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Returns what a function that blocks returns.

    Unlike asyncio.to_thread(): if whoever waits is cancelled, the end of the process does not wait for the function.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def answer(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("Result", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(answer, result, failure)

    threading.Thread(target=run, name=function.__name__, daemon=True).start()
    return await future


class StopSignals:
    """Notes the signals from when the block begins. After its end they are ignored: the process is about to end.

    SIGHUP stays ignored where it was (`nohup`).
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self.reload = Reload()
        self._numbers: list[signal.Signals] = []

    def __enter__(self) -> Stop:
        """Takes the signals over; only the main thread can."""
        hangup_is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._numbers = [each for each in STOP_SIGNALS if not (each is signal.SIGHUP and hangup_is_ignored)]
        for number in self._numbers:
            signal.signal(number, self._note)
        signal.signal(signal.SIGUSR1, self._note_reload)
        return self.stop

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Python puts back the default, which kills, for handlers that are still set while it finalises."""
        for number in (*self._numbers, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)

    def _note(self, _: int, __: FrameType | None) -> None:
        self.stop.request()

    def _note_reload(self, _: int, __: FrameType | None) -> None:
        self.reload.request()
