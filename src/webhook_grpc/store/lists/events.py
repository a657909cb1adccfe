"""Lists of events, newest first, in the order of their ids: these begin with the time."""

from __future__ import annotations

from typing import Any, Final, LiteralString
from uuid import UUID

import orjson

from webhook_grpc.domain.filters import EventFilter
from webhook_grpc.domain.ids import earliest_id, latest_id
from webhook_grpc.domain.matching import patterns_regex
from webhook_grpc.domain.model import Event
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database, Row
from webhook_grpc.store.log.lookup import event_from_row

from .merged import NEWEST, OLDEST
from .pages import ListStep, Page, PageBounds, fill_page

EVENTS_START: Final = UUID(int=2**128 - 1)
_EVENTS_END: Final = UUID(int=0)

FIND_OF_CUSTOMER: Final = """
WITH next AS (
    SELECT event_id, event_type, created_at, attributes,
        octet_length(body) + coalesce(octet_length(attributes), 0) AS size
    FROM events
    WHERE customer_id = %(customer_id)b AND event_id < %(before)b::uuid AND event_id >= %(earliest_id)b::uuid
    ORDER BY event_id DESC
    LIMIT %(limit)b::integer
)"""
FIND_OF_ALL: Final = """
WITH next AS (
    SELECT event_id, event_type, created_at, attributes,
        octet_length(body) + coalesce(octet_length(attributes), 0) AS size
    FROM events
    WHERE event_id < %(before)b::uuid AND event_id >= %(earliest_id)b::uuid
    ORDER BY event_id DESC
    LIMIT %(limit)b::integer
)"""

# The event that was published with a request id, by PublishEvent or by the SQL function. RetryDelivery has request ids
# too, but not at the time of the event.
FIND_OF_REQUEST: Final = """
WITH next AS (
    SELECT e.event_id, e.event_type, e.created_at, e.attributes,
        octet_length(e.body) + coalesce(octet_length(e.attributes), 0) AS size
    FROM (
        SELECT event_id, created_at FROM idempotency_keys
        WHERE customer_id = %(customer_id)b AND request_id = ANY (%(request_keys)b::text[])
    ) k
    CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = k.event_id AND created_at = k.created_at LIMIT 1) e
    WHERE e.event_id < %(before)b::uuid AND e.event_id >= %(earliest_id)b::uuid
    ORDER BY e.event_id DESC
    LIMIT %(limit)b::integer
)"""

# Those of the next events that fit, and the last one, at which the step ends.
SELECT_NEXT_EVENTS: Final = """
SELECT s.event_id, s.size, s.fits, s.step_rows
FROM (
    SELECT n.*,
        n.created_at >= %(start_time)b::timestamptz AND n.created_at < %(end_time)b::timestamptz
            AND (%(type_regex)b::text IS NULL OR n.event_type ~ %(type_regex)b::text)
            AND (%(attributes)b::text IS NULL OR (n.attributes::jsonb @> %(attributes)b::jsonb) IS TRUE) AS fits,
        row_number() OVER (ORDER BY n.event_id DESC) AS ord,
        count(*) OVER () AS step_rows
    FROM next n
) s
WHERE s.fits OR s.ord = s.step_rows
ORDER BY s.ord
"""

# Whole events by their ids.
SELECT_WHOLE_EVENTS: Final = """
SELECT e.event_id, e.customer_id, e.event_type, e.occurred_at, e.created_at, e.body, e.data_start, e.attributes,
    e.test_webhook_id, e.publisher
FROM unnest(%(event_ids)b::uuid[]) WITH ORDINALITY AS k(event_id, ord)
CROSS JOIN LATERAL (SELECT * FROM events WHERE event_id = k.event_id LIMIT 1) e
ORDER BY k.ord
"""


@record
class _FoundEvent:
    """A row of a step: a StepRow."""

    key: UUID
    size_bytes: int
    fits: bool


async def list_events(database: Database, wanted: EventFilter, before: UUID, bounds: PageBounds) -> Page[UUID, Event]:
    """Returns the next events before an id, newest first. Raises Unavailable."""
    statement = statement_for(wanted)
    if wanted.end_time is not None:
        before = min(before, latest_id(wanted.end_time))

    async def read(before: UUID, step_rows: int) -> ListStep[UUID, _FoundEvent]:
        rows = await database.rows(statement, step_parameters(wanted, before, step_rows))
        found = [_FoundEvent(event_id, size, fits) for event_id, size, fits, _ in rows]
        found_count = rows[0][-1] if rows else 0
        return ListStep(found, found_count, found[-1].key if found_count == step_rows else None)

    chosen, next_key = await fill_page(read, before, bounds)
    rows: list[Row] = []
    if chosen:
        rows = await database.rows(SELECT_WHOLE_EVENTS, {"event_ids": [found.key for found in chosen]})
    events = [event_from_row(row) for row in rows]
    return Page(events, [event.event_id for event in events], next_key)


def statement_for(wanted: EventFilter) -> LiteralString:
    """Returns the statement of a step."""
    if wanted.request_id is not None:
        return FIND_OF_REQUEST + SELECT_NEXT_EVENTS
    return (FIND_OF_ALL if wanted.customer_id is None else FIND_OF_CUSTOMER) + SELECT_NEXT_EVENTS


def step_parameters(wanted: EventFilter, before: UUID, step_rows: int) -> dict[str, Any]:
    """Returns the parameters of a step's statement."""
    return {
        "customer_id": wanted.customer_id,
        "before": before,
        "earliest_id": earliest_id(wanted.start_time) if wanted.start_time else _EVENTS_END,
        "start_time": wanted.start_time or OLDEST,
        "end_time": wanted.end_time or NEWEST,
        "type_regex": patterns_regex(wanted.event_types) if wanted.event_types else None,
        "request_keys": [wanted.request_id, f"sql\t{wanted.request_id}"],
        "attributes": orjson.dumps(dict(wanted.attributes)).decode("utf-8") if wanted.attributes else None,
        "limit": step_rows,
    }
