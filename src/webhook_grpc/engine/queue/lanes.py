"""What this process holds of the outbox, and whose turn it is. Plain data: no I/O, no clock of its own.

One lane per webhook. A lane holds a bounded number of deliveries; the backlog stays in the table. Customers take turns,
and the webhooks of a customer take turns among themselves, so that neither a customer with a million deliveries nor a
webhook that hangs delays anybody else's. The turns are deficit round robin (Shreedhar and Varghese 1995): a large body
takes as many turns of its customer as it costs. Whose turn it is within a lane: lane.py.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from webhook_grpc.domain.egress import host_of
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Danger, PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.domain.record import record
from webhook_grpc.engine.receivers.receiver import Receiver

from .hosts import HostLimits, Hosts
from .lane import Isolation, Lane, Turn
from .orphaned_attempts import Strays
from .reading import Reading

_BYTES_PER_TURN: Final = 16_384
_REPLAYS_HELD_MAX: Final = 20
_SUSPECTS_WOKEN_MAX: Final = 8  # lanes that are looked at, each time that the right to send a suspect is free


@record
class LaneLimits:
    """Bounds of what is held in memory and in flight."""

    prefetch_max: int
    prefetch_bytes_max: int
    lane_bytes_max: int
    customer_in_flight_max: int
    hosts: HostLimits


@dataclass(slots=True)
class _Customer:
    customer_id: int
    ready: deque[Lane] = field(default_factory=deque[Lane])
    in_flight: int = 0
    deficit: int = 0
    in_turn: bool = False


class Lanes:
    """All lanes of this process. `now` is in monotonic seconds."""

    def __init__(self, limits: LaneLimits, is_suspect: Callable[[PendingDelivery], bool] | None = None) -> None:
        self._limits = limits
        self._is_suspect = is_suspect or _is_dangerous
        self._isolation = Isolation()
        self._lanes: dict[int, Lane] = {}
        self._customers: dict[int, _Customer] = {}
        self._turns: deque[_Customer] = deque()
        self._hosts = Hosts(limits.hosts)
        self._owed: set[str] = set()  # hosts that may have a free slot and lanes that wait for one
        self._alarms: list[tuple[float, int]] = []
        self._gates: list[tuple[float, int]] = []
        self._busy_shards: dict[int, dict[Turn, float]] = {}  # since when each is held
        self._strays = Strays()
        self._closed_shards: set[int] = set()
        self._barred: set[tuple[int, UUID]] = set()
        self._held_bytes = 0
        # Any part may read these two; only this class writes them.
        self.in_flight = 0
        self.started_count = 0

    # --- looking ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, webhook_id: int) -> Lane | None:
        """Returns the lane of a webhook, if there is one."""
        return self._lanes.get(webhook_id)

    def is_idle(self, shard: int) -> bool:
        """Returns whether nothing of the shard is in flight or unsettled."""
        return not self._busy_shards.get(shard)

    def busy_since(self, shard: int) -> float:
        """Returns since when the oldest attempt of the shard that is not settled has been running."""
        return min(self._busy_shards.get(shard, {}).values(), default=math.inf)

    @property
    def is_full(self) -> bool:
        """Whether no lane may hold more."""
        return self._held_bytes >= self._limits.prefetch_bytes_max

    def room(self, lane: Lane, now: float, *, fresh: bool = False) -> int:
        """Returns how many more deliveries the lane may hold: from the table, or just published.

        A lane with large bodies gets no more than its share of the memory; and when all of it is used, every lane may
        still hold one, so that nobody stands still because of others.
        """
        useful = min(lane.useful(now), self._limits.prefetch_max)
        if self.is_full or lane.held_bytes >= self._limits.lane_bytes_max:
            return 0 if lane.held else min(1, useful)
        return max(0, useful - _held_count(lane, fresh=fresh))

    def replay_room(self, lane: Lane, now: float) -> int:
        """Returns how many more deliveries of replays the lane may hold: few, so that others always find room."""
        if self.is_full or lane.held_bytes >= self._limits.lane_bytes_max:
            return 0 if lane.held else min(1, lane.useful(now))
        return max(0, self._replays_held_max(lane, now) - lane.replay_count)

    def stray_count(self, lane: Lane) -> int:
        """Returns how many rows of the lane's webhook can't be held yet: an earlier lane of it is sending them."""
        return self._strays.count(lane.webhook_id)

    def is_low_on_replays(self, lane: Lane, now: float) -> bool:
        """Returns whether replays should be read from the table."""
        return 2 * lane.replay_count <= self._replays_held_max(lane, now)

    def _replays_held_max(self, lane: Lane, now: float) -> int:
        return min(lane.useful(now), self._limits.prefetch_max, _REPLAYS_HELD_MAX)

    def is_low(self, lane: Lane, now: float, *, fresh: bool = False) -> bool:
        """Returns whether to fill the lane from the table: not at each free place, but when half of them are free."""
        return 2 * _held_count(lane, fresh=fresh) <= min(lane.useful(now), self._limits.prefetch_max)

    def is_hungry(self, lane: Lane, now: float) -> bool:
        """Returns whether the table may have something that the lane should be given now."""
        if lane.reading.behind and self.is_low(lane, now) and self.room(lane, now):
            return True
        return lane.reading.replays_behind and self.replay_room(lane, now) > 0 and self.is_low_on_replays(lane, now)

    def startable(self, now: float) -> Iterator[Lane]:
        """Yields the lanes of which a delivery may be started now, as far as webhook, host and customer are concerned.

        Suspects, which are sent one at a time in the whole process, are passed over.
        """
        for lane in self._lanes.values():
            if lane.has_queued and lane.queue is not lane.suspects and self._may_start(lane, now):
                customer = self._customers.get(lane.customer_id)
                if customer is None or customer.in_flight < self._limits.customer_in_flight_max:
                    yield lane

    def is_held_back(self, lane: Lane, now: float) -> bool:
        """Returns whether webhook, host or customer keep anything of the lane from being started now."""
        customer = self._customers.get(lane.customer_id)
        is_free = customer is None or customer.in_flight < self._limits.customer_in_flight_max
        return not (is_free and lane.may_send and lane.wait_seconds(now) == 0 and self._hosts.has_slot(lane))

    def oldest_due(self, now: float) -> datetime | None:
        """Returns since when the oldest delivery is due of those that `startable` lanes hold, without replays."""
        times = (lane.oldest_due for lane in self.startable(now))
        return min((at for at in times if at is not None), default=None)

    # --- what is known of the table --------------------------------------------------------------------------------

    def open(self, webhook_id: int, customer_id: int, shard: int, now: float) -> Lane:
        """Returns the lane of a webhook, a new one if there is none."""
        lane = self._lanes.get(webhook_id)
        if lane is None:
            reading = Reading(shard, webhook_id, now)
            lane = self._lanes[webhook_id] = Lane(webhook_id, customer_id, shard, reading, self._isolation)
            lane.in_flight, lane.replays_in_flight = self._strays.in_flight(webhook_id)
        return lane

    def set_alarm(self, webhook_id: int, at: float) -> None:
        """Notes when the table will have a due row of this webhook, for `ring_alarms`."""
        heapq.heappush(self._alarms, (at, webhook_id))

    def ring_alarms(self, now: float) -> set[int]:
        """Notes a due row for each alarm whose time has come. Returns the shards of the webhooks that have no lane."""
        shards = set[int]()
        while self._alarms and self._alarms[0][0] <= now:
            _, webhook_id = heapq.heappop(self._alarms)
            lane = self._lanes.get(webhook_id)
            if lane is not None:
                lane.reading.note_due()
            else:
                shards.add(shard_of(webhook_id))
        return shards

    def is_stray(self, webhook_id: int, event_id: UUID, attempt: int) -> bool:
        """Returns whether a turn of a shard that was lost still makes this attempt: its row is not to be read."""
        return self._strays.makes(webhook_id, event_id, attempt)

    def hold(self, lane: Lane, delivery: PendingDelivery, now: float) -> bool:
        """Takes in a delivery that is due. False: it is held already, is barred, or there is no room for it.

        It is held already, too, if an attempt of it goes on that was started before its shard was lost and taken again.
        """
        if delivery.event_id in lane.held or self._is_barred(delivery) or self._strays.has(delivery):
            return False
        is_replay = delivery.trigger is Trigger.REPLAY
        room = self.replay_room(lane, now) if is_replay else self.room(lane, now, fresh=delivery.is_fresh)
        if not room or not (lane.receiver is None or lane.may_send):
            lane.reading.refused(delivery)
            return False
        lane.held[delivery.event_id] = delivery
        lane.held_bytes += len(delivery.body)
        self._held_bytes += len(delivery.body)
        lane.replay_count += is_replay
        if self._is_suspect(delivery):
            self._await_isolation(lane, delivery)
        elif is_replay:
            lane.replays.append(delivery)
        elif delivery.is_fresh:
            lane.fresh.append(delivery)
            lane.fresh_count += 1
        else:
            lane.backlog.append(delivery)
        lane.reading.held(delivery)
        self._make_ready(lane, now)
        return True

    def _is_barred(self, delivery: PendingDelivery) -> bool:
        return bool(self._barred) and (delivery.webhook_id, delivery.event_id) in self._barred

    def _await_isolation(self, lane: Lane, delivery: PendingDelivery) -> None:
        """Queues a suspect. Suspects take no room, so that deliveries behind them need not wait for them."""
        lane.suspects.append(delivery)
        if delivery.trigger is not Trigger.REPLAY:
            lane.suspects_held.add(delivery.event_id)
        if not lane.awaits_isolation:
            lane.awaits_isolation = True
            self._isolation.waiting.append(lane)

    def reserve(self, lane: Lane, delivery: PendingDelivery) -> Turn | None:
        """Takes in a delivery that is only to be settled, so that nobody sends it meanwhile. None: it is held already.

        Its turn takes no slot, and ends with `release`.
        """
        if delivery.event_id in lane.held or self._strays.has(delivery):
            return None
        lane.held[delivery.event_id] = delivery
        lane.held_bytes += len(delivery.body)
        self._held_bytes += len(delivery.body)
        lane.fresh_count += delivery.is_fresh
        lane.replay_count += delivery.trigger is Trigger.REPLAY
        turn = Turn(lane, delivery, host=None)
        self._note_busy(turn, math.inf)  # nothing is sent
        return turn

    # --- whose turn it is ------------------------------------------------------------------------------------------

    def next(self, now: float) -> Turn | None:
        """Returns the next turn, its delivery now in flight, or None while there is nothing that may be sent.

        It ends in two steps: `finished` when the attempt has ended, `release` when that is settled.
        """
        self._wake_suspects(now)
        while self._turns or self._wake_owed(now):
            customer = self._turns.popleft()
            customer.in_turn = False
            lane = customer.ready.popleft()
            lane.is_ready = False
            if not self._may_start(lane, now):
                self._make_ready(lane, now)  # which notes what it has to wait for
                self._wake_host(lane.host, now)  # whose slot it may have been given
            elif self._can_afford(customer, lane):
                turn = lane.take()
                self._start(turn, customer, now)
                self._make_ready(lane, now)
                self._take_turn(customer)
                return turn
            else:
                customer.ready.appendleft(lane)
                lane.is_ready = True
            self._take_turn(customer)
            self._drop_if_unused(customer)
        return None

    def finished(self, turn: Turn, now: float) -> None:
        """Frees the slot of an attempt that has ended. The delivery is held until `release`."""
        assert turn.host is not None  # it came from `next`
        turn.is_in_flight = False
        lane = self._lanes.get(turn.lane.webhook_id, turn.lane)  # that of the webhook now, which counts its requests
        lane.in_flight -= 1
        lane.replays_in_flight -= turn.delivery.trigger is Trigger.REPLAY
        self.in_flight -= 1
        customer = self._customers[lane.customer_id]
        customer.in_flight -= 1
        if lane.has_queued and not lane.useful(now):  # what can't be sent for some time makes room for others
            self._empty(lane)
        self._hosts.ended(turn)
        self._wake_host(turn.host, now)
        self._make_ready(lane, now)
        self._take_turn(customer)
        self._drop_if_unused(customer)

    def release(self, turn: Turn) -> None:
        """Ends a turn: its delivery is settled, and not held any more."""
        lane, delivery = turn.lane, turn.delivery
        self._busy_shards[lane.shard].pop(turn)
        self._isolation.give_back(turn)
        self._strays.remove(turn)
        if lane.held.pop(delivery.event_id, None) is not None:
            self._subtract(lane, delivery)
        self.drop_if_unused(lane)

    def put_back(self, turn: Turn) -> None:
        """Ends a turn that changed nothing: the delivery's row is as it was, and is read again by its owner."""
        self._lanes.get(turn.lane.webhook_id, turn.lane).reading.missed()
        self.release(turn)

    def end_isolation(self, turn: Turn) -> None:
        """Lets the next suspect begin although the delivery of this turn is still in flight."""
        self._isolation.give_back(turn)

    def drop_if_unused(self, lane: Lane) -> None:
        """Forgets a lane that holds nothing and is not known to have anything in the table that may be sent."""
        is_paused = lane.receiver is not None and not lane.may_send  # found again when it is not
        if not lane.held and (is_paused or not lane.reading.has_more) and lane.is_known:
            self._forget(lane)

    # --- cancellation ----------------------------------------------------------------------------------------------

    def bar(self, webhook_id: int, event_id: UUID) -> bool:
        """Keeps a delivery from being started until `unbar`. False: it was started, and is not settled yet."""
        if self._strays.has_event(webhook_id, event_id):
            return False
        lane = self._lanes.get(webhook_id)
        delivery = lane.held.get(event_id) if lane is not None else None
        if lane is not None and delivery is not None:
            if not lane.withdraw(delivery):
                return False
            del lane.held[event_id]
            self._subtract(lane, delivery)
        self._barred.add((webhook_id, event_id))
        return True

    def unbar(self, webhook_id: int, event_id: UUID) -> None:
        """Lets a delivery be read again, if the database still has its row: it was cancelled, or will not be."""
        self._barred.discard((webhook_id, event_id))
        lane = self._lanes.get(webhook_id)
        if lane is not None:
            lane.reading.note_due()

    # --- what time changes -----------------------------------------------------------------------------------------

    @property
    def next_gate_at(self) -> float:
        """When `open_gates` should be called next."""
        return self._gates[0][0] if self._gates else math.inf

    def open_gates(self, now: float) -> bool:
        """Makes lanes ready whose time has come. True if one of them has to be filled from the table first."""
        is_hungry = False
        while self._gates and self._gates[0][0] <= now:
            at, webhook_id = heapq.heappop(self._gates)
            lane = self._lanes.get(webhook_id)
            if lane is not None and lane.gate_at == at:
                lane.gate_at = math.inf
                self._make_ready(lane, now)
                is_hungry |= lane.reading.behind and not lane.queue
        return is_hungry

    # --- changes from outside --------------------------------------------------------------------------------------

    def configure(self, receiver: Receiver, now: float) -> None:
        """Gives a lane its receiver, or what has changed of it. What can't be sent now goes back to the table."""
        webhook = receiver.webhook
        lane = self._lanes.get(webhook.webhook_id)
        if lane is None:
            return
        if lane.receiver is None:
            may_have_more = lane.reading.reached is None or webhook.status.has_ended
        else:
            may_have_more = lane.receiver.webhook.status is not webhook.status
        if may_have_more:
            lane.reading.note_due()
        lane.host = host_of(webhook.url)  # its requests in flight count where they went
        lane.receiver = receiver
        if not lane.may_send or not lane.useful(now):
            self._empty(lane)
        if webhook.status is WebhookStatus.PAUSED and not lane.held:
            self._forget(lane)  # found again when it is not
        self._make_ready(lane, now)

    def close_shards(self, shards: Iterable[int]) -> None:
        """Starts nothing more of these shards. What is in flight may end and be settled."""
        self._closed_shards.update(shards)
        for lane in list(self._lanes.values()):
            if lane.shard in self._closed_shards:
                self._empty(lane)

    def forget_shards(self, shards: Iterable[int]) -> None:
        """Forgets shards that another process owns now. Attempts in flight go on.

        If this process takes a shard again meanwhile, it does not send beside them what they are sending.
        """
        lost = set(shards)
        self._closed_shards -= lost
        for shard in lost:
            self._strays.add(self._busy_shards.get(shard, ()))
        for lane in [lane for lane in self._lanes.values() if lane.shard in lost]:
            self._empty(lane)
            self._forget(lane)

    def forget_unowned(self, webhook_id: int) -> None:
        """Forgets the lane of a webhook that does not exist, once nothing of it is being settled.

        What is queued would wait for its receiver for ever. If it has a row after all, that is found again.
        """
        lane = self._lanes.get(webhook_id)
        if lane is not None and lane.receiver is None:
            self._empty(lane)
            if not lane.held:
                self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        del self._lanes[lane.webhook_id]
        lane.is_known = False

    # --- inside ----------------------------------------------------------------------------------------------------

    def _may_start(self, lane: Lane, now: float) -> bool:
        return self._has_work(lane) and lane.wait_seconds(now) == 0 and self._hosts.has_slot(lane)

    def _has_work(self, lane: Lane) -> bool:
        return bool(lane.queue) and lane.may_send and lane.shard not in self._closed_shards

    def _make_ready(self, lane: Lane, now: float) -> None:
        """Lets a lane take part in the turns, or notes what it waits for."""
        if lane.is_ready or not (self._has_work(lane) or lane.reading.behind):
            return
        seconds = lane.wait_seconds(now)
        if 0 < seconds < math.inf:
            self._set_gate(lane, max(now + seconds, math.nextafter(now, math.inf)))
        elif seconds == 0 and self._has_work(lane):
            if self._hosts.has_slot(lane):
                lane.is_ready = True
                customer = self._customers.setdefault(lane.customer_id, _Customer(lane.customer_id))
                customer.ready.append(lane)
                self._take_turn(customer)
            else:
                self._hosts.wait(lane)

    def _set_gate(self, lane: Lane, at: float) -> None:
        if at < lane.gate_at:
            lane.gate_at = at
            heapq.heappush(self._gates, (at, lane.webhook_id))

    def _can_afford(self, customer: _Customer, lane: Lane) -> bool:
        customer.deficit += 1
        cost = 1 + len(lane.queue[0].body) // _BYTES_PER_TURN
        if customer.deficit < cost:
            return False
        customer.deficit -= cost
        return True

    def _take_turn(self, customer: _Customer) -> None:
        has_slot = customer.in_flight < self._limits.customer_in_flight_max
        if customer.ready and has_slot and not customer.in_turn:
            customer.in_turn = True
            self._turns.append(customer)

    def _drop_if_unused(self, customer: _Customer) -> None:
        if not customer.in_flight and not customer.ready:
            self._customers.pop(customer.customer_id, None)

    def _start(self, turn: Turn, customer: _Customer, now: float) -> None:
        lane = turn.lane
        turn.is_in_flight = True
        lane.in_flight += 1
        lane.started_count += 1
        self.started_count += 1
        lane.replays_in_flight += turn.delivery.trigger is Trigger.REPLAY
        customer.in_flight += 1
        self.in_flight += 1
        self._hosts.started(lane)
        self._note_busy(turn, now)
        if lane.receiver is not None and not lane.is_ending:
            lane.receiver.pace.started(now)

    def _note_busy(self, turn: Turn, now: float) -> None:
        self._busy_shards.setdefault(turn.lane.shard, {})[turn] = now

    def _wake_host(self, name: str, now: float) -> None:
        """Makes lanes ready for which the host has slots: of the customers in turn those that have waited longest."""
        free = self._hosts.free(name)
        while free > 0 and (lane := self._hosts.take_waiting(name)) is not None:
            self._make_ready(lane, now)
            free -= lane.is_ready and lane.host == name
        if self._hosts.is_owed(name):
            self._owed.add(name)  # the lane that got the slot may not use it

    def _wake_suspects(self, now: float) -> None:
        """Lets a lane with suspects take part in the turns, unless a suspect is being sent."""
        waiting = self._isolation.waiting
        if self._isolation.held_by is not None:
            return
        for _ in range(min(len(waiting), _SUSPECTS_WOKEN_MAX)):
            lane = waiting.popleft()
            if not lane.suspects:
                lane.awaits_isolation = False
                continue
            waiting.append(lane)
            self._make_ready(lane, now)
            if lane.is_ready:
                return

    def _wake_owed(self, now: float) -> bool:
        """While nobody has a turn, gives free slots to lanes that wait. Returns whether somebody has a turn now."""
        while self._owed and not self._turns:
            self._wake_host(self._owed.pop(), now)
        return bool(self._turns)

    def _empty(self, lane: Lane) -> None:
        """Puts queued deliveries back; their rows never left the table."""
        if lane.replay_count:
            lane.reading.note_due_replays()
        for delivery in (*lane.fresh, *lane.backlog, *lane.replays, *lane.suspects):
            del lane.held[delivery.event_id]
            self._subtract(lane, delivery)
        lane.fresh.clear()
        lane.backlog.clear()
        lane.replays.clear()
        lane.suspects.clear()
        lane.reading.start_over()

    def _subtract(self, lane: Lane, delivery: PendingDelivery) -> None:
        self._held_bytes -= len(delivery.body)
        lane.held_bytes -= len(delivery.body)
        lane.replay_count -= delivery.trigger is Trigger.REPLAY
        if delivery.event_id in lane.suspects_held:
            lane.suspects_held.remove(delivery.event_id)
        else:
            lane.fresh_count -= delivery.is_fresh


def _is_dangerous(delivery: PendingDelivery) -> bool:
    return delivery.danger is not Danger.NONE


def _held_count(lane: Lane, *, fresh: bool) -> int:
    others = lane.fresh_count + lane.replay_count + len(lane.suspects_held)
    return lane.fresh_count if fresh else len(lane.held) - others
