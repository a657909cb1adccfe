"""Counts all webhooks by status, a slice at a time: there is no index by status, and no need for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.store.db import LoopConnection

SLICE: Final = 2000  # webhooks read by one statement

# The next webhooks by id: how many of each status, and the last id.
COUNT_SLICE: Final = """
SELECT status, count(*), max(id)
FROM (SELECT status, id FROM webhooks WHERE id > %(after)b::bigint ORDER BY id LIMIT %(limit)b::integer) s
GROUP BY status
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some webhooks by status, and the id behind which the next slice begins. `is_last`: there are no more."""

    counts: Mapping[WebhookStatus, int]
    last_id: int
    is_last: bool


async def count_slice(connection: LoopConnection, after: int) -> Slice:
    """Counts the webhooks with the next ids after `after`; deleted ones and unknown words are not in it.

    Raises Unavailable.
    """
    rows = await connection.rows(COUNT_SLICE, {"after": after, "limit": SLICE})
    known = {status.value: status for status in WebhookStatus if status is not WebhookStatus.DELETED}
    return Slice(
        counts={known[status]: count for status, count, _ in rows if status in known},
        last_id=max((last_id for *_, last_id in rows), default=after),
        is_last=sum(count for _, count, _ in rows) < SLICE,
    )
