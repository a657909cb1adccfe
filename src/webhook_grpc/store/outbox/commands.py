"""Commands to the owner of a shard: it alone moves and ends the deliveries there.

The process that got the call inserts a row; the owner finds it, and carries it out and deletes it in one statement
(execution.py).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.command import Command, Kind, TestEvent
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.db import Database, LoopConnection

from .publishing import request_id_reused

# A command that waits already is not inserted again; the call leaves its entry all the same.
INSERT_COMMAND: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(shard)b::smallint AS shard, %(webhook_id)b::bigint AS webhook_id, %(event_id)b::uuid AS event_id,
        %(command)b::text AS command, %(customer_id)b::bigint AS customer_id, now() AS at, true AS singleton
), new_command AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
    SELECT shard, webhook_id, event_id, command, customer_id, at FROM input JOIN meta USING (singleton)
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
)
{leaves_entry("input")}
"""

# Inserts the key and the command, or neither. Returns no row: the request id was used before.
INSERT_COMMAND_ONCE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(shard)b::smallint AS shard, %(webhook_id)b::bigint AS webhook_id, %(event_id)b::uuid AS event_id,
        %(command)b::text AS command, %(customer_id)b::bigint AS customer_id, %(request_id)b::text AS request_id,
        %(fingerprint)b::bigint AS fingerprint, now() AS at, true AS singleton
), new_key AS (
    INSERT INTO idempotency_keys (customer_id, request_id, event_id, fingerprint, created_at)
    SELECT customer_id, request_id, event_id, fingerprint, at FROM input JOIN meta USING (singleton)
    ON CONFLICT (customer_id, request_id) DO NOTHING
    RETURNING customer_id
), new_command AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
    SELECT i.shard, i.webhook_id, i.event_id, i.command, k.customer_id, i.at
    FROM new_key k CROSS JOIN input i JOIN meta USING (singleton)
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
), audited AS ({leaves_entry("new_key")})
SELECT 1 FROM new_key
"""
SELECT_FINGERPRINT: Final = """
SELECT fingerprint FROM idempotency_keys WHERE customer_id = %(customer_id)b AND request_id = %(request_id)b
"""

# A test is an event for one webhook and a command to send it; it has no row in the outbox.
INSERT_TEST: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(shard)b::smallint AS shard, %(webhook_id)b::bigint AS webhook_id, %(event_id)b::uuid AS event_id,
        %(customer_id)b::bigint AS customer_id, %(event_type)b::text AS event_type, %(body)b::bytea AS body,
        %(data_start)b::smallint AS data_start, now() AS at, true AS singleton
), new_event AS (
    INSERT INTO events (
        event_id, customer_id, event_type, occurred_at, created_at, body, data_start, attributes, test_webhook_id
    )
    SELECT event_id, customer_id, event_type, at, at, body, data_start, NULL, webhook_id
    FROM input JOIN meta USING (singleton)
), new_command AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
    SELECT shard, webhook_id, event_id, 'test', customer_id, at FROM input JOIN meta USING (singleton)
)
{leaves_entry("input")}
"""

# Not ordered by age, but there are never many: commands are carried out as fast as they come. Tests are not, because
# they wait for receivers: so only the next test of each webhook is read, and tests delay no other command.
SELECT_WAITING_COMMANDS: Final = """
(
    SELECT webhook_id, event_id, command, customer_id, extract(epoch FROM now() - created_at)::double precision
    FROM commands
    WHERE shard = ANY(%(shards)b::smallint[]) AND command <> 'test'
    ORDER BY shard, webhook_id, event_id, command
    LIMIT %(limit)b::integer
) UNION ALL (
    SELECT webhook_id, event_id, command, customer_id, extract(epoch FROM now() - created_at)::double precision
    FROM (
        SELECT DISTINCT ON (shard, webhook_id) * FROM commands
        WHERE shard = ANY(%(shards)b::smallint[]) AND command = 'test'
        ORDER BY shard, webhook_id, event_id
    ) next
    ORDER BY created_at
    LIMIT %(limit)b::integer
)
"""


async def insert(
    database: Database, kind: Kind, customer_id: int, webhook_id: int, event_id: UUID, *, audit: AuditEntry
) -> None:
    """Inserts a command; a second one for the same thing does nothing. Raises Unavailable."""
    row = _row(kind, customer_id, webhook_id, event_id)
    await database.rows(INSERT_COMMAND, {**row, **entry_parameters(audit)})


async def insert_once(
    database: Database,
    kind: Kind,
    customer_id: int,
    webhook_id: int,
    event_id: UUID,
    *,
    request_id: str,
    fingerprint: int,
    audit: AuditEntry,
) -> bool:
    """Inserts a command under a request id; returns False if that was done before.

    Raises AlreadyExists (the request id was used for something else), Unavailable.
    """
    parameters = {
        **_row(kind, customer_id, webhook_id, event_id),
        "request_id": request_id,
        "fingerprint": fingerprint,
        **entry_parameters(audit),
    }
    if await database.rows(INSERT_COMMAND_ONCE, parameters):
        return True
    await is_repetition(database, customer_id, request_id, fingerprint)
    return False


async def is_repetition(database: Database, customer_id: int, request_id: str, fingerprint: int) -> bool:
    """Returns whether a request id was used for the same before. Raises AlreadyExists if for another, Unavailable."""
    rows = await database.rows(SELECT_FINGERPRINT, {"customer_id": customer_id, "request_id": request_id})
    if not rows:
        return False
    if rows[0][0] != fingerprint:
        raise request_id_reused(request_id)
    return True


async def insert_test(database: Database, event: TestEvent, *, audit: AuditEntry) -> None:
    """Inserts the event of a test and the command to send it. Raises Unavailable."""
    await database.rows(
        INSERT_TEST,
        {
            "shard": shard_of(event.webhook_id),
            "webhook_id": event.webhook_id,
            "event_id": event.event_id,
            "customer_id": event.customer_id,
            "event_type": event.event_type,
            "body": event.body,
            "data_start": event.data_start,
            **entry_parameters(audit),
        },
    )


async def waiting(connection: LoopConnection, shards: Collection[int], limit: int) -> list[Command]:
    """Returns commands that wait for the owner of these shards. Raises Unavailable."""
    parameters = {"shards": arrays.smallints(list(shards)), "limit": limit}
    rows = await connection.rows(SELECT_WAITING_COMMANDS, parameters, keeps_plan=True)
    return [
        Command(_KINDS[kind], webhook_id, event_id, customer_id, age_seconds)
        for webhook_id, event_id, kind, customer_id, age_seconds in rows
        if kind in _KINDS  # else a newer version's; it waits for an owner that knows it
    ]


def _row(kind: Kind, customer_id: int, webhook_id: int, event_id: UUID) -> dict[str, object]:
    return {
        "shard": shard_of(webhook_id),
        "webhook_id": webhook_id,
        "event_id": event_id,
        "command": kind.value,
        "customer_id": customer_id,
    }


_KINDS: Final = {kind.value: kind for kind in Kind}
