"""The connections to Postgres that a process has beside the pool, and who uses each.

What must not wait for anything else has a connection of its own; the table in docs/operations.md gives the reason for
each. A connection that several parts share runs one statement at a time, in the order in which they came: a part waits
at most for one statement of each other part, and no statement runs longer than its deadline.
"""

from __future__ import annotations

from webhook_grpc.domain.record import record
from webhook_grpc.store.db import DatabaseOptions, LoopConnection


@record
class Connections:
    """One field for each connection. The fields that parts share say which parts these are."""

    ownership: LoopConnection
    backlog: LoopConnection
    settle: LoopConnection
    webhooks: LoopConnection
    commands: LoopConnection
    """Commands, their tests, and the hints that are sent to other processes: what callers wait for."""
    health: LoopConnection
    """The health of webhooks, and the marks on deliveries that may be dangerous: short notes beside the sending."""
    background: LoopConnection
    """Replays, expiry, rescheduling and figures for metrics: a statement may take seconds, and nobody waits for it."""
    publish: LoopConnection
    publish_batches: LoopConnection
    tail: LoopConnection
    listen: LoopConnection


def make_connections(options: DatabaseOptions) -> Connections:
    """Returns the connections of a process, not opened yet. The name of each is in its application_name."""
    return Connections(
        ownership=LoopConnection(options, "ownership"),
        backlog=LoopConnection(options, "backlog"),
        settle=LoopConnection(options, "settle"),
        webhooks=LoopConnection(options, "webhooks"),
        commands=LoopConnection(options, "commands"),
        health=LoopConnection(options, "health"),
        background=LoopConnection(options, "background"),
        publish=LoopConnection(options, "publish"),
        publish_batches=LoopConnection(options, "publish batches"),
        tail=LoopConnection(options, "tail"),
        listen=LoopConnection(options, "listen"),
    )
