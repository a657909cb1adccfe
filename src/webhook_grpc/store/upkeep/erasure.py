"""Erases a customer: everything that it had at the time of the request, and nothing that comes later.

Each statement is bounded, and finds what is left. So it does not matter which process runs them, how often, or where
the last run was interrupted. First the customer's webhooks are deleted and their owners cancel what is pending. Then
the rest is deleted, the webhooks last, because the log is found by them.

The log has no holes: its rows are not deleted but blanked. A blanked row keeps its shard, its `seq` and its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.ids import latest_id
from webhook_grpc.domain.record import record
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import signing_keys

LOG_ROWS_PER_BATCH: Final = 1000
EVENTS_PER_BATCH: Final = 500  # each may have 256 KiB
KEYS_PER_BATCH: Final = 5000
RUNNING_MAX: Final = 100
# Longer than any statement may take: one that began before the request may commit after it, with data of the customer.
LATE_SECONDS_MAX: Final = 600

REQUEST_ERASURE: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(customer_id)s::bigint AS customer_id, now() AS at, true AS singleton
), requested AS (
    INSERT INTO erasures (customer_id, requested_at, completed_at)
    SELECT customer_id, at, NULL FROM input JOIN meta USING (singleton)
    ON CONFLICT (customer_id) DO UPDATE SET requested_at = excluded.requested_at, completed_at = NULL
    RETURNING requested_at
), audited AS ({leaves_entry("requested")})
SELECT requested_at FROM requested
"""

SELECT_RUNNING_ERASURES: Final = """
SELECT customer_id, requested_at FROM erasures WHERE completed_at IS NULL ORDER BY requested_at LIMIT %(limit)s
"""

# Starts nothing more for the customer, and revokes tokens that are for no other. Owners see the deleted webhooks within
# a second, and cancel what is pending.
STOP_CUSTOMER: Final = """
WITH input AS MATERIALIZED (
    SELECT now() AS at
), ended AS (
    UPDATE webhooks SET status = 'deleted', status_reason = '', version = version + 1, updated_at = input.at
    FROM input
    WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s AND status <> 'deleted'
    RETURNING id
), stopped AS (
    DELETE FROM replays WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s
), withdrawn AS (
    DELETE FROM commands c USING webhooks w
    WHERE w.customer_id = %(customer_id)s AND w.created_at <= %(requested_at)s
        AND c.shard = w.shard AND c.webhook_id = w.id
), revoked AS (
    DELETE FROM tokens WHERE customer_ids = ARRAY[%(customer_id)s::bigint] AND created_at <= %(requested_at)s
)
SELECT id FROM ended
"""

SELECT_IS_PENDING: Final = """
SELECT EXISTS (
    SELECT 1 FROM webhooks w
    WHERE w.customer_id = %(customer_id)s AND w.created_at <= %(requested_at)s AND (
        EXISTS (SELECT 1 FROM deliveries d WHERE d.shard = w.shard AND d.webhook_id = w.id)
        OR EXISTS (SELECT 1 FROM commands c WHERE c.shard = w.shard AND c.webhook_id = w.id)
    )
)
"""

# The condition on the webhook stands twice: of two that run at once, the second finds rows that the first has blanked.
BLANK_LOG: Final = """
WITH old AS MATERIALIZED (
    SELECT a.* FROM webhooks w CROSS JOIN LATERAL (
        SELECT shard, seq, created_at, webhook_id FROM attempts WHERE webhook_id = w.id LIMIT %(log_rows)s
    ) a
    WHERE w.customer_id = %(customer_id)s AND w.created_at <= %(requested_at)s
    LIMIT %(log_rows)s
), blanked AS (
    UPDATE attempts a SET customer_id = 0, webhook_id = 0, event_id = '00000000-0000-0000-0000-000000000000',
        event_type = '', event_created_at = a.created_at, status = 'erased', attempt_count = 0, next_due_at = NULL,
        outcome = NULL, trigger = NULL, started_at = NULL, latency_ms = NULL, reason = NULL, response_status = NULL,
        response_body = NULL, replay_id = NULL, own_headers = NULL, response_headers = NULL
    FROM old
    WHERE a.shard = old.shard AND a.seq = old.seq AND a.created_at = old.created_at AND a.webhook_id = old.webhook_id
    RETURNING 1
)
SELECT count(*) FROM blanked
"""

DELETE_EVENTS_OF_CUSTOMER: Final = """
WITH deleted AS (
    DELETE FROM events WHERE event_id = ANY(ARRAY(
        SELECT event_id FROM events
        WHERE customer_id = %(customer_id)s AND event_id < %(event_bound)s AND created_at <= %(requested_at)s
        ORDER BY event_id
        LIMIT %(events)s
    ))
    RETURNING 1
)
SELECT count(*) FROM deleted
"""

DELETE_KEYS_OF_CUSTOMER: Final = """
WITH deleted AS (
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_keys
        WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s
        LIMIT %(keys)s
    ))
    RETURNING 1
)
SELECT count(*) FROM deleted
"""

# Whether every transaction that began before the request has ended. Both now() and xact_start are when a transaction
# began; of other users' transactions xact_start is not shown.
SELECT_IS_QUIET: Final = """
SELECT now() > %(requested_at)s + %(late_seconds)s * interval '1 second' OR NOT EXISTS (
    SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND xact_start <= %(requested_at)s
)
"""

DELETE_WEBHOOKS_OF_CUSTOMER: Final = """
WITH deleted AS (
    DELETE FROM webhooks w
    WHERE w.customer_id = %(customer_id)s AND w.created_at <= %(requested_at)s AND w.status = 'deleted'
        AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.shard = w.shard AND d.webhook_id = w.id)
        AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.shard = w.shard AND c.webhook_id = w.id)
        AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.webhook_id = w.id)
    RETURNING w.id
)
DELETE FROM webhook_health h USING deleted WHERE h.webhook_id = deleted.id
"""

# Deliveries that an application's transaction inserted after their webhook was deleted (docs/sql.md): without a
# webhook, no owner finds and ends them. Reads the whole outbox.
DELETE_DELIVERIES_WITHOUT_WEBHOOK: Final = """
DELETE FROM deliveries d
WHERE d.customer_id = %(customer_id)s AND NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook_id)
"""

# Returns no row: something is left, or the erasure was requested again.
COMPLETE_ERASURE: Final = """
WITH input AS MATERIALIZED (
    SELECT now() AS at
)
UPDATE erasures SET completed_at = input.at
FROM input
WHERE customer_id = %(customer_id)s AND requested_at = %(requested_at)s
    AND NOT EXISTS (SELECT 1 FROM webhooks WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s)
    AND NOT EXISTS (SELECT 1 FROM replays WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s)
    AND NOT EXISTS (
        SELECT 1 FROM events
        WHERE customer_id = %(customer_id)s AND event_id < %(event_bound)s AND created_at <= %(requested_at)s
    )
    AND NOT EXISTS (
        SELECT 1 FROM idempotency_keys WHERE customer_id = %(customer_id)s AND created_at <= %(requested_at)s
    )
RETURNING completed_at
"""


@record
class Erasure:
    """A request to erase a customer. What the customer gets later is kept."""

    customer_id: int
    requested_at: datetime


class ErasureProgress(Enum):
    """What is left to do of an erasure."""

    WAITING = auto()  # owners have to cancel what is pending, or statements have to end
    MORE = auto()
    COMPLETE = auto()


@record
class Advance:
    """What one step did. The owners of the webhooks that it deleted need a hint."""

    progress: ErasureProgress
    deleted_webhook_ids: Sequence[int]


async def request(database: Database, customer_id: int, *, audit: AuditEntry) -> Erasure:
    """Requests the erasure of a customer; a second request starts it again. Raises Unavailable."""
    [(requested_at,)] = await database.rows(REQUEST_ERASURE, {"customer_id": customer_id, **entry_parameters(audit)})
    return Erasure(customer_id, requested_at)


async def running(database: Database) -> list[Erasure]:
    """Returns the erasures that are not complete, the oldest first, at most RUNNING_MAX. Raises Unavailable."""
    rows = await database.rows(SELECT_RUNNING_ERASURES, {"limit": RUNNING_MAX})
    return [Erasure(customer_id=customer_id, requested_at=requested_at) for customer_id, requested_at in rows]


async def advance(database: Database, erasure: Erasure) -> Advance:
    """Erases a bounded part of what is left. Raises Unavailable."""
    parameters = {
        "customer_id": erasure.customer_id,
        "requested_at": erasure.requested_at,
        "event_bound": latest_id(erasure.requested_at),
        "log_rows": LOG_ROWS_PER_BATCH,
        "events": EVENTS_PER_BATCH,
        "keys": KEYS_PER_BATCH,
        "late_seconds": LATE_SECONDS_MAX,
    }
    deleted = [webhook_id for (webhook_id,) in await database.rows(STOP_CUSTOMER, parameters)]
    [(is_pending,)] = await database.rows(SELECT_IS_PENDING, parameters)
    if is_pending:
        return Advance(ErasureProgress.WAITING, deleted)
    for statement in (BLANK_LOG, DELETE_EVENTS_OF_CUSTOMER, DELETE_KEYS_OF_CUSTOMER):
        [(count,)] = await database.rows(statement, parameters)
        if count:
            return Advance(ErasureProgress.MORE, deleted)
    [(is_quiet,)] = await database.rows(SELECT_IS_QUIET, parameters)
    if not is_quiet:
        return Advance(ErasureProgress.WAITING, deleted)
    await signing_keys.delete_of_customer(database, erasure.customer_id, erasure.requested_at)
    await database.rows(DELETE_WEBHOOKS_OF_CUSTOMER, parameters)
    await database.rows(DELETE_DELIVERIES_WITHOUT_WEBHOOK, parameters)
    is_complete = bool(await database.rows(COMPLETE_ERASURE, parameters))
    return Advance(ErasureProgress.COMPLETE if is_complete else ErasureProgress.MORE, deleted)
