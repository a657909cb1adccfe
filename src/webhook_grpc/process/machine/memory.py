"""Memory that is free again is given back to the system.

glibc keeps what lies between things that still live: after some hundred blocks of headers of 16 KB, read in several
threads, it was 200 MB that nobody used. `malloc_trim` gives back whole pages wherever they lie. It is called, in a
thread, when the process has grown; other C libraries (musl) do not have it, and do without.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

LOOK_SECONDS: Final = 10.0
GROWN_BYTES: Final = 32_000_000  # more in memory than after the last time
_STATM: Final = Path("/proc/self/statm")

log = structlog.get_logger(__name__)


class MemoryReturn:
    """Looks now and then how much is in memory, and gives back what is free."""

    def __init__(self, resident: Callable[[], int] | None = None, trim: Callable[[], None] | None = None) -> None:
        """`resident` returns the bytes in memory, `trim` gives back what is free: of this process if not given."""
        self._resident = resident or resident_bytes
        self._trim = trim or trimmer()
        self._least: int | None = None  # in memory since the last time

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)  # memory gives no signal when it grows

    async def look(self) -> None:
        """Gives back what is free if the process has grown."""
        before = self._resident()
        if self._least is None or before < self._least:
            self._least = before
        if before - self._least < GROWN_BYTES:
            return
        began = time.monotonic()
        await asyncio.to_thread(self._trim)
        self._least = self._resident()
        seconds = time.monotonic() - began
        log.debug("memory given back", bytes=before - self._least, left=self._least, seconds=round(seconds, 3))


def resident_bytes() -> int:
    """Returns how much of this process is in memory; 0 where the system does not say."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def trimmer() -> Callable[[], None]:
    """Returns what gives back free memory: a call that does nothing where the C library has none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None
    return lambda: trim(0)  # without the lock of Python: others go on meanwhile
