"""Carries replays on: a little at a time, in the background, from wherever they stand.

Everything that is known of a replay is in the database, so another process carries it on after a restart. The owner of
the shard of its id runs it; that two run it for a moment does no harm (`store/replays/progress.py`). Each webhook of a
replay has its own turns: the next deliveries to it are chosen only when half of those that may wait have been sent. So
a replay is as fast as its receivers; a receiver that takes nothing holds up only its own deliveries. Live deliveries
come before those of a replay (`engine/queue/lane.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Final

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.record import record
from webhook_grpc.domain.replay import ReplayStatus
from webhook_grpc.engine.shards import Shards
from webhook_grpc.hub.hints import Hints
from webhook_grpc.store.connection.failures import StoreRefusal, watched
from webhook_grpc.store.db import KeptPlans, LoopConnection
from webhook_grpc.store.replays import progress, selection
from webhook_grpc.store.replays.progress import ReplayWebhook, UnsettledReplay
from webhook_grpc.store.replays.selection import Choice

log = structlog.get_logger(__name__)

_EVENTS_PER_LOOK: Final = 16_000  # of one replay, counted once for each webhook; then it is the next replay's turn
_GROWTH: Final = 4  # of a batch of events after one that had less than wanted
_REST_SECONDS_MAX: Final = 5.0


@record
class _Rest:
    """Until when a replay is not looked at, and for how long."""

    until: float
    seconds: float


class Replays:
    """The replays of this process's shards. The owners of shards in which a replay has made commands get a hint."""

    def __init__(
        self, connection: LoopConnection, shards: Shards, hints: Hints, poll_seconds: float, pending_max: int
    ) -> None:
        self._connection = connection
        self._kept = KeptPlans(connection)
        self._carrying_on = connection.progress.work("carry on replays", Service.DELIVERY)
        self._shards = shards
        self._hints = hints
        self._poll_seconds = poll_seconds
        self._pending_max = pending_max
        self._after = 0
        self._rests = dict[int, _Rest]()  # of replays, each of whose webhooks has enough waiting

    async def run(self) -> None:
        """Attends to replays until the task is cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not self._shards.sendable:  # nothing is tried, which says nothing of the database
                continue
            # Not timed: choosing among many events may take long. Each statement has its deadline.
            with contextlib.suppress(Unavailable), watched(self._carrying_on, is_timed=False):
                await self._look()

    async def _look(self) -> None:
        """Attends to the next replays, and after the last begins with the first."""
        shards = self._shards.sendable
        if not shards:
            return
        replays = await progress.unsettled(self._kept, shards, self._after)
        for replay in replays:
            self._after = replay.replay_id  # one that fails must not keep the others from their turn
            try:
                await self._attend(replay)
            except StoreRefusal:  # a row that no code of ours writes must not stop the others
                log.exception("replay refused", replay_id=replay.replay_id)
        if len(replays) < progress.REPLAYS_PER_LOOK:
            self._after = 0
            self._forget_rests()

    async def _attend(self, replay: UnsettledReplay) -> None:
        if replay.status is ReplayStatus.RUNNING and not replay.is_exhausted:
            await self._take_turns(replay)
        elif not replay.is_waiting:
            status = await progress.finish(self._connection, replay.replay_id)
            if status is not None:
                log.info("replay ended", replay_id=replay.replay_id, customer_id=replay.spec.customer_id, status=status)
        elif replay.status is ReplayStatus.CANCELLED:
            self._hints.commanded(await progress.sweep(self._connection, replay.replay_id))

    async def _take_turns(self, replay: UnsettledReplay) -> None:
        """Advances to the webhooks whose turn it is. If again and again there is none, looks become rarer."""
        now = time.monotonic()
        rest = self._rests.get(replay.replay_id, _Rest(now, self._poll_seconds / 2))
        if now < rest.until:
            return
        turns = await progress.webhooks_with_room(self._connection, replay, self._pending_max)
        if turns:
            self._rests.pop(replay.replay_id, None)
        else:
            seconds = min(2 * rest.seconds, _REST_SECONDS_MAX)
            self._rests[replay.replay_id] = _Rest(now + seconds, seconds)
        for turn in turns:
            await self._advance(turn, _EVENTS_PER_LOOK // len(turns))

    def _forget_rests(self) -> None:
        """Forgets rests that were long ago: the replay has ended, or is another process's by now."""
        now = time.monotonic()
        self._rests = {replay_id: rest for replay_id, rest in self._rests.items() if now < rest.until + rest.seconds}

    async def _advance(self, turn: ReplayWebhook, events_left: int) -> None:
        """Chooses as many deliveries to a webhook as may wait, from as many events as may be looked at.

        For a webhook that was deleted or disabled the replay has nothing more to do: its events are passed over.
        """
        events_max = self._pending_max
        while events_left > 0:
            room = self._pending_max - turn.pending_count
            choice = Choice([], None)
            if turn.is_switched_on:
                wanted = min(events_max, events_left)
                choice = await selection.choose(self._connection, turn.spec, [turn.webhook_id], turn.position, wanted)
            choice = choice.fitting(room)
            begun = await progress.advance(self._connection, turn, choice)
            if begun:
                self._hints.commanded([shard_of(turn.webhook_id)])
            if begun is None or choice.position is None:  # None: another process carries it on, or it was cancelled
                return
            turn = replace(turn, position=choice.position, pending_count=turn.pending_count + begun)
            if turn.pending_count >= self._pending_max:
                return
            events_left -= events_max
            events_max = min(selection.PAIRS_MAX, events_max * _GROWTH)
