"""Publishes events: one statement stores many events and their deliveries, on disk before they are acknowledged.

The SQL function `publish_event` does the same in a transaction of a caller of its own (migration 4).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from webhook_grpc.domain.errors import AlreadyExists
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.matching import patterns_matching
from webhook_grpc.domain.model import NewEvent, Published
from webhook_grpc.domain.record import record
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.connection.plans import SMALL
from webhook_grpc.store.db import LoopConnection, Queries

# Inserts the keys, events and deliveries of a batch, or nothing. An event whose request id is taken (before, by a
# concurrent statement, or earlier in the batch) is returned with no created_at. Keys are inserted sorted, so that
# concurrent batches can't deadlock. The webhooks of each customer and event type are looked up once. Why FULL JOIN,
# OFFSET 0 and `singleton`: docs/decisions/0019-plans.md.
PUBLISH: Final = """
WITH input AS MATERIALIZED (
    SELECT t.*, now() AS at, true AS singleton
    FROM unnest(
        %(customer_id)b::bigint[], %(event_id)b::uuid[], %(event_type)b::text[], %(occurred_at)b::timestamptz[],
        %(body)b::bytea[], %(data_start)b::smallint[], %(attributes)b::text[], %(patterns)b::text[],
        %(request_id)b::text[], %(fingerprint)b::bigint[], %(traceparent)b::text[],
        %(publisher)b::text[]
    ) WITH ORDINALITY AS t(
        customer_id, event_id, event_type, occurred_at, body, data_start, attributes, patterns, request_id,
        fingerprint, traceparent, publisher, ord
    )
), new_keys AS (
    INSERT INTO idempotency_keys (customer_id, request_id, event_id, fingerprint, created_at)
    SELECT customer_id, request_id, event_id, fingerprint, at
    FROM input JOIN meta USING (singleton)
    WHERE request_id IS NOT NULL
    ORDER BY customer_id, request_id, ord
    ON CONFLICT (customer_id, request_id) DO NOTHING
    RETURNING event_id
), new_events AS (
    INSERT INTO events (
        event_id, customer_id, event_type, occurred_at, created_at, body, data_start, attributes, traceparent, publisher
    )
    SELECT event_id, customer_id, event_type, occurred_at, at, body, data_start, attributes, traceparent, publisher
    FROM input JOIN meta USING (singleton)
    WHERE request_id IS NULL OR event_id IN (SELECT event_id FROM new_keys)
    RETURNING event_id, customer_id, event_type, created_at
), matches AS MATERIALIZED (
    SELECT k.customer_id, k.event_type, w.shard, w.id AS webhook_id
    FROM (SELECT DISTINCT customer_id, event_type, patterns FROM input) k
    CROSS JOIN LATERAL (
        SELECT shard, id FROM webhooks
        WHERE customer_id = k.customer_id AND status IN ('active', 'paused')
            AND events && string_to_array(k.patterns, ' ')
        OFFSET 0
    ) w
), pairs AS MATERIALIZED (
    SELECT m.shard, m.webhook_id, e.created_at, e.event_id, e.customer_id, true AS singleton
    FROM new_events e
    FULL JOIN matches m ON m.customer_id = e.customer_id AND m.event_type = e.event_type
), new_deliveries AS (
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
    SELECT p.shard, p.webhook_id, p.created_at, p.event_id, p.customer_id, 0::smallint
    FROM pairs p JOIN meta USING (singleton)
    WHERE p.event_id IS NOT NULL AND p.webhook_id IS NOT NULL
    RETURNING shard, webhook_id, event_id
)
SELECT i.ord, e.created_at, coalesce(d.delivery_count, 0), d.own_webhook_ids, d.other_shards
FROM input i
FULL JOIN new_events e ON e.event_id = i.event_id
FULL JOIN (
    SELECT event_id, count(*) AS delivery_count,
        array_agg(webhook_id) FILTER (WHERE shard = ANY(%(own_shards)b::smallint[])) AS own_webhook_ids,
        array_agg(DISTINCT shard) FILTER (WHERE shard <> ALL(%(own_shards)b::smallint[])) AS other_shards
    FROM new_deliveries
    GROUP BY event_id
) d ON d.event_id = i.event_id
ORDER BY i.ord
"""

# The webhooks that the one event of a statement goes to, and its deliveries.
_FAN_OUT_OF_ONE: Final = """matches AS MATERIALIZED (
    SELECT shard, id AS webhook_id, true AS singleton FROM webhooks
    WHERE customer_id = %(customer_id)b::bigint AND status IN ('active', 'paused')
        AND events && string_to_array(%(patterns)b::text, ' ')
), new_deliveries AS (
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
    SELECT m.shard, m.webhook_id, e.created_at, e.event_id, e.customer_id, 0::smallint
    FROM matches m JOIN new_events e USING (singleton) JOIN meta USING (singleton)
    RETURNING webhook_id
)
SELECT e.created_at, d.webhook_id FROM new_events e LEFT JOIN new_deliveries d ON true
"""
_ONE_EVENT: Final = """
    INSERT INTO events (
        event_id, customer_id, event_type, occurred_at, created_at, body, data_start, attributes, traceparent, publisher
    )
    SELECT %(event_id)b::uuid, %(customer_id)b::bigint, %(event_type)b::text, %(occurred_at)b::timestamptz, at,
        %(body)b::bytea, %(data_start)b::smallint, %(attributes)b::text, %(traceparent)b::text, %(publisher)b::text
"""
_ONE_STORED: Final = "RETURNING event_id, customer_id, created_at, true AS singleton"

# What PUBLISH does, for one event, with nothing that only several need: services publish one by one. Returns a row for
# each delivery, one with no webhook_id if there is none, and no row if the request id is taken.
PUBLISH_ONE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), new_events AS ({_ONE_EVENT}
    FROM input JOIN meta USING (singleton)
    {_ONE_STORED}
), {_FAN_OUT_OF_ONE}"""
PUBLISH_ONE_ONCE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), new_keys AS (
    INSERT INTO idempotency_keys (customer_id, request_id, event_id, fingerprint, created_at)
    SELECT %(customer_id)b::bigint, %(request_id)b::text, %(event_id)b::uuid, %(fingerprint)b::bigint, at
    FROM input JOIN meta USING (singleton)
    ON CONFLICT (customer_id, request_id) DO NOTHING
    RETURNING true AS singleton
), new_events AS ({_ONE_EVENT}
    FROM input JOIN new_keys USING (singleton) JOIN meta USING (singleton)
    {_ONE_STORED}
), {_FAN_OUT_OF_ONE}"""

# How many deliveries an event `e` has, as far as the log and the outbox still know.
_DELIVERY_COUNT: Final = """(
    SELECT count(*) FROM webhooks w
    WHERE w.customer_id = e.customer_id AND coalesce(
        (
            SELECT true FROM deliveries d
            WHERE d.shard = w.shard AND d.webhook_id = w.id AND d.due_at = e.created_at AND d.event_id = e.event_id
        ),
        (
            SELECT true FROM attempts a
            WHERE a.webhook_id = w.id AND a.event_created_at = e.created_at AND a.event_id = e.event_id
            LIMIT 1
        )
    )
)"""

# What is stored of these events.
SELECT_STORED_EVENTS: Final = f"""
SELECT i.ord, e.event_id, e.created_at, {_DELIVERY_COUNT}
FROM unnest(%(event_id)b::uuid[]) WITH ORDINALITY AS i(event_id, ord)
CROSS JOIN LATERAL (
    SELECT event_id, customer_id, created_at FROM events WHERE event_id = i.event_id LIMIT 1
) e
"""

# What was published under these request ids.
SELECT_PUBLISHED_BEFORE: Final = f"""
SELECT i.ord, k.event_id, k.fingerprint, coalesce(e.created_at, k.created_at), {_DELIVERY_COUNT}
FROM unnest(%(customer_id)b::bigint[], %(request_id)b::text[]) WITH ORDINALITY AS i(customer_id, request_id, ord)
CROSS JOIN LATERAL (
    SELECT event_id, fingerprint, created_at FROM idempotency_keys
    WHERE customer_id = i.customer_id AND request_id = i.request_id
    LIMIT 1
) k
LEFT JOIN LATERAL (
    SELECT event_id, customer_id, created_at FROM events WHERE event_id = k.event_id LIMIT 1
) e ON true
"""

_EVENT_TYPES_MAX: Final = 10_000  # whose patterns are remembered
_TAKEN: Final = "23505"  # the key of an event is taken: only this process can have stored it


@record
class NewDeliveries:
    """The deliveries of a new event: the webhooks in own shards, and the other shards that got some."""

    event: NewEvent
    create_time: datetime
    own_webhook_ids: Sequence[int]
    other_shards: Sequence[int]


@record
class PublishedBatch:
    """One answer for each event, in order: an exception if it was refused. And the deliveries of those that are new."""

    answers: list[Published | Exception]
    new: list[NewDeliveries]


async def publish(
    connection: LoopConnection, events: Sequence[NewEvent], own_shards: Collection[int]
) -> PublishedBatch:
    """Publishes a batch as a whole.

    If the connection ends before the answer, the same statement is sent once more. That does no harm, even while the
    first one still runs: both store the same event ids, which nobody else has, so one of the two finds these taken, and
    what the other stored is answered as new.

    Raises StoreRefusal if any of the events can't be stored: then none is. Raises Unavailable: nobody knows whether
    they were stored.
    """
    try:
        if len(events) == 1:
            return await _publish_one(connection, events[0], own_shards)
        return await _publish_many(connection, events, own_shards)
    except StoreRefusal as refusal:
        if str(refusal) != _TAKEN:
            raise
        return PublishedBatch(await _answers_of_stored(connection, events, refusal), [])


async def _publish_one(connection: LoopConnection, event: NewEvent, own_shards: Collection[int]) -> PublishedBatch:
    statement = PUBLISH_ONE if event.request_id is None else PUBLISH_ONE_ONCE
    rows = await connection.rows(statement, _parameters_of_one(event), is_idempotent=True, keeps_plan=True)
    if not rows:
        [before] = await published_before(connection, [event])
        assert before is not None
        return PublishedBatch([before], [])
    create_time = rows[0][0]
    webhook_ids = [webhook_id for _, webhook_id in rows if webhook_id is not None]
    own_webhook_ids = [webhook_id for webhook_id in webhook_ids if shard_of(webhook_id) in own_shards]
    other_shards = {shard for shard in map(shard_of, webhook_ids) if shard not in own_shards}
    return PublishedBatch(
        [Published(event.event_id, len(webhook_ids), False, create_time)],
        [NewDeliveries(event, create_time, own_webhook_ids, sorted(other_shards))],
    )


async def _publish_many(
    connection: LoopConnection, events: Sequence[NewEvent], own_shards: Collection[int]
) -> PublishedBatch:
    rows = await connection.rows(
        PUBLISH, _publish_parameters(events, own_shards), is_idempotent=True, keeps_plan=len(events) <= SMALL
    )
    answers: dict[int, Published | Exception] = {}
    new: list[NewDeliveries] = []
    repeated: dict[int, NewEvent] = {}
    for event, (ord_, create_time, delivery_count, own_webhook_ids, other_shards) in zip(events, rows, strict=True):
        if create_time is None:
            repeated[ord_ - 1] = event
            continue
        answers[ord_ - 1] = Published(event.event_id, delivery_count, False, create_time)
        new.append(NewDeliveries(event, create_time, own_webhook_ids or (), other_shards or ()))
    if repeated:
        before = await published_before(connection, list(repeated.values()))
        for index, answer in zip(repeated, before, strict=True):
            assert answer is not None
            answers[index] = answer
    return PublishedBatch([answers[index] for index in range(len(events))], new)


async def _answers_of_stored(
    connection: LoopConnection, events: Sequence[NewEvent], refusal: StoreRefusal
) -> list[Published | Exception]:
    """Returns the answers to a batch that was stored by a statement whose answer was lost.

    Raises the refusal if the batch was not stored, or not by one statement: then the caller publishes its events one by
    one.
    """
    rows = await connection.rows(SELECT_STORED_EVENTS, {"event_id": [event.event_id for event in events]})
    found: dict[int, Published | Exception | None] = {}
    for ord_, event_id, create_time, delivery_count in rows:
        found[ord_ - 1] = Published(event_id, delivery_count, False, create_time)
    others = {index: event for index, event in enumerate(events) if index not in found}
    if others:
        found |= zip(others, await published_before(connection, list(others.values())), strict=True)
    answers = [answer for _, answer in sorted(found.items()) if answer is not None]
    if not rows or len(answers) < len(events):
        raise refusal
    return answers


async def published_before(database: Queries, events: Sequence[NewEvent]) -> list[Published | Exception | None]:
    """Returns the answers that calls with the request ids of these events got before, None where there was no call.

    If the stored event has the same id, it is no repetition: a statement whose answer was lost has stored it. Raises
    Unavailable.
    """
    parameters = {
        "customer_id": [event.customer_id for event in events],
        "request_id": [event.request_id for event in events],
    }
    rows = {ord_ - 1: rest for ord_, *rest in await database.rows(SELECT_PUBLISHED_BEFORE, parameters)}
    return [_repeated_answer(event, rows[index]) if index in rows else None for index, event in enumerate(events)]


def _repeated_answer(event: NewEvent, row: list[object]) -> Published | Exception:
    event_id, fingerprint, create_time, delivery_count = row
    assert isinstance(event_id, UUID)
    assert isinstance(create_time, datetime)
    assert isinstance(delivery_count, int)
    if fingerprint != event.fingerprint:
        return request_id_reused(event.request_id or "")
    return Published(event_id, delivery_count, event_id != event.event_id, create_time)


def request_id_reused(request_id: str) -> AlreadyExists:
    """Returns the error for a request id that was used for something else before."""
    return AlreadyExists(
        "REQUEST_ID_REUSED",
        "request_id was used before for a different request; give every request its own",
        "request_id",
        request_id,
    )


def _parameters_of_one(event: NewEvent) -> dict[str, object]:
    parameters: dict[str, object] = {
        "customer_id": event.customer_id,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "occurred_at": event.occur_time,
        "body": event.body,
        "data_start": event.data_start,
        "attributes": _json_or_none(event),
        "patterns": _patterns(event.event_type),
        "traceparent": event.traceparent,
        "publisher": event.publisher,
    }
    if event.request_id is not None:
        parameters["request_id"] = event.request_id
        parameters["fingerprint"] = event.fingerprint
    return parameters


def _publish_parameters(events: Sequence[NewEvent], own_shards: Collection[int]) -> dict[str, object]:
    return {
        "customer_id": arrays.bigints([event.customer_id for event in events]),
        "event_id": arrays.uuids([event.event_id for event in events]),
        "event_type": arrays.texts([event.event_type for event in events]),
        "occurred_at": arrays.times([event.occur_time for event in events]),
        "body": arrays.byteas([event.body for event in events]),
        "data_start": arrays.smallints([event.data_start for event in events]),
        "attributes": arrays.texts([_json_or_none(event) for event in events]),
        "patterns": arrays.texts([_patterns(event.event_type) for event in events]),
        "request_id": arrays.texts([event.request_id for event in events]),
        "fingerprint": arrays.bigints([event.fingerprint for event in events]),
        "traceparent": arrays.texts([event.traceparent for event in events]),
        "publisher": arrays.texts([event.publisher for event in events]),
        "own_shards": arrays.smallints(list(own_shards)),
    }


@functools.lru_cache(_EVENT_TYPES_MAX)
def _patterns(event_type: str) -> str:
    return " ".join(patterns_matching(event_type))


def _json_or_none(event: NewEvent) -> str | None:
    return orjson.dumps(dict(event.attributes)).decode("utf-8") if event.attributes else None
