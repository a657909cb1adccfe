"""Finds deliveries that have not ended when their event is about to be deleted by age."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from webhook_grpc.store.db import LoopConnection

from .due import FoundRow, found_row, row_key

# Whether there are events with smaller ids, which are to be deleted: seldom, and then not for long.
SELECT_OVERDUE_EXIST: Final = "SELECT EXISTS (SELECT 1 FROM events WHERE event_id < %(bound)b)"

# The rows of a shard whose events have smaller ids, due or not, in the order of their keys, after a key.
SELECT_OVERDUE_ROWS: Final = """
SELECT webhook_id, event_id, due_at, customer_id, attempt, danger, trigger, replay_id
FROM deliveries
WHERE shard = %(shard)b AND event_id < %(bound)b
    AND (webhook_id, due_at, event_id) > (%(after_webhook)b, %(after_due_at)b, %(after_event)b)
ORDER BY webhook_id, due_at, event_id
LIMIT %(limit)b
"""


async def overdue_exist(connection: LoopConnection, bound: UUID) -> bool:
    """Returns whether there are events with smaller ids than `bound`. Raises Unavailable."""
    [(exist,)] = await connection.rows(SELECT_OVERDUE_EXIST, {"bound": bound})
    return exist


async def overdue(
    connection: LoopConnection, shard: int, bound: UUID, after: FoundRow | None, limit: int
) -> list[FoundRow]:
    """Returns the next rows of a shard whose events have smaller ids than `bound`. Raises Unavailable."""
    rows = await connection.rows(
        SELECT_OVERDUE_ROWS,
        {
            "shard": shard,
            "bound": bound,
            **row_key(after),
            "limit": limit,
        },
    )
    return [found_row((1, *row)) for row in rows]
