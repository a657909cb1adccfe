"""Reads keys from a terminal one by one, and leaves the terminal as it was."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from io import UnsupportedOperation
from typing import Any, Final, Self

from .view import keys

_BYTES_MAX: Final = 256
LOOK_SECONDS: Final = 0.2  # between two looks at what else may end a wait


class Keyboard(AbstractContextManager["Keyboard"]):
    """The keys of stdin. Where that is no terminal there are none, and a wait is only a wait."""

    def __init__(self) -> None:
        self._descriptor = _terminal()
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._descriptor is not None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)  # Ctrl-C stays a signal
            signal.signal(signal.SIGTERM, _end)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None and self._before is not None:
            with suppress(termios.error):  # the terminal is closed
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    @property
    def is_there(self) -> bool:
        """Returns whether somebody can press a key."""
        return self._descriptor is not None

    def read(self, seconds: float, wait: Callable[[float], bool]) -> Iterator[str]:
        """Yields the keys that are pressed within a time, or nothing if `wait` says sooner that something ended."""
        if self._descriptor is None:
            wait(seconds)
            return
        ready, _, _ = select.select([self._descriptor], [], [], min(seconds, LOOK_SECONDS))
        if ready:
            data = os.read(self._descriptor, _BYTES_MAX)
            if not data:  # the terminal is closed: nobody is there any more
                self._descriptor = None
            yield from keys(data)


def _end(number: int, _: object) -> None:
    """Ends the program in order, so that the terminal is left as it was."""
    sys.exit(128 + number)


def _terminal() -> int | None:
    try:
        descriptor = sys.stdin.fileno()
    except (UnsupportedOperation, ValueError):  # closed, or not of this process
        return None
    return descriptor if os.isatty(descriptor) else None
