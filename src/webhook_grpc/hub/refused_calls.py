"""Refused calls on their way into the audit: off the way of the calls, and bounded for each caller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store import audit as store
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection

log = structlog.get_logger(__name__)

WAITING_MAX: Final = 1000  # entries in memory: about 1 MB
CALLERS_MAX: Final = 10_000  # that are counted in a minute; the calls of further ones are left out
WRITE_SECONDS: Final = 1.0  # between two statements
_MINUTE_SECONDS: Final = 60.0


class RefusedCalls:
    """Keeps refused calls until its loop has stored them. Only `note` and the loop write what waits."""

    def __init__(
        self, connection: LoopConnection, per_minute_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`per_minute_max`: entries of one caller in a minute; its other refused calls are only in the log."""
        self._connection = connection
        self._per_minute_max = per_minute_max
        self._clock = clock
        self._work = connection.progress.work("audit of refused calls")
        self._waiting = list[AuditEntry]()
        self._counts = Counter[str]()  # of this minute, by callers
        self._minute = -1
        self._left_out_count = 0  # since the process started
        self._said_count = 0  # of these, what the log has said
        self._noted = asyncio.Event()

    @property
    def left_out_count(self) -> int:
        """How many calls did not come into the audit since the process started: too many of one caller, or at all."""
        return self._left_out_count

    def note(self, entry: AuditEntry) -> None:
        """Takes a refused call. Neither waits nor raises; what is too much is left out, and the log says how much."""
        self._begin_minute()
        count = self._counts[entry.caller]
        is_known = count > 0 or len(self._counts) < CALLERS_MAX
        if not is_known or count >= self._per_minute_max or len(self._waiting) >= WAITING_MAX:
            self._left_out_count += 1
            return
        self._counts[entry.caller] = count + 1
        self._waiting.append(entry)
        self._noted.set()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Returns what has to run, by name. No loop ends by itself."""
        return {"audit of refused calls": self._run()}

    async def store(self) -> None:
        """Stores what waits. Raises Unavailable: then it goes on waiting.

        Where nobody knows whether a statement was committed, its calls may be stored twice.
        """
        entries = self._waiting[:]
        if entries:
            await store.insert_refusals(self._connection, entries)
            del self._waiting[: len(entries)]

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            with contextlib.suppress(Unavailable), watched(self._work):
                await self.store()
            if self._waiting:
                self._noted.set()
            await asyncio.sleep(WRITE_SECONDS)  # what comes meanwhile is one statement

    def _begin_minute(self) -> None:
        minute = int(self._clock() // _MINUTE_SECONDS)
        if minute == self._minute:
            return
        self._minute = minute
        self._counts.clear()
        if count := self._left_out_count - self._said_count:
            log.warning("refused calls left out of the audit: too many of one caller", count=count)
            self._said_count = self._left_out_count
