"""Finds what is due in our shards, and keeps the lanes filled.

Deliveries come in by two ways. What was published here for our own shards is handed over from memory; everything else
is found by looking at the table: at a hint at once, by polling at the latest. The table is the truth: a delivery that
is lost from memory is found again, and one that is found twice is held once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import PendingDelivery, Trigger, Webhook, WebhookStatus
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.receivers.paces import Paces
from webhook_grpc.engine.receivers.webhooks import WebhookCache
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import due
from webhook_grpc.store.outbox.due import FetchRequest, FoundRow, PendingWebhook
from webhook_grpc.store.outbox.publishing import NewDeliveries

from .lane import Lane
from .lanes import Lanes
from .stale_rows import StaleRows

# A publication may become visible a little later than a younger one; within this, its row is still found.
_LATE_COMMIT: Final = timedelta(seconds=10)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FULL_LOOK_SECONDS: Final = 5.0
_SHARED_LOOK_SECONDS: Final = 1.0
_ALARM_SECONDS_MAX: Final = 30.0  # what is due later is found by looking
_ALARM_MARGIN_SECONDS: Final = 0.02
_LANES_PER_LOOK: Final = 200
_DISCOVER_SHARE: Final = 0.1  # of the time may be spent on discovering,
_DISCOVER_PAUSE_SECONDS_MAX: Final = 2.0  # but a look that was slow for another reason must not put off the next
_BODIES_PER_READ: Final = 250
_CANCEL_AHEAD_SECONDS: Final = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be remembered while rows are on their way from the database."""

    epochs: dict[int, int]
    shards: frozenset[int]
    mark: int


class Fetcher:
    """Fills the lanes. `on_found` is called when there may be something to start."""

    def __init__(
        self,
        connection: LoopConnection,
        poll_seconds: float,
        clock: DatabaseClock,
        lanes: Lanes,
        shards: Shards,
        webhooks: WebhookCache,
        paces: Paces,
    ) -> None:
        self._connection = connection
        self._looking = connection.progress.work("look for what is due", Service.DELIVERY)
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._lanes = lanes
        self._shards = shards
        self._webhooks = webhooks
        self._paces = paces
        self._stale_rows = StaleRows()
        self._has_cancelled = False  # else nothing need be looked up for it
        self._discover_at = 0.0
        self._hinted = set[int]()
        self._wake = asyncio.Event()
        self.on_found: Callable[[], None] = _ignore

    # --- what comes in ---------------------------------------------------------------------------------------------

    def wake(self, shards: Iterable[int] = ()) -> None:
        """Something became due, probably in these shards: look now."""
        hinted = set(shards)
        self._hinted |= hinted
        for lane in self._lanes:
            if lane.shard in hinted:
                lane.behind = True
        self._wake.set()

    def clock_stepped(self) -> None:
        """The database's clock has stepped: how far each lane was read, in its time, means nothing now."""
        for lane in self._lanes:
            lane.behind = True
            lane.reached = lane.fresh_floor = None
        self._wake.set()

    def gained(self, shards: set[int]) -> None:
        """The shards are ours now."""
        self._hinted |= shards
        self._wake.set()

    def webhook_changed(self, webhook: Webhook) -> None:
        """The webhook is as it is now."""
        self._paces.configure(webhook)
        self._configure_lane(webhook)
        self._hinted.add(webhook.shard)  # what is pending of a webhook that was paused has no lane
        self._wake.set()

    def settled(self, delivery: PendingDelivery, retry_in_seconds: float | None) -> None:
        """The database has answered for this delivery: a row of it that is on its way is an old one."""
        self._stale_rows.add(delivery.key)
        if retry_in_seconds is not None and retry_in_seconds < _ALARM_SECONDS_MAX:
            at = time.monotonic() + retry_in_seconds + _ALARM_MARGIN_SECONDS
            self._lanes.set_alarm(delivery.webhook_id, at)

    def cancelled(self, webhook_id: int, event_id: UUID) -> None:
        """The database has ended this delivery, whichever attempt was next: the same holds for its rows."""
        self._stale_rows.add((webhook_id, event_id))
        self._has_cancelled = True

    def expect(self) -> Reading:
        """Rows are about to be made or read."""
        return Reading(self._shards.epochs(), self._shards.sendable, self._stale_rows.begin())

    def receive(self, expectation: Reading, new: Sequence[NewDeliveries]) -> None:
        """Takes in what was just published here, straight from memory."""
        for deliveries in new:
            event = deliveries.event
            for webhook_id in deliveries.own_webhook_ids:
                delivery = PendingDelivery(
                    webhook_id=webhook_id,
                    event_id=event.event_id,
                    due_at=deliveries.create_time,
                    customer_id=event.customer_id,
                    attempt=0,
                    event_type=event.event_type,
                    event_create_time=deliveries.create_time,
                    body=event.body,
                    is_fresh=True,
                )
                self._take_in(delivery, expectation)
        self._stale_rows.end(expectation.mark)
        self.on_found()

    # --- what is in the table --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for due deliveries until it is cancelled."""
        while True:
            try:
                with watched(self._looking):
                    more = await self._look()
            except Unavailable:
                more = False
            self.on_found()
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> bool:
        """One look at the table. True if it should be followed by another at once."""
        shards = self._shards.sendable
        if not shards:
            return False
        self._hinted |= self._lanes.ring_alarms(time.monotonic())
        await self._discover(shards)
        self._looking.begin()  # each step by itself: with a large backlog all together may take long
        await self._load_webhooks()
        self._looking.begin()
        now = time.monotonic()
        wanted = sorted(
            (lane for lane in self._lanes if self._is_wanted(lane, now)),
            key=lambda lane: (not lane.behind, lane.looked_at),  # those that wait longest first
        )
        self._paces.forget_unused((lane.webhook_id for lane in self._lanes), now)
        return bool(wanted) and await self._fetch(wanted[:_LANES_PER_LOOK], now)

    async def _discover(self, shards: frozenset[int]) -> None:
        """Looks at all shards from time to time, and at once at those that a hint named.

        With very many webhooks that wait for a retry a look takes long; then it is taken less often.
        """
        started_at = time.monotonic()
        is_due = started_at >= self._discover_at
        hinted, self._hinted = self._hinted & shards, set[int]()
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
        """Marks the lane of a webhook whose earliest row is one that is not held."""
        if shard_of(pending.webhook_id) not in self._shards.owned:
            return  # given up while this was read
        if pending.status is WebhookStatus.PAUSED or not (pending.is_due or pending.status.has_ended):
            return
        lane = self._lanes.open(pending.webhook_id, pending.customer_id, shard_of(pending.webhook_id), now)
        if pending.event_id not in lane.held:
            lane.behind = True

    def _found_replays(self, webhook_id: int, customer_id: int, now: float) -> None:
        webhook = self._webhooks.get(webhook_id)
        is_paused = webhook is not None and webhook.status is WebhookStatus.PAUSED
        if shard_of(webhook_id) in self._shards.owned and not is_paused:
            self._lanes.open(webhook_id, customer_id, shard_of(webhook_id), now).replays_behind = True

    async def _load_webhooks(self) -> None:
        unknown = [lane.webhook_id for lane in self._lanes if lane.webhook is None]
        await self._webhooks.load(unknown)
        await self._paces.load([webhook for known in unknown if (webhook := self._webhooks.get(known)) is not None])
        for known in unknown:
            webhook = self._webhooks.get(known)  # which may have changed while its pace was loaded
            if webhook is not None:
                self._paces.configure(webhook)
                self._configure_lane(webhook)
        self._webhooks.forget_unused({lane.webhook_id for lane in self._lanes})

    def _is_wanted(self, lane: Lane, now: float) -> bool:
        if not lane.may_send:
            return False
        if self._lanes.is_hungry(lane, now):
            return True
        if not self._lanes.room(lane, now):
            return False
        if lane.fresh_floor is not None and self._lanes.is_low(lane, now, fresh=True):
            return now - lane.looked_at > self._poll_seconds
        is_shared = self._shards.live_count > 1
        return now - lane.looked_at > (_SHARED_LOOK_SECONDS if is_shared else _FULL_LOOK_SECONDS)

    async def _fetch(self, lanes: Sequence[Lane], now: float) -> bool:
        requests = [(lane, request) for lane in lanes for request in self._requests(lane, now)]
        reading = self.expect()
        try:
            rows = await due.fetch(self._connection, [request for _, request in requests])
            self._note_progress(requests, rows)
            rows += await self._fetch_replays(lanes, now)
            taken = await self._take_in_rows([row for row in rows if self._is_new(row)], reading)
        except BaseException:
            for lane in lanes:
                lane.behind = True
            raise
        finally:
            self._stale_rows.end(reading.mark)
        for lane in lanes:
            self._lanes.drop_if_unused(lane)
        return taken > 0 and any(self._lanes.is_hungry(lane, now) for lane in lanes)

    def _requests(self, lane: Lane, now: float) -> list[FetchRequest]:
        """What to read of a lane: what waits longest, and beside a backlog what was not tried yet.

        From time to time without a floor, to find what became visible late.
        """
        lane.looked_at = now
        lane.behind = False  # what comes from now on counts again
        if lane.reached is None or lane.is_ending or now - lane.fully_looked_at > _FULL_LOOK_SECONDS:
            lane.fully_looked_at = now
            floor = _BEGINNING
        else:
            floor = lane.reached - _LATE_COMMIT
        room = len(lane.held) + self._lanes.room(lane, now)
        ahead_seconds = _CANCEL_AHEAD_SECONDS if lane.is_ending else 0.0
        requests = [FetchRequest(lane.shard, lane.webhook_id, room, floor, ahead_seconds)]
        if lane.fresh_floor is not None and (fresh_room := self._lanes.room(lane, now, fresh=True)):
            room = len(lane.held) + fresh_room
            requests.append(FetchRequest(lane.shard, lane.webhook_id, room, lane.fresh_floor, is_fresh=True))
        return requests

    async def _fetch_replays(self, lanes: Sequence[Lane], now: float) -> list[FoundRow]:
        """The replays of lanes that have some in the table and room for them."""
        hungry = [lane for lane in lanes if lane.replays_behind and self._lanes.is_low_on_replays(lane, now)]
        if not hungry:
            return []
        rooms = [
            (lane.shard, lane.webhook_id, lane.replay_count + self._lanes.replay_room(lane, now)) for lane in hungry
        ]
        rows = await due.fetch_replays(self._connection, rooms)
        for number, (lane, (_, _, room)) in enumerate(zip(hungry, rooms, strict=True)):
            lane.replays_behind = sum(row.request == number for row in rows) >= room
        return rows

    def _note_progress(self, requests: Sequence[tuple[Lane, FetchRequest]], rows: Sequence[FoundRow]) -> None:
        """How far each lane has been read, and whether the table holds more for it than there was room for."""
        found: defaultdict[int, list[FoundRow]] = defaultdict(list)
        for row in rows:
            found[row.request].append(row)
        for number, (lane, request) in enumerate(requests):
            is_cut = len(found[number]) >= request.room
            if request.is_fresh:
                if lane.fresh_floor is not None:
                    read_until = found[number][-1].due_at if is_cut else self._clock.now() - _LATE_COMMIT
                    lane.fresh_floor = max(lane.fresh_floor, read_until)
            elif not is_cut:
                lane.fresh_floor = None
            else:
                lane.behind = True
                lane.fresh_floor = lane.fresh_floor or self._clock.now()

    def _is_new(self, row: FoundRow) -> bool:
        lane = self._lanes.get(row.webhook_id)
        return lane is None or row.event_id not in lane.held

    async def _take_in_rows(self, rows: Sequence[FoundRow], reading: Reading) -> int:
        """How many of them are held now. A lane that refuses one gets none of those behind it, to keep their order."""
        taken, refused = 0, set[int]()
        for start in range(0, len(rows), _BODIES_PER_READ):
            self._looking.begin()
            for delivery in await due.with_bodies(self._connection, rows[start : start + _BODIES_PER_READ]):
                is_backlog = not delivery.is_fresh and delivery.trigger is not Trigger.REPLAY
                if is_backlog and delivery.webhook_id in refused:
                    continue
                if self._take_in(delivery, reading):
                    taken += 1
                elif is_backlog and self._is_full(delivery.webhook_id):
                    refused.add(delivery.webhook_id)
        return taken

    def _is_full(self, webhook_id: int) -> bool:
        lane = self._lanes.get(webhook_id)
        return lane is None or not self._lanes.room(lane, time.monotonic())

    def _take_in(self, delivery: PendingDelivery, reading: Reading) -> bool:
        """Holds a delivery, unless it is somebody else's by now or was settled while its row was on the way."""
        shard = delivery.shard
        owned = self._shards.owned.get(shard)
        if owned is None or owned.epoch != reading.epochs.get(shard):
            return False
        if self._stale_rows.settled_since(delivery.key, reading.mark):
            return False
        if self._has_cancelled and self._stale_rows.settled_since(
            (delivery.webhook_id, delivery.event_id), reading.mark
        ):
            return False
        now = time.monotonic()
        lane = self._lanes.open(delivery.webhook_id, delivery.customer_id, shard, now)
        if lane.webhook is None:
            webhook = self._webhooks.get(delivery.webhook_id)
            if webhook is not None:
                self._configure_lane(webhook)
            if lane.webhook is None:
                self._wake.set()
        return self._lanes.hold(lane, delivery, now)

    def _configure_lane(self, webhook: Webhook) -> None:
        """A lane whose pace is not loaded waits for that."""
        pace = self._paces.get(webhook.webhook_id)
        if pace is not None:
            self._lanes.configure(webhook, pace, time.monotonic())


def _ignore() -> None:
    pass
