"""Finds rows of the outbox that were scheduled by a clock that was ahead of the clock of now.

When a row is due, its last row in the log says (0001-initial.pre.sql); that row was written when the delay began, so
its time shows by how much the clock was ahead. Without a row in the log, the event's `created_at` is both times.
"""

from __future__ import annotations

from typing import Final

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import LoopConnection

from .due import FoundRow, found_row, row_key

# A time may be so far ahead of now() although the clock has not stepped: statements read now() when they begin.
_AHEAD: Final = "now() + interval '1 second'"

# Whether anything of a shard may have been written later than now: a delivery that was not tried yet, or a row of the
# log of a webhook with something pending. Jumps from webhook to webhook; reads only partitions from today on.
SELECT_MISDATED_MAY_EXIST: Final = f"""
WITH RECURSIVE pending AS (
    (SELECT webhook_id FROM deliveries WHERE shard = %(shard)b::smallint ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT d.webhook_id
    FROM pending p
    CROSS JOIN LATERAL (
        SELECT webhook_id FROM deliveries WHERE shard = %(shard)b::smallint AND webhook_id > p.webhook_id
        ORDER BY webhook_id LIMIT 1
    ) d
)
SELECT EXISTS (
    SELECT 1 FROM pending p
    WHERE EXISTS (SELECT 1 FROM attempts a WHERE a.webhook_id = p.webhook_id AND a.created_at > {_AHEAD})
        OR EXISTS (
            SELECT 1 FROM deliveries d
            WHERE d.shard = %(shard)b::smallint AND d.webhook_id = p.webhook_id AND d.due_at > {_AHEAD}
                AND d.attempt = 0 AND d.trigger IS NULL
        )
)
"""

# The next rows of a shard that are due later than now, in the order of their keys, after a key; each with its delay in
# seconds, or NULL if it was scheduled by the clock of now. Both lookups are by key.
SELECT_ROWS_DUE_LATER: Final = f"""
SELECT d.webhook_id, d.event_id, d.due_at, d.customer_id, d.attempt, d.danger, d.trigger, d.replay_id,
    extract(epoch FROM d.due_at - coalesce(
        l.created_at, CASE WHEN e.created_at = d.due_at THEN e.created_at END
    ))::double precision
FROM (
    SELECT * FROM deliveries
    WHERE shard = %(shard)b AND due_at > {_AHEAD}
        AND (webhook_id, due_at, event_id) > (%(after_webhook)b, %(after_due_at)b, %(after_event)b)
    ORDER BY webhook_id, due_at, event_id
    LIMIT %(limit)b
) d
LEFT JOIN LATERAL (SELECT created_at FROM events WHERE event_id = d.event_id LIMIT 1) e ON true
LEFT JOIN LATERAL (
    SELECT created_at FROM attempts a
    WHERE a.webhook_id = d.webhook_id AND a.event_created_at = e.created_at AND a.event_id = d.event_id
        AND a.created_at > {_AHEAD} AND a.next_due_at = d.due_at
    ORDER BY seq DESC
    LIMIT 1
) l ON true
ORDER BY d.webhook_id, d.due_at, d.event_id
"""


@record
class Misdated:
    """A row of the outbox that was scheduled by a clock that was ahead, and the delay that it was given, in seconds."""

    row: FoundRow
    delay_seconds: float


@record
class MisdatedPage:
    """The misdated ones among the next rows, and the last row that was read; None if no row follows."""

    misdated: list[Misdated]
    last: FoundRow | None


async def may_exist(connection: LoopConnection, shard: int) -> bool:
    """Returns whether any row of a shard may be misdated. Raises Unavailable."""
    [(exist,)] = await connection.rows(SELECT_MISDATED_MAY_EXIST, {"shard": shard}, keeps_plan=True)
    return exist


async def page(connection: LoopConnection, shard: int, after: FoundRow | None, limit: int) -> MisdatedPage:
    """Reads the next `limit` rows of a shard, after one, that are due later than now. Raises Unavailable."""
    rows = await connection.rows(SELECT_ROWS_DUE_LATER, {"shard": shard, **row_key(after), "limit": limit})
    found = [(found_row((1, *row)), delay_seconds) for *row, delay_seconds in rows]
    return MisdatedPage(
        [Misdated(row, max(0.0, delay_seconds)) for row, delay_seconds in found if delay_seconds is not None],
        found[-1][0] if len(found) == limit else None,
    )
