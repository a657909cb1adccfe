"""Looking things up: events, deliveries as they stand, and their attempts.

Where a delivery stands is in the last row that the log has of it; one that the log does not know yet is a row of the
outbox with due_at = its event's created_at. Both are reached through an index, newest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from ..domain.errors import NotFound
from ..domain.ids import INT64_MAX, delivery_id_text, event_id_text
from ..domain.matching import matches, patterns_regex
from ..domain.model import Attempt, Delivery, DeliveryStatus, Event
from .db import Database, Row
from .feed import attempt_from_row, delivery_from_row

EVENT: Final = """
SELECT event_id, customer_id, event_type, occurred_at, created_at, body, data_start, attributes, test_webhook_id
FROM events
WHERE event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
"""

# The columns of feed.READ. A delivery without a row in the log stands in the outbox at its event's created_at.
DELIVERY: Final = """
SELECT a.event_id, a.webhook_id, a.customer_id, a.event_type, a.status, a.attempt_count, a.next_due_at,
    a.event_created_at, a.created_at, a.trigger, a.replay_id, a.outcome, a.started_at, a.latency_ms, a.response_status,
    a.response_body, a.reason, a.own_headers, a.response_headers, a.seq
FROM events e JOIN attempts a ON a.webhook_id = %(webhook_id)b AND a.event_created_at = e.created_at
    AND a.event_id = e.event_id
WHERE e.event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR e.customer_id = %(customer_id)b)
UNION ALL
SELECT e.event_id, d.webhook_id, e.customer_id, e.event_type, 'pending', 0, d.due_at,
    e.created_at, e.created_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0
FROM events e JOIN deliveries d ON d.shard = %(webhook_id)b %% 64 AND d.webhook_id = %(webhook_id)b
    AND d.due_at = e.created_at AND d.event_id = e.event_id AND d.attempt = 0
WHERE e.event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR e.customer_id = %(customer_id)b)
ORDER BY seq DESC
LIMIT 1
"""

# For each wanted webhook its next deliveries by (event's created_at, event id), newest first; then the first of all. A
# webhook's own list is read in the order of an index and stops as soon as it is long enough.
DELIVERIES: Final = """
WITH wanted AS MATERIALIZED (
    SELECT id, shard FROM webhooks
    WHERE (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
        AND (%(webhook_ids)b::bigint[] IS NULL OR id = ANY(%(webhook_ids)b::bigint[]))
), logged AS (
    SELECT found.* FROM wanted w CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT DISTINCT ON (a.event_created_at, a.event_id)
                a.event_id, a.webhook_id, a.customer_id, a.event_type, a.status, a.attempt_count, a.next_due_at,
                a.event_created_at, a.created_at, a.trigger, a.replay_id, a.outcome, a.started_at, a.latency_ms,
                a.response_status, a.response_body, a.reason, a.own_headers, a.response_headers
            FROM attempts a
            WHERE a.webhook_id = w.id
                AND (a.event_created_at, a.event_id) <= (%(before_time)b::timestamptz, %(before_event)b::uuid)
                AND (a.event_created_at, a.event_id) >= (%(from_time)b::timestamptz, %(from_event)b::uuid)
            ORDER BY a.event_created_at DESC, a.event_id DESC, a.seq DESC
        ) last
        WHERE (last.event_created_at, last.event_id, last.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND (%(statuses)b::text[] IS NULL OR last.status = ANY(%(statuses)b::text[]))
            AND (%(type_regex)b::text IS NULL OR last.event_type ~ %(type_regex)b::text)
        LIMIT %(limit)b::integer
    ) found
), unlogged AS (
    SELECT found.* FROM wanted w CROSS JOIN LATERAL (
        SELECT d.event_id, d.webhook_id, d.customer_id, e.event_type, 'pending'::text, 0::smallint, d.due_at,
            e.created_at, e.created_at, NULL::text, NULL::bigint, NULL::text, NULL::timestamptz, NULL::integer,
            NULL::integer, NULL::bytea, NULL::text, NULL::text, NULL::text
        FROM deliveries d JOIN events e ON e.event_id = d.event_id
        WHERE d.shard = w.shard AND d.webhook_id = w.id AND d.attempt = 0
            AND (d.due_at, d.event_id) <= (%(before_time)b::timestamptz, %(before_event)b::uuid)
            AND (d.due_at, d.event_id) >= (%(from_time)b::timestamptz, %(from_event)b::uuid)
            AND (d.due_at, d.event_id, d.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND (%(statuses)b::text[] IS NULL OR 'pending' = ANY(%(statuses)b::text[]))
            AND (%(type_regex)b::text IS NULL OR e.event_type ~ %(type_regex)b::text)
        ORDER BY d.due_at DESC, d.event_id DESC
        LIMIT %(limit)b::integer
    ) found
)
SELECT * FROM (SELECT * FROM logged UNION ALL SELECT * FROM unlogged) found
ORDER BY event_created_at DESC, event_id DESC, webhook_id DESC
LIMIT %(limit)b::integer
"""

ATTEMPTS: Final = """
SELECT a.event_id, a.webhook_id, a.customer_id, a.event_type, a.status, a.attempt_count, a.next_due_at,
    a.event_created_at, a.created_at, a.trigger, a.replay_id, a.outcome, a.started_at, a.latency_ms, a.response_status,
    a.response_body, a.reason, a.own_headers, a.response_headers, a.seq
FROM events e JOIN attempts a ON a.webhook_id = %(webhook_id)b AND a.event_created_at = e.created_at
    AND a.event_id = e.event_id
WHERE e.event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR e.customer_id = %(customer_id)b)
    AND a.outcome IS NOT NULL AND a.seq < %(before_seq)b
ORDER BY a.seq DESC
LIMIT %(limit)b::integer
"""


@dataclass(frozen=True, slots=True, order=True)
class DeliveryKey:
    """Where a list of deliveries goes on: after this one."""

    create_time: datetime
    event_id: UUID
    webhook_id: int


NEWEST: Final = DeliveryKey(datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1), INT64_MAX)
_OLDEST: Final = DeliveryKey(datetime(2000, 1, 1, tzinfo=UTC), UUID(int=0), 0)


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries are wanted; empty means all. `customer_id` None: of every customer."""

    customer_id: int | None
    webhook_ids: Sequence[int] = ()
    event_types: Sequence[str] = ()
    statuses: Sequence[DeliveryStatus] = ()
    event_id: UUID | None = None

    def admits(self, delivery: Delivery) -> bool:
        """The same question as the SQL asks, for a delivery in memory."""
        return (
            delivery.customer_id > 0  # else it was erased
            and (self.customer_id is None or delivery.customer_id == self.customer_id)
            and (not self.webhook_ids or delivery.webhook_id in self.webhook_ids)
            and (self.event_id is None or delivery.event_id == self.event_id)
            and (not self.statuses or delivery.status in self.statuses)
            and (not self.event_types or matches(delivery.event_type, self.event_types))
        )


async def get_event(database: Database, customer_id: int | None, event_id: UUID) -> Event:
    """Raises NotFound, Unavailable."""
    rows = await database.rows(EVENT, {"event_id": event_id, "customer_id": customer_id})
    if not rows:
        raise NotFound("event", event_id_text(event_id))
    return event_from_row(rows[0])


def event_from_row(row: Row) -> Event:
    """A row of EVENT."""
    stored_id, owner_id, event_type, occurred_at, created_at, body, data_start, attributes, test_webhook_id = row
    return Event(
        event_id=stored_id,
        customer_id=owner_id,
        event_type=event_type,
        occur_time=occurred_at,
        create_time=created_at,
        body=body,
        data_start=data_start,
        attributes=_attributes(attributes),
        test_webhook_id=test_webhook_id,
    )


async def get_delivery(database: Database, customer_id: int | None, event_id: UUID, webhook_id: int) -> Delivery:
    """Raises NotFound, Unavailable."""
    rows = await database.rows(DELIVERY, {"event_id": event_id, "webhook_id": webhook_id, "customer_id": customer_id})
    if not rows:
        raise NotFound("delivery", delivery_id_text(event_id, webhook_id))
    return delivery_from_row(rows[0][:-1])


async def list_deliveries(
    database: Database, wanted: DeliveryFilter, before: DeliveryKey, limit: int
) -> list[Delivery]:
    """The next deliveries after a key, newest event first. Raises Unavailable."""
    oldest = _OLDEST
    if wanted.event_id is not None:
        try:
            event = await get_event(database, wanted.customer_id, wanted.event_id)
        except NotFound:
            return []
        oldest = DeliveryKey(event.create_time, event.event_id, 0)
        before = min(before, DeliveryKey(event.create_time, event.event_id, INT64_MAX))
    rows = await database.rows(
        DELIVERIES,
        {
            "customer_id": wanted.customer_id,
            "webhook_ids": list(wanted.webhook_ids) or None,
            "statuses": [status.value for status in wanted.statuses] or None,
            "type_regex": patterns_regex(wanted.event_types) if wanted.event_types else None,
            "before_time": before.create_time,
            "before_event": before.event_id,
            "before_webhook": before.webhook_id,
            "from_time": oldest.create_time,
            "from_event": oldest.event_id,
            "limit": limit,
        },
    )
    return [delivery_from_row(row) for row in rows]


async def list_attempts(
    database: Database, customer_id: int | None, event_id: UUID, webhook_id: int, before_seq: int, limit: int
) -> list[tuple[int, Attempt]]:
    """The attempts of one delivery with their `seq`, newest first. Raises Unavailable."""
    rows = await database.rows(
        ATTEMPTS,
        {
            "event_id": event_id,
            "webhook_id": webhook_id,
            "customer_id": customer_id,
            "before_seq": before_seq,
            "limit": limit,
        },
    )
    attempts = [(row[-1], attempt_from_row(row[:-1])) for row in rows]
    return [(seq, attempt) for seq, attempt in attempts if attempt is not None]


def _attributes(text: str | None) -> Mapping[str, str]:
    parsed: Any = orjson.loads(text) if text else {}
    return parsed
