"""What is due: which webhooks have something pending, and the next rows of each.

Both read per webhook. In one queue by due time, 200,000 due rows of one dead endpoint would stand before everybody
else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ..domain.model import PendingDelivery, WebhookStatus
from .db import LoopConnection

# A loose index scan: it jumps from webhook to webhook, and sees the earliest row of each as it passes.
DISCOVER: Final = """
WITH RECURSIVE pending AS (
    SELECT s.shard, d.webhook_id, d.due_at
    FROM unnest(%(shards)b::smallint[]) AS s(shard)
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at FROM deliveries
        WHERE shard = s.shard
        ORDER BY webhook_id, due_at
        LIMIT 1
    ) d
    UNION ALL
    SELECT p.shard, d.webhook_id, d.due_at
    FROM pending p
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at FROM deliveries
        WHERE shard = p.shard AND webhook_id > p.webhook_id
        ORDER BY webhook_id, due_at
        LIMIT 1
    ) d
)
SELECT p.webhook_id, w.customer_id, w.status, p.due_at, p.due_at <= now()
FROM pending p JOIN webhooks w ON w.id = p.webhook_id
"""

# The next `room` rows of each webhook, due at or after `floor` (which skips index entries of rows already gone) and at
# most `ahead` seconds from now.
FETCH: Final = """
SELECT d.webhook_id, d.event_id, d.due_at, d.customer_id, d.attempt
FROM unnest(
    %(shard)b::smallint[], %(webhook_id)b::bigint[], %(room)b::integer[], %(floor)b::timestamptz[],
    %(ahead)b::double precision[]
) AS k(shard, webhook_id, room, floor, ahead)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries
    WHERE shard = k.shard AND webhook_id = k.webhook_id
        AND due_at >= k.floor AND due_at <= now() + k.ahead * interval '1 second'
    ORDER BY due_at, event_id
    LIMIT k.room
) d
"""

# The bounds let the planner skip partitions, which it cannot do for an array.
BODIES: Final = """
SELECT event_id, event_type, created_at, body
FROM events
WHERE event_id >= %(first)b::uuid AND event_id <= %(last)b::uuid AND event_id = ANY(%(ids)b::uuid[])
"""


_STATUSES: Final = {status.value: status for status in WebhookStatus}  # of what is not known yet, nothing is sent


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """How many rows to read of one webhook, from which due time on, and how far ahead of their time."""

    shard: int
    webhook_id: int
    room: int
    floor: datetime
    ahead_seconds: float


@dataclass(frozen=True, slots=True)
class PendingWebhook:
    """A webhook with something pending: its earliest row, and whether that is due."""

    webhook_id: int
    customer_id: int
    status: WebhookStatus
    due_at: datetime
    is_due: bool


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A due row of the outbox. `attempt` counts the attempts already made."""

    webhook_id: int
    event_id: UUID
    due_at: datetime
    customer_id: int
    attempt: int


async def discover(connection: LoopConnection, shards: Collection[int]) -> list[PendingWebhook]:
    """The webhooks of these shards with anything pending."""
    rows = await connection.rows(DISCOVER, {"shards": list(shards)})
    return [
        PendingWebhook(webhook_id, customer_id, _STATUSES.get(status, WebhookStatus.PAUSED), due_at, is_due)
        for webhook_id, customer_id, status, due_at, is_due in rows
    ]


async def fetch(connection: LoopConnection, requests: Sequence[FetchRequest]) -> list[FoundRow]:
    """The next rows of each webhook, in order of their due times."""
    rows = await connection.rows(
        FETCH,
        {
            "shard": [request.shard for request in requests],
            "webhook_id": [request.webhook_id for request in requests],
            "room": [request.room for request in requests],
            "floor": [request.floor for request in requests],
            "ahead": [request.ahead_seconds for request in requests],
        },
    )
    return [FoundRow(*row) for row in rows]


async def with_bodies(connection: LoopConnection, rows: Sequence[FoundRow]) -> list[PendingDelivery]:
    """The rows with what is to be sent. The body of an event that is not kept any more is empty, which no body is."""
    event_ids = {row.event_id for row in rows}
    if not event_ids:
        return []
    parameters = {"ids": list(event_ids), "first": min(event_ids), "last": max(event_ids)}
    found = await connection.rows(BODIES, parameters)
    events: dict[UUID, tuple[str, datetime, bytes]] = {event_id: (kind, at, body) for event_id, kind, at, body in found}
    return [
        PendingDelivery(
            row.webhook_id,
            row.event_id,
            row.due_at,
            row.customer_id,
            row.attempt,
            *events.get(row.event_id, ("unknown", row.due_at, b"")),
        )
        for row in rows
    ]
