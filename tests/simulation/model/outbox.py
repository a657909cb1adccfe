"""Publishing, and what is read of the outbox."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Danger, NewEvent, PendingDelivery, WebhookStatus
from webhook_grpc.store.ownership.leases import OwnedShard

from .rows import TAKING, EventRow, Key, OutboxRow, PublishAnswer
from .tables import Tables


class EventTakenError(Exception):
    """An event of the batch is stored already, so nothing is: the same statement was run before."""


class Outbox(Tables):
    """The statements of `store/outbox/publishing.py`, `due.py`, `poison_marks.py` and `expiry.py`."""

    def publish(self, events: Sequence[NewEvent]) -> list[PublishAnswer | None]:
        """The answer for each event; None if its request id was used for something else. Raises EventTakenError."""
        if any(event.event_id in self.kept and not self._has_key(event) for event in events):
            raise EventTakenError
        new = [self._publish_new(event) for event in events]
        return [answer or self.published_before(event) for event, answer in zip(events, new, strict=True)]

    def _has_key(self, event: NewEvent) -> bool:
        return event.request_id is not None and (event.customer_id, event.request_id) in self.keys

    def _publish_new(self, event: NewEvent) -> PublishAnswer | None:
        if self._has_key(event):
            return None
        if event.request_id is not None:
            self.keys[event.customer_id, event.request_id] = event.event_id, event.fingerprint
        self.store_event(
            event.event_id, EventRow(event.customer_id, event.event_type, self.now, event.body, event.traceparent)
        )
        matched = {
            webhook_id
            for webhook_id, webhook in self.webhooks.items()
            if webhook.customer_id == event.customer_id
            and webhook.status in TAKING
            and any(is_match(event.event_type, pattern) for pattern in webhook.events)
        }
        self.matched[event.event_id] = frozenset(matched)
        for webhook_id in matched:
            self.put(OutboxRow(webhook_id, self.now, event.event_id, 0, event.customer_id))
        return PublishAnswer(event.event_id, len(matched), False, self.now)

    def store_event(self, event_id: UUID, event: EventRow) -> None:
        self.events[event_id] = event
        self.kept.add(event_id)

    def published_before(self, event: NewEvent) -> PublishAnswer | None:
        """The answer that the call with this request id got. If it stored the same event, this is no repetition."""
        event_id, fingerprint = self.keys[event.customer_id, event.request_id or ""]
        if fingerprint != event.fingerprint:
            return None
        count = self._delivery_count(event_id) if event_id in self.kept else 0  # of a dropped event nothing is known
        return PublishAnswer(event_id, count, event_id != event.event_id, self.events[event_id].create_time)

    def stored(self, event_id: UUID) -> PublishAnswer | None:
        """The answer for an event whose answer was lost; None if it is not stored."""
        if event_id not in self.kept:
            return None
        return PublishAnswer(event_id, self._delivery_count(event_id), False, self.events[event_id].create_time)

    def _delivery_count(self, event_id: UUID) -> int:
        keys = [(webhook_id, event_id) for webhook_id in self.webhooks]
        return sum(self.row(key) is not None or bool(self.rows_of(key)) for key in keys)

    def drop_event(self, event_id: UUID) -> None:
        """Retention drops the partition of an event."""
        self.kept.remove(event_id)

    # --- what is due -----------------------------------------------------------------------------------------------

    def discover(self, shards: Collection[int]) -> list[tuple[int, int, WebhookStatus, UUID, bool]]:
        """Every webhook with something pending, the event of its earliest row, and whether that is due."""
        first = [
            min(rows.values()) for webhook_id, rows in self.pending.items() if rows and shard_of(webhook_id) in shards
        ]
        return [
            (row.webhook_id, webhook.customer_id, webhook.status, row.event_id, row.due_at <= self.now)
            for row in sorted(first)
            for webhook in [self.webhooks[row.webhook_id]]
        ]

    def fetch(
        self, webhook_id: int, room: int, floor: datetime, ahead_seconds: float, *, is_fresh: bool = False
    ) -> list[OutboxRow]:
        """The next rows in order of their due times, none due later than that. Fresh: not tried yet."""
        until = self.now + timedelta(seconds=ahead_seconds)
        return sorted(
            row
            for row in self.pending[webhook_id].values()
            if floor <= row.due_at <= until
            and not row.is_replay
            and (not is_fresh or (not row.attempt and row.trigger is None))
        )[:room]

    def replaying(self, shards: Collection[int]) -> list[tuple[int, int]]:
        """The webhooks with a due replay, each with its customer."""
        rows = [row for row in self.pending_rows() if row.due_at <= self.now and row.is_replay]
        return sorted({(row.webhook_id, row.customer_id) for row in rows if shard_of(row.webhook_id) in shards})

    def fetch_replays(self, webhook_id: int, room: int) -> list[OutboxRow]:
        """The next due rows of replays, which are not among the others."""
        rows = self.pending[webhook_id].values()
        return sorted(row for row in rows if row.is_replay and row.due_at <= self.now)[:room]

    def overdue(self, shard: int, bound: UUID, after: OutboxRow | None, limit: int) -> list[OutboxRow]:
        """The next rows of events with smaller ids, due or not."""
        rows = [row for row in self.pending_rows() if shard_of(row.webhook_id) == shard and row.event_id < bound]
        return sorted(row for row in rows if after is None or row[:3] > after[:3])[:limit]

    def overdue_exist(self, bound: UUID) -> bool:
        return any(event_id < bound for event_id in self.kept)

    def set_danger(
        self, worker: UUID, owned: Mapping[int, OwnedShard], deliveries: Sequence[PendingDelivery], danger: Danger
    ) -> set[Key]:
        """Marks what is as it was and still the worker's; returns those."""
        marked = set[Key]()
        for delivery in deliveries:
            row = self.as_it_was(delivery)
            if row is not None and self.own_all(worker, owned, [delivery.shard]):
                self.put(row._replace(danger=danger))
                marked.add(row.key)
        return marked

    def as_it_was(self, delivery: PendingDelivery) -> OutboxRow | None:
        """The row of a delivery, if it is still as it was when it was read."""
        row = self.row((delivery.webhook_id, delivery.event_id))
        is_same = row is not None and (row.due_at, row.attempt) == (delivery.due_at, delivery.attempt)
        return row if is_same else None


def is_match(event_type: str, pattern: str) -> bool:
    """Whether an event of this type goes to a webhook with this pattern."""
    if pattern.endswith(".*"):
        return event_type.startswith(pattern.removesuffix("*"))
    return pattern in {"*", event_type}
