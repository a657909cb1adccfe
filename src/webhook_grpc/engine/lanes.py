"""What this process holds of the outbox, and whose turn it is. Plain data: no I/O, no clock of its own.

One lane per webhook. A lane holds a bounded number of deliveries; the backlog stays in the table. Customers take turns,
and the webhooks of a customer take turns among themselves (round robin with equal shares, the unit being one request),
so that neither a customer with a million deliveries nor a webhook that hangs delays anybody else's.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ..domain.model import PendingDelivery, Webhook, WebhookStatus

ENDED = frozenset({WebhookStatus.DELETED, WebhookStatus.DISABLED})


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of what is held in memory and in flight."""

    prefetch_max: int
    prefetch_bytes_max: int
    lane_bytes_max: int
    webhook_in_flight_max: int
    customer_in_flight_max: int


@dataclass(slots=True)
class Lane:
    """The deliveries of one webhook that are in memory: queued, in flight, or sent and not settled yet."""

    webhook_id: int
    customer_id: int
    shard: int
    looked_at: float  # when the table was last read for it, in monotonic seconds
    webhook: Webhook | None = None
    queue: deque[PendingDelivery] = field(default_factory=deque[PendingDelivery])
    held: dict[UUID, PendingDelivery] = field(default_factory=dict[UUID, PendingDelivery])
    held_bytes: int = 0
    in_flight: int = 0
    is_ready: bool = False
    behind: bool = False  # the table may have due rows that are not held
    last_due_at: datetime | None = None
    fully_looked_at: float = -math.inf  # when it was last read without a floor

    @property
    def first_due_at(self) -> datetime | None:
        """The due time of the delivery that is held longest, usually the earliest."""
        return next((delivery.due_at for delivery in self.held.values()), None)

    @property
    def is_ending(self) -> bool:
        """Whether what is pending must be cancelled rather than sent."""
        return self.webhook is not None and self.webhook.status in ENDED

    @property
    def may_send(self) -> bool:
        """Whether the webhook takes deliveries now."""
        return self.webhook is not None and self.webhook.status is not WebhookStatus.PAUSED


@dataclass(slots=True)
class _Customer:
    customer_id: int
    ready: deque[Lane] = field(default_factory=deque[Lane])
    in_flight: int = 0
    in_turn: bool = False


class Lanes:
    """All lanes of this process."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._lanes: dict[int, Lane] = {}
        self._customers: dict[int, _Customer] = {}
        self._turns: deque[_Customer] = deque()
        self._alarms: list[tuple[float, int]] = []
        self._busy_shards: dict[int, int] = {}
        self._closed_shards: set[int] = set()
        self._held_bytes = 0
        self.in_flight = 0

    # --- looking ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, webhook_id: int) -> Lane | None:
        """The lane of a webhook, if there is one."""
        return self._lanes.get(webhook_id)

    def is_idle(self, shard: int) -> bool:
        """Whether nothing of the shard is in flight or unsettled."""
        return not self._busy_shards.get(shard)

    @property
    def is_full(self) -> bool:
        """Whether no lane may hold more."""
        return self._held_bytes >= self._limits.prefetch_bytes_max

    def room(self, lane: Lane) -> int:
        """How many more deliveries the lane may hold.

        A lane with large bodies gets no more than its share of the memory; and when all of it is used, every lane may
        still hold one, so that nobody stands still because of others.
        """
        if self.is_full or lane.held_bytes >= self._limits.lane_bytes_max:
            return 0 if lane.held else 1
        return max(0, self._limits.prefetch_max - len(lane.held))

    def is_low(self, lane: Lane) -> bool:
        """Whether the lane should be filled from the table: not at each free place, but when half of them are free."""
        return len(lane.held) * 2 <= self._limits.prefetch_max

    # --- what is known of the table --------------------------------------------------------------------------------

    def open(self, webhook_id: int, customer_id: int, shard: int, now: float) -> Lane:
        """The lane of a webhook, new if needed."""
        lane = self._lanes.get(webhook_id)
        if lane is None:
            lane = self._lanes[webhook_id] = Lane(webhook_id, customer_id, shard, now)
        return lane

    def set_alarm(self, webhook_id: int, at: float) -> None:
        """The table will have a due row of this webhook then."""
        heapq.heappush(self._alarms, (at, webhook_id))

    def ring_alarms(self, now: float) -> None:
        """Marks the lanes whose time has come."""
        while self._alarms and self._alarms[0][0] <= now:
            _, webhook_id = heapq.heappop(self._alarms)
            lane = self._lanes.get(webhook_id)
            if lane is not None:
                lane.behind = True

    def hold(self, lane: Lane, delivery: PendingDelivery) -> bool:
        """Takes in a delivery that is due. False: it is held already, or there is no room and it stays in the table."""
        if delivery.event_id in lane.held:
            return False
        if not self.room(lane) or not (lane.webhook is None or lane.may_send):
            lane.behind = True
            return False
        lane.held[delivery.event_id] = delivery
        lane.queue.append(delivery)
        self._held_bytes += len(delivery.body)
        lane.held_bytes += len(delivery.body)
        if lane.last_due_at is None or delivery.due_at > lane.last_due_at:
            lane.last_due_at = delivery.due_at
        self._make_ready(lane)
        return True

    # --- whose turn it is ------------------------------------------------------------------------------------------

    def next(self) -> tuple[Lane, PendingDelivery] | None:
        """The next delivery to send, now in flight, or None while there is nothing that may be sent."""
        while self._turns:
            customer = self._turns.popleft()
            customer.in_turn = False
            lane = customer.ready.popleft()
            lane.is_ready = False
            if not self._can_send(lane):
                self._take_turn(customer)
                self._drop_if_unused(customer)
                continue
            delivery = lane.queue.popleft()
            self._start(lane, customer)
            self._make_ready(lane)
            self._take_turn(customer)
            return lane, delivery
        return None

    def finished(self, lane: Lane) -> None:
        """An attempt ended; its slot is free. The delivery is held until it is settled."""
        lane.in_flight -= 1
        self.in_flight -= 1
        customer = self._customers[lane.customer_id]
        customer.in_flight -= 1
        self._make_ready(lane)
        self._take_turn(customer)
        self._drop_if_unused(customer)

    def settled(self, lane: Lane, delivery: PendingDelivery) -> None:
        """A delivery that was sent is settled, or was given up: it is not held any more."""
        self._busy_shards[lane.shard] -= 1
        if lane.held.pop(delivery.event_id, None) is not None:
            self._held_bytes -= len(delivery.body)
            lane.held_bytes -= len(delivery.body)
        self.drop_if_unused(lane)

    def drop_if_unused(self, lane: Lane) -> None:
        """Forgets a lane that holds nothing and is not known to have anything in the table."""
        if not lane.held and not lane.behind and self._lanes.get(lane.webhook_id) is lane:
            del self._lanes[lane.webhook_id]

    # --- changes from outside --------------------------------------------------------------------------------------

    def configure(self, webhook: Webhook) -> None:
        """The webhook is as it is now. What can't be sent while it is paused goes back to the table."""
        lane = self._lanes.get(webhook.webhook_id)
        if lane is None:
            return
        if lane.webhook is None or lane.webhook.status is not webhook.status:
            lane.behind = True
        lane.webhook = webhook
        if not lane.may_send:
            self._empty(lane)
        self._make_ready(lane)

    def close_shards(self, shards: Iterable[int]) -> None:
        """Nothing of these shards is started any more; what is in flight may end and be settled."""
        self._closed_shards.update(shards)
        for lane in list(self._lanes.values()):
            if lane.shard in self._closed_shards:
                self._empty(lane)

    def forget_shards(self, shards: Iterable[int]) -> None:
        """The shards are somebody else's. Attempts in flight go on, but nothing here waits for them."""
        lost = set(shards)
        self._closed_shards -= lost
        for lane in [lane for lane in self._lanes.values() if lane.shard in lost]:
            self._empty(lane)
            del self._lanes[lane.webhook_id]

    # --- inside ----------------------------------------------------------------------------------------------------

    def _can_send(self, lane: Lane) -> bool:
        webhook = lane.webhook
        if webhook is None or not lane.queue or not lane.may_send or lane.shard in self._closed_shards:
            return False
        return lane.in_flight < (webhook.max_in_flight or self._limits.webhook_in_flight_max)

    def _make_ready(self, lane: Lane) -> None:
        if lane.is_ready or not self._can_send(lane):
            return
        customer = self._customers.get(lane.customer_id)
        if customer is None:
            customer = self._customers[lane.customer_id] = _Customer(lane.customer_id)
        lane.is_ready = True
        customer.ready.append(lane)
        self._take_turn(customer)

    def _take_turn(self, customer: _Customer) -> None:
        has_slot = customer.in_flight < self._limits.customer_in_flight_max
        if customer.ready and has_slot and not customer.in_turn:
            customer.in_turn = True
            self._turns.append(customer)

    def _drop_if_unused(self, customer: _Customer) -> None:
        if not customer.in_flight and not customer.ready:
            self._customers.pop(customer.customer_id, None)

    def _start(self, lane: Lane, customer: _Customer) -> None:
        lane.in_flight += 1
        customer.in_flight += 1
        self.in_flight += 1
        self._busy_shards[lane.shard] = self._busy_shards.get(lane.shard, 0) + 1

    def _empty(self, lane: Lane) -> None:
        """Puts queued deliveries back; their rows never left the table."""
        for delivery in lane.queue:
            del lane.held[delivery.event_id]
            self._held_bytes -= len(delivery.body)
            lane.held_bytes -= len(delivery.body)
        lane.queue.clear()
        lane.behind = True
