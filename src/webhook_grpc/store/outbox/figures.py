"""Figures of the outbox for operators. Each statement reads a bounded number of rows, in the order of an index."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import LoopConnection

from .due import first_of_each_webhook

WEBHOOKS_MAX: Final = 10_000  # with something pending, of which the oldest row is looked at
COUNTED_ROWS_MAX: Final = 10_000

# Without rows of replays, which wait on purpose.
SELECT_OLDEST_DUE: Final = f"""
WITH RECURSIVE {first_of_each_webhook(" AND trigger IS DISTINCT FROM 'replay'")}, looked_at AS (
    SELECT webhook_id, due_at, event_id FROM pending LIMIT %(webhooks_max)b::integer
)
SELECT p.webhook_id, p.event_id, extract(epoch FROM now() - p.due_at)::double precision
FROM looked_at p
CROSS JOIN LATERAL (SELECT status FROM webhooks WHERE id = p.webhook_id LIMIT 1) w
WHERE p.due_at <= now() AND w.status = 'active'
"""

# Counts so many rows at most, and says how many Postgres believes there are in all shards: it counts each insertion and
# deletion, and begins at 0 after a crash.
COUNT_PENDING: Final = """
SELECT count(*), coalesce(pg_stat_get_live_tuples(to_regclass('deliveries')), 0)
FROM (
    SELECT 1 FROM unnest((SELECT %(shards)b::smallint[])) AS s(shard)
    CROSS JOIN LATERAL (
        SELECT 1 FROM deliveries WHERE shard = s.shard
        ORDER BY webhook_id, due_at, event_id
        LIMIT %(rows_max)b::integer
    ) d
    LIMIT %(rows_max)b::integer
) counted
"""

# Webhooks that have failed since a time that was worth saving, and are still sent to. Healthy ones have no row.
COUNT_FAILING: Final = """
SELECT count(*)
FROM (
    SELECT webhook_id FROM webhook_health WHERE failing_since IS NOT NULL LIMIT %(rows_max)b::integer
) h
CROSS JOIN LATERAL (SELECT status FROM webhooks WHERE id = h.webhook_id LIMIT 1) w
WHERE w.status = 'active'
"""


@record
class OldestDue:
    """The delivery of a webhook that has been due longest, and for how long."""

    webhook_id: int
    event_id: UUID
    seconds: float


async def oldest_due(connection: LoopConnection, shards: Collection[int]) -> list[OldestDue]:
    """Returns the oldest due delivery of each active webhook of these shards, of WEBHOOKS_MAX of them at most.

    Raises Unavailable.
    """
    rows = await connection.rows(SELECT_OLDEST_DUE, {"shards": list(shards), "webhooks_max": WEBHOOKS_MAX})
    return [OldestDue(webhook_id, event_id, seconds) for webhook_id, event_id, seconds in rows]


async def count_pending(connection: LoopConnection, shards: Collection[int]) -> int:
    """Returns how many deliveries of these shards are pending. Above COUNTED_ROWS_MAX it is an estimate.

    Raises Unavailable.
    """
    [(counted, believed)] = await connection.rows(COUNT_PENDING, {"shards": list(shards), "rows_max": COUNTED_ROWS_MAX})
    if counted < COUNTED_ROWS_MAX:
        return int(counted)
    return max(counted, believed * len(shards) // SHARD_COUNT)


async def count_failing(connection: LoopConnection) -> int:
    """Returns how many active webhooks have been failing for a minute or longer, COUNTED_ROWS_MAX at most.

    Raises Unavailable.
    """
    [(count,)] = await connection.rows(COUNT_FAILING, {"rows_max": COUNTED_ROWS_MAX})
    return int(count)
