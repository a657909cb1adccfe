"""Looks at the table for what is due in our shards, and keeps the lanes filled: at a hint at once, by polling at last.

Which rows to read for a lane: reading.py. What is done with a row that was found: intake.py.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Trigger, WebhookStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import due
from webhook_grpc.store.outbox.due import FetchRequest, FoundRow, PendingWebhook

from .due_hints import DueHints
from .intake import Expectation, Intake
from .lane import Lane
from .lanes import Lanes

_LANES_PER_LOOK: Final = 200
_DISCOVER_SHARE: Final = 0.1  # of the time may be spent on discovering,
_DISCOVER_PAUSE_SECONDS_MAX: Final = 2.0  # but a look that was slow for another reason must not put off the next
_BODIES_PER_READ: Final = 250


class Fetcher:
    """Fills the lanes from the table."""

    def __init__(
        self,
        connection: LoopConnection,
        poll_seconds: float,
        clock: DatabaseClock,
        shards: Shards,
        lanes: Lanes,
        intake: Intake,
        due_hints: DueHints,
    ) -> None:
        self._connection = connection
        self._looking = connection.progress.work("look for what is due", Service.DELIVERY)
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._shards = shards
        self._lanes = lanes
        self._intake = intake
        self._due_hints = due_hints
        self._discover_at = 0.0

    def clock_stepped(self) -> None:
        """Forgets how far each lane was read: that is in the time of the database's clock, which has stepped."""
        for lane in self._lanes:
            lane.reading.start_over()
        self._due_hints.discover()

    async def run(self) -> None:
        """Looks for due deliveries until it is cancelled."""
        while True:
            more = False
            if self._shards.sendable:  # else nothing is tried, which says nothing of the database
                with contextlib.suppress(Unavailable), watched(self._looking):
                    more = await self._look()
            self._intake.start_soon()
            if not more:
                await self._due_hints.wait(self._poll_seconds)
            self._due_hints.begin_look()

    async def _look(self) -> bool:
        """Looks at the table once. True: another look should follow at once."""
        shards = self._shards.sendable
        if not shards:
            return False
        hinted = self._due_hints.take(self._lanes.ring_alarms(time.monotonic()))
        try:
            await self._discover(shards, shards & hinted)
        except BaseException:
            self._due_hints.give_back()
            raise
        self._due_hints.end_look()
        self._looking.begin()  # each step by itself: with a large backlog all together may take long
        await self._intake.load_receivers()
        self._looking.begin()
        now = time.monotonic()
        wanted = sorted(
            (lane for lane in self._lanes if self._is_wanted(lane, now)),
            key=lambda lane: (not lane.reading.behind, lane.reading.looked_at),  # those that wait longest first
        )
        self._intake.forget_unused(now)
        return bool(wanted) and await self._fetch(wanted[:_LANES_PER_LOOK], now)

    # --- which webhooks have something -----------------------------------------------------------------------------

    async def _discover(self, shards: frozenset[int], hinted: frozenset[int]) -> None:
        """Looks at all shards from time to time, and at once at those that a hint named.

        With very many webhooks that wait for a retry a look takes long; then it is taken less often.
        """
        started_at = time.monotonic()
        is_due = started_at >= self._discover_at
        if not is_due and not hinted:
            return
        looked_at = shards if is_due else hinted
        for pending in await due.discover(self._connection, looked_at):
            self._found_pending(pending, started_at)
        for webhook_id, customer_id in await due.replaying(self._connection, looked_at):
            self._found_replays(webhook_id, customer_id, started_at)
        if is_due:
            took_seconds = time.monotonic() - started_at
            pause_seconds = min(took_seconds / _DISCOVER_SHARE, _DISCOVER_PAUSE_SECONDS_MAX)
            self._discover_at = started_at + max(self._poll_seconds / 2, pause_seconds)

    def _found_pending(self, pending: PendingWebhook, now: float) -> None:
        """Opens the lane of a webhook whose earliest row is not held."""
        if shard_of(pending.webhook_id) not in self._shards.owned:
            return  # given up while this was read
        if pending.status is WebhookStatus.PAUSED or not (pending.is_due or pending.status.has_ended):
            return
        lane = self._lanes.open(pending.webhook_id, pending.customer_id, shard_of(pending.webhook_id), now)
        if pending.event_id not in lane.held:
            lane.reading.note_due()

    def _found_replays(self, webhook_id: int, customer_id: int, now: float) -> None:
        if shard_of(webhook_id) in self._shards.owned and not self._intake.is_paused(webhook_id):
            self._lanes.open(webhook_id, customer_id, shard_of(webhook_id), now).reading.note_due_replays()

    # --- what they have --------------------------------------------------------------------------------------------

    def _is_wanted(self, lane: Lane, now: float) -> bool:
        if not lane.may_send:
            return False
        if self._lanes.is_hungry(lane, now):
            return True
        has_backlog = lane.reading.fresh_floor is not None  # which may have all of its room: fresh rows have their own
        has_room = self._lanes.room(lane, now) > 0 or (has_backlog and self._lanes.room(lane, now, fresh=True) > 0)
        return has_room and lane.reading.is_due(
            now,
            self._poll_seconds,
            is_low_on_fresh=self._lanes.is_low(lane, now, fresh=True),
            is_shared=self._shards.live_count > 1,
        )

    async def _fetch(self, lanes: Sequence[Lane], now: float) -> bool:
        requests = [(lane, request) for lane in lanes for request in self._requests(lane, now)]
        expectation = self._intake.expect()
        try:
            rows = await due.fetch(self._connection, [request for _, request in requests])
            self._note_progress(requests, rows)
            rows += await self._fetch_replays(lanes, now)
            taken = await self._take_in_rows([row for row in rows if self._is_new(row)], expectation)
        except BaseException:
            for lane in lanes:
                lane.reading.note_due()
            raise
        finally:
            self._intake.done(expectation)
            for lane in lanes:
                lane.reading.end_read()
        for lane in lanes:
            self._lanes.drop_if_unused(lane)
        return taken > 0 and any(self._lanes.is_hungry(lane, now) for lane in lanes)

    def _requests(self, lane: Lane, now: float) -> Iterable[FetchRequest]:
        return lane.reading.requests(
            now,
            len(lane.held) + self._lanes.stray_count(lane),
            room=self._lanes.room(lane, now),
            fresh_room=self._lanes.room(lane, now, fresh=True),
            is_ending=lane.is_ending,
            database_time=self._clock.now(),
        )

    async def _fetch_replays(self, lanes: Sequence[Lane], now: float) -> list[FoundRow]:
        """Reads the replays of lanes that have some in the table and room for them."""
        hungry = [lane for lane in lanes if lane.reading.replays_behind and self._lanes.is_low_on_replays(lane, now)]
        if not hungry:
            return []
        rooms = [
            (lane.shard, lane.webhook_id, self._held_replays(lane) + self._lanes.replay_room(lane, now))
            for lane in hungry
        ]
        rows = await due.fetch_replays(self._connection, rooms)
        for number, (lane, (_, _, room)) in enumerate(zip(hungry, rooms, strict=True)):
            lane.reading.note_replays(sum(row.request == number for row in rows), room)
        return rows

    def _held_replays(self, lane: Lane) -> int:
        return lane.replay_count + self._lanes.stray_count(lane)

    def _note_progress(self, requests: Sequence[tuple[Lane, FetchRequest]], rows: Sequence[FoundRow]) -> None:
        found: defaultdict[int, list[datetime]] = defaultdict(list)
        for row in rows:
            found[row.request].append(row.due_at)
        for number, (lane, request) in enumerate(requests):
            lane.reading.note(request, found[number], self._clock.now())

    def _is_new(self, row: FoundRow) -> bool:
        lane = self._lanes.get(row.webhook_id)
        is_held = lane is not None and row.event_id in lane.held
        return not is_held and not self._lanes.is_stray(row.webhook_id, row.event_id, row.attempt)

    async def _take_in_rows(self, rows: Sequence[FoundRow], expectation: Expectation) -> int:
        """Returns how many are held now. A lane that refuses one gets none of those behind it, to keep their order."""
        taken, refused = 0, set[int]()
        for start in range(0, len(rows), _BODIES_PER_READ):
            self._looking.begin()
            for delivery in await due.with_bodies(self._connection, rows[start : start + _BODIES_PER_READ]):
                is_backlog = not delivery.is_fresh and delivery.trigger is not Trigger.REPLAY
                if is_backlog and delivery.webhook_id in refused:
                    continue
                if self._intake.take_in(delivery, expectation):
                    taken += 1
                elif is_backlog and self._is_full(delivery.webhook_id):
                    refused.add(delivery.webhook_id)
        return taken

    def _is_full(self, webhook_id: int) -> bool:
        lane = self._lanes.get(webhook_id)
        return lane is None or not self._lanes.room(lane, time.monotonic())
