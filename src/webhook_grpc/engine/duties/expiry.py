"""Ends deliveries that were not made while their event was kept: as EXPIRED, before the event is dropped.

That is so whatever keeps a delivery from being sent: a webhook that is paused, a breaker that is open, a due time that
lies ahead. A delivery in memory is left alone: it is being sent or waits in a queue, and if that does not end it, the
next look does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from uuid import UUID

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import HOUSEKEEPING
from webhook_grpc.domain.retention import first_day_kept
from webhook_grpc.engine.attempt import expired
from webhook_grpc.engine.dispatcher import Dispatcher
from webhook_grpc.engine.shards import Shards
from webhook_grpc.engine.unsettled import EndedTurn, FencedQueue
from webhook_grpc.store import clock
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import due, expiry
from webhook_grpc.store.outbox.due import FoundRow
from webhook_grpc.store.schema.partitions import first_id, start_of

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS: Final = 60.0
_BATCH_ROWS: Final = 500


class Expiry:
    """Looks at the outbox of this process's shards, but only while there are events that are no longer kept."""

    def __init__(
        self,
        connection: LoopConnection,
        events_days: int,
        shards: Shards,
        dispatcher: Dispatcher,
        results: FencedQueue[EndedTurn],
    ) -> None:
        self._connection = connection
        self._looking = connection.progress.work("end what is overdue", words=HOUSEKEEPING)
        self._events_days = events_days
        self._shards = shards
        self._dispatcher = dispatcher
        self._results = results

    async def run(self) -> None:
        """Looks from time to time until the task is cancelled."""
        while True:
            with contextlib.suppress(Unavailable), watched(self._looking, is_timed=False):
                ended_count = await self.look()
                if ended_count:
                    log.warning("deliveries expired: not delivered while their events were kept", count=ended_count)
            await asyncio.sleep(_INTERVAL_SECONDS)  # events are dropped a day at a time: a minute is soon enough

    async def look(self) -> int:
        """Hands what is overdue in our shards to the settler, and returns how many deliveries. Raises Unavailable."""
        today = (await clock.believed_now(self._connection)).date()
        bound = first_id(start_of(first_day_kept(today, self._events_days)))
        if not await expiry.overdue_exist(self._connection, bound):
            return 0
        return sum([await self._look_at(shard, bound) for shard in sorted(self._shards.sendable)])

    async def _look_at(self, shard: int, bound: UUID) -> int:
        count, after = 0, None
        while rows := await expiry.overdue(self._connection, shard, bound, after, _BATCH_ROWS):
            count += await self._end(shard, rows)
            await self._results.caught_up()
            if len(rows) < _BATCH_ROWS:
                break
            after = rows[-1]
        return count

    async def _end(self, shard: int, rows: list[FoundRow]) -> int:
        deliveries = await due.with_bodies(self._connection, rows, to_send=False)
        if shard not in self._shards.sendable:
            return 0  # given up while this was read
        return sum(self._dispatcher.end(expired(delivery)) for delivery in deliveries)
