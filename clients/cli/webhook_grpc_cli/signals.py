"""Signals that end a command in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ENDS: Final = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
"""What ends a program, beside Ctrl-C, on this system."""

_LOOK_SECONDS: Final = 0.1


@contextmanager
def heard(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Generator[None]:
    """Lets a function hear signals, also while something waits (`looked_for`).

    SIGHUP that is ignored stays ignored: so does nohup keep a command alive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = {number: signal.getsignal(number) for number in numbers}
    before = {number: one for number, one in known.items() if number.name != "SIGHUP" or one is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        with looked_for():
            yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


@contextmanager
def looked_for() -> Generator[None]:
    """Has what waits, for a person or a result, look for signals every 0.1 s; Windows wakes it by itself.

    A signal that comes when the interpreter has looked, and before it has begun to wait, is only noted: it would wait
    all the same, and Ctrl-C would do nothing. A timer's signal breaks that wait off; it is begun again.
    """
    timer = getattr(signal, "setitimer", None)
    if timer is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, _goes_on)
    before = timer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        yield
    finally:
        timer(signal.ITIMER_REAL, *before)  # that of whoever waits around this
        signal.signal(signal.SIGALRM, handler)


def _goes_on(number: int, frame: FrameType | None) -> None:
    """Does nothing: a handler of Python's is what lets the interpreter look for other signals, too."""
    del number, frame


def interrupts_once() -> Callable[[int, FrameType | None], None]:
    """Returns what ends what runs as Ctrl-C does, by KeyboardInterrupt. Further signals do not disturb its end."""
    is_heard = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_heard
        del number, frame
        is_first, is_heard = not is_heard, True
        if is_first:
            raise KeyboardInterrupt

    return interrupt


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP, which break off only what waits. Whatever else is done meanwhile is done to its end.

    Ctrl-C a second time breaks off that, too. The thread that is interrupted owns it; hearing takes no lock, for that
    thread may hold it.
    """

    def __init__(self) -> None:
        self.is_noted = False
        self._is_waiting = False

    @contextmanager
    def heard(self) -> Generator[None]:
        """Hears the three signals."""
        with heard(self._hear, signal.SIGINT, *ENDS):
            yield

    @contextmanager
    def breaks_off(self) -> Generator[None]:
        """Lets a signal break off what waits here. Raises KeyboardInterrupt, also for one that was noted before."""
        self._is_waiting = True
        try:
            if self.is_noted:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_waiting = False

    def forget(self) -> None:
        """Lets the next signal be the first again."""
        self.is_noted = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        is_second, self.is_noted = self.is_noted, True
        if self._is_waiting or (is_second and number == signal.SIGINT):
            self._is_waiting = False  # also where this comes when it has just ended
            raise KeyboardInterrupt
