"""One lane: the deliveries of one webhook that are in memory, and which of them is next.

What was just published and what has waited alternate: a receiver that comes back with a backlog gets new events at
once. Replays come last: every fourth turn beside other work, and in a quarter of the webhook's slots.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from webhook_grpc.domain.model import PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.engine.receivers.receiver import Receiver

from .reading import Reading

_UNBOUNDED: Final = 1_000_000
_SLOTS_PER_REPLAY: Final = 4
_LIVE_PER_REPLAY: Final = 3


@dataclass(slots=True)
class Isolation:
    """The right to send a suspect. One delivery of the process has it, until it is settled or runs for a second.

    So the suspect that a dead process began last is the one that it died of, and no other is blamed.
    """

    held_by: Turn | None = None
    waiting: deque[Lane] = field(default_factory=deque["Lane"])  # lanes with suspects, each once

    def give_back(self, turn: Turn) -> None:
        """Lets the next suspect begin, if this turn has the right: it is settled, or has been in flight for long."""
        if self.held_by is turn:
            self.held_by = None


@dataclass(slots=True, eq=False)
class Turn:
    """One delivery on its way through the engine: from its lane, through an attempt if there is one, to the settler.

    A turn is equal only to itself: after a shard was lost and gained again there may be two turns of one delivery, of
    different attempts (`orphaned_attempts.py`).
    """

    lane: Lane
    delivery: PendingDelivery
    host: str | None  # in whose slot its request is in flight; None: nothing is sent, the delivery is only settled
    is_in_flight: bool = False  # only `Lanes` writes it


@dataclass(slots=True)
class Lane:
    """The deliveries of one webhook that are in memory: queued, in flight, or sent and not settled yet.

    Every part may read the fields; only `Lanes` and the methods below write them, and `Hosts` what it waits for.
    `reading` has methods of its own.
    """

    webhook_id: int
    customer_id: int
    shard: int
    reading: Reading  # of the table
    isolation: Isolation = field(default_factory=Isolation, repr=False)  # that of the process
    receiver: Receiver | None = None  # unset until it is loaded
    is_known: bool = True  # to `Lanes`, until it forgets the lane
    host: str = ""
    backlog: deque[PendingDelivery] = field(default_factory=deque[PendingDelivery])
    fresh: deque[PendingDelivery] = field(default_factory=deque[PendingDelivery])
    replays: deque[PendingDelivery] = field(default_factory=deque[PendingDelivery])
    suspects: deque[PendingDelivery] = field(default_factory=deque[PendingDelivery])  # each is sent alone
    held: dict[UUID, PendingDelivery] = field(default_factory=dict[UUID, PendingDelivery])
    held_bytes: int = 0
    fresh_count: int = 0  # of those held
    replay_count: int = 0  # of those held
    suspects_held: set[UUID] = field(default_factory=set[UUID])  # apart from replays
    awaits_isolation: bool = False  # it stands among those that wait
    in_flight: int = 0  # requests of the webhook, also those that an earlier lane of it began
    started_count: int = 0
    replays_in_flight: int = 0
    is_ready: bool = False
    waits_for: str | None = None  # the host in whose queue it stands
    gate_at: float = math.inf  # when it is to be looked at again because time will have made it ready
    _fresh_is_next: bool = True
    _live_in_a_row: int = 0

    @property
    def queue(self) -> deque[PendingDelivery]:
        """The queue whose turn it is; an empty one if nothing may be started."""
        if self._may_isolate:
            return self.suspects
        live = self.fresh if self.fresh and (self._fresh_is_next or not self.backlog) else self.backlog
        replay_is_next = not live or self._live_in_a_row >= _LIVE_PER_REPLAY
        return self.replays if self.replays and replay_is_next and self._replay_has_slot else live

    @property
    def _may_isolate(self) -> bool:
        """Whether its first suspect may be sent now. Before the others: it is among what has waited longest."""
        if not self.suspects or self.isolation.held_by is not None:
            return False
        return self.suspects[0].trigger is not Trigger.REPLAY or self._replay_has_slot

    @property
    def has_queued(self) -> bool:
        """Whether anything is queued, whether or not it may be started."""
        return bool(self.fresh or self.backlog or self.replays or self.suspects)

    @property
    def oldest_due(self) -> datetime | None:
        """Since when the first of those queued is due, without replays and suspects; None: nothing is queued."""
        return min((queue[0].due_at for queue in (self.fresh, self.backlog) if queue), default=None)

    @property
    def _replay_has_slot(self) -> bool:
        slots = self.receiver.pace.in_flight_max if self.receiver is not None else 1
        return self.is_ending or self.replays_in_flight < max(1, slots // _SLOTS_PER_REPLAY)

    def take(self) -> Turn:
        """Takes the next delivery out of its queue.

        Half of the turns are those of what was just published; one in four may be a replay's.
        """
        queue = self.queue
        turn = Turn(self, queue[0], self.host)
        if queue is self.suspects:
            self.isolation.held_by = turn
        elif queue is self.replays:
            self._live_in_a_row = 0
        else:
            self._live_in_a_row += 1
            self._fresh_is_next = queue is not self.fresh
        queue.popleft()
        return turn

    def withdraw(self, delivery: PendingDelivery) -> bool:
        """Takes a delivery out of its queue. False: it is in none, because it was started."""
        for queue in (self.fresh, self.backlog, self.replays, self.suspects):
            if delivery in queue:
                queue.remove(delivery)
                return True
        return False

    @property
    def is_ending(self) -> bool:
        """Whether what is pending must be cancelled rather than sent."""
        return self.receiver is not None and self.receiver.webhook.status.has_ended

    @property
    def may_send(self) -> bool:
        """Whether the webhook takes deliveries now."""
        return self.receiver is not None and self.receiver.webhook.status is not WebhookStatus.PAUSED

    def wait_seconds(self, now: float) -> float:
        """Returns after how many seconds its next request may be started; infinite: when one has ended, or never."""
        if self.receiver is None or not self.may_send:
            return math.inf
        if self.is_ending:  # nothing is sent
            return 0.0 if self.in_flight < self.receiver.pace.in_flight_max else math.inf
        return self.receiver.pace.wait_seconds(self.in_flight, now)

    def useful(self, now: float) -> int:
        """Returns how many deliveries are worth holding."""
        return _UNBOUNDED if self.receiver is None or self.is_ending else self.receiver.pace.useful(now)
