"""Ends the leases of processes that are known to be dead, so that the others need not wait for these to run out.

Whether one is dead is not for the database to say: only who sees the process table of its machine can. Ending a lease
does what its running out does, only earlier: the id is never valid again, the shards are free, and whoever takes one
raises its epoch, so that statements of the dead process that are still on their way do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import LoopConnection

from .marks import ProcessMark

SELECT_NEIGHBOURS: Final = """
SELECT worker_id, pid, started_ticks FROM workers
WHERE machine = %(machine)s AND namespaces = %(namespaces)s AND lease_until > now()
"""

# Back by more than a statement can take (WEBHOOK_DATABASE_TIMEOUT_SECONDS is 300 at most): a renewal of the dead
# process that waits for this row compares the end of the lease with the time at which that renewal began.
END_LEASES: Final = """
WITH clock AS MATERIALIZED (SELECT now() - interval '10 minutes' AS at, now() AS now)
UPDATE workers w SET lease_until = c.at
FROM clock c
WHERE w.worker_id = ANY(%(workers)s::uuid[]) AND w.machine = %(machine)s AND w.namespaces = %(namespaces)s
    AND w.lease_until > c.now
RETURNING w.worker_id
"""


@record
class Neighbour:
    """A process with a lease that runs on this machine, or did."""

    worker: UUID
    mark: ProcessMark


async def neighbours(connection: LoopConnection, mark: ProcessMark) -> list[Neighbour]:
    """Returns the processes with a lease whose numbers mean the same as here, this one too. Raises Unavailable."""
    rows = await connection.rows(SELECT_NEIGHBOURS, {"machine": mark.machine, "namespaces": mark.namespaces})
    return [
        Neighbour(worker, ProcessMark(mark.machine, mark.namespaces, pid, started_ticks))
        for worker, pid, started_ticks in rows
    ]


async def end_leases(connection: LoopConnection, mark: ProcessMark, dead: Sequence[Neighbour]) -> list[UUID]:
    """Ends the leases of neighbours that are dead; returns those that had not run out. Raises Unavailable.

    May be repeated.
    """
    parameters = {
        "workers": [neighbour.worker for neighbour in dead],
        "machine": mark.machine,
        "namespaces": mark.namespaces,
    }
    return [worker for (worker,) in await connection.rows(END_LEASES, parameters, is_idempotent=True)]
