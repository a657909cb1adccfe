"""Reads what is due: which webhooks have something pending, and the next rows of each.

Rows are read for each webhook by itself. In one queue by due time, 200,000 due rows of one dead receiver would stand
before everybody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, LiteralString
from uuid import UUID

from webhook_grpc.domain.model import Danger, PendingDelivery, Trigger, WebhookStatus
from webhook_grpc.domain.record import record
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.db import LoopConnection, Row


def first_of_each_webhook(condition: LiteralString = "") -> LiteralString:
    """Returns `pending`, the earliest row of each webhook that has one; of rows that fit a further `AND …`.

    A loose index scan: it jumps from webhook to webhook. The planner does not see how many shards there are: it would
    expect a hundred times as many rows, and compile the statement.
    """
    return f"""pending AS (
    SELECT s.shard, d.webhook_id, d.due_at, d.event_id
    FROM unnest((SELECT %(shards)b::smallint[])) AS s(shard)
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at, event_id FROM deliveries
        WHERE shard = s.shard{condition}
        ORDER BY webhook_id, due_at, event_id
        LIMIT 1
    ) d
    UNION ALL
    SELECT p.shard, d.webhook_id, d.due_at, d.event_id
    FROM pending p
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at, event_id FROM deliveries
        WHERE shard = p.shard AND webhook_id > p.webhook_id{condition}
        ORDER BY webhook_id, due_at, event_id
        LIMIT 1
    ) d
)"""


SELECT_PENDING_WEBHOOKS: Final = f"""
WITH RECURSIVE {first_of_each_webhook()}
SELECT p.webhook_id, w.customer_id, w.status, p.event_id, p.due_at <= now()
FROM pending p
CROSS JOIN LATERAL (SELECT customer_id, status FROM webhooks WHERE id = p.webhook_id LIMIT 1) w
"""

# The next `room` rows of each request, due at or after `floor` (which skips index entries of deleted rows) and at most
# `ahead` seconds from now. `fresh`: only rows that were not tried yet, to be sent beside a backlog. Without rows of
# replays, which must not stand before others.
SELECT_DUE_ROWS: Final = """
SELECT k.ord, d.webhook_id, d.event_id, d.due_at, d.customer_id, d.attempt, d.danger, d.trigger, d.replay_id
FROM unnest(
    %(shard)b::smallint[], %(webhook_id)b::bigint[], %(room)b::integer[], %(floor)b::timestamptz[],
    %(ahead)b::double precision[], %(fresh)b::boolean[]
) WITH ORDINALITY AS k(shard, webhook_id, room, floor, ahead, fresh, ord)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries
    WHERE shard = k.shard AND webhook_id = k.webhook_id
        AND due_at >= k.floor AND due_at <= now() + k.ahead * interval '1 second'
        AND (NOT k.fresh OR (attempt = 0 AND trigger IS NULL))
        AND trigger IS DISTINCT FROM 'replay'
    ORDER BY due_at, event_id
    LIMIT k.room
) d
"""

# Replays have indexes of their own, which are nearly always empty. Also jumps from webhook to webhook. Without webhooks
# that the database has lost, because it was restored to an earlier time, say: nothing can be sent to them.
SELECT_REPLAYING_WEBHOOKS: Final = """
WITH RECURSIVE replaying AS (
    SELECT s.shard, d.webhook_id, d.due_at
    FROM unnest((SELECT %(shards)b::smallint[])) AS s(shard)
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at FROM deliveries
        WHERE trigger = 'replay' AND shard = s.shard
        ORDER BY webhook_id, due_at, event_id
        LIMIT 1
    ) d
    UNION ALL
    SELECT r.shard, d.webhook_id, d.due_at
    FROM replaying r
    CROSS JOIN LATERAL (
        SELECT webhook_id, due_at FROM deliveries
        WHERE trigger = 'replay' AND shard = r.shard AND webhook_id > r.webhook_id
        ORDER BY webhook_id, due_at, event_id
        LIMIT 1
    ) d
)
SELECT r.webhook_id, w.customer_id
FROM replaying r
CROSS JOIN LATERAL (SELECT customer_id FROM webhooks WHERE id = r.webhook_id LIMIT 1) w
WHERE r.due_at <= now()
"""
SELECT_DUE_REPLAYS: Final = """
SELECT k.ord, d.webhook_id, d.event_id, d.due_at, d.customer_id, d.attempt, d.danger, d.trigger, d.replay_id
FROM unnest(%(shard)b::smallint[], %(webhook_id)b::bigint[], %(room)b::integer[])
    WITH ORDINALITY AS k(shard, webhook_id, room, ord)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries
    WHERE trigger = 'replay' AND shard = k.shard AND webhook_id = k.webhook_id AND due_at <= now()
    ORDER BY due_at, event_id
    LIMIT k.room
) d
"""

# The bounds let the planner skip partitions; an array does not.
SELECT_BODIES: Final = """
SELECT event_id, event_type, created_at, body, traceparent
FROM events
WHERE event_id >= %(first)b::uuid AND event_id <= %(last)b::uuid AND event_id = ANY(%(ids)b::uuid[])
"""

# The same without bodies, for deliveries that are not to be sent.
SELECT_TYPES: Final = """
SELECT event_id, event_type, created_at, ''::bytea, NULL
FROM events
WHERE event_id >= %(first)b::uuid AND event_id <= %(last)b::uuid AND event_id = ANY(%(ids)b::uuid[])
"""


# For deliveries of deleted events. Seldom needed: reads the log of one webhook.
SELECT_LOGGED_TYPES: Final = """
SELECT k.webhook_id, k.event_id, a.event_type, a.event_created_at
FROM unnest(%(webhook_id)b::bigint[], %(event_id)b::uuid[]) AS k(webhook_id, event_id)
CROSS JOIN LATERAL (
    SELECT event_type, event_created_at FROM attempts
    WHERE webhook_id = k.webhook_id AND event_id = k.event_id
    LIMIT 1
) a
"""

_EventFacts = tuple[str, datetime, bytes, str | None]  # an event's type, when it was stored, body, traceparent

_TRIGGERS: Final = {trigger.value: trigger for trigger in Trigger}
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
_STATUSES: Final = {status.value: status for status in WebhookStatus}


@record
class FetchRequest:
    """How many rows of one webhook to read, from which due time on, and how many seconds ahead of now."""

    shard: int
    webhook_id: int
    room: int
    floor: datetime
    ahead_seconds: float = 0.0
    is_fresh: bool = False


@record
class PendingWebhook:
    """A webhook with something pending; the event of its earliest row, and whether that row is due."""

    webhook_id: int
    customer_id: int
    status: WebhookStatus
    event_id: UUID
    is_due: bool


@record
class FoundRow:
    """A row of the outbox, and the index of the request that found it. `attempt`: how many attempts were made."""

    request: int
    webhook_id: int
    event_id: UUID
    due_at: datetime
    customer_id: int
    attempt: int
    danger: Danger
    is_fresh: bool
    trigger: Trigger
    replay_id: int | None


async def discover(connection: LoopConnection, shards: Collection[int]) -> list[PendingWebhook]:
    """Returns the webhooks of these shards with anything pending. Raises Unavailable."""
    rows = await connection.rows(SELECT_PENDING_WEBHOOKS, {"shards": arrays.smallints(list(shards))}, keeps_plan=True)
    return [
        PendingWebhook(
            webhook_id=webhook_id,
            customer_id=customer_id,
            status=_STATUSES.get(status, WebhookStatus.PAUSED),  # for one of a newer version nothing is sent
            event_id=event_id,
            is_due=is_due,
        )
        for webhook_id, customer_id, status, event_id, is_due in rows
    ]


async def fetch(connection: LoopConnection, requests: Sequence[FetchRequest]) -> list[FoundRow]:
    """Returns the next rows of each request, by due time. Two requests may find the same row. Raises Unavailable."""
    rows = await connection.rows(
        SELECT_DUE_ROWS,
        {
            "shard": arrays.smallints([request.shard for request in requests]),
            "webhook_id": arrays.bigints([request.webhook_id for request in requests]),
            "room": arrays.integers([request.room for request in requests]),
            "floor": arrays.times([request.floor for request in requests]),
            "ahead": arrays.doubles([request.ahead_seconds for request in requests]),
            "fresh": arrays.booleans([request.is_fresh for request in requests]),
        },
    )
    fresh = [request.is_fresh for request in requests]
    return [found_row(row, fresh) for row in rows]


async def replaying(connection: LoopConnection, shards: Collection[int]) -> list[tuple[int, int]]:
    """Returns the webhooks of these shards with a due replay, each with its customer. Raises Unavailable."""
    rows = await connection.rows(SELECT_REPLAYING_WEBHOOKS, {"shards": arrays.smallints(list(shards))}, keeps_plan=True)
    return [(webhook_id, customer_id) for webhook_id, customer_id in rows]


async def fetch_replays(connection: LoopConnection, rooms: Sequence[tuple[int, int, int]]) -> list[FoundRow]:
    """Returns the next due rows of replays for each (shard, webhook, room). Raises Unavailable."""
    rows = await connection.rows(
        SELECT_DUE_REPLAYS,
        {
            "shard": arrays.smallints([shard for shard, _, _ in rooms]),
            "webhook_id": arrays.bigints([webhook_id for _, webhook_id, _ in rooms]),
            "room": arrays.integers([room for _, _, room in rooms]),
        },
    )
    return [found_row(row) for row in rows]


def found_row(row: Row, fresh: Sequence[bool] = ()) -> FoundRow:
    """Returns a row of SELECT_DUE_ROWS. `fresh`: for each request, whether it was for fresh rows only."""
    ord_, webhook_id, event_id, due_at, customer_id, attempt, danger, trigger, replay_id = row
    number: int = ord_ - 1
    return FoundRow(
        request=number,
        webhook_id=webhook_id,
        event_id=event_id,
        due_at=due_at,
        customer_id=customer_id,
        attempt=attempt,
        danger=Danger(danger),
        is_fresh=bool(fresh) and fresh[number],
        trigger=Trigger.SCHEDULED if trigger is None else _TRIGGERS.get(trigger, Trigger.SCHEDULED),
        replay_id=replay_id,
    )


def row_key(after: FoundRow | None) -> dict[str, object]:
    """Returns the parameters of a statement that goes on after a row; None: that begins with the first row."""
    return {
        "after_webhook": after.webhook_id if after else 0,
        "after_due_at": after.due_at if after else _BEGINNING,
        "after_event": after.event_id if after else UUID(int=0),
    }


async def with_bodies(
    connection: LoopConnection, rows: Sequence[FoundRow], *, to_send: bool = True
) -> list[PendingDelivery]:
    """Returns the rows as deliveries, with what is to be sent. Raises Unavailable.

    The body of a deleted event is empty, which no real body is. With `to_send` False no body is read, and all are
    empty.
    """
    event_ids = {row.event_id for row in rows}
    if not event_ids:
        return []
    parameters = {"ids": arrays.uuids(list(event_ids)), "first": min(event_ids), "last": max(event_ids)}
    found = await connection.rows(SELECT_BODIES if to_send else SELECT_TYPES, parameters)
    events: dict[UUID, _EventFacts] = {
        event_id: (event_type, at, body, traceparent) for event_id, event_type, at, body, traceparent in found
    }
    logged = {} if len(events) == len(event_ids) else await _logged(connection, rows, events)
    return [
        _with_event(
            row,
            *(
                events.get(row.event_id)
                or logged.get((row.webhook_id, row.event_id), ("unknown", row.due_at, b"", None))
            ),
        )
        for row in rows
    ]


def _with_event(
    row: FoundRow, event_type: str, event_create_time: datetime, body: bytes, traceparent: str | None
) -> PendingDelivery:
    return PendingDelivery(
        webhook_id=row.webhook_id,
        event_id=row.event_id,
        due_at=row.due_at,
        customer_id=row.customer_id,
        attempt=row.attempt,
        event_type=event_type,
        event_create_time=event_create_time,
        body=body,
        danger=row.danger,
        is_fresh=row.is_fresh,
        trigger=row.trigger,
        replay_id=row.replay_id,
        traceparent=traceparent,
    )


async def _logged(
    connection: LoopConnection, rows: Sequence[FoundRow], events: Mapping[UUID, _EventFacts]
) -> dict[tuple[int, UUID], _EventFacts]:
    """Returns what the log knows of deliveries of deleted events: their endings must agree with it.

    It knows those that were tried, and those that were redelivered.
    """
    known = [
        row for row in rows if (row.attempt or row.trigger is not Trigger.SCHEDULED) and row.event_id not in events
    ]
    if not known:
        return {}
    parameters = {"webhook_id": [row.webhook_id for row in known], "event_id": [row.event_id for row in known]}
    found = await connection.rows(SELECT_LOGGED_TYPES, parameters)
    return {(webhook_id, event_id): (event_type, at, b"", None) for webhook_id, event_id, event_type, at in found}
