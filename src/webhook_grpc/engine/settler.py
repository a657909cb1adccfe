"""Settling in batches: the first result waits a few milliseconds for company; one statement is in flight at a time.

A result is kept until the database has answered for it. While the database is away nothing is lost and nothing is sent
twice: the batch is settled again, at a new epoch, and what had been committed is not changed a second time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ..domain.errors import Unavailable
from ..domain.model import DeliveryStatus
from ..domain.retry import Settlement
from ..store import settlement as store
from ..store.db import DatabaseOptions, LoopConnection, StoreRefusal
from ..store.settlement import Settled
from .ownership import Ownership

log = structlog.get_logger(__name__)

_BACKOFF_SECONDS_MIN: Final = 0.05
_BACKOFF_SECONDS_MAX: Final = 2.0


class Settler:
    """Turns results into rows."""

    def __init__(
        self,
        options: DatabaseOptions,
        ownership: Ownership,
        batch_max: int,
        wait_seconds: float,
        on_settled: Callable[[Sequence[Settled]], None],
        on_dropped: Callable[[Sequence[Settled]], None],
    ) -> None:
        self._connection = LoopConnection(options, "settle")
        self._ownership = ownership
        self._batch_max = batch_max
        self._wait_seconds = wait_seconds
        self._on_settled = on_settled
        self._on_dropped = on_dropped
        self._queue: deque[Settled] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._added_count = 0
        self._answered_count = 0
        self._answered = asyncio.Condition()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, settled: Settled) -> None:
        """Takes in a result."""
        self._queue.append(settled)
        self._added_count += 1
        self._empty.clear()
        self._arrived.set()

    async def drained(self) -> None:
        """Waits until every result is settled."""
        await self._empty.wait()

    async def caught_up(self) -> None:
        """Waits until every result that there is now is settled; not for those that come meanwhile."""
        target = self._added_count
        async with self._answered:
            await self._answered.wait_for(lambda: self._answered_count >= target)

    async def run(self) -> None:
        """Settles until it is cancelled."""
        while True:
            await self._arrived.wait()
            if len(self._queue) < self._batch_max:
                await asyncio.sleep(self._wait_seconds)  # company
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
            await self._settle(batch)
            self._answered_count += len(batch)
            async with self._answered:
                self._answered.notify_all()
            if not self._queue:
                self._arrived.clear()
                self._empty.set()

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def _settle(self, batch: list[Settled]) -> None:
        """Returns when the database has answered for every delivery of the batch, or its shard is not ours."""
        backoff_seconds = _BACKOFF_SECONDS_MIN
        is_in_doubt = False  # what the last statement did, and so how far the log reaches
        while batch := self._still_ours(batch):
            try:
                if is_in_doubt:
                    await self._ownership.readopt({settled.delivery.shard for settled in batch})
                    is_in_doubt = False
                elif await self._settled(batch):
                    return
                else:
                    await self._ownership.beat()  # a shard was lost: find out which
            except StoreRefusal as refusal:
                await self._settle_apart(batch, refusal)
                return
            except Unavailable:
                is_in_doubt = True
                log.warning("the database is away; results wait", count=len(batch) + len(self._queue))
                await asyncio.sleep(backoff_seconds * random.uniform(0.5, 1.0))
                backoff_seconds = min(backoff_seconds * 2, _BACKOFF_SECONDS_MAX)

    async def _settled(self, batch: Sequence[Settled]) -> bool:
        owned = dict(self._ownership.owned)  # as it is now: a shard that is lost and regained meanwhile is another
        answer = await store.settle(self._connection, self._ownership.worker, owned, batch)
        if not answer.ours:
            return False
        for shard, last_seq in answer.last_seqs.items():
            owned[shard].last_seq = last_seq
        if answer.changed_count < len(batch):
            log.info("settled before", count=len(batch) - answer.changed_count)
        self._on_settled(batch)
        return True

    def _still_ours(self, batch: list[Settled]) -> list[Settled]:
        lost = [settled for settled in batch if settled.delivery.shard not in self._ownership.owned]
        if lost:
            log.warning("results dropped with their shards; the new owner sends again", count=len(lost))
            self._on_dropped(lost)
        return [settled for settled in batch if settled.delivery.shard in self._ownership.owned]

    async def _settle_apart(self, batch: list[Settled], refusal: StoreRefusal) -> None:
        """Postgres refused a value: finds the delivery at fault, and ends it alone.

        Left as it is it would be sent again and again.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        [settled] = batch
        log.error("result refused by the database", webhook_id=settled.delivery.webhook_id, refusal=str(refusal))
        if settled.result is None:
            self._on_dropped(batch)
        else:
            await self._settle([Settled(settled.delivery, Settlement(DeliveryStatus.FAILED), None)])
