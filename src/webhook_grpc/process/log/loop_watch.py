"""Reports in the log when the event loop stands still, and where: nothing else in the process could.

A call that never gives way, in our code or a library's, silences everything: health, calls, deliveries. Health checks
go unanswered, the lease ends and another process takes over; these lines say why.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Final

import structlog

from webhook_grpc.domain.tally import SECONDS, Histogram

from . import tracebacks

log = structlog.get_logger(__name__)

STANDS_STILL_SECONDS: Final = 10.0
_BEAT_SECONDS: Final = 1.0


class LoopWatch:
    """A loop that beats on the event loop, and a thread that listens."""

    def __init__(self, stands_still_seconds: float = STANDS_STILL_SECONDS) -> None:
        self._stands_still_seconds = stands_still_seconds
        self._beat_seconds = min(_BEAT_SECONDS, stands_still_seconds / 5)
        self._beaten_at = time.monotonic()
        self.lags = Histogram(SECONDS)
        """By how many seconds each beat was late. Only the watch adds to it."""
        self._is_ended = threading.Event()

    async def run(self) -> None:
        """Watches the running event loop until it is cancelled."""
        self._beaten_at = time.monotonic()
        thread = threading.Thread(target=self._listen, args=(threading.get_ident(),), name="loop watch", daemon=True)
        thread.start()
        try:
            while True:
                await asyncio.sleep(self._beat_seconds)
                beaten_at = time.monotonic()
                self.lags.add(beaten_at - self._beaten_at - self._beat_seconds)
                self._beaten_at = beaten_at
        finally:
            self._is_ended.set()

    def _listen(self, thread_id: int) -> None:
        """One line at the beginning of each standstill, one at its end."""
        missed_at = None
        while not self._has_ended():
            beaten_at = self._beaten_at
            if missed_at is None and time.monotonic() - beaten_at > self._stands_still_seconds:
                missed_at = beaten_at
                frame = sys._current_frames().get(thread_id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
                frames, _ = tracebacks.frames_of(frame)
                log.error("the event loop stands still", seconds=self._stands_still_seconds, frames=frames)
            elif missed_at is not None and beaten_at != missed_at:
                log.info("the event loop moves again", seconds=round(beaten_at - missed_at, 1))
                missed_at = None

    def _has_ended(self) -> bool:
        """Waits for the next look. A process that stood still as a whole (SIGSTOP) gets the time of a beat first."""
        while True:
            began_at = time.monotonic()
            if self._is_ended.wait(self._beat_seconds):
                return True
            if time.monotonic() - began_at < self._stands_still_seconds / 2:
                return False
