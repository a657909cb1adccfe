"""Counts all webhooks by status, a slice at a time: there is no index by status, and no need for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import LoopConnection

SLICE: Final = 2000  # ids that one statement reads

# The webhooks with the next ids: how many of each status; and the first id behind them, for ids may have large gaps
# (those of a cell begin at a number of its own: docs/growth.md). A range of ids and no LIMIT, so that no statistics,
# however wrong, make Postgres read and sort all webhooks.
COUNT_SLICE: Final = """
SELECT s.status, s.count, l.next_id
FROM (SELECT min(id) AS next_id FROM webhooks WHERE id > %(after)b::bigint + %(limit)b::bigint) l
LEFT JOIN (
    SELECT status, count(*) AS count FROM webhooks
    WHERE id > %(after)b::bigint AND id <= %(after)b::bigint + %(limit)b::bigint
    GROUP BY status
) s ON true
"""


@record
class Slice:
    """Some webhooks by status. `next_after`: what the next slice follows; None: there are none with higher ids."""

    counts: Mapping[WebhookStatus, int]
    next_after: int | None


async def count_slice(connection: LoopConnection, after: int) -> Slice:
    """Counts the webhooks with the SLICE ids that follow `after`; deleted ones and unknown words are not in it.

    Raises Unavailable.
    """
    rows = await connection.rows(COUNT_SLICE, {"after": after, "limit": SLICE})
    known = {status.value: status for status in WebhookStatus if status is not WebhookStatus.DELETED}
    return Slice(
        counts={known[status]: count for status, count, _ in rows if status in known},
        next_after=None if rows[0][2] is None else rows[0][2] - 1,
    )
