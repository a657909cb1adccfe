"""Settles deliveries: writes what became of them into the outbox and the log, for many deliveries in one statement.

The statement does everything or nothing, and only while every shard of the batch is still ours at the epoch at which
the batch was made (`fence.py`). A delivery that is not as it was when it was sent is left alone, so a repeated batch
does no harm. A delivery is cancelled only while its webhook is disabled or deleted in the database, whatever a process
remembers of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.model import Danger
from webhook_grpc.domain.record import record
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.connection.plans import SMALL
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.log.rows import LOG_INSERT_COLUMNS, attempt_parameters
from webhook_grpc.store.ownership.fence import FENCE, fence_parameters
from webhook_grpc.store.ownership.leases import OwnedShard

# Retry times are given in seconds from now: only the database's clock decides when something is due. Every delivery is
# looked up by its key and deleted by its place, so that no estimate of the size of the queue makes this read the queue;
# one that is retried is inserted again with its next time. See docs/decisions/0019-plans.md.
SETTLE: Final = f"""{FENCE}, settled AS MATERIALIZED (
    SELECT t.*, now() + t.retry_in * interval '1 second' AS next_due_at, now() AS at, true AS singleton,
        %(shard_count)b::integer AS shard_count,
        (%(last_seqs)b::bigint[])[array_position(%(shards)b::smallint[], t.shard)] AS last_seq
    FROM unnest(
        %(shard)b::smallint[], %(webhook_id)b::bigint[], %(due_at)b::timestamptz[], %(event_id)b::uuid[],
        %(attempt)b::smallint[], %(event_type)b::text[], %(event_created_at)b::timestamptz[], %(status)b::text[],
        %(attempt_count)b::smallint[], %(retry_in)b::double precision[], %(outcome)b::text[], %(trigger)b::text[],
        %(started_at)b::timestamptz[], %(latency_ms)b::integer[], %(reason)b::text[],
        %(response_status)b::integer[], %(response_body)b::bytea[], %(own_headers)b::text[],
        %(response_headers)b::text[], %(danger)b::smallint[], %(replay_id)b::bigint[]
    ) WITH ORDINALITY AS t(
        shard, webhook_id, due_at, event_id, attempt, event_type, event_created_at, status, attempt_count, retry_in,
        outcome, trigger, started_at, latency_ms, reason, response_status, response_body, own_headers,
        response_headers, danger, replay_id, ord
    )
), found AS MATERIALIZED (
    SELECT DISTINCT ON (d.place) r.*, d.*
    FROM settled r
    CROSS JOIN LATERAL (
        SELECT ctid AS place, customer_id, trigger AS row_trigger, replay_id AS row_replay_id FROM deliveries
        WHERE shard = r.shard AND webhook_id = r.webhook_id AND due_at = r.due_at AND event_id = r.event_id
            AND attempt = r.attempt
        LIMIT 1
    ) d
    WHERE (SELECT count(*) FROM own) = r.shard_count
        AND (r.retry_in IS NOT NULL OR r.status <> 'cancelled' OR r.outcome IS NOT NULL OR (
            SELECT w.status IN ('disabled', 'deleted') FROM webhooks w WHERE w.id = r.webhook_id
        ))
    ORDER BY d.place, r.ord
), taken AS (
    DELETE FROM deliveries WHERE ctid = ANY(ARRAY(SELECT place FROM found))
    RETURNING shard, webhook_id, due_at, event_id
), changed AS MATERIALIZED (
    SELECT f.*, t.event_id IS NOT NULL AS was_taken
    FROM found f
    FULL JOIN taken t ON t.shard = f.shard AND t.webhook_id = f.webhook_id AND t.due_at = f.due_at
        AND t.event_id = f.event_id
), moved AS (
    INSERT INTO deliveries (
        shard, webhook_id, due_at, event_id, customer_id, attempt, danger, trigger, replay_id
    )
    SELECT c.shard, c.webhook_id, c.next_due_at, c.event_id, c.customer_id, c.attempt_count, c.danger, c.row_trigger,
        c.row_replay_id
    FROM changed c JOIN meta USING (singleton)
    WHERE c.was_taken AND c.retry_in IS NOT NULL
), logged AS (
    INSERT INTO attempts (
        {LOG_INSERT_COLUMNS}
    )
    SELECT c.shard, c.last_seq + row_number() OVER (PARTITION BY c.shard ORDER BY c.ord), c.at, c.customer_id,
        c.webhook_id, c.event_id, c.event_type, c.event_created_at, c.status, c.attempt_count,
        c.next_due_at, c.trigger, c.replay_id, c.outcome, c.started_at, c.latency_ms, c.reason, c.response_status,
        c.response_body, c.own_headers, c.response_headers
    FROM changed c JOIN meta USING (singleton)
    WHERE c.was_taken
    RETURNING shard, seq
)
SELECT (SELECT count(*) FROM own), l.shard, max(l.seq), count(*)
FROM (SELECT shard, seq FROM logged UNION ALL SELECT NULL, NULL) l
GROUP BY l.shard
"""


@record
class SettleAnswer:
    """Whether the shards of the batch were still ours, the last `seq` written in each, and how many rows changed."""

    ours: bool
    last_seqs: Mapping[int, int]
    changed_count: int


async def settle(
    connection: LoopConnection, worker: UUID, shards: Mapping[int, OwnedShard], batch: Sequence[Settlement]
) -> SettleAnswer:
    """Settles a batch. If its shards are not ours any more, changes nothing.

    Raises Unavailable: nobody knows whether it was committed. Then readopt the shards and settle the same batch again;
    what was committed is not changed twice.
    """
    touched = sorted({item.delivery.shard for item in batch})
    parameters = _settle_parameters(worker, {shard: shards[shard] for shard in touched}, batch)
    rows = await connection.rows(SETTLE, parameters, keeps_plan=len(batch) <= SMALL)
    return SettleAnswer(
        ours=rows[0][0] == len(touched),
        last_seqs={shard: last_seq for _, shard, last_seq, _ in rows if shard is not None},
        changed_count=sum(count for _, shard, _, count in rows if shard is not None),
    )


def _settle_parameters(worker: UUID, owned: Mapping[int, OwnedShard], batch: Sequence[Settlement]) -> dict[str, object]:
    deliveries = [item.delivery for item in batch]
    return {
        **fence_parameters(worker, owned),
        "shard": arrays.smallints([delivery.shard for delivery in deliveries]),
        "webhook_id": arrays.bigints([delivery.webhook_id for delivery in deliveries]),
        "due_at": arrays.times([delivery.due_at for delivery in deliveries]),
        "event_id": arrays.uuids([delivery.event_id for delivery in deliveries]),
        "attempt": arrays.smallints([delivery.attempt for delivery in deliveries]),
        "event_type": arrays.texts([delivery.event_type for delivery in deliveries]),
        "event_created_at": arrays.times([delivery.event_create_time for delivery in deliveries]),
        "status": arrays.texts([item.decision.status.value for item in batch]),
        "attempt_count": arrays.smallints([item.delivery.attempt + (item.result is not None) for item in batch]),
        "retry_in": arrays.doubles([item.decision.retry_in_seconds for item in batch]),
        "trigger": arrays.texts([delivery.trigger.value for delivery in deliveries]),
        "replay_id": arrays.bigints([delivery.replay_id for delivery in deliveries]),
        **attempt_parameters((item.result, item.own_headers) for item in batch),
        "danger": arrays.smallints([_danger_after(item) for item in batch]),
    }


def _danger_after(item: Settlement) -> Danger:
    """Returns the danger to write. Without an attempt it stays as it was."""
    if item.result is None:
        return item.delivery.danger
    return Danger.SUSPECT if item.is_interrupted else Danger.NONE
