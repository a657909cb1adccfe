"""Saves and loads the health of webhooks: what the next owner of a shard should know of its receivers.

Times are written and read as durations, so that only the database's clock counts. What is saved is a second or two
older than what the owner knows, and a crash loses the difference; only the pace of sending depends on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.pace import SavedHealth
from webhook_grpc.domain.throttle import Slowdown
from webhook_grpc.store import literals
from webhook_grpc.store.clock import BELIEVED_NOW
from webhook_grpc.store.db import LoopConnection

# A webhook that has been failing for long is disabled, so that duration goes by the believed time. A row that was saved
# later than now was saved by a clock that was ahead: times to come are then as far away as when it was saved.
_SINCE: Final = "greatest(now(), updated_at)"
SELECT_HEALTH: Final = f"""
SELECT webhook_id, breaker,
    greatest(0, coalesce(extract(epoch FROM probe_at - {_SINCE}), 0))::double precision, probe_count,
    extract(epoch FROM {BELIEVED_NOW} - failing_since)::double precision, failure_count, blocked_count,
    extract(epoch FROM {BELIEVED_NOW} - blocked_at)::double precision,
    greatest(0, coalesce(extract(epoch FROM hold_until - {_SINCE}), 0))::double precision,
    CASE WHEN throttled_until > {_SINCE} THEN extract(epoch FROM throttled_until - {_SINCE})::double precision END,
    throttle_rate, throttle_ceiling
FROM webhook_health
WHERE webhook_id = ANY(%(ids)b::bigint[])
"""

# Only for webhooks of own shards: a process that was stopped for long knows less than the one that took over.
SAVE_HEALTH: Final = f"""
WITH input AS MATERIALIZED (
    SELECT t.*, now() AS at, now() + t.probe_in * interval '1 second' AS probe_at,
        now() - t.failing * interval '1 second' AS failing_since,
        now() - t.blocked * interval '1 second' AS blocked_at, now() + t.hold * interval '1 second' AS hold_until,
        now() + t.throttled * interval '1 second' AS throttled_until, true AS singleton
    FROM unnest(
        %(webhook_id)b::bigint[], %(breaker)b::text[], %(probe_in)b::double precision[], %(probe_count)b::integer[],
        %(failing)b::double precision[], %(failure_count)b::integer[], %(blocked_count)b::integer[],
        %(blocked)b::double precision[], %(hold)b::double precision[], %(throttled)b::double precision[],
        %(throttle_rate)b::double precision[], %(throttle_ceiling)b::double precision[]
    ) AS t(
        webhook_id, breaker, probe_in, probe_count, failing, failure_count, blocked_count, blocked, hold, throttled,
        throttle_rate, throttle_ceiling
    )
    WHERE t.webhook_id %% {literals.SHARD_COUNT} = ANY(ARRAY(SELECT shard FROM shards WHERE owner = %(worker)b::uuid))
)
INSERT INTO webhook_health (
    webhook_id, breaker, probe_at, probe_count, failing_since, failure_count, blocked_count, blocked_at, hold_until,
    throttled_until, throttle_rate, throttle_ceiling, updated_at
)
SELECT webhook_id, breaker, probe_at, probe_count, failing_since, failure_count, blocked_count, blocked_at, hold_until,
    throttled_until, throttle_rate, throttle_ceiling, at
FROM input JOIN meta USING (singleton)
ORDER BY webhook_id
ON CONFLICT (webhook_id) DO UPDATE SET
    breaker = excluded.breaker, probe_at = excluded.probe_at, probe_count = excluded.probe_count,
    failing_since = excluded.failing_since, failure_count = excluded.failure_count,
    blocked_count = excluded.blocked_count, blocked_at = excluded.blocked_at, hold_until = excluded.hold_until,
    throttled_until = excluded.throttled_until, throttle_rate = excluded.throttle_rate,
    throttle_ceiling = excluded.throttle_ceiling, updated_at = excluded.updated_at
"""

DELETE_HEALTH: Final = f"""
DELETE FROM webhook_health h USING shards s
WHERE h.webhook_id = ANY(%(ids)b::bigint[]) AND s.shard = h.webhook_id %% {literals.SHARD_COUNT}
    AND s.owner = %(worker)b::uuid
"""

# Deletes rows that only hold times, if these are over.
DELETE_EXPIRED_HEALTH: Final = f"""
DELETE FROM webhook_health h USING shards s
WHERE h.breaker = 'closed' AND h.failing_since IS NULL AND h.blocked_count = 0
    AND (h.hold_until IS NULL OR h.hold_until <= now()) AND (h.throttled_until IS NULL OR h.throttled_until <= now())
    AND s.shard = h.webhook_id %% {literals.SHARD_COUNT} AND s.owner = %(worker)b::uuid
RETURNING h.webhook_id
"""

# Webhooks with a success since the failures that were saved: their owner died before it could save that. Reads only the
# end of the log.
SELECT_SUCCEEDED_LAST: Final = """
SELECT k.webhook_id
FROM unnest(%(webhook_id)b::bigint[], %(shard)b::smallint[], %(until)b::bigint[]) AS k(webhook_id, shard, until)
JOIN webhook_health h ON h.webhook_id = k.webhook_id
WHERE EXISTS (
    SELECT 1 FROM attempts a
    WHERE a.shard = k.shard AND a.seq > k.until - %(reach)b::bigint AND a.seq <= k.until
        AND a.webhook_id = k.webhook_id AND a.outcome = 'succeeded' AND a.created_at > h.failing_since
)
"""
LAST_ROWS: Final = 2000  # of a shard's log: more than are settled between two saves


async def load(connection: LoopConnection, webhook_ids: Collection[int]) -> dict[int, SavedHealth]:
    """Returns the health of those webhooks that are not healthy. Raises Unavailable."""
    rows = await connection.rows(SELECT_HEALTH, {"ids": list(webhook_ids)})
    return {webhook_id: _saved(columns) for webhook_id, *columns in rows}


def _saved(columns: Sequence[Any]) -> SavedHealth:
    """Returns what a row of SELECT_HEALTH says, from `breaker` on."""
    (
        breaker, probe_in_seconds, probe_count, failing_seconds, failure_count, blocked_count, blocked_seconds,
        hold_seconds, throttled_seconds, throttle_rate, throttle_ceiling,
    ) = columns  # fmt: skip
    slowdown = None
    if throttled_seconds is not None:
        slowdown = Slowdown(seconds=throttled_seconds, rate=throttle_rate, ceiling=throttle_ceiling)
    return SavedHealth(
        breaker=BreakerState(breaker),
        probe_in_seconds=probe_in_seconds,
        probe_count=probe_count,
        failing_seconds=failing_seconds,
        failure_count=failure_count,
        blocked_count=blocked_count,
        blocked_seconds=blocked_seconds,
        hold_seconds=hold_seconds,
        slowdown=slowdown,
    )


async def succeeded_last(connection: LoopConnection, until: Mapping[int, tuple[int, int]]) -> set[int]:
    """Returns the webhooks with a success since they were saved as failing. Raises Unavailable.

    `until`: for each webhook its shard, and the `seq` up to which the log is read.
    """
    parameters = {
        "webhook_id": list(until),
        "shard": [shard for shard, _ in until.values()],
        "until": [seq for _, seq in until.values()],
        "reach": LAST_ROWS,
    }
    return {webhook_id for (webhook_id,) in await connection.rows(SELECT_SUCCEEDED_LAST, parameters)}


async def save(
    connection: LoopConnection, worker: UUID, health: Mapping[int, SavedHealth], well: Collection[int]
) -> None:
    """Saves the health of webhooks, and deletes that of webhooks that are healthy again. Raises Unavailable."""
    if health:
        saved = list(health.values())
        slowdowns = [item.slowdown for item in saved]
        await connection.rows(
            SAVE_HEALTH,
            {
                "worker": worker,
                "webhook_id": list(health),
                "breaker": [item.breaker.value for item in saved],
                "probe_in": [item.probe_in_seconds if item.breaker is BreakerState.OPEN else None for item in saved],
                "probe_count": [item.probe_count for item in saved],
                "failing": [item.failing_seconds for item in saved],
                "failure_count": [item.failure_count for item in saved],
                "blocked_count": [item.blocked_count for item in saved],
                "blocked": [item.blocked_seconds for item in saved],
                "hold": [item.hold_seconds or None for item in saved],
                "throttled": [slowdown and slowdown.seconds for slowdown in slowdowns],
                "throttle_rate": [slowdown and slowdown.rate for slowdown in slowdowns],
                "throttle_ceiling": [slowdown and slowdown.ceiling for slowdown in slowdowns],
            },
        )
    if well:
        await connection.rows(DELETE_HEALTH, {"worker": worker, "ids": list(well)})


async def forget_over(connection: LoopConnection, worker: UUID) -> set[int]:
    """Deletes rows of own webhooks that say nothing any more; returns these webhooks. Raises Unavailable."""
    return {webhook_id for (webhook_id,) in await connection.rows(DELETE_EXPIRED_HEALTH, {"worker": worker})}
