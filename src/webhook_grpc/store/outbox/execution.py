"""Carries out commands: restarts, cancellations and tests of deliveries, many in one statement.

Fenced like settling, and never run by one process at the same time as settling, because both write the log. The
statement deletes a command together with its effect, so the command is carried out once. A command for which there is
nothing to do is deleted without an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.log.rows import LOG_INSERT_COLUMNS, attempt_parameters
from webhook_grpc.store.ownership.fence import FENCE, fence_parameters
from webhook_grpc.store.ownership.leases import OwnedShard

# A delivery is found as log/rows.py says. A command that does not fit how its delivery stands does nothing: a restart
# of a pending one, a cancellation of one that has ended, a restart for a webhook that is disabled or deleted. The
# cancellation of a replay ends only what that replay restarted. Rows are looked up by their keys and deleted by their
# places, as in SETTLE.
EXECUTE: Final = f"""{FENCE}, asked AS MATERIALIZED (
    -- The batch: each command with its number in it, and with the `seq` up to which its shard is logged.
    SELECT t.*, now() AS at, true AS singleton, %(shard_count)b::integer AS shard_count,
        (%(last_seqs)b::bigint[])[array_position(%(shards)b::smallint[], t.shard)] AS last_seq
    FROM unnest(
        %(shard)b::smallint[], %(webhook_id)b::bigint[], %(event_id)b::uuid[], %(command)b::text[], %(status)b::text[],
        %(outcome)b::text[], %(started_at)b::timestamptz[], %(latency_ms)b::integer[], %(reason)b::text[],
        %(response_status)b::integer[], %(response_body)b::bytea[], %(own_headers)b::text[],
        %(response_headers)b::text[]
    ) WITH ORDINALITY AS t(
        shard, webhook_id, event_id, command, status, outcome, started_at, latency_ms, reason, response_status,
        response_body, own_headers, response_headers, ord
    )
), found AS MATERIALIZED (
    -- Those that still have their row, each once; none unless all shards of the batch are still ours.
    SELECT DISTINCT ON (c.place) a.*, c.*
    FROM asked a
    CROSS JOIN LATERAL (
        SELECT ctid AS place, customer_id, replay_id FROM commands
        WHERE shard = a.shard AND webhook_id = a.webhook_id AND event_id = a.event_id AND command = a.command
        LIMIT 1
    ) c
    WHERE (SELECT count(*) FROM own) = a.shard_count
    ORDER BY c.place, a.ord
), dropped AS (
    -- Deletes the rows of the commands. Who deletes a row carries its command out, and nobody does it again.
    DELETE FROM commands WHERE ctid = ANY(ARRAY(SELECT place FROM found))
    RETURNING webhook_id, event_id, command
), taken AS MATERIALIZED (
    -- The commands that were found, and whether it was this statement that deleted their rows.
    SELECT f.*, d.event_id IS NOT NULL AS was_dropped
    FROM found f
    FULL JOIN dropped d ON d.webhook_id = f.webhook_id AND d.event_id = f.event_id AND d.command = f.command
), standing AS MATERIALIZED (
    -- How the delivery of each command stands: its last row in the log, its row in the outbox. Of several restarts of
    -- one delivery only the first is a restart.
    SELECT t.*, e.created_at AS event_created_at, e.event_type, l.status AS last_status,
        coalesce(l.attempt_count, 0::smallint) AS attempt_count, w.status AS webhook_status,
        d.place AS delivery_place, d.trigger AS delivery_trigger, d.replay_id AS delivery_replay_id,
        t.command IN ('retry', 'replay') AND 1 = row_number() OVER (
            PARTITION BY t.webhook_id, t.event_id, t.command IN ('retry', 'replay') ORDER BY t.ord
        ) AS is_restart
    FROM taken t
    CROSS JOIN LATERAL (SELECT status FROM webhooks WHERE id = t.webhook_id LIMIT 1) w
    CROSS JOIN LATERAL (SELECT created_at, event_type FROM events WHERE event_id = t.event_id LIMIT 1) e
    LEFT JOIN LATERAL (
        SELECT status, attempt_count, next_due_at FROM attempts
        WHERE webhook_id = t.webhook_id AND event_created_at = e.created_at AND event_id = t.event_id
        ORDER BY seq DESC
        LIMIT 1
    ) l ON true
    LEFT JOIN LATERAL (
        SELECT ctid AS place, trigger, replay_id FROM deliveries
        WHERE shard = t.shard AND webhook_id = t.webhook_id AND due_at = coalesce(l.next_due_at, e.created_at)
            AND event_id = t.event_id
        LIMIT 1
    ) d ON true
    WHERE t.was_dropped
), cancelled AS (
    -- Deletes from the outbox what is cancelled; for a cancelled replay only what that replay restarted.
    DELETE FROM deliveries WHERE ctid = ANY(ARRAY(
        SELECT delivery_place FROM standing
        WHERE command = 'cancel' AND (replay_id IS NULL OR delivery_replay_id = replay_id)
    ))
    RETURNING webhook_id, event_id, 'cancel' AS command
), restarted AS (
    -- Puts back into the outbox what has ended, or was never sent, unless its webhook is disabled or deleted.
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger, replay_id)
    SELECT s.shard, s.webhook_id, s.at, s.event_id, s.customer_id, s.attempt_count,
        CASE s.command WHEN 'retry' THEN 'manual' ELSE 'replay' END, s.replay_id
    FROM standing s JOIN meta USING (singleton)
    WHERE s.is_restart AND s.webhook_status IN ('active', 'paused') AND s.last_status IS DISTINCT FROM 'pending'
        AND s.delivery_place IS NULL
    RETURNING webhook_id, event_id, true AS is_restart, due_at, trigger, replay_id
), carried_out AS MATERIALIZED (
    -- The commands, and which of these two was done for each.
    SELECT s.*, c.event_id IS NOT NULL AS was_cancelled, r.due_at AS restarted_at, r.trigger AS restart_trigger
    FROM standing s
    FULL JOIN cancelled c ON c.webhook_id = s.webhook_id AND c.event_id = s.event_id AND c.command = s.command
    FULL JOIN restarted r ON r.webhook_id = s.webhook_id AND r.event_id = s.event_id AND r.is_restart = s.is_restart
), done AS (
    -- What changed, as the log will say it: a cancellation, a restart, or the result of a test that has none yet.
    SELECT o.*, 'cancelled' AS new_status, o.attempt_count AS new_attempt_count,
        coalesce(o.delivery_trigger, 'scheduled') AS new_trigger, o.delivery_replay_id AS new_replay_id
    FROM carried_out o
    WHERE o.was_cancelled
    UNION ALL
    SELECT o.*, 'pending', o.attempt_count, o.restart_trigger, o.replay_id
    FROM carried_out o
    WHERE o.restarted_at IS NOT NULL
    UNION ALL
    SELECT o.*, o.status, (o.outcome IS NOT NULL)::integer::smallint, 'test', NULL
    FROM carried_out o
    WHERE o.command = 'test' AND o.last_status IS NULL
), skips AS MATERIALIZED (
    -- How many deliveries each replay wanted restarted for which there was nothing to do.
    SELECT t.replay_id, count(*) AS skipped FROM taken t
    WHERE t.was_dropped AND t.command = 'replay' AND t.ord NOT IN (SELECT ord FROM done)
    GROUP BY t.replay_id
), skipped AS (
    -- Adds them to what the replays have skipped.
    UPDATE replays SET skipped_count = skipped_count + (
        SELECT s.skipped FROM skips s WHERE s.replay_id = replays.replay_id
    )
    WHERE replay_id = ANY(ARRAY(SELECT replay_id FROM skips))
), logged AS (
    -- Logs each change, in each shard with the next numbers, without a hole.
    INSERT INTO attempts (
        {LOG_INSERT_COLUMNS}
    )
    SELECT d.shard, d.last_seq + row_number() OVER (PARTITION BY d.shard ORDER BY d.ord), d.at, d.customer_id,
        d.webhook_id, d.event_id, d.event_type, d.event_created_at, d.new_status, d.new_attempt_count,
        d.restarted_at, d.new_trigger, d.new_replay_id, d.outcome, d.started_at, d.latency_ms, d.reason,
        d.response_status, d.response_body, d.own_headers, d.response_headers
    FROM done d JOIN meta USING (singleton)
    RETURNING shard, seq, webhook_id, event_id, status
)
SELECT (SELECT count(*) FROM own), l.shard, l.seq, l.webhook_id, l.event_id, l.status
FROM (SELECT * FROM logged UNION ALL SELECT NULL, NULL, NULL, NULL, NULL) l
"""


@record
class Executed:
    """A command that changed something: the row of the log that says so, and the delivery's status now."""

    shard: int
    seq: int
    webhook_id: int
    event_id: UUID
    status: DeliveryStatus


@record
class ExecuteAnswer:
    """Whether the shards of the batch were still ours, and what it changed."""

    ours: bool
    executed: Sequence[Executed]


async def execute(
    connection: LoopConnection, worker: UUID, shards: Mapping[int, OwnedShard], batch: Sequence[Command]
) -> ExecuteAnswer:
    """Carries out a batch. If its shards are not ours any more, changes nothing.

    Raises Unavailable: nobody knows whether it was committed. Then readopt the shards and execute the same batch again.
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
    return {
        **fence_parameters(worker, owned),
        "shard": [command.shard for command in batch],
        "webhook_id": [command.webhook_id for command in batch],
        "event_id": [command.event_id for command in batch],
        "command": [command.kind.value for command in batch],
        "status": [command.status.value if command.status else None for command in batch],
        **attempt_parameters((command.result, command.own_headers) for command in batch),
    }
