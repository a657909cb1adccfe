"""Reschedules what was scheduled while the database's clock was ahead.

When the clock steps back, a retry that was due in five seconds is due in an hour and five seconds, and an event that
was published then is due in an hour, because their times were written by the clock before the step. Such rows were
written later than now: that is how they are found. The settler gives each its whole delay again, counted from now, as a
new row in the log. A delivery in memory is left alone: it is being sent, or waits in a queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.dispatcher import Dispatcher
from webhook_grpc.engine.shards import Shards
from webhook_grpc.engine.unsettled import EndedTurn, FencedQueue
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import due, misdated
from webhook_grpc.store.outbox.misdated import Misdated

log = structlog.get_logger(__name__)

_BATCH_ROWS: Final = 500
_RETRY_SECONDS: Final = 1.0
# A statement that began before the step may commit after the first look; none takes as long as this.
_LOOKS_AFTER_SECONDS: Final = (0.0, 5.0, 60.0)


class Rescheduling:
    """Looks through the shards of this process when it has gained them, and when the clock has stepped."""

    def __init__(
        self, connection: LoopConnection, shards: Shards, dispatcher: Dispatcher, results: FencedQueue[EndedTurn]
    ) -> None:
        self._connection = connection
        self._looking = connection.progress.work("reschedule what a wrong clock scheduled", Service.DELIVERY)
        self._shards = shards
        self._dispatcher = dispatcher
        self._results = results
        self._looks: dict[int, list[float]] = {}  # of each shard: when to look through it, monotonic, the next one last
        self._wake = asyncio.Event()

    def look_through(self, shards: Iterable[int]) -> None:
        """Looks through these shards soon: something in them may have been written by a clock that was ahead."""
        now = time.monotonic()
        for shard in shards:
            self._looks[shard] = [now + seconds for seconds in reversed(_LOOKS_AFTER_SECONDS)]
        self._wake.set()

    async def run(self) -> None:
        """Looks when there is a reason to, until the task is cancelled."""
        while True:
            seconds = await self._look_where_due()
            self._wake.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self, shard: int) -> int:
        """Hands what is misdated in a shard to the settler, and returns how many deliveries. Raises Unavailable.

        Nothing is done for a shard while the lease is not fresh: then it is looked through once more.
        """
        if not await misdated.may_exist(self._connection, shard):
            return 0
        count, after = 0, None
        while shard in self._shards.sendable:
            page = await misdated.page(self._connection, shard, after, _BATCH_ROWS)
            count += await self._reschedule(shard, page.misdated)
            await self._results.caught_up()
            if page.last is None:
                return count
            after = page.last
        self._look_again(shard)
        return count

    async def _look_where_due(self) -> float | None:
        """Looks through every shard whose time has come; returns the seconds until the next look, None for none."""
        count = 0
        for shard in [shard for shard, looks in self._looks.items() if looks[-1] <= time.monotonic()]:
            if shard not in self._shards.owned:
                self._looks.pop(shard, None)  # its owner looks for itself
                continue
            self._begins_with(shard)
            try:
                with watched(self._looking, is_timed=False):
                    count += await self.look(shard)
            except Unavailable:
                self._look_again(shard)
        if count:
            log.warning("deliveries rescheduled: the database's clock was ahead when they were scheduled", count=count)
        if not self._looks:
            return None
        return max(0.0, min(looks[-1] for looks in self._looks.values()) - time.monotonic())

    def _begins_with(self, shard: int) -> None:
        """Forgets the looks whose time has come, before they are made: a step meanwhile is a reason for another one."""
        looks = [at for at in self._looks.get(shard, []) if at > time.monotonic()]
        if looks:
            self._looks[shard] = looks
        else:
            self._looks.pop(shard, None)

    def _look_again(self, shard: int) -> None:
        """Looks through a shard soon once more, if it is still ours then and is not looked through before that."""
        at, looks = time.monotonic() + _RETRY_SECONDS, self._looks.setdefault(shard, [])
        if not looks or looks[-1] > at:
            looks.append(at)

    async def _reschedule(self, shard: int, found: list[Misdated]) -> int:
        delays = {(one.row.webhook_id, one.row.event_id): one.delay_seconds for one in found}
        deliveries = await due.with_bodies(self._connection, [one.row for one in found], to_send=False)
        if shard not in self._shards.sendable:
            self._look_again(shard)  # given up while this was read, or the lease is late
            return 0
        return sum(
            self._dispatcher.end(
                Settlement(
                    delivery,
                    Decision(DeliveryStatus.PENDING, delays[delivery.webhook_id, delivery.event_id]),
                    None,
                )
            )
            for delivery in deliveries
        )
