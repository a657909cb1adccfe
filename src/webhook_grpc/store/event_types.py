"""Event types: rows, and what publishing needs to know of them at any moment.

A type is never deleted, because events of it may exist.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import structlog

from ..domain.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound, QuotaExceeded, Unavailable
from ..domain.model import EventType, EventTypeSpec
from ..domain.schema_shape import BadSchema
from ..domain.schemas import Schema, compile_schema
from .db import Database, Queries, Row, run

log = structlog.get_logger(__name__)

FRESH_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 1.0  # for news, when what is known will do

_COLUMNS: Final = "event_type, description, json_schema, archived, built_in, version, created_at, updated_at"

LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('event types', 0))"

# No row: the name is taken, or there are as many as there may be.
CREATE: Final = f"""
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
)
SELECT {_COLUMNS} FROM created
"""

GET: Final = f"SELECT {_COLUMNS} FROM event_types WHERE event_type = %(event_type)s"

# In the order of bytes, whatever the database's collation is.
LIST: Final = f"""
SELECT {_COLUMNS} FROM event_types
WHERE event_type COLLATE "C" > %(after)s AND (%(include_archived)s OR NOT archived)
ORDER BY event_type COLLATE "C"
LIMIT %(limit)s
"""

# No row: somebody else changed it first.
UPDATE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at
)
UPDATE event_types SET description = %(description)s, json_schema = %(json_schema)s, archived = %(archived)s,
    version = version + 1, updated_at = input.at
FROM input
WHERE event_type = %(event_type)s AND version = %(version)s
RETURNING {_COLUMNS}
"""

# Every type; the schema only of those that changed since the caller looked.
RULES: Final = """
SELECT t.event_type, t.archived, t.version, t.updated_at,
    CASE WHEN (k.version, k.updated_at) IS DISTINCT FROM (t.version, t.updated_at) THEN t.json_schema END
FROM event_types t
LEFT JOIN unnest(%(event_type)b::text[], %(version)b::integer[], %(updated_at)b::timestamptz[])
    AS k(event_type, version, updated_at) ON k.event_type = t.event_type
"""


async def create(database: Database, event_type: str, spec: EventTypeSpec, event_types_max: int) -> EventType:
    """Raises AlreadyExists, QuotaExceeded, Unavailable."""
    parameters = {**_spec_parameters(spec), "event_type": event_type, "event_types_max": event_types_max}
    # In turn, so that the quota can't be passed together; see store/webhooks.py.
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK, None)
        rows = await run(connection, CREATE, parameters)
    if rows:
        return _event_type(rows[0])
    if await database.rows(GET, {"event_type": event_type}):
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
    """Raises NotFound, Unavailable."""
    rows = await database.rows(GET, {"event_type": event_type})
    if not rows:
        raise NotFound("event_type", event_type)
    return _event_type(rows[0])


async def list_page(database: Database, *, include_archived: bool, after: str, limit: int) -> list[EventType]:
    """The next event types after a name, in the order of their names. Raises Unavailable."""
    parameters = {"include_archived": include_archived, "after": after, "limit": limit}
    return [_event_type(row) for row in await database.rows(LIST, parameters)]


async def update(database: Database, current: EventType, spec: EventTypeSpec) -> EventType:
    """Replaces what the caller may choose, if it is still as it was read. Raises Conflict, NotFound, Unavailable."""
    parameters = {**_spec_parameters(spec), "event_type": current.event_type, "version": current.version}
    rows = await database.rows(UPDATE, parameters)
    if not rows:
        raise etag_mismatch(await get(database, current.event_type))
    return _event_type(rows[0])


def etag_mismatch(now: EventType) -> Conflict:
    """The error for an event type that is no longer as the caller saw it."""
    return Conflict(
        "ETAG_MISMATCH",
        f"event type `{now.event_type}` was changed since you read it; read it again and repeat the change",
        {"current_etag": str(now.version)},
    )


def event_type_unknown(event_type: str) -> FailedPrecondition:
    """The error for a type that is not registered."""
    return FailedPrecondition(
        "EVENT_TYPE_UNKNOWN",
        f"event type `{event_type}` is not registered; ListEventTypes tells which are, CreateEventType adds one",
        f"event_type:{event_type}",
    )


def event_type_archived(event_type: str) -> FailedPrecondition:
    """The error for a type that is no longer to be used."""
    return FailedPrecondition(
        "EVENT_TYPE_ARCHIVED",
        f"event type `{event_type}` is archived; UpdateEventType with archived = false takes it into use again",
        f"event_type:{event_type}",
    )


class TypeRules:
    """What holds for an event type."""

    def __init__(self, row: Row) -> None:
        """From a row of RULES that has the schema."""
        self.event_type: str
        self.archived: bool
        self.version: int
        self.updated_at: datetime
        self.event_type, self.archived, self.version, self.updated_at, self._json_schema = row

    @property
    def stamp(self) -> tuple[int, datetime]:
        """Another one after each change."""
        return self.version, self.updated_at

    @property
    def has_schema(self) -> bool:
        """Whether data has to be checked, which takes time."""
        return self._json_schema is not None

    @cached_property
    def schema(self) -> Schema | None:
        """What the data must fit, compiled when it is first needed. Raises FailedPrecondition if it can't be used.

        UpdateEventType admits none that can't be, but a later version of the service may be stricter.
        """
        if self._json_schema is None:
            return None
        try:
            return compile_schema(self._json_schema)
        except BadSchema as error:
            log.error("the schema of an event type can't be used", event_type=self.event_type, problem=str(error)[:300])  # noqa: TRY400
            raise FailedPrecondition(
                "EVENT_TYPE_SCHEMA_UNUSABLE",
                f"the schema of event type `{self.event_type}` can't be used; an operator must set it anew",
                f"event_type:{self.event_type}",
            ) from None


class EventTypes:
    """What holds for each event type, at most FRESH_SECONDS old, or less after a change through this process.

    One look at the table at a time serves all callers (1,000 types: 5 ms, 2 ms of them on the loop); what is known
    costs 1 µs. While the database is away, it goes on to hold.
    """

    def __init__(self, database: Queries) -> None:
        self._database = database
        self._rules: Mapping[str, TypeRules] = {}
        self._looked_at = float("-inf")  # when the look began whose answer is known
        self._tried_at = float("-inf")  # when one last failed
        self._changed_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """What is known no longer holds."""
        self._changed_at = time.monotonic()

    async def rules(self, event_types: Collection[str]) -> Mapping[str, TypeRules]:
        """What holds for those of the given types that are registered.

        A type is looked up anew before it is called unknown. Raises Unavailable.
        """
        now = time.monotonic()
        oldest = max(now - FRESH_SECONDS, self._changed_at)
        if self._looked_at < oldest and self._tried_at < oldest:
            await self._try_to_know_since(oldest)
        if not self._rules.keys() >= set(event_types):
            await self._know_since(now)
        return {name: self._rules[name] for name in event_types if name in self._rules}

    async def _try_to_know_since(self, moment: float) -> None:
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._know_since(moment)
        except (Unavailable, TimeoutError):
            self._tried_at = time.monotonic()

    async def _know_since(self, moment: float) -> None:
        """Returns when what is known was looked up at that moment or later. Raises Unavailable."""
        while self._looked_at < moment:
            # One that has ended counts as none: waiting for it gives way to nobody, and its callbacks would never run
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_up(), name="event types")
                self._look.add_done_callback(_take_exception)
            await asyncio.shield(self._look)  # a caller that gives up must not take the answer from the others

    async def _look_up(self) -> None:
        began_at = time.monotonic()
        known = self._rules
        parameters = {
            "event_type": list(known),
            "version": [rules.version for rules in known.values()],
            "updated_at": [rules.updated_at for rules in known.values()],
        }
        rows = await self._database.rows(RULES, parameters)
        self._rules = {row[0]: _rules(row, known.get(row[0])) for row in rows}
        self._looked_at = began_at


def _take_exception(look: asyncio.Task[None]) -> None:
    """Marks the exception of a look as seen: its callers have got it, if there are any left."""
    if not look.cancelled():
        look.exception()


def _rules(row: Row, known: TypeRules | None) -> TypeRules:
    return known if known is not None and known.stamp == (row[2], row[3]) else TypeRules(row)


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
