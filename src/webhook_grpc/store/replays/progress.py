"""Moves a replay on, to each of its webhooks by itself, and ends it.

A step reads, then writes. It reads the next events, and which of their deliveries to the webhook fit (`selection.py`).
One statement writes everything that follows from that, and only if the replay's position with this webhook is still the
one at which the step started. So any number of runners, and a runner that repeats a step because an answer was lost,
choose each delivery once. A chosen delivery may have changed by the time its owner reads the command: then the owner
does nothing, and counts it as skipped.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.record import record
from webhook_grpc.domain.replay import ReplaySpec, ReplayStatus
from webhook_grpc.store.db import Queries, Row

from .selection import SPEC_COLUMNS, Choice, spec_from_columns

REPLAYS_PER_LOOK: Final = 100
WEBHOOKS_PER_LOOK: Final = 8  # webhooks of one replay

# The replays of these shards that are not settled.
SELECT_UNSETTLED_REPLAYS: Final = f"""
SELECT r.replay_id, {SPEC_COLUMNS}, r.status,
    NOT EXISTS (SELECT 1 FROM replay_webhooks w WHERE w.replay_id = r.replay_id),
    EXISTS (SELECT 1 FROM commands c WHERE c.replay_id = r.replay_id AND c.command = 'replay')
        OR EXISTS (SELECT 1 FROM deliveries d WHERE d.replay_id = r.replay_id)
FROM replays r
WHERE NOT r.is_settled AND r.replay_id %% %(shard_count)b::integer = ANY(%(shards)b::bigint[])
    AND r.replay_id > %(after)b::bigint
ORDER BY r.replay_id
LIMIT %(limit)b::integer
"""

# The webhooks that may have more deliveries waiting. Those with enough are skipped, so they delay no other.
SELECT_WEBHOOKS_WITH_ROOM: Final = """
SELECT w.webhook_id, w.position, coalesce(h.status IN ('active', 'paused'), false), waiting.count
FROM replay_webhooks w
LEFT JOIN webhooks h ON h.id = w.webhook_id
CROSS JOIN LATERAL (
    SELECT (
        SELECT count(*) FROM commands c
        WHERE c.replay_id = w.replay_id AND c.webhook_id = w.webhook_id AND c.command = 'replay'
    ) + (
        SELECT count(*) FROM deliveries d WHERE d.replay_id = w.replay_id AND d.webhook_id = w.webhook_id
    ) AS count
) waiting
WHERE w.replay_id = %(replay_id)b::bigint AND waiting.count <= %(pending_max)b::integer / 2
ORDER BY w.moved_at, w.webhook_id
LIMIT %(limit)b::integer
"""

# Writes nothing unless the replay's position is still the expected one. A delivery that another replay is about to
# redeliver is skipped. That is looked up first: an insert would wait for the owner that carries out the other command,
# and the owner may wait for this replay's row.
ADVANCE_REPLAY: Final = """
WITH turn AS MATERIALIZED (
    SELECT r.replay_id, r.customer_id, w.webhook_id, now() AS at
    FROM replays r JOIN replay_webhooks w ON w.replay_id = r.replay_id
    WHERE r.replay_id = %(replay_id)b::bigint AND r.status = 'running'
        AND w.webhook_id = %(webhook_id)b::bigint AND w.position = %(expected)b::uuid
    FOR NO KEY UPDATE
), chosen AS MATERIALIZED (
    SELECT c.event_id, now() AS at FROM unnest(%(event_id)b::uuid[]) AS c(event_id)
), commanded AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, replay_id, created_at)
    SELECT t.webhook_id %% %(shard_count)b::integer, t.webhook_id, c.event_id, 'replay', t.customer_id, t.replay_id,
        c.at
    FROM chosen c, turn t
    WHERE NOT EXISTS (
        SELECT 1 FROM commands k
        WHERE k.shard = t.webhook_id %% %(shard_count)b::integer AND k.webhook_id = t.webhook_id
            AND k.event_id = c.event_id AND k.command = 'replay'
    )
    ORDER BY c.event_id
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
    RETURNING 1
), moved AS (
    UPDATE replay_webhooks w SET position = %(position)b::uuid, moved_at = t.at
    FROM turn t
    WHERE w.replay_id = t.replay_id AND w.webhook_id = t.webhook_id AND %(position)b::uuid IS NOT NULL
), ended AS (
    DELETE FROM replay_webhooks w USING turn t
    WHERE w.replay_id = t.replay_id AND w.webhook_id = t.webhook_id AND %(position)b::uuid IS NULL
)
UPDATE replays r SET delivery_count = r.delivery_count + (SELECT count(*) FROM chosen),
    skipped_count = r.skipped_count + (SELECT count(*) FROM chosen) - (SELECT count(*) FROM commanded)
FROM turn t
WHERE r.replay_id = t.replay_id
RETURNING (SELECT count(*) FROM commanded)
"""

# Ends what a cancelled replay has not sent: deletes its commands, and commands owners to cancel what they have put into
# the outbox. Run again until nothing is left, because an owner may be carrying out a command meanwhile. A 'cancel' that
# names a replay cancels only what that replay redelivered. A command that an owner is carrying out is left to the owner
# (SKIP LOCKED): each would wait for rows of the other, and an owner that waits settles nothing.
SWEEP_REPLAY: Final = """
WITH begun AS MATERIALIZED (
    SELECT d.shard, d.webhook_id, d.event_id, d.customer_id, d.replay_id, now() AS at, true AS singleton
    FROM deliveries d JOIN replays r ON r.replay_id = d.replay_id
    WHERE d.replay_id = %(replay_id)b AND r.status = 'cancelled'
), free AS MATERIALIZED (
    SELECT c.shard, c.webhook_id, c.event_id, c.command
    FROM replays r JOIN commands c ON c.replay_id = r.replay_id AND c.command = 'replay'
    WHERE r.replay_id = %(replay_id)b::bigint AND r.status = 'cancelled'
    FOR UPDATE OF c SKIP LOCKED
), dropped AS (
    DELETE FROM commands c USING free f
    WHERE c.shard = f.shard AND c.webhook_id = f.webhook_id AND c.event_id = f.event_id AND c.command = f.command
    RETURNING c.shard
), cancelled AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, replay_id, created_at)
    SELECT shard, webhook_id, event_id, 'cancel', customer_id, replay_id, at FROM begun JOIN meta USING (singleton)
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
    RETURNING shard
), counted AS (
    UPDATE replays SET cancelled_count = cancelled_count + (SELECT count(*) FROM dropped)
    WHERE replay_id = %(replay_id)b AND EXISTS (SELECT 1 FROM dropped)
)
SELECT DISTINCT shard FROM cancelled
"""

# One statement turns a command into a row of the outbox, another one that into a row of the log. So when neither a
# command nor a row of the outbox is left, everything is in the log. A cancelled replay chooses nothing more.
FINISH_REPLAY: Final = """
WITH settled AS (
    UPDATE replays r SET is_settled = true, succeeded_count = ended.succeeded, failed_count = ended.failed,
        cancelled_count = r.cancelled_count + ended.cancelled,
        position = (
            SELECT w.position FROM replay_webhooks w
            WHERE w.replay_id = %(replay_id)b::bigint
            ORDER BY w.position
            LIMIT 1
        ),
        status = CASE r.status WHEN 'running' THEN 'completed' ELSE r.status END,
        finished_at = coalesce(r.finished_at, ended.at)
    FROM (
        SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(*) FILTER (WHERE status IN ('cancelled', 'expired')) AS cancelled, now() AS at
        FROM attempts WHERE replay_id = %(replay_id)b
    ) ended
    WHERE r.replay_id = %(replay_id)b AND NOT r.is_settled
        AND (r.status = 'cancelled' OR NOT EXISTS (SELECT 1 FROM replay_webhooks w WHERE w.replay_id = %(replay_id)b))
        AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.replay_id = %(replay_id)b AND c.command = 'replay')
        AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.replay_id = %(replay_id)b)
    RETURNING r.replay_id, r.status
), deleted AS (
    DELETE FROM replay_webhooks w USING settled s WHERE w.replay_id = s.replay_id
)
SELECT status FROM settled
"""


@record
class UnsettledReplay:
    """A replay of which something is left to do."""

    replay_id: int
    spec: ReplaySpec
    status: ReplayStatus
    is_exhausted: bool  # whether all events were read for all its webhooks
    is_waiting: bool  # whether deliveries are waiting to be sent


@record
class ReplayWebhook:
    """A webhook of a replay that may have more deliveries waiting, and the replay's position with it."""

    replay_id: int
    spec: ReplaySpec
    webhook_id: int
    position: UUID
    is_switched_on: bool  # False: the webhook was deleted or disabled
    pending_count: int


async def unsettled(database: Queries, shards: Collection[int], after: int) -> list[UnsettledReplay]:
    """Returns the next unsettled replays of these shards by id, at most REPLAYS_PER_LOOK. Raises Unavailable."""
    parameters = {"shards": list(shards), "shard_count": SHARD_COUNT, "after": after, "limit": REPLAYS_PER_LOOK}
    return [_unsettled(row) for row in await database.rows(SELECT_UNSETTLED_REPLAYS, parameters)]


async def webhooks_with_room(database: Queries, replay: UnsettledReplay, pending_max: int) -> list[ReplayWebhook]:
    """Returns the webhooks whose turn was longest ago, at most WEBHOOKS_PER_LOOK. Raises Unavailable.

    Without those for which more than half of `pending_max` deliveries are waiting.
    """
    parameters = {"replay_id": replay.replay_id, "pending_max": pending_max, "limit": WEBHOOKS_PER_LOOK}
    return [
        ReplayWebhook(
            replay_id=replay.replay_id,
            spec=replay.spec,
            webhook_id=webhook_id,
            position=position,
            is_switched_on=is_switched_on,
            pending_count=pending_count,
        )
        for webhook_id, position, is_switched_on, pending_count in await database.rows(
            SELECT_WEBHOOKS_WITH_ROOM, parameters
        )
    ]


async def advance(database: Queries, webhook: ReplayWebhook, choice: Choice) -> int | None:
    """Writes what a step has chosen; returns how many deliveries the webhook's owner has to redeliver.

    Returns None if the replay's position was another one: then nothing was written. Raises Unavailable: nobody knows
    whether it was written.
    """
    rows = await database.rows(
        ADVANCE_REPLAY,
        {
            "replay_id": webhook.replay_id,
            "webhook_id": webhook.webhook_id,
            "expected": webhook.position,
            "position": choice.position,
            "event_id": [event_id for event_id, _ in choice.pairs],
            "shard_count": SHARD_COUNT,
        },
    )
    return rows[0][0] if rows else None


async def sweep(database: Queries, replay_id: int) -> Collection[int]:
    """Cancels what a cancelled replay has not sent; returns the shards whose owners have something to cancel.

    Does nothing for a replay that is not cancelled. Raises Unavailable.
    """
    return [shard for (shard,) in await database.rows(SWEEP_REPLAY, {"replay_id": replay_id})]


async def finish(database: Queries, replay_id: int) -> ReplayStatus | None:
    """Settles a replay of which nothing is left to do, else returns None. Raises Unavailable."""
    rows = await database.rows(FINISH_REPLAY, {"replay_id": replay_id})
    return ReplayStatus(rows[0][0]) if rows else None


def _unsettled(row: Row) -> UnsettledReplay:
    replay_id, *spec_columns, status, is_exhausted, is_waiting = row
    return UnsettledReplay(
        replay_id=replay_id,
        spec=spec_from_columns(spec_columns),
        status=ReplayStatus(status),
        is_exhausted=is_exhausted,
        is_waiting=is_waiting,
    )
