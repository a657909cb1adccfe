"""Stores event types. A type is never deleted, because events of it may exist."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound, QuotaExceeded
from webhook_grpc.domain.model import EventType, EventTypeSpec
from webhook_grpc.store import literals
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.db import Database, Queries, Row, run

_COLUMNS: Final = "event_type, description, json_schema, archived, built_in, version, created_at, updated_at"

LOCK_EVENT_TYPES: Final = f"SELECT pg_advisory_xact_lock(hashtextextended('event types', {literals.SCHEMA_SEED}))"

# Returns no row: the name is taken, or there are as many types as there may be.
INSERT_EVENT_TYPE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(event_type)s::text AS event_type, %(description)s::text AS description,
        %(json_schema)s::text AS json_schema, %(archived)s::boolean AS archived, now() AS at, true AS singleton,
        (SELECT count(*) FROM event_types) AS event_type_count
), created AS (
    INSERT INTO event_types (event_type, description, json_schema, archived, created_at, updated_at)
    SELECT event_type, description, json_schema, archived, at, at FROM input JOIN meta USING (singleton)
    WHERE event_type_count < %(event_types_max)s::integer
    ON CONFLICT (event_type) DO NOTHING
    RETURNING {_COLUMNS}
), audited AS ({leaves_entry("created")})
SELECT {_COLUMNS} FROM created
"""

SELECT_EVENT_TYPE: Final = f"SELECT {_COLUMNS} FROM event_types WHERE event_type = %(event_type)s"

# Ordered by bytes, whatever the database's collation is.
SELECT_EVENT_TYPES: Final = f"""
SELECT {_COLUMNS} FROM event_types
WHERE event_type COLLATE "C" > %(after)s AND (%(include_archived)s OR NOT archived)
ORDER BY event_type COLLATE "C"
LIMIT %(limit)s
"""

# Returns no row: somebody else has changed it first.
UPDATE_EVENT_TYPE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), changed AS (
    UPDATE event_types SET description = %(description)s, json_schema = %(json_schema)s, archived = %(archived)s,
        version = version + 1, updated_at = input.at
    FROM input
    WHERE event_type = %(event_type)s AND version = %(version)s
    RETURNING {_COLUMNS}
), audited AS ({leaves_entry("changed")})
SELECT {_COLUMNS} FROM changed
"""

# Every type; the schema only of types that have changed since the caller read them.
SELECT_TYPE_RULES: Final = """
SELECT t.event_type, t.archived, t.version, t.updated_at,
    CASE WHEN (k.version, k.updated_at) IS DISTINCT FROM (t.version, t.updated_at) THEN t.json_schema END
FROM event_types t
LEFT JOIN unnest(%(event_type)b::text[], %(version)b::integer[], %(updated_at)b::timestamptz[])
    AS k(event_type, version, updated_at) ON k.event_type = t.event_type
"""


async def create(
    database: Database, event_type: str, spec: EventTypeSpec, event_types_max: int, *, audit: AuditEntry
) -> EventType:
    """Creates an event type. Raises AlreadyExists, QuotaExceeded, Unavailable."""
    parameters = {
        **_spec_parameters(spec),
        "event_type": event_type,
        "event_types_max": event_types_max,
        **entry_parameters(audit),
    }
    # One call at a time, so that calls can't exceed the quota together; see webhooks.py.
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_EVENT_TYPES, None)
        rows = await run(connection, INSERT_EVENT_TYPE, parameters)
    if rows:
        return _event_type(rows[0])
    if await database.rows(SELECT_EVENT_TYPE, {"event_type": event_type}):
        raise AlreadyExists(
            "EVENT_TYPE_EXISTS",
            f"event type `{event_type}` exists already; change it with UpdateEventType",
            "event_type",
            event_type,
        )
    raise QuotaExceeded(
        "EVENT_TYPE_QUOTA", f"there may be at most {event_types_max} event types", f"event_type:{event_type}"
    )


async def get(database: Database, event_type: str) -> EventType:
    """Returns an event type. Raises NotFound, Unavailable."""
    rows = await database.rows(SELECT_EVENT_TYPE, {"event_type": event_type})
    if not rows:
        raise NotFound("event_type", event_type)
    return _event_type(rows[0])


async def list_page(database: Database, *, include_archived: bool, after: str, limit: int) -> list[EventType]:
    """Returns the next event types after a name, in the order of their names. Raises Unavailable."""
    parameters = {"include_archived": include_archived, "after": after, "limit": limit}
    return [_event_type(row) for row in await database.rows(SELECT_EVENT_TYPES, parameters)]


async def update(database: Database, current: EventType, spec: EventTypeSpec, *, audit: AuditEntry) -> EventType:
    """Replaces the spec of a type that is still as `current`. Raises Conflict, NotFound, Unavailable."""
    parameters = {
        **_spec_parameters(spec),
        "event_type": current.event_type,
        "version": current.version,
        **entry_parameters(audit),
    }
    rows = await database.rows(UPDATE_EVENT_TYPE, parameters)
    if not rows:
        raise etag_mismatch(await get(database, current.event_type))
    return _event_type(rows[0])


async def rule_rows(database: Queries, known: Mapping[str, tuple[int, datetime]]) -> list[Row]:
    """Returns a row for each type, without the schema if its version and time are as known. Raises Unavailable."""
    parameters = {
        "event_type": list(known),
        "version": [version for version, _ in known.values()],
        "updated_at": [updated_at for _, updated_at in known.values()],
    }
    return await database.rows(SELECT_TYPE_RULES, parameters)


def etag_mismatch(now: EventType) -> Conflict:
    """Returns the error for an event type that has changed since the caller read it."""
    return Conflict(
        "ETAG_MISMATCH",
        f"event type `{now.event_type}` was changed since you read it; read it again and repeat the change",
        {"current_etag": str(now.version)},
    )


def event_type_unknown(event_type: str) -> FailedPrecondition:
    """Returns the error for a type that is not registered."""
    return FailedPrecondition(
        "EVENT_TYPE_UNKNOWN",
        f"event type `{event_type}` is not registered; ListEventTypes lists those that are, CreateEventType adds one",
        f"event_type:{event_type}",
    )


def event_type_archived(event_type: str) -> FailedPrecondition:
    """Returns the error for an archived type."""
    return FailedPrecondition(
        "EVENT_TYPE_ARCHIVED",
        f"event type `{event_type}` is archived; UpdateEventType with archived = false takes it into use again",
        f"event_type:{event_type}",
    )


def _spec_parameters(spec: EventTypeSpec) -> dict[str, Any]:
    return {"description": spec.description, "json_schema": spec.json_schema, "archived": spec.archived}


def _event_type(row: Row) -> EventType:
    event_type, description, json_schema, archived, built_in, version, created_at, updated_at = row
    return EventType(
        event_type=event_type,
        spec=EventTypeSpec(description, json_schema, archived),
        built_in=built_in,
        version=version,
        create_time=created_at,
        update_time=updated_at,
    )
