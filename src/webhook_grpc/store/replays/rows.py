"""Creates, reads and cancels replays, for calls. `progress.py` moves them on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import FailedPrecondition, NotFound, QuotaExceeded
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.domain.replay import Replay, ReplaySpec, ReplayStatus
from webhook_grpc.store import clock
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.db import Queries, Row
from webhook_grpc.store.outbox.publishing import request_id_reused

from .progress import sweep
from .selection import SELECT_CHOSEN_WEBHOOKS, SPEC_COLUMNS, spec_from_columns

# Until a replay is settled, its counts are in the log, the outbox and the commands: read at once, so that they add up.
_WITH_COUNTS: Final = f"""
SELECT r.replay_id, {SPEC_COLUMNS}, r.status,
    CASE WHEN r.is_settled THEN r.position ELSE left_over.position END, r.created_at, r.finished_at,
    r.delivery_count, waiting.count, r.succeeded_count + ended.succeeded, r.failed_count + ended.failed,
    r.cancelled_count + ended.cancelled, r.skipped_count
FROM found r
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM commands c WHERE c.replay_id = r.replay_id AND c.command = 'replay')
        + (SELECT count(*) FROM deliveries d WHERE d.replay_id = r.replay_id) AS count
) waiting
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE a.status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE a.status = 'failed') AS failed,
        count(*) FILTER (WHERE a.status IN ('cancelled', 'expired')) AS cancelled
    FROM attempts a
    WHERE a.replay_id = r.replay_id AND NOT r.is_settled
) ended
LEFT JOIN LATERAL (
    SELECT w.position FROM replay_webhooks w
    WHERE w.replay_id = r.replay_id AND NOT r.is_settled
    ORDER BY w.position
    LIMIT 1
) left_over ON true
ORDER BY r.replay_id DESC
"""

SELECT_REPLAY: Final = f"""
WITH found AS (
    SELECT * FROM replays WHERE replay_id = %(replay_id)b::bigint AND customer_id = %(customer_id)b::bigint
)
{_WITH_COUNTS}
"""

SELECT_REPLAYS: Final = f"""
WITH found AS (
    SELECT * FROM replays
    WHERE (%(customer_id)b::bigint IS NULL OR customer_id = %(customer_id)b)
        AND replay_id < %(before)b::bigint
        AND (%(statuses)b::text[] IS NULL OR status = ANY(%(statuses)b::text[]))
    ORDER BY replay_id DESC
    LIMIT %(limit)b::integer
)
{_WITH_COUNTS}
"""

# Returns no row: the request id is taken, or the customer has as many running replays as it may have. Calls at the same
# moment may exceed that limit together: it bounds rows and work, and need not be exact.
INSERT_REPLAY: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(customer_id)b::bigint AS customer_id, %(webhook_ids)b::bigint[] AS webhook_ids,
        %(event_types)b::text[] AS event_types, %(statuses)b::text[] AS statuses,
        %(include_undelivered)b::boolean AS include_undelivered, %(start_time)b::timestamptz AS start_time,
        %(end_time)b::timestamptz AS end_time, %(request_id)b::text AS request_id,
        %(fingerprint)b::bigint AS fingerprint, %(position)b::uuid AS position, now() AS at, true AS singleton,
        (
            SELECT count(*) FROM replays
            WHERE customer_id = %(customer_id)b::bigint AND status = 'running' AND NOT is_settled
        ) AS replay_count
), created AS (
    INSERT INTO replays (
        customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time, request_id,
        request_fingerprint, created_at
    )
    SELECT customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time, request_id,
        fingerprint, at
    FROM input JOIN meta USING (singleton)
    WHERE replay_count < %(replays_max)b::integer
    ON CONFLICT (customer_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
    RETURNING replay_id
), goes_to AS (
    INSERT INTO replay_webhooks (replay_id, webhook_id, position, moved_at)
    SELECT created.replay_id, w.id, i.position, i.at
    FROM created CROSS JOIN input i JOIN meta USING (singleton) CROSS JOIN ({SELECT_CHOSEN_WEBHOOKS}) w
), audited AS ({leaves_entry("created", "ARRAY['replay:' || replay_id]")})
SELECT replay_id FROM created
"""

SELECT_CREATED_REPLAY: Final = """
SELECT replay_id, request_fingerprint FROM replays
WHERE customer_id = %(customer_id)b::bigint AND request_id = %(request_id)b::text
"""

# A cancelled replay chooses nothing more: a step has committed before this, or writes nothing after it.
CANCEL_REPLAY: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), cancelled AS (
    UPDATE replays SET status = 'cancelled', finished_at = input.at
    FROM input
    WHERE replay_id = %(replay_id)b::bigint AND customer_id = %(customer_id)b::bigint AND status = 'running'
    RETURNING replay_id
), audited AS ({leaves_entry("cancelled")})
SELECT replay_id FROM cancelled
"""


async def now(database: Queries) -> datetime:
    """Returns the database's time, which is after everything acknowledged so far. Raises Unavailable."""
    [(at,)] = await database.rows(clock.SELECT_DATABASE_TIME)
    return at


async def created_before(
    database: Queries, customer_id: int, request_id: str | None, fingerprint: int | None
) -> Replay | None:
    """Returns the replay that an earlier call with this request id created, None if there was no call.

    Raises AlreadyExists (the request id was used for something else), Unavailable.
    """
    if request_id is None:
        return None
    rows = await database.rows(SELECT_CREATED_REPLAY, {"customer_id": customer_id, "request_id": request_id})
    if not rows:
        return None
    [(replay_id, known_fingerprint)] = rows
    if known_fingerprint != fingerprint:
        raise request_id_reused(request_id)
    return await get(database, customer_id, replay_id)


async def create(
    database: Queries,
    spec: ReplaySpec,
    request_id: str | None,
    fingerprint: int | None,
    replays_max: int,
    *,
    audit: AuditEntry,
) -> Replay:
    """Creates a replay, which starts at once. Raises QuotaExceeded, AlreadyExists (of the request id), Unavailable."""
    rows = await database.rows(
        INSERT_REPLAY,
        {
            "customer_id": spec.customer_id,
            "webhook_ids": list(spec.webhook_ids),
            "event_types": list(spec.event_types),
            "statuses": [status.value for status in spec.statuses],
            "include_undelivered": spec.include_undelivered,
            "start_time": spec.start_time,
            "end_time": spec.end_time,
            "position": spec.first_position,
            "request_id": request_id,
            "fingerprint": fingerprint,
            "replays_max": replays_max,
            **entry_parameters(audit),
        },
    )
    if rows:
        return await get(database, spec.customer_id, rows[0][0])
    before = await created_before(database, spec.customer_id, request_id, fingerprint)
    if before is not None:
        return before
    raise QuotaExceeded(
        "REPLAY_QUOTA",
        f"a customer may have at most {replays_max} replays running; wait for one to end, or cancel it",
        f"customer:{spec.customer_id}",
    )


async def get(database: Queries, customer_id: int, replay_id: int) -> Replay:
    """Returns a replay of a customer. Raises NotFound, Unavailable."""
    rows = await database.rows(SELECT_REPLAY, {"customer_id": customer_id, "replay_id": replay_id})
    if not rows:
        raise NotFound("replay", str(replay_id))
    return _replay(rows[0])


async def list_page(
    database: Queries, customer_id: int | None, statuses: Sequence[ReplayStatus], before: int, limit: int
) -> list[Replay]:
    """Returns the next replays with ids below `before`, newest first. Raises Unavailable."""
    parameters = {
        "customer_id": customer_id,
        "statuses": [status.value for status in statuses] or None,
        "before": min(before, INT64_MAX),
        "limit": limit,
    }
    return [_replay(row) for row in await database.rows(SELECT_REPLAYS, parameters)]


async def cancel(
    database: Queries, customer_id: int, replay_id: int, *, audit: AuditEntry
) -> tuple[Replay, Collection[int]]:
    """Cancels a running replay; returns it, and the shards whose owners have deliveries to cancel.

    If this process dies between the two statements, the replay's runner runs the second one.
    Raises FailedPrecondition, NotFound, Unavailable.
    """
    parameters = {"customer_id": customer_id, "replay_id": replay_id, **entry_parameters(audit)}
    if not await database.rows(CANCEL_REPLAY, parameters):
        current = await get(database, customer_id, replay_id)
        raise FailedPrecondition(
            "REPLAY_STATUS",
            f"replay {replay_id} is {current.status.value}; only a running one can be cancelled",
            f"replay:{replay_id}",
            {"status": current.status.value},
        )
    shards = await sweep(database, replay_id)
    return await get(database, customer_id, replay_id), shards


def _replay(row: Row) -> Replay:
    (
        replay_id, *spec_columns, status, position, created_at, finished_at, delivery_count, pending_count,
        succeeded_count, failed_count, cancelled_count, skipped_count,
    ) = row  # fmt: skip
    spec = spec_from_columns(spec_columns)
    return Replay(
        replay_id=replay_id,
        spec=spec,
        status=ReplayStatus(status),
        progress_time=spec.progress_time(position),
        create_time=created_at,
        finish_time=finished_at,
        delivery_count=delivery_count,
        pending_count=pending_count,
        succeeded_count=succeeded_count,
        failed_count=failed_count,
        cancelled_count=cancelled_count,
        skipped_count=skipped_count,
    )
