"""The log as the table has it, read for watchers who catch up. Those at the same position share what is read.

Many come at the same time: after a restart of the service, or of a network. So a few reads run at a time, and the
others wait, customers in turn; calls keep the rest of the pool. A read that nobody waits for any more is not begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Generator, Hashable
from dataclasses import dataclass, field
from typing import Final

from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import feed
from webhook_grpc.store.log.rows import change_bytes

from .batches import Batch
from .read_turns import ReadTurns

READS_AT_ONCE: Final = 2  # each may bring megabytes, which the loop has to turn into messages


@dataclass(slots=True, eq=False)
class _Read:
    """One read of the table, in progress or kept. It sees whatever was committed before it began."""

    until: Position
    granted: asyncio.Future[None]  # when it may begin
    task: asyncio.Task[Batch | None] | None = None
    waiting_count: int = 0  # watchers
    began_at: float = field(default=float("inf"))  # monotonic; until then it waits for its turn
    bytes_kept: int = 0

    def reaches(self, until: Position) -> bool:
        """Returns whether it finds every change up to a position."""
        return all(own >= wanted for own, wanted in zip(self.until, until, strict=True))


class History:
    """Reads the log on from positions."""

    def __init__(self, database: Database, kept_bytes_max: int) -> None:
        """`kept_bytes_max`: of what was read last, for watchers who are a little behind the first."""
        self._database = database
        self._turns = ReadTurns(READS_AT_ONCE)
        self._reads: OrderedDict[Position, _Read] = OrderedDict()
        self._reader_count = 0
        self._kept_bytes_max = kept_bytes_max
        self.kept_bytes = 0  # about

    @contextlib.contextmanager
    def reader(self, whose: Hashable) -> Generator[Reader]:
        """Joins for as long as a watcher catches up. Nothing is kept when the last one has left.

        `whose`: who shares the turns of this watcher.
        """
        self._reader_count += 1
        try:
            yield Reader(self, whose, time.monotonic())
        finally:
            self._reader_count -= 1
            self._keep_at_most(self._kept_bytes_max if self._reader_count else 0)

    async def read(self, whose: Hashable, position: Position, until: Position, since: float) -> Batch | None:
        """Returns the next changes as a read finds them that began at `since` (monotonic) or later; see Reader."""
        read = self._reads.get(position)
        if read is None or read.began_at < since:
            read = self._begin(position, until)
        batch = await self._result(read, whose, position)
        if batch is not None or read.reaches(until):
            return batch
        # It found nothing because it ended before what is wanted here: the live end has moved on since it was begun.
        further = self._reads.get(position)
        if further is None or further.began_at < since or not further.reaches(until):
            further = self._begin(position, until)
        return await self._result(further, whose, position)

    def _begin(self, position: Position, until: Position) -> _Read:
        """Puts a read in line, in the place of one that others may still wait for."""
        self._forget(position)
        read = self._reads[position] = _Read(until, asyncio.get_running_loop().create_future())
        read.task = asyncio.create_task(self._read(read, position, until), name="read the log")
        read.task.add_done_callback(_take_exception)
        self._turns.hold(read.granted, read.task)
        return read

    async def _result(self, read: _Read, whose: Hashable, position: Position) -> Batch | None:
        assert read.task is not None, "a read has its task from its beginning"
        self._turns.line_up(whose, read.granted)
        read.waiting_count += 1
        try:
            return await asyncio.shield(read.task)  # a watcher that leaves must not take the changes from the others
        finally:
            read.waiting_count -= 1
            self._drop_if_left(read, position)

    def _drop_if_left(self, read: _Read, position: Position) -> None:
        """Drops a read that has not begun and that nobody waits for any more."""
        if read.waiting_count or read.task is None or read.began_at < float("inf"):
            return
        if self._reads.get(position) is read:
            del self._reads[position]
        read.task.cancel()

    async def _read(self, read: _Read, position: Position, until: Position) -> Batch | None:
        batch = None
        try:
            await read.granted
            read.began_at = time.monotonic()
            changes = await feed.read(self._database, position, until)
            if changes:
                batch = Batch(position, changes, feed.advanced(position, changes))
            return batch
        finally:
            self._end(read, position, batch)

    def _end(self, read: _Read, position: Position, batch: Batch | None) -> None:
        """Keeps what was read if another watcher may want it."""
        if self._reads.get(position) is not read:  # a later read has taken its place
            return
        if batch is None:
            del self._reads[position]
            return
        read.bytes_kept = sum(map(change_bytes, batch.changes))
        self.kept_bytes += read.bytes_kept
        self._keep_at_most(self._kept_bytes_max if self._reader_count else 0)

    def _keep_at_most(self, bytes_max: int) -> None:
        """Forgets the oldest; reads in progress have no bytes yet, and stay."""
        for position in [position for position, read in self._reads.items() if read.bytes_kept]:
            if self.kept_bytes <= bytes_max:
                break
            self._forget(position)

    def _forget(self, position: Position) -> None:
        read = self._reads.pop(position, None)
        if read is not None:
            self.kept_bytes -= read.bytes_kept


@record
class Reader:
    """A watcher who catches up: gets what others have read since it began, and reads the rest itself."""

    history: History
    whose: Hashable
    since: float

    async def read(self, position: Position, until: Position) -> Batch | None:
        """Returns the next changes after a position, None if there are none up to `until`. Raises Unavailable.

        They may go beyond `until` where another watcher has read them.
        """
        return await self.history.read(self.whose, position, until, self.since)


def _take_exception(read: asyncio.Task[Batch | None]) -> None:
    """Marks the exception of a read as seen: the watchers have it, if there are any left."""
    if not read.cancelled():
        read.exception()
