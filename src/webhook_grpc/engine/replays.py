"""Carries replays on: a little at a time, in the background, from wherever they stand.

All that a replay is stands in its row, so it goes on in another process after a restart. It is run by the owner of the
shard that its id falls into; that two run it for a moment harms nothing (`store/replaying.py`). It chooses the next
deliveries only when half of what it may have waiting is through, so it is as fast as its receivers let what waits be
sent, which is below live traffic (`engine/lanes.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from ..domain.errors import Unavailable
from ..domain.replay import ReplayStatus
from ..store import replaying
from ..store.db import DatabaseOptions, LoopConnection, StoreRefusal
from ..store.replaying import UnsettledReplay
from .ownership import Ownership

log = structlog.get_logger(__name__)

_BATCHES_PER_LOOK: Final = 8  # of one replay, before it is the others' turn
_GROWTH: Final = 4  # of a batch of events after one that had less than wanted


class Replays:
    """The replays of this process's shards. `on_commanded` is called with shards whose owners have something to do."""

    def __init__(self, options: DatabaseOptions, ownership: Ownership, poll_seconds: float, pending_max: int) -> None:
        self._connection = LoopConnection(options, "replays")
        self._ownership = ownership
        self._poll_seconds = poll_seconds
        self._pending_max = pending_max
        self._after = 0
        self.on_commanded: Callable[[Collection[int]], None] = _ignore

    async def run(self) -> None:
        """Attends to replays until it is cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self._look()
            except Unavailable:
                log.debug("replays not attended to; the next look tries again")

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def _look(self) -> None:
        """Attends to the next replays, beginning anew after the last."""
        shards = self._ownership.sendable
        if not shards:
            return
        replays = await replaying.unsettled(self._connection, shards, self._after)
        self._after = replays[-1].replay_id if len(replays) == replaying.REPLAYS_PER_LOOK else 0
        for replay in replays:
            try:
                await self._attend(replay)
            except StoreRefusal:  # a row that no code of ours writes must not stop the others
                log.exception("replay refused", replay_id=replay.replay_id)

    async def _attend(self, replay: UnsettledReplay) -> None:
        if replay.status is ReplayStatus.RUNNING and not replay.is_exhausted:
            replay = await self._advance(replay)
        elif replay.status is ReplayStatus.CANCELLED and replay.pending_count:
            self._commanded(await replaying.sweep(self._connection, replay.replay_id))
        if not replay.pending_count and (replay.is_exhausted or replay.status is ReplayStatus.CANCELLED):
            status = await replaying.finish(self._connection, replay.replay_id)
            if status is not None:
                log.info("replay ended", replay_id=replay.replay_id, customer_id=replay.spec.customer_id, status=status)

    async def _advance(self, replay: UnsettledReplay) -> UnsettledReplay:
        """Chooses as many deliveries as may wait, from as many events as may be looked at."""
        if replay.pending_count > self._pending_max // 2:
            return replay
        events_max = self._pending_max
        for _ in range(_BATCHES_PER_LOOK):
            room = self._pending_max - replay.pending_count
            choice = await replaying.choose(self._connection, replay.spec, replay.position, events_max)
            choice = choice.fitting(room)
            shards = await replaying.advance(self._connection, replay, choice)
            if shards is None:  # another process carries it on, or it was cancelled
                break
            self._commanded(shards)
            replay = replaying.advanced(replay, choice)
            if replay.is_exhausted or replay.pending_count >= self._pending_max:
                break
            events_max = min(replaying.EVENTS_MAX, events_max * _GROWTH)
        return replay

    def _commanded(self, shards: Collection[int]) -> None:
        if shards:
            self.on_commanded(shards)


def _ignore(_: Collection[int]) -> None:
    pass
