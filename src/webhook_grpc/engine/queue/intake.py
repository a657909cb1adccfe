"""How deliveries come into the lanes: from memory, when they are published here, and as rows of the table.

The table is the truth: a delivery that is lost from memory is found again, and one that comes twice is held once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol
from uuid import UUID

from webhook_grpc.domain.model import PendingDelivery, Webhook, WebhookStatus
from webhook_grpc.domain.record import record
from webhook_grpc.engine.receivers.receiver import Receiver
from webhook_grpc.engine.receivers.receivers import Receivers
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.outbox.publishing import NewDeliveries
from webhook_grpc.store.ownership.leases import OwnedShard

from .due_hints import DueHints
from .lane import Lane
from .lanes import Lanes
from .stale_rows import StaleRows

_AT_ONCE_MIN: Final = 50  # deliveries that are taken in before others get the event loop
_PIECES_MAX: Final = 20  # of a statement: the next one waits for them


class Starter(Protocol):
    """Starts attempts."""

    def start_soon(self) -> None:
        """Called when there may be something to start."""
        ...

    def start(self) -> None:
        """Called when something new came that need not wait for a turn of the event loop."""
        ...


@record
class Expectation:
    """What the intake remembers between the start of a statement and its answer."""

    owned: Mapping[int, OwnedShard]  # at its start: one whose epoch has changed may have been another process's since
    shards: AbstractSet[int]  # those whose new deliveries are handed over one by one
    read: int  # the number of the read, of `StaleRows`


class Intake:
    """Fills the lanes with deliveries of shards that are ours, and gives each lane its receiver."""

    def __init__(
        self,
        shards: Shards,
        lanes: Lanes,
        receivers: Receivers,
        stale_rows: StaleRows,
        due_hints: DueHints,
        starter: Starter,
    ) -> None:
        self._shards = shards
        self._lanes = lanes
        self._receivers = receivers
        self._stale_rows = stale_rows
        self._has_cancelled = False  # else nothing need be looked up for it
        self._due_hints = due_hints
        self._starter = starter

    # --- what was published here -----------------------------------------------------------------------------------

    def expect(self) -> Expectation:
        """Returns what has to be remembered from before a statement that makes or reads rows; `done` ends it."""
        owned = self._shards.owned.copy()  # once for each statement: a copy costs a tenth of a walk through it
        is_all = self._shards.may_send and not self._shards.leaving
        return Expectation(owned, owned.keys() if is_all else self._shards.sendable, self._stale_rows.begin())

    async def receive(self, expectation: Expectation, new: Sequence[NewDeliveries]) -> None:
        """Takes in what was just published here, straight from memory. Ends the expectation.

        If it is cancelled, what is left is taken in at once.
        """
        at_once = max(_AT_ONCE_MIN, sum(len(deliveries.own_webhook_ids) for deliveries in new) // _PIECES_MAX)
        left = _deliveries_of(new)
        try:
            for count, delivery in enumerate(left, 1):
                self.take_in(delivery, expectation)
                if not count % at_once:
                    self.start_soon()
                    await asyncio.sleep(0)  # calls get a turn between pieces of a batch
        finally:
            for delivery in left:
                self.take_in(delivery, expectation)
            self.done(expectation)
            self._starter.start()

    def done(self, expectation: Expectation) -> None:
        """Ends an expectation: all its rows were taken in or refused."""
        self._stale_rows.end(expectation.read)

    def start_soon(self) -> None:
        """Lets attempts start: the lanes may have something new."""
        self._starter.start_soon()

    # --- deliveries ------------------------------------------------------------------------------------------------

    def take_in(self, delivery: PendingDelivery, expectation: Expectation) -> bool:
        """Holds a delivery, unless its shard has been lost or it was settled while its row was on the way.

        False: it is not held, or was held before.
        """
        owned, before = self._shards.owned.get(delivery.shard), expectation.owned.get(delivery.shard)
        if owned is None or before is None or owned.epoch != before.epoch:
            return False
        if self._is_stale(delivery, expectation):
            return False
        now = time.monotonic()
        lane = self._lanes.get(delivery.webhook_id) or self._opened(delivery, now)
        if lane.receiver is None:
            receiver = self._receivers.get(delivery.webhook_id)
            if receiver is not None:
                self._give(receiver)
            else:
                self._due_hints.discover()
        is_held = self._lanes.hold(lane, delivery, now)
        if not is_held:
            self._lanes.drop_if_unused(lane)
        return is_held

    def _opened(self, delivery: PendingDelivery, now: float) -> Lane:
        """Opens a lane. It is read at once only if a hint names its shard: most webhooks have one event at a time.

        What else the table may have of it, a look for webhooks finds, as it finds those that have no lane.
        """
        lane = self._lanes.open(delivery.webhook_id, delivery.customer_id, delivery.shard, now)
        if delivery.is_fresh and not self._due_hints.names(delivery.shard):
            lane.reading.begin_with(delivery)
        return lane

    def note_cancelled(self, webhook_id: int, event_id: UUID) -> None:
        """Notes that the database has ended a delivery, whichever attempt was next: its rows on the way are stale."""
        self._stale_rows.add((webhook_id, event_id))
        self._has_cancelled = True

    def _is_stale(self, delivery: PendingDelivery, expectation: Expectation) -> bool:
        if self._stale_rows.settled_since(delivery.key, expectation.read):
            return True
        event = delivery.webhook_id, delivery.event_id
        return self._has_cancelled and self._stale_rows.settled_since(event, expectation.read)

    # --- receivers -------------------------------------------------------------------------------------------------

    async def load_receivers(self) -> None:
        """Gives lanes their receivers that have none, from the database if need be. Raises Unavailable.

        Forgets lanes whose webhook the database has not: it was restored to an earlier time, say.
        """
        unknown = [lane.webhook_id for lane in self._lanes if lane.receiver is None]
        for receiver in await self._receivers.load(unknown):
            self._give(receiver)
            lane = self._lanes.get(receiver.webhook.webhook_id)
            if lane is not None and lane.reading.has_more:
                self._due_hints.discover([receiver.webhook.shard])  # this look may have no place for the lane
        for webhook_id in unknown:
            if not self._receivers.is_loaded(webhook_id):
                self._lanes.forget_unowned(webhook_id)

    def webhook_changed(self, webhook: Webhook) -> None:
        """Gives the lane of a webhook what is new of it."""
        receiver = self._receivers.configure(webhook)
        if receiver is not None:  # else its lane waits until it is loaded
            self._give(receiver)
        self._due_hints.discover([webhook.shard])  # what is pending of a webhook that was paused has no lane
        self.start_soon()

    def is_paused(self, webhook_id: int) -> bool:
        """Returns whether a webhook is known to be paused."""
        receiver = self._receivers.get(webhook_id)
        return receiver is not None and receiver.webhook.status is WebhookStatus.PAUSED

    def forget_unused(self, now: float) -> None:
        """Forgets receivers that no lane uses, beyond their bound."""
        self._receivers.forget_unused({lane.webhook_id for lane in self._lanes}, now)

    def _give(self, receiver: Receiver) -> None:
        self._lanes.configure(receiver, time.monotonic())


def _deliveries_of(new: Sequence[NewDeliveries]) -> Iterator[PendingDelivery]:
    for deliveries in new:
        event = deliveries.event
        for webhook_id in deliveries.own_webhook_ids:
            yield PendingDelivery(
                webhook_id=webhook_id,
                event_id=event.event_id,
                due_at=deliveries.create_time,
                customer_id=event.customer_id,
                attempt=0,
                event_type=event.event_type,
                event_create_time=deliveries.create_time,
                body=event.body,
                is_fresh=True,
                traceparent=event.traceparent,
            )
