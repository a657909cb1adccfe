"""The live end of the log, read once per process for all its watchers.

A watcher that joins gets everything after the position at which it joined. Each watcher has a bounded buffer; a watcher
that does not keep up loses the buffer, not the log: it reads what it missed from the table and joins again. It slows
down nobody else, and holds no connection while it waits.

The log gets another name when the database comes back older than it was. Positions then mean nothing any more, so all
watchers are let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Hashable
from datetime import datetime
from uuid import UUID

from webhook_grpc.domain.cursor import Position
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import INT64_MAX, SHARD_COUNT
from webhook_grpc.domain.progress import Service
from webhook_grpc.hub.turns import LoopTurns
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import KeptPlans, LoopConnection
from webhook_grpc.store.log import feed

from .batches import Batch

_NO_END: Position = (INT64_MAX,) * SHARD_COUNT
# For this long after a clock step, statements that began before the step may still read or write rows with old times.
# So the tail does not use the times of rows meanwhile.
_STEP_SECONDS = 60.0
_OFFERS_AT_ONCE = 100  # watchers that get changes in one turn of the event loop
_LOOK_SECONDS = 1.0  # between two looks whether the log still has its name


Wants = Callable[[Batch], bool]
"""Says quickly whether a watcher may want a change of a batch."""


def wants_all(batch: Batch) -> bool:
    """Says that a watcher may want a change of any batch."""
    del batch
    return True


class Subscription:
    """One watcher's place at the live end."""

    def __init__(
        self,
        log: UUID,
        position: Position,
        buffer_changes_max: int,
        whose: Hashable,
        turns: LoopTurns,
        wants: Wants = wants_all,
    ) -> None:
        self.log = log  # the name of the log that the position is of
        self.joined_at = position
        self.position = position
        self.overrun = False
        self.closed = False
        self.replaced = False
        self._buffer: list[Batch] = []
        self._wants = wants
        self._passed: Batch | None = None  # what came before the buffer, without its changes: nobody is woken for it
        self._buffer_changes = 0
        self._buffer_changes_max = buffer_changes_max
        self._arrived = asyncio.Event()
        self._whose = whose
        self._turns = turns
        self._is_called = False  # when it is its turn
        self._is_waiting = False

    def offer(self, batch: Batch) -> None:
        """Adds changes, or marks the subscription as overrun. Never waits."""
        if self.overrun:
            return
        if not self._buffer and not self._wants(batch):
            self.position = batch.after
            self._passed = Batch(self._passed.before if self._passed else batch.before, (), batch.after)
            return
        self._buffer_changes += len(batch.changes)
        if self._buffer_changes > self._buffer_changes_max:
            self.overrun = True
            self._buffer.clear()
        else:
            self._buffer.append(batch)
            self.position = batch.after
        if self._is_waiting:  # else it takes what has come when its client has taken what it got before
            self._line_up()

    def _line_up(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._turns.soon(self._whose, self._call)

    def _call(self) -> None:
        self._is_called = False
        self._arrived.set()

    def leave(self) -> None:
        """Gives the turn up that the watcher waits for: it is served no more."""
        self._turns.withdraw(self._whose, self._call)

    def close(self) -> None:
        """Ends the subscription: the server is being stopped."""
        self.closed = True
        self._arrived.set()

    def replace(self) -> None:
        """Ends the subscription: there is another log, and nothing of this one comes any more."""
        self.overrun = self.replaced = True
        self._buffer.clear()
        self._arrived.set()

    async def take(self, timeout_seconds: float) -> list[Batch]:
        """Returns what has arrived, after waiting at most so long; nothing after that. See also `overrun`, `closed`.

        What the watcher does not want may come as a batch without changes.
        """
        if self._buffer or self.overrun:
            self._line_up()
        self._is_waiting = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._arrived.wait()
        self._is_waiting = False
        self._arrived.clear()
        taken: list[Batch] = []
        if not self._is_called:  # else its turn is still to come
            taken, self._buffer, self._buffer_changes = self._buffer, [], 0
        if self._passed is not None:
            taken.insert(0, self._passed)
            self._passed = None
        return taken


class Tail:
    """Follows the log while anybody watches."""

    def __init__(
        self, connection: LoopConnection, poll_seconds: float, buffer_changes_max: int, turns: LoopTurns
    ) -> None:
        # To plan a look takes Postgres as long as to run it; with the partitions of a month ten times as long.
        self._queries = KeptPlans(connection)
        self._following = connection.progress.work("follow the log", Service.WEBHOOKS)
        self._poll_seconds = poll_seconds
        self._buffer_changes_max = buffer_changes_max
        self.turns = turns
        self._subscriptions: set[Subscription] = set()
        self._position: Position | None = None
        self._log = UUID(int=0)
        self._looked_at = 0.0  # monotonic
        self._read_at = feed.START_OF_TIME
        self._stepping_until = 0.0  # monotonic
        self._watched = asyncio.Event()
        self._hinted = asyncio.Event()
        self._starting = asyncio.Lock()
        self._closed = False

    def is_watched(self) -> bool:
        """Returns whether anybody waits for what is written to the log."""
        return bool(self._subscriptions)

    def hint(self) -> None:
        """Reads the log now rather than at the next poll: something was written to it."""
        self._hinted.set()

    def clock_stepped(self) -> None:
        """Expects rows of any time for a while, after a step of the database's clock."""
        self._read_at = feed.START_OF_TIME
        self._stepping_until = time.monotonic() + _STEP_SECONDS
        self._hinted.set()

    @contextlib.asynccontextmanager
    async def subscribe(
        self, whose: Hashable, log: UUID | None = None, wants: Wants = wants_all
    ) -> AsyncGenerator[Subscription]:
        """Joins at the live end. `whose`: who shares the turns of this watcher. Raises Unavailable.

        `log`: the name of the log that the watcher has just read. If it is another one here, the name is read again.
        """
        position = await self._current_position()
        if log not in {None, self._log}:
            await self._look()
            position = await self._current_position()
        subscription = Subscription(self._log, position, self._buffer_changes_max, whose, self.turns, wants)
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        self._watched.set()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.leave()

    def close(self) -> None:
        """Ends every subscription, and those still to come."""
        self._closed = True
        self.turns.hurry()
        for subscription in self._subscriptions:
            subscription.close()

    async def run(self) -> None:
        """Reads until the task is cancelled. Reads nothing while nobody watches."""
        while True:
            await self._watched.wait()
            if not self._subscriptions:
                self._watched.clear()
                self._position = None
                continue
            try:
                with watched(self._following):
                    more = await self._read()
            except Unavailable:
                more = False
            if not more:
                await self._pause()

    async def _current_position(self) -> Position:
        async with self._starting:
            if self._position is None:
                self._log, self._looked_at = await feed.incarnation(self._queries), time.monotonic()
                position, read_at = await feed.end_position(self._queries)
                self._has_read(read_at)
                self._position = position
            return self._position

    async def _look(self) -> None:
        """Lets all watchers go if the log has got another name, and begins at the end of that log."""
        log, self._looked_at = await feed.incarnation(self._queries), time.monotonic()
        if log != self._log:
            self._position = None
            for subscription in self._subscriptions:
                subscription.replace()

    async def _read(self) -> bool:
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            await self._look()
        position = await self._current_position()
        changes = await feed.read(self._queries, position, _NO_END, self._read_at)
        if self._position is not position:  # somebody found meanwhile that there is another log: these are not of it
            return True
        if not changes:
            return False
        batch = Batch(position, changes, feed.advanced(position, changes))
        self._position = batch.after
        self._has_read(min(change.delivery.update_time for change in changes))
        for number, subscription in enumerate(list(self._subscriptions), 1):
            subscription.offer(batch)
            if not number % _OFFERS_AT_ONCE:
                await asyncio.sleep(0)  # calls get a turn between watchers
        return True

    def _has_read(self, at: datetime) -> None:
        """Notes the time of what was read, unless the clock has just stepped: a read in progress has its old time."""
        if time.monotonic() >= self._stepping_until:
            self._read_at = at

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._hinted.wait()
        self._hinted.clear()
