"""The filters of lists and of the live stream. The store filters the same way in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from uuid import UUID

from .matching import matches
from .model import Delivery, DeliveryStatus, Outcome
from .record import record


@record
class DeliveryFilter:
    """Which deliveries are wanted; an empty field admits all. `customer_id` None: those of every customer.

    `replay_id` is the replay that restarted a delivery last. An event's create_time must be in the window: from
    `start_time` to before `end_time`.
    """

    customer_id: int | None
    webhook_ids: Sequence[int] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[DeliveryStatus] = ()
    event_id: UUID | None = None
    replay_id: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    def admits(self, delivery: Delivery) -> bool:
        """Returns whether a list with this filter would have the delivery."""
        return (
            delivery.customer_id > 0  # 0: it was erased
            and (self.customer_id is None or delivery.customer_id == self.customer_id)
            and (not self.webhook_ids or delivery.webhook_id in self.webhook_ids)
            and (self.event_id is None or delivery.event_id == self.event_id)
            and (self.replay_id is None or delivery.replay_id == self.replay_id)
            and (not self.statuses or delivery.status in self.statuses)
            and (not self.event_types or matches(delivery.event_type, self.event_types))
            and (self.start_time is None or delivery.create_time >= self.start_time)
            and (self.end_time is None or delivery.create_time < self.end_time)
        )


@record
class AttemptFilter:
    """Which attempts are wanted; an empty field admits all. `customer_id` None: those of every customer.

    `statuses` are those of the delivery after the attempt. The end of an attempt must be in the window: from
    `start_time` to before `end_time`.
    """

    customer_id: int | None
    webhook_ids: Sequence[int] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[DeliveryStatus] = ()
    outcomes: Sequence[Outcome] = ()
    event_id: UUID | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


@record
class EventFilter:
    """Which events are wanted; an empty field admits all. `customer_id` None: those of every customer.

    An event's create_time must be in the window: from `start_time` to before `end_time`.
    """

    customer_id: int | None
    event_types: Sequence[str] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None
    request_id: str | None = None  # then `customer_id` is set
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
