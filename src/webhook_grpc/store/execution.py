"""Carrying out commands: restarts, cancellations and tests of deliveries, many in one statement.

Fenced like settling, and never at the same time by one process, because both write the log. A command goes with its
effect, so it is carried out once, or not at all because by then there was nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ..domain.model import DeliveryStatus
from .commands import Command
from .db import LoopConnection
from .ownership import OwnedShard
from .settlement import fence_parameters, headers_as_json

# A row of the outbox is found as decision 4 says. A command that does not fit how the delivery stands does nothing: a
# restart of what is pending, a cancellation of what has ended, a restart for a webhook that was switched off. That a
# replay was cancelled ends only what that replay began anew.
EXECUTE: Final = """
WITH own AS MATERIALIZED (
    SELECT s.shard, (%(last_seqs)b::bigint[])[array_position(%(shards)b::smallint[], s.shard)] AS last_seq
    FROM shards s
    WHERE s.shard = ANY(%(shards)b::smallint[])
        AND s.owner = %(worker)b::uuid
        AND s.epoch = (%(epochs)b::bigint[])[array_position(%(shards)b::smallint[], s.shard)]
    ORDER BY s.shard
    FOR NO KEY UPDATE OF s
), asked AS MATERIALIZED (
    SELECT t.*, now() AS at, %(shard_count)b::integer AS shard_count
    FROM unnest(
        %(shard)b::smallint[], %(webhook_id)b::bigint[], %(event_id)b::uuid[], %(command)b::text[], %(status)b::text[],
        %(outcome)b::text[], %(started_at)b::timestamptz[], %(latency_ms)b::integer[], %(reason)b::text[],
        %(response_status)b::integer[], %(response_body)b::bytea[], %(own_headers)b::text[],
        %(response_headers)b::text[]
    ) WITH ORDINALITY AS t(
        shard, webhook_id, event_id, command, status, outcome, started_at, latency_ms, reason, response_status,
        response_body, own_headers, response_headers, ord
    )
), taken AS (
    DELETE FROM commands c USING asked a
    WHERE (SELECT count(*) FROM own) = a.shard_count
        AND c.shard = a.shard AND c.webhook_id = a.webhook_id AND c.event_id = a.event_id AND c.command = a.command
    RETURNING c.customer_id, c.replay_id, a.*
), standing AS MATERIALIZED (
    SELECT t.*, e.created_at AS event_created_at, e.event_type, l.status AS last_status, l.next_due_at,
        coalesce(l.attempt_count, 0::smallint) AS attempt_count, w.status AS webhook_status,
        row_number() OVER (
            PARTITION BY t.webhook_id, t.event_id, t.command IN ('retry', 'replay') ORDER BY t.ord
        ) AS rank
    FROM taken t
    JOIN webhooks w ON w.id = t.webhook_id
    CROSS JOIN LATERAL (SELECT created_at, event_type FROM events WHERE event_id = t.event_id LIMIT 1) e
    LEFT JOIN LATERAL (
        SELECT status, attempt_count, next_due_at FROM attempts
        WHERE webhook_id = t.webhook_id AND event_created_at = e.created_at AND event_id = t.event_id
        ORDER BY seq DESC
        LIMIT 1
    ) l ON true
), cancelled AS (
    DELETE FROM deliveries d USING standing s
    WHERE s.command = 'cancel' AND d.shard = s.shard AND d.webhook_id = s.webhook_id
        AND d.due_at = coalesce(s.next_due_at, s.event_created_at) AND d.event_id = s.event_id
        AND (s.replay_id IS NULL OR d.replay_id = s.replay_id)
    RETURNING s.ord, d.trigger, d.replay_id
), restarted AS (
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger, replay_id)
    SELECT s.shard, s.webhook_id, s.at, s.event_id, s.customer_id, s.attempt_count,
        CASE s.command WHEN 'retry' THEN 'manual' ELSE 'replay' END, s.replay_id
    FROM standing s
    WHERE s.command IN ('retry', 'replay') AND s.rank = 1 AND s.webhook_status IN ('active', 'paused')
        AND s.last_status IS DISTINCT FROM 'pending'
        AND NOT EXISTS (
            SELECT 1 FROM deliveries d
            WHERE d.shard = s.shard AND d.webhook_id = s.webhook_id AND d.due_at = s.event_created_at
                AND d.event_id = s.event_id
        )
    RETURNING webhook_id, event_id, due_at, trigger, replay_id
), done AS (
    SELECT s.ord, 'cancelled' AS status, s.attempt_count, NULL::timestamptz AS next_due_at,
        coalesce(c.trigger, 'scheduled') AS trigger, c.replay_id
    FROM cancelled c JOIN standing s ON s.ord = c.ord
    UNION ALL
    SELECT s.ord, 'pending', s.attempt_count, r.due_at, r.trigger, r.replay_id
    FROM restarted r JOIN standing s ON s.webhook_id = r.webhook_id AND s.event_id = r.event_id
        AND s.command IN ('retry', 'replay') AND s.rank = 1
    UNION ALL
    SELECT s.ord, s.status, (s.outcome IS NOT NULL)::integer::smallint, NULL, 'test', NULL
    FROM standing s
    WHERE s.command = 'test' AND s.last_status IS NULL
), skipped AS (
    UPDATE replays r SET skipped_count = r.skipped_count + n.skipped
    FROM (
        SELECT t.replay_id, count(*) AS skipped FROM taken t
        WHERE t.command = 'replay' AND t.ord NOT IN (SELECT ord FROM done)
        GROUP BY t.replay_id
    ) n
    WHERE r.replay_id = n.replay_id
), logged AS (
    INSERT INTO attempts (
        shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status, attempt_count,
        next_due_at, trigger, replay_id, outcome, started_at, latency_ms, reason, response_status, response_body,
        own_headers, response_headers
    )
    SELECT s.shard, own.last_seq + row_number() OVER (PARTITION BY s.shard ORDER BY s.ord), s.at, s.customer_id,
        s.webhook_id, s.event_id, s.event_type, s.event_created_at, d.status, d.attempt_count,
        d.next_due_at, d.trigger, d.replay_id, s.outcome, s.started_at, s.latency_ms, s.reason, s.response_status,
        s.response_body, s.own_headers, s.response_headers
    FROM done d JOIN standing s ON s.ord = d.ord JOIN own ON own.shard = s.shard, meta
    RETURNING shard, seq, webhook_id, event_id, status
)
SELECT (SELECT count(*) FROM own), l.shard, l.seq, l.webhook_id, l.event_id, l.status
FROM (SELECT * FROM logged UNION ALL SELECT NULL, NULL, NULL, NULL, NULL) l
"""


@dataclass(frozen=True, slots=True)
class Executed:
    """One command that changed something: where the delivery stands now."""

    shard: int
    seq: int
    webhook_id: int
    event_id: UUID
    status: DeliveryStatus


@dataclass(frozen=True, slots=True)
class ExecuteAnswer:
    """Whether the batch was still ours to carry out, and what it changed."""

    ours: bool
    executed: Sequence[Executed]


async def execute(
    connection: LoopConnection, worker: UUID, shards: Mapping[int, OwnedShard], batch: Sequence[Command]
) -> ExecuteAnswer:
    """Carries out a batch. Not ours: nothing was changed.

    Raises Unavailable: whether it was committed is not known. Then readopt the shards and execute the same batch again.
    """
    touched = sorted({command.shard for command in batch})
    rows = await connection.rows(
        EXECUTE, _execute_parameters(worker, {shard: shards[shard] for shard in touched}, batch)
    )
    return ExecuteAnswer(
        ours=rows[0][0] == len(touched),
        executed=[
            Executed(shard, seq, webhook_id, event_id, DeliveryStatus(status))
            for _, shard, seq, webhook_id, event_id, status in rows
            if shard is not None
        ],
    )


def _execute_parameters(worker: UUID, owned: Mapping[int, OwnedShard], batch: Sequence[Command]) -> dict[str, object]:
    results = [command.result for command in batch]
    return {
        **fence_parameters(worker, owned),
        "shard": [command.shard for command in batch],
        "webhook_id": [command.webhook_id for command in batch],
        "event_id": [command.event_id for command in batch],
        "command": [command.kind.value for command in batch],
        "status": [command.status.value if command.status else None for command in batch],
        "outcome": [result.outcome.value if result else None for result in results],
        "started_at": [result.start_time if result else None for result in results],
        "latency_ms": [result.latency_ms if result else None for result in results],
        "reason": [result.reason.name.lower() if result else None for result in results],
        "response_status": [result.response_status if result else None for result in results],
        "response_body": [(result.response_body or None) if result else None for result in results],
        "own_headers": [" ".join(command.own_headers) or None for command in batch],
        "response_headers": [headers_as_json(result) for result in results],
    }
