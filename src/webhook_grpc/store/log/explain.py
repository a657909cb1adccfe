"""Reads, at one moment, what is known of an event for each webhook of its customer: for ExplainEvent."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from webhook_grpc.domain.explain import Candidate
from webhook_grpc.domain.model import Delivery, Event, WebhookStatus
from webhook_grpc.domain.pace import ReceiverHealth
from webhook_grpc.domain.record import record
from webhook_grpc.domain.sealing import key_id_text, sealed_with
from webhook_grpc.store.db import Database

from .receiver_health import HEALTH_COLUMNS, receiver_health
from .rows import LogRow, delivery_from_row, log_columns, unlogged_columns

WEBHOOKS_MAX: Final = 1000  # no customer has more
DELETED_MAX: Final = 1000  # the newest deleted ones
# No row of the log is older than its event, unless the database's clock was set back, by less than this.
_HEALTH_AT: Final = 13  # which column of the statement below is the first of HEALTH_COLUMNS
_CLOCK_SLACK: Final = timedelta(hours=1)

# A delivery is found as by lookup.SELECT_DELIVERY. A webhook that was deleted before the event has none. `since` only
# lets Postgres skip partitions. Without responses and headers: a thousand webhooks must fit into an answer.
SELECT_WEBHOOKS_OF_EVENT: Final = f"""
WITH live AS (
    SELECT * FROM webhooks
    WHERE customer_id = %(customer_id)b AND status <> 'deleted'
    ORDER BY id LIMIT %(webhooks_max)b::integer
), deleted AS (
    SELECT * FROM webhooks
    WHERE customer_id = %(customer_id)b AND status = 'deleted' AND updated_at >= %(since)b::timestamptz
    ORDER BY id DESC LIMIT %(deleted_max)b::integer
)
SELECT now(), w.id, w.name, w.status, w.events, w.rate_limit_per_second, w.created_at, substr(w.secret, 1, 5),
    CASE WHEN w.previous_secret_until > now() THEN substr(w.previous_secret, 1, 5) END,
    substr(w.sealed_headers, 1, 5), substr(w.sealed_query, 1, 5), (
        SELECT substr(g.private_key, 1, 5) FROM signing_keys g
        WHERE w.signature_type = 'ed25519' AND g.customer_id = w.customer_id AND g.retire_at IS NULL
        LIMIT 1
    ), k.secret_key_ids,
    {HEALTH_COLUMNS}, d.*
FROM (SELECT * FROM live UNION ALL SELECT * FROM deleted) w
LEFT JOIN webhook_health h ON h.webhook_id = w.id
LEFT JOIN shards s ON s.shard = w.shard
LEFT JOIN workers k ON k.worker_id = s.owner
LEFT JOIN LATERAL (
    SELECT {log_columns("a", with_large=False)}, a.seq
    FROM attempts a
    WHERE a.webhook_id = w.id AND a.event_created_at = %(event_created_at)b AND a.event_id = %(event_id)b
        AND a.created_at >= %(since)b::timestamptz
    UNION ALL
    SELECT o.event_id, o.webhook_id, o.customer_id, %(event_type)b, {unlogged_columns("o.due_at", "o.due_at")}, 0
    FROM deliveries o
    WHERE o.shard = w.shard AND o.webhook_id = w.id AND o.due_at = %(event_created_at)b
        AND o.event_id = %(event_id)b AND o.attempt = 0 AND o.trigger IS NULL
    ORDER BY seq DESC
    LIMIT 1
) d ON true
WHERE w.status <> 'deleted' OR d.event_id IS NOT NULL
ORDER BY w.id
"""


@record
class Known:
    """What is known of one webhook and the event, read at `read_time` by the database's clock."""

    webhook: Candidate
    health: ReceiverHealth
    delivery: Delivery | None
    read_time: datetime


async def read(database: Database, event: Event) -> list[Known]:
    """Returns every webhook of the event's customer, and deleted ones with a delivery of the event, the oldest first.

    Deliveries have no response bodies and no headers. Raises Unavailable.
    """
    rows = await database.rows(
        SELECT_WEBHOOKS_OF_EVENT,
        {
            "customer_id": event.customer_id,
            "event_id": event.event_id,
            "event_type": event.event_type,
            "event_created_at": event.create_time,
            "since": event.create_time - _CLOCK_SLACK,
            "webhooks_max": WEBHOOKS_MAX,
            "deleted_max": DELETED_MAX,
        },
    )
    return [_known(row, len(event.body)) for row in rows]


def _known(row: Sequence[Any], request_bytes: int) -> Known:
    read_time, webhook_id, name, status, events, rate_limit, created_at, *sealed, key_ids = row[:_HEALTH_AT]
    breaker, probe_at, failing_since, hold_until, throttled_until, *columns, seq = row[_HEALTH_AT:]
    return Known(
        webhook=Candidate(
            webhook_id=webhook_id,
            name=name,
            status=WebhookStatus(status),
            events=events,
            rate_limit_per_second=rate_limit,
            create_time=created_at,
            missing_key=_missing_key(sealed, key_ids),
        ),
        health=receiver_health(breaker, probe_at, failing_since, hold_until, throttled_until),
        delivery=None if seq is None else delivery_from_row(LogRow._make(columns), request_bytes),
        read_time=read_time,
    )


def _missing_key(heads: Sequence[bytes | None], key_ids: Collection[int] | None) -> str | None:
    """Returns the id of a key that the owner of the webhook's shard lacks. `key_ids` None: the owner does not say."""
    used = [sealed_with(bytes(head)) for head in heads if head is not None]
    missing = [key_id for key_id in used if key_id is not None and key_ids is not None and key_id not in key_ids]
    return key_id_text(missing[0]) if missing else None
