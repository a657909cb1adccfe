"""Ends the leases of processes of this machine that are dead: a parent does, and each process that starts."""

from __future__ import annotations

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.process.machine.marks import is_dead
from webhook_grpc.process.stopping import in_daemon_thread
from webhook_grpc.store.connection.failures import cause_of
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.ownership import neighbours as store
from webhook_grpc.store.ownership.marks import ProcessMark
from webhook_grpc.store.ownership.neighbours import Neighbour

log = structlog.get_logger(__name__)


async def end_leases_of_the_dead(connection: LoopConnection, mark: ProcessMark | None) -> int:
    """Ends the leases of dead processes of this machine; returns how many. `mark` is of this process.

    If that can't be done, the leases run out: that is logged, and nothing is raised.
    """
    if mark is None:
        return 0
    try:
        known = await store.neighbours(connection, mark)
        dead = await in_daemon_thread(_dead_ones, known)
        ended = await store.end_leases(connection, mark, dead) if dead else []
    except Unavailable as error:
        cause = cause_of(error)
        log.warning("leases of dead processes not ended; they run out", sqlstate=cause.sqlstate, text=cause.text)
        return 0
    for neighbour in dead:
        if neighbour.worker in ended:
            log.info("lease of a dead process ended", worker=str(neighbour.worker), pid=neighbour.mark.pid)
    return len(ended)


def _dead_ones(known: list[Neighbour]) -> list[Neighbour]:
    return [neighbour for neighbour in known if is_dead(neighbour.mark)]
