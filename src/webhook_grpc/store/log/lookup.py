"""Looks up one event, or one delivery as it stands.

How a delivery stands is in its last row of the log; a delivery without one is in the outbox (`rows.py`). The log may
outlive the event: then the time in the event's id says where to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from webhook_grpc.domain.errors import NotFound
from webhook_grpc.domain.ids import delivery_id_text, event_id_text, event_id_time, stored_between
from webhook_grpc.domain.model import Delivery, Event
from webhook_grpc.store import literals
from webhook_grpc.store.db import Database, Row

from .rows import LogRow, delivery_from_row, log_columns, unlogged_columns

SELECT_EVENT: Final = """
SELECT event_id, customer_id, event_type, occurred_at, created_at, body, data_start, attributes, test_webhook_id,
    publisher
FROM events
WHERE event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
"""

SELECT_EVENT_TIME: Final = """
SELECT customer_id, created_at FROM events
WHERE event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
"""

# A row of the log and the size of the request. LIMIT keeps the planner from joining the webhook's whole log with one
# event.
SELECT_DELIVERY: Final = f"""
SELECT {log_columns("a")}, octet_length(e.body), a.seq
FROM events e CROSS JOIN LATERAL (
    SELECT * FROM attempts
    WHERE webhook_id = %(webhook_id)b AND event_created_at = e.created_at AND event_id = e.event_id
        AND created_at >= %(stored_from)b::timestamptz
    ORDER BY event_created_at DESC, event_id DESC, seq DESC
    LIMIT 1
) a
WHERE e.event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR e.customer_id = %(customer_id)b)
UNION ALL
SELECT e.event_id, d.webhook_id, e.customer_id, e.event_type, {unlogged_columns("d.due_at", "e.created_at")},
    octet_length(e.body), 0
FROM events e CROSS JOIN LATERAL (
    SELECT * FROM deliveries
    WHERE shard = %(webhook_id)b %% {literals.SHARD_COUNT} AND webhook_id = %(webhook_id)b AND due_at = e.created_at
        AND event_id = e.event_id AND attempt = 0 AND trigger IS NULL
    LIMIT 1
) d
WHERE e.event_id = %(event_id)b AND (%(customer_id)b::bigint IS NULL OR e.customer_id = %(customer_id)b)
ORDER BY seq DESC
LIMIT 1
"""

# The same for a deleted event. The planner must not see the event's id beside the span of time: Postgres 18 would
# expect to skip through the index, find that expensive, and read the webhook's whole log. Nor may it see that nothing
# is logged before its event is stored: it would read everything that was logged since.
SELECT_DELIVERY_OF_DELETED_EVENT: Final = f"""
SELECT {log_columns("a")}, NULL, a.seq
FROM attempts a
WHERE a.webhook_id = %(webhook_id)b AND (a.event_id = %(event_id)b) IS TRUE
    AND a.event_created_at >= %(stored_from)b::timestamptz AND a.event_created_at <= %(stored_until)b::timestamptz
    AND (%(customer_id)b::bigint IS NULL OR a.customer_id = %(customer_id)b)
    AND NOT EXISTS (SELECT 1 FROM events WHERE event_id = %(event_id)b)
ORDER BY a.seq DESC
LIMIT 1
"""


async def get_event(database: Database, customer_id: int | None, event_id: UUID) -> Event:
    """Returns an event of a customer, or of anybody if that is None. Raises NotFound, Unavailable."""
    rows = await database.rows(SELECT_EVENT, {"event_id": event_id, "customer_id": customer_id})
    if not rows:
        raise NotFound("event", event_id_text(event_id), event_id_time(event_id))
    return event_from_row(rows[0])


def event_from_row(row: Row) -> Event:
    """Returns the event of a row of SELECT_EVENT."""
    stored_id, owner_id, event_type, occurred_at, created_at, body, data_start, attributes, *rest = row
    test_webhook_id, publisher = rest
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
        publisher=publisher,
    )


async def get_delivery(database: Database, customer_id: int | None, event_id: UUID, webhook_id: int) -> Delivery:
    """Returns a delivery of a customer, or of anybody if that is None. Raises NotFound, Unavailable."""
    parameters = delivery_parameters(customer_id, event_id, webhook_id)
    rows = await database.rows(SELECT_DELIVERY, parameters) or await database.rows(
        SELECT_DELIVERY_OF_DELETED_EVENT, parameters
    )
    if not rows:
        raise NotFound("delivery", delivery_id_text(event_id, webhook_id), event_id_time(event_id))
    *columns, request_bytes, _ = rows[0]
    return delivery_from_row(LogRow._make(columns), request_bytes)


async def event_time(
    database: Database, customer_id: int | None, event_id: UUID
) -> tuple[int | None, datetime, datetime]:
    """Returns the customer of an event, and between which times it was stored: twice the same time if it is kept.

    Of a deleted event the id says the times, and the given customer is returned. So it is for an event of another
    customer: it takes as long as one that never was. Raises Unavailable.
    """
    rows = await database.rows(SELECT_EVENT_TIME, {"event_id": event_id, "customer_id": customer_id})
    if not rows:
        return customer_id, *stored_between(event_id)
    [(owner_id, created_at)] = rows
    return owner_id, created_at, created_at


def delivery_parameters(customer_id: int | None, event_id: UUID, webhook_id: int) -> dict[str, Any]:
    """Returns the parameters of SELECT_DELIVERY and SELECT_DELIVERY_OF_DELETED_EVENT."""
    stored_from, stored_until = stored_between(event_id)
    return {
        "customer_id": customer_id,
        "event_id": event_id,
        "webhook_id": webhook_id,
        "stored_from": stored_from,
        "stored_until": stored_until,
    }


def _attributes(text: str | None) -> Mapping[str, str]:
    parsed: Any = orjson.loads(text) if text else {}
    return parsed
