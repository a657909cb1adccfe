"""What lists and the live stream filter by: empty means all. The store asks Postgres the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from .matching import matches
from .model import Delivery, DeliveryStatus, Outcome


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries are wanted; empty means all. `customer_id` None: of every customer.

    The window is one of the events: `start_time` belongs to it, `end_time` does not.
    """

    customer_id: int | None
    webhook_ids: Sequence[int] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[DeliveryStatus] = ()
    event_id: UUID | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    def admits(self, delivery: Delivery) -> bool:
        """The same question as a list asks, for a delivery in memory."""
        return (
            delivery.customer_id > 0  # else it was erased
            and (self.customer_id is None or delivery.customer_id == self.customer_id)
            and (not self.webhook_ids or delivery.webhook_id in self.webhook_ids)
            and (self.event_id is None or delivery.event_id == self.event_id)
            and (not self.statuses or delivery.status in self.statuses)
            and (not self.event_types or matches(delivery.event_type, self.event_types))
            and (self.start_time is None or delivery.create_time >= self.start_time)
            and (self.end_time is None or delivery.create_time < self.end_time)
        )


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts are wanted; empty means all. `customer_id` None: of every customer.

    `statuses` are of the delivery after the attempt. An attempt belongs to the window by the time of its end;
    `start_time` belongs to it, `end_time` does not.
    """

    customer_id: int | None
    webhook_ids: Sequence[int] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[DeliveryStatus] = ()
    outcomes: Sequence[Outcome] = ()
    event_id: UUID | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; empty means all. `customer_id` None: of every customer.

    The window is one of the time at which they were stored; `start_time` belongs to it, `end_time` does not.
    """

    customer_id: int | None
    event_types: Sequence[str] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None
    request_id: str | None = None  # then `customer_id` is set
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
