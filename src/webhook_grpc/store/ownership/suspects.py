"""Writes down which delivery a process sends alone: in the process's row, which outlives the process by a day."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.store.db import LoopConnection

SET_ISOLATED_DELIVERY: Final = """
UPDATE workers SET isolated_webhook_id = %(webhook_id)b, isolated_event_id = %(event_id)b
WHERE worker_id = %(worker)b
"""

CLEAR_ISOLATED_DELIVERY: Final = """
UPDATE workers SET isolated_webhook_id = NULL, isolated_event_id = NULL
WHERE worker_id = %(worker)b AND isolated_webhook_id = %(webhook_id)b AND isolated_event_id = %(event_id)b
"""

# A process that goes on after its lease ran out has another id then.
COUNT_DEATHS: Final = """
SELECT count(*) FROM workers
WHERE isolated_webhook_id = %(webhook_id)b AND isolated_event_id = %(event_id)b AND lease_until < now()
"""


async def isolate(connection: LoopConnection, worker: UUID, delivery: PendingDelivery) -> None:
    """Writes down that the process is about to send this delivery alone. Raises Unavailable."""
    await connection.rows(SET_ISOLATED_DELIVERY, {"worker": worker, **_named(delivery)})


async def clear(connection: LoopConnection, worker: UUID, delivery: PendingDelivery) -> None:
    """Writes down that the process did not die of this delivery, if it is still the last one sent alone.

    Raises Unavailable.
    """
    await connection.rows(CLEAR_ISOLATED_DELIVERY, {"worker": worker, **_named(delivery)})


async def deaths(connection: LoopConnection, delivery: PendingDelivery) -> int:
    """Returns how many processes died lately while they sent this delivery alone. Raises Unavailable."""
    [(count,)] = await connection.rows(COUNT_DEATHS, _named(delivery))
    return count


def _named(delivery: PendingDelivery) -> dict[str, object]:
    return {"webhook_id": delivery.webhook_id, "event_id": delivery.event_id}
