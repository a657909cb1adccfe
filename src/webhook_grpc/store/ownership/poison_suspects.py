"""Writes down which delivery a process sends alone: in the process's row, which outlives the process by a day."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.store.db import LoopConnection

from .marks import ProcessMark

SET_ISOLATED_DELIVERY: Final = """
UPDATE workers SET isolated_webhook_id = %(webhook_id)b, isolated_event_id = %(event_id)b
WHERE worker_id = %(worker)b
"""

# Also in the rows of ids that the process had before: it has another one after each lease that ran out.
CLEAR_ISOLATED_DELIVERY: Final = """
UPDATE workers SET isolated_webhook_id = NULL, isolated_event_id = NULL
WHERE isolated_webhook_id = %(webhook_id)b AND isolated_event_id = %(event_id)b AND (
    worker_id = %(worker)b OR (
        machine = %(machine)b AND namespaces = %(namespaces)b AND pid = %(pid)b AND started_ticks = %(started_ticks)b
    )
)
"""

# A process that goes on after its lease ran out has another id then, and has not died; one that has died did so once,
# however many ids it had. A row without a mark counts as a process.
COUNT_DEATHS: Final = """
SELECT count(DISTINCT coalesce(
    d.machine || ' ' || d.namespaces || ' ' || d.pid || ' ' || d.started_ticks, d.worker_id::text
))
FROM workers d
WHERE d.isolated_webhook_id = %(webhook_id)b AND d.isolated_event_id = %(event_id)b AND d.lease_until < now()
    AND NOT EXISTS (
        SELECT 1 FROM workers w
        WHERE w.machine = d.machine AND w.namespaces = d.namespaces AND w.pid = d.pid
            AND w.started_ticks = d.started_ticks AND w.lease_until >= now()
    )
"""


async def isolate(connection: LoopConnection, worker: UUID, delivery: PendingDelivery) -> None:
    """Writes down that the process is about to send this delivery alone. Raises Unavailable."""
    await connection.rows(SET_ISOLATED_DELIVERY, {"worker": worker, **_named(delivery)})


async def clear(connection: LoopConnection, worker: UUID, mark: ProcessMark | None, delivery: PendingDelivery) -> None:
    """Writes down that the process did not die of this delivery, where that is the last one sent alone.

    `mark` None: only under this id. Raises Unavailable.
    """
    marked = {
        "machine": mark and mark.machine,
        "namespaces": mark and mark.namespaces,
        "pid": mark and mark.pid,
        "started_ticks": mark and mark.started_ticks,
    }
    await connection.rows(CLEAR_ISOLATED_DELIVERY, {"worker": worker, **marked, **_named(delivery)})


async def deaths(connection: LoopConnection, delivery: PendingDelivery) -> int:
    """Returns how many processes died lately while they sent this delivery alone. Raises Unavailable."""
    [(count,)] = await connection.rows(COUNT_DEATHS, _named(delivery))
    return count


def _named(delivery: PendingDelivery) -> dict[str, object]:
    return {"webhook_id": delivery.webhook_id, "event_id": delivery.event_id}
