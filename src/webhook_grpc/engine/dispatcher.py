"""The heart of the engine: finds what is due in our shards, starts attempts, hands their results to be settled.

Deliveries come in by two ways. What was published here for our own shards is handed over from memory; everything else
is found by looking at the table: at a hint at once, by polling at the latest. The table is the truth: a delivery that
is lost from memory is found again, and one that is found twice is held once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from ..domain.errors import Unavailable
from ..domain.ids import delivery_id_text, shard_of
from ..domain.model import DeliveryStatus, PendingDelivery, Webhook, WebhookStatus
from ..domain.retry import Settlement
from ..store import backlog
from ..store.backlog import FetchRequest, FoundRow, PendingWebhook
from ..store.db import DatabaseOptions, LoopConnection
from ..store.outbox import NewDeliveries
from ..store.settlement import Settled
from .delivery import Deliverer, cancelled, expired
from .journal import SettledJournal
from .lanes import ENDED, Lane, Lanes
from .ownership import Ownership
from .sender import SenderFault
from .settler import Settler
from .webhook_cache import WebhookCache

log = structlog.get_logger(__name__)
attempt_log = structlog.get_logger("webhook_grpc.attempt")

# A publication may become visible a little later than a younger one; within this, its row is still found.
_LATE_COMMIT: Final = timedelta(seconds=10)
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FULL_LOOK_SECONDS: Final = 5.0
_SHARED_LOOK_SECONDS: Final = 1.0
_ALARM_SECONDS_MAX: Final = 30.0  # what is due later is found by looking
_ALARM_MARGIN_SECONDS: Final = 0.02
_AGAIN: Final = Settlement(DeliveryStatus.PENDING, 1.0)  # for what was said to a webhook that is another by now
_LANES_PER_LOOK: Final = 200
_DISCOVER_SHARE: Final = 0.1  # of the time may be spent on discovering
_BODIES_PER_READ: Final = 250
_CANCEL_AHEAD_SECONDS: Final = 400 * 86_400.0
_FAULT_PAUSE_SECONDS: Final = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of the dispatcher."""

    poll_seconds: float
    in_flight_max: int
    unsettled_max: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be remembered while rows are on their way from the database."""

    epochs: dict[int, int]
    shards: frozenset[int]
    mark: int


class Dispatcher:
    """Owns the lanes and the attempts in flight."""

    def __init__(
        self,
        options: DatabaseOptions,
        limits: DispatchLimits,
        lanes: Lanes,
        ownership: Ownership,
        webhooks: WebhookCache,
        deliverer: Deliverer,
        settler: Settler,
        disable: Callable[[Webhook], Awaitable[bool]],
    ) -> None:
        self._connection = LoopConnection(options, "backlog")
        self._limits = limits
        self._lanes = lanes
        self._ownership = ownership
        self._webhooks = webhooks
        self._deliverer = deliverer
        self._settler = settler
        self._disable = disable
        self._journal = SettledJournal()
        self._attempts: set[asyncio.Task[None]] = set()
        # The lane of each delivery that is being sent, or is sent and not settled; by the identity of the object,
        # because after a shard was lost and regained there may be two of the same name.
        self._lane_of: dict[int, Lane] = {}
        self._paused_until = 0.0
        self._discover_at = 0.0
        self._hinted = set[int]()
        self._wake = asyncio.Event()
        self._stopping = False
        ownership.on_gained = self._gained
        ownership.on_leaving = lanes.close_shards
        ownership.on_lost = lanes.forget_shards
        ownership.is_idle = lanes.is_idle

    # --- what comes in ---------------------------------------------------------------------------------------------

    def wake(self, shards: Iterable[int] = ()) -> None:
        """Something became due, probably in these shards: look now."""
        hinted = set(shards)
        self._hinted |= hinted
        for lane in self._lanes:
            if lane.shard in hinted:
                lane.behind = True
        self._wake.set()

    def _gained(self, shards: set[int]) -> None:
        self._hinted |= shards
        self._wake.set()

    def webhook_changed(self, webhook: Webhook) -> None:
        """The webhook is as it is now."""
        self._lanes.configure(webhook)
        self._wake.set()

    def expect(self) -> Reading:
        """Rows are about to be made or read."""
        return Reading(self._ownership.epochs(), self._ownership.sendable, self._journal.begin())

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
                )
                lane = self._lanes.get(webhook_id)
                if lane is None or not lane.behind:  # else older ones in the table come first
                    self._take_in(delivery, expectation)
        self._journal.end(expectation.mark)
        self._start_attempts()

    # --- what is in the table --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for due deliveries until it is cancelled."""
        while True:
            try:
                more = await self._look()
            except Unavailable:
                more = False
            self._start_attempts()
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.poll_seconds):
                        await self._wake.wait()
            self._wake.clear()

    async def _look(self) -> bool:
        """One look at the table. True if it should be followed by another at once."""
        shards = self._ownership.sendable
        if not shards:
            return False
        self._lanes.ring_alarms(time.monotonic())
        await self._discover(shards)
        await self._load_webhooks()
        now = time.monotonic()
        wanted = sorted(
            (lane for lane in self._lanes if self._is_wanted(lane, now)),
            key=lambda lane: (not lane.behind, lane.looked_at),  # those that wait longest first
        )
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
        for pending in await backlog.discover(self._connection, shards if is_due else hinted):
            self._found_pending(pending, started_at)
        if is_due:
            took_seconds = time.monotonic() - started_at
            self._discover_at = started_at + max(self._limits.poll_seconds / 2, took_seconds / _DISCOVER_SHARE)

    def _found_pending(self, pending: PendingWebhook, now: float) -> None:
        """Marks the lane of a webhook whose earliest row is one that is not held."""
        if shard_of(pending.webhook_id) not in self._ownership.owned:
            return  # given up while this was read
        if pending.status is WebhookStatus.PAUSED or not (pending.is_due or pending.status in ENDED):
            return
        lane = self._lanes.open(pending.webhook_id, pending.customer_id, shard_of(pending.webhook_id), now)
        if lane.first_due_at is None or pending.due_at < lane.first_due_at:
            lane.behind = True

    async def _load_webhooks(self) -> None:
        unknown = [lane for lane in self._lanes if lane.webhook is None]
        await self._webhooks.load([lane.webhook_id for lane in unknown])
        for lane in unknown:
            webhook = self._webhooks.get(lane.webhook_id)
            if webhook is not None:
                self._lanes.configure(webhook)
        self._webhooks.forget_unused({lane.webhook_id for lane in self._lanes})

    def _is_wanted(self, lane: Lane, now: float) -> bool:
        if not lane.may_send or not self._lanes.room(lane):
            return False
        if lane.behind and self._lanes.is_low(lane):
            return True
        is_shared = self._ownership.live_count > 1
        return now - lane.looked_at > (_SHARED_LOOK_SECONDS if is_shared else _FULL_LOOK_SECONDS)

    async def _fetch(self, lanes: Sequence[Lane], now: float) -> bool:
        requests = [self._request(lane, now) for lane in lanes]
        reading = self.expect()
        try:
            rows = await backlog.fetch(self._connection, requests)
            found = Counter(row.webhook_id for row in rows)
            for lane, request in zip(lanes, requests, strict=True):
                lane.behind |= found[lane.webhook_id] >= request.room
            new = [row for row in rows if self._is_new(row)]
            taken = 0
            for start in range(0, len(new), _BODIES_PER_READ):
                taken += await self._take_in_rows(new[start : start + _BODIES_PER_READ], reading)
        except BaseException:
            for lane in lanes:
                lane.behind = True
            raise
        finally:
            self._journal.end(reading.mark)
        for lane in lanes:
            self._lanes.drop_if_unused(lane)
        return taken > 0 and any(lane.behind and self._lanes.is_low(lane) for lane in lanes)

    def _request(self, lane: Lane, now: float) -> FetchRequest:
        """What to read of a lane. From time to time without a floor, to find what became visible late."""
        lane.looked_at = now
        lane.behind = False  # what comes from now on counts again
        first_due_at = lane.first_due_at or lane.last_due_at
        if first_due_at is None or lane.is_ending or now - lane.fully_looked_at > _FULL_LOOK_SECONDS:
            lane.fully_looked_at = now
            floor = _BEGINNING
        else:
            floor = first_due_at - _LATE_COMMIT
        room = len(lane.held) + self._lanes.room(lane)
        return FetchRequest(lane.shard, lane.webhook_id, room, floor, _CANCEL_AHEAD_SECONDS if lane.is_ending else 0.0)

    def _is_new(self, row: FoundRow) -> bool:
        lane = self._lanes.get(row.webhook_id)
        return lane is None or row.event_id not in lane.held

    async def _take_in_rows(self, rows: Sequence[FoundRow], reading: Reading) -> int:
        """How many of them are held now."""
        deliveries = await backlog.with_bodies(self._connection, rows)
        return sum([self._take_in(delivery, reading) for delivery in deliveries])

    def _take_in(self, delivery: PendingDelivery, reading: Reading) -> bool:
        """Holds a delivery, unless it is somebody else's by now or was settled while its row was on the way."""
        shard = delivery.shard
        owned = self._ownership.owned.get(shard)
        if owned is None or owned.epoch != reading.epochs.get(shard):
            return False
        if self._journal.settled_since(_key(delivery), reading.mark):
            return False
        lane = self._lanes.open(delivery.webhook_id, delivery.customer_id, shard, time.monotonic())
        if lane.webhook is None:
            lane.webhook = self._webhooks.get(delivery.webhook_id)
        if lane.webhook is None:
            self._wake.set()
        return self._lanes.hold(lane, delivery)

    # --- attempts --------------------------------------------------------------------------------------------------

    def _start_attempts(self) -> None:
        """Starts whatever may be started now. The only place where attempts begin."""
        while self._may_start() and (turn := self._lanes.next()) is not None:
            lane, delivery = turn
            self._lane_of[id(delivery)] = lane
            task = asyncio.create_task(self._attempt(lane, delivery), name=f"attempt {delivery.webhook_id}")
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)

    def _may_start(self) -> bool:
        return (
            not self._stopping
            and self._ownership.may_send
            and time.monotonic() >= self._paused_until
            and self._lanes.in_flight < self._limits.in_flight_max
            and len(self._settler) < self._limits.unsettled_max
        )

    async def _attempt(self, lane: Lane, delivery: PendingDelivery) -> None:
        """One delivery from its lane to the settler. Whatever happens, its slot becomes free."""
        webhook = lane.webhook
        assert webhook is not None  # a lane without its webhook is never ready
        try:
            if webhook.status in ENDED:
                settled = cancelled(delivery)
            elif not delivery.body:
                settled = expired(delivery)
            else:
                settled = await self._deliverer.attempt(delivery, webhook)
                if settled.settlement.disables_webhook and not await self._disable(webhook):
                    settled = replace(settled, settlement=_AGAIN)
        except SenderFault as fault:
            self._paused_until = time.monotonic() + random.uniform(*_FAULT_PAUSE_SECONDS)
            log.warning("attempts paused: a fault of this process", fault=str(fault))
            self._let_go(delivery)
        except asyncio.CancelledError:
            self._let_go(delivery)
            raise
        except Exception:  # a bug must not stop the lane: the delivery backs off, and fails alone in the end
            log.exception("attempt failed", delivery_id=_delivery_id(delivery))
            self._settler.add(self._deliverer.failed(delivery))
        else:
            self._settler.add(settled)
        finally:
            self._lanes.finished(lane)
            self._start_attempts()

    def dropped(self, batch: Sequence[Settled]) -> None:
        """These results can't be settled: their shards are somebody else's, who sends again."""
        for settled in batch:
            self._let_go(settled.delivery)

    def _let_go(self, delivery: PendingDelivery) -> None:
        """The delivery is not held any more. Its row is as it was, and will be found again by whoever owns it."""
        lane = self._lane_of.pop(id(delivery))
        lane.behind = True
        self._lanes.settled(lane, delivery)

    def settled(self, batch: Sequence[Settled]) -> None:
        """The database has answered for these deliveries."""
        now = time.monotonic()
        for settled in batch:
            delivery = settled.delivery
            self._journal.add(_key(delivery))
            lane = self._lane_of.pop(id(delivery))
            retry_in_seconds = settled.settlement.retry_in_seconds
            if retry_in_seconds is not None and retry_in_seconds < _ALARM_SECONDS_MAX:
                self._lanes.set_alarm(delivery.webhook_id, now + retry_in_seconds + _ALARM_MARGIN_SECONDS)
            self._lanes.settled(lane, delivery)
            if lane.behind and self._lanes.is_low(lane):
                self._wake.set()
            _log_attempt(settled)
        self._start_attempts()

    async def drain(self, seconds: float) -> None:
        """Starts nothing more and waits for what is in flight, but not longer than this; the rest is sent again."""
        self._stopping = True
        attempts = set(self._attempts)
        if attempts:
            _, late = await asyncio.wait(attempts, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()


def _key(delivery: PendingDelivery) -> tuple[int, UUID, int]:
    """Names one attempt."""
    return delivery.webhook_id, delivery.event_id, delivery.attempt


def _delivery_id(delivery: PendingDelivery) -> str:
    return delivery_id_text(delivery.event_id, delivery.webhook_id)


def _log_attempt(settled: Settled) -> None:
    """The one line that an attempt leaves in the log. Never a URL, a header or a body."""
    delivery, result, settlement = settled.delivery, settled.result, settled.settlement
    attempt_log.info(
        "attempt",
        delivery_id=_delivery_id(delivery),
        customer_id=delivery.customer_id,
        webhook_id=delivery.webhook_id,
        event_type=delivery.event_type,
        attempt_number=delivery.attempt + (result is not None),
        outcome=result.outcome.value if result else None,
        response_status=result.response_status if result else None,
        latency_ms=result.latency_ms if result else None,
        status=settlement.status.value,
        retry_in_seconds=None if settlement.retry_in_seconds is None else round(settlement.retry_in_seconds, 3),
    )
