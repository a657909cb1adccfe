"""How a replay goes on: it looks at the next events, chooses deliveries, and asks their owners to begin them anew.

A batch reads, then writes. It reads the next events, and which of their deliveries fit. One statement writes everything
that follows, and only if the replay still stands where the batch began; so any number of runners, and a runner that
repeats itself because an answer was lost, choose each delivery once. What was chosen may have changed by the time its
owner comes to it: the owner then does nothing, and counts it as skipped.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Final
from uuid import UUID

from ..domain.ids import SHARD_COUNT
from ..domain.matching import patterns_matching
from ..domain.model import DeliveryStatus
from ..domain.replay import ReplaySpec, ReplayStatus
from .db import Queries, Row

EVENTS_MAX: Final = 500  # of a batch
PAIRS_MAX: Final = 2000  # of an event and a webhook whose delivery is looked up for a batch
REPLAYS_PER_LOOK: Final = 100

# What has to be attended to in these shards. Of a customer's replays that have events to look at only the oldest is
# here: the others wait for their turn.
UNSETTLED: Final = """
SELECT r.replay_id, r.customer_id, r.webhook_ids, r.event_types, r.statuses, r.include_undelivered, r.start_time,
    r.end_time, r.status, r.position, r.is_exhausted,
    (SELECT count(*) FROM commands c WHERE c.replay_id = r.replay_id AND c.command = 'replay')
        + (SELECT count(*) FROM deliveries d WHERE d.replay_id = r.replay_id)
FROM replays r
WHERE NOT r.is_settled AND r.replay_id %% %(shard_count)b::integer = ANY(%(shards)b::bigint[])
    AND r.replay_id > %(after)b::bigint
    AND (r.status <> 'running' OR r.is_exhausted OR NOT EXISTS (
        SELECT 1 FROM replays o
        WHERE o.customer_id = r.customer_id AND o.replay_id < r.replay_id
            AND o.status = 'running' AND NOT o.is_exhausted AND NOT o.is_settled
    ))
ORDER BY r.replay_id
LIMIT %(limit)b::integer
"""

COUNT_WEBHOOKS: Final = """
SELECT count(*) FROM webhooks
WHERE customer_id = %(customer_id)b::bigint AND status IN ('active', 'paused')
    AND (%(webhook_ids)b::bigint[] IS NULL OR id = ANY(%(webhook_ids)b::bigint[]))
"""

EVENTS: Final = """
SELECT event_id, event_type, created_at, test_webhook_id IS NOT NULL
FROM events
WHERE customer_id = %(customer_id)b::bigint AND event_id > %(position)b::uuid AND event_id < %(end_position)b::uuid
ORDER BY event_id
LIMIT %(limit)b::integer
"""

# Decided by where the delivery stands: in the last row that the log has of it, else in the outbox at its event's
# created_at, else there is none, and the webhook's patterns are asked. No attempt is older than its event, which spares
# partitions.
CHOOSE: Final = """
SELECT e.event_id, w.id
FROM unnest(%(event_id)b::uuid[], %(created_at)b::timestamptz[], %(patterns)b::text[])
    WITH ORDINALITY AS e(event_id, created_at, patterns, ord)
JOIN webhooks w ON w.customer_id = %(customer_id)b::bigint AND w.status IN ('active', 'paused')
    AND (%(webhook_ids)b::bigint[] IS NULL OR w.id = ANY(%(webhook_ids)b::bigint[]))
LEFT JOIN LATERAL (
    SELECT a.status FROM attempts a
    WHERE a.webhook_id = w.id AND a.event_created_at = e.created_at AND a.event_id = e.event_id
        AND a.created_at >= e.created_at
    ORDER BY a.seq DESC
    LIMIT 1
) logged ON true
LEFT JOIN LATERAL (
    SELECT 'pending' AS status FROM deliveries d
    WHERE logged.status IS NULL
        AND d.shard = w.shard AND d.webhook_id = w.id AND d.due_at = e.created_at AND d.event_id = e.event_id
    LIMIT 1
) unlogged ON true
WHERE CASE
    WHEN logged.status IS NOT NULL THEN logged.status = ANY(%(statuses)b::text[])
    WHEN unlogged.status IS NOT NULL THEN false
    ELSE %(include_undelivered)b::boolean AND w.events && string_to_array(e.patterns, ' ')
END
ORDER BY e.ord, w.id
"""

# Nothing unless the replay stands where the batch began. One that another replay is about to begin anew is skipped.
ADVANCE: Final = """
WITH replay AS MATERIALIZED (
    SELECT replay_id, customer_id FROM replays
    WHERE replay_id = %(replay_id)b::bigint AND position = %(expected)b::uuid
        AND status = 'running' AND NOT is_exhausted
    FOR NO KEY UPDATE
), chosen AS MATERIALIZED (
    SELECT t.*, now() AS at FROM unnest(%(webhook_id)b::bigint[], %(event_id)b::uuid[]) AS t(webhook_id, event_id)
), commanded AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, replay_id, created_at)
    SELECT c.webhook_id %% %(shard_count)b::integer, c.webhook_id, c.event_id, 'replay', r.customer_id, r.replay_id,
        c.at
    FROM chosen c, replay r
    ORDER BY c.webhook_id, c.event_id
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
    RETURNING shard
), moved AS (
    UPDATE replays r SET position = %(position)b::uuid, is_exhausted = %(is_exhausted)b::boolean,
        delivery_count = r.delivery_count + (SELECT count(*) FROM chosen),
        skipped_count = r.skipped_count + (SELECT count(*) FROM chosen) - (SELECT count(*) FROM commanded)
    FROM replay
    WHERE r.replay_id = replay.replay_id
    RETURNING r.replay_id
)
SELECT ARRAY(SELECT DISTINCT shard FROM commanded) FROM moved
"""

# What a cancelled replay has not sent: what is not begun anew yet is left as it was, the rest its owners cancel. Run
# again until nothing is left, because an owner may be about to begin something anew while this is run. A 'cancel' that
# names a replay is for what that replay has begun, and for nothing that came after it.
SWEEP: Final = """
WITH dropped AS (
    DELETE FROM commands c USING replays r
    WHERE r.replay_id = %(replay_id)b::bigint AND r.status = 'cancelled'
        AND c.replay_id = r.replay_id AND c.command = 'replay'
    RETURNING c.shard
), cancelled AS (
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, replay_id, created_at)
    SELECT d.shard, d.webhook_id, d.event_id, 'cancel', d.customer_id, d.replay_id, now()
    FROM deliveries d JOIN replays r ON r.replay_id = d.replay_id
    WHERE d.replay_id = %(replay_id)b AND r.status = 'cancelled'
    ON CONFLICT (shard, webhook_id, event_id, command) DO NOTHING
    RETURNING shard
), counted AS (
    UPDATE replays SET cancelled_count = cancelled_count + (SELECT count(*) FROM dropped)
    WHERE replay_id = %(replay_id)b AND EXISTS (SELECT 1 FROM dropped)
)
SELECT DISTINCT shard FROM cancelled
"""

# A command becomes a row of the outbox in one statement, and that a row of the log: so once there is neither of the
# first two, everything is in the log.
FINISH: Final = """
UPDATE replays r SET is_settled = true, succeeded_count = ended.succeeded, failed_count = ended.failed,
    cancelled_count = r.cancelled_count + ended.cancelled,
    status = CASE r.status WHEN 'running' THEN 'completed' ELSE r.status END,
    finished_at = coalesce(r.finished_at, now())
FROM (
    SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status IN ('cancelled', 'expired')) AS cancelled
    FROM attempts WHERE replay_id = %(replay_id)b::bigint
) ended
WHERE r.replay_id = %(replay_id)b AND NOT r.is_settled AND (r.status = 'cancelled' OR r.is_exhausted)
    AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.replay_id = %(replay_id)b AND c.command = 'replay')
    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.replay_id = %(replay_id)b)
RETURNING r.status
"""


@dataclass(frozen=True, slots=True)
class UnsettledReplay:
    """A replay that has to be attended to, and how many of its deliveries wait to be sent."""

    replay_id: int
    spec: ReplaySpec
    status: ReplayStatus
    position: UUID
    is_exhausted: bool
    pending_count: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What a batch has chosen, (event, webhook) in the order of events, and how far it went."""

    pairs: Sequence[tuple[UUID, int]]
    position: UUID
    is_exhausted: bool

    def fitting(self, room: int) -> Choice:
        """The first events of the batch whose deliveries fit, at least one that has any."""
        kept = list[tuple[UUID, int]]()
        for _, group in groupby(self.pairs, key=itemgetter(0)):
            of_event = list(group)
            if kept and len(kept) + len(of_event) > room:
                return Choice(kept, kept[-1][0], is_exhausted=False)
            kept += of_event
        return self


@dataclass(frozen=True, slots=True)
class Count:
    """How much a replay would choose, and up to where that was counted."""

    delivery_count: int
    position: UUID
    is_exhausted: bool


async def unsettled(database: Queries, shards: Collection[int], after: int) -> list[UnsettledReplay]:
    """The next replays of these shards that something has to be done for, by id, at most REPLAYS_PER_LOOK.

    Raises Unavailable.
    """
    parameters = {"shards": list(shards), "shard_count": SHARD_COUNT, "after": after, "limit": REPLAYS_PER_LOOK}
    return [_unsettled(row) for row in await database.rows(UNSETTLED, parameters)]


async def choose(database: Queries, spec: ReplaySpec, position: UUID, events_max: int) -> Choice:
    """What the next events have for the replay: at most so many, and fewer for many webhooks. Raises Unavailable."""
    wanted = {"customer_id": spec.customer_id, "webhook_ids": list(spec.webhook_ids) or None}
    [(webhook_count,)] = await database.rows(COUNT_WEBHOOKS, wanted)
    limit = max(1, min(events_max, PAIRS_MAX // max(1, webhook_count)))
    bounds = {"position": position, "end_position": spec.end_position, "limit": limit}
    events = await database.rows(EVENTS, {"customer_id": spec.customer_id, **bounds})
    admitted = [
        (event_id, event_type, created_at)
        for event_id, event_type, created_at, is_test in events
        if not is_test and spec.admits(event_type, created_at)
    ]
    pairs: list[Row] = []
    if admitted:
        parameters = {
            "event_id": [event_id for event_id, _, _ in admitted],
            "created_at": [created_at for _, _, created_at in admitted],
            "patterns": [" ".join(patterns_matching(event_type)) for _, event_type, _ in admitted],
            "statuses": [status.value for status in spec.statuses],
            "include_undelivered": spec.include_undelivered,
        }
        pairs = await database.rows(CHOOSE, {**wanted, **parameters})
    return Choice(
        [(event_id, webhook_id) for event_id, webhook_id in pairs],
        events[-1][0] if events else position,
        is_exhausted=not events,
    )


async def advance(database: Queries, replay: UnsettledReplay, choice: Choice) -> Collection[int] | None:
    """Writes what a batch has chosen; returns the shards whose owners have something to begin.

    None: the replay stands elsewhere by now, and nothing was written. Raises Unavailable: whether it was is not known.
    """
    rows = await database.rows(
        ADVANCE,
        {
            "replay_id": replay.replay_id,
            "expected": replay.position,
            "position": choice.position,
            "is_exhausted": choice.is_exhausted,
            "webhook_id": [webhook_id for _, webhook_id in choice.pairs],
            "event_id": [event_id for event_id, _ in choice.pairs],
            "shard_count": SHARD_COUNT,
        },
    )
    return rows[0][0] if rows else None


def advanced(replay: UnsettledReplay, choice: Choice) -> UnsettledReplay:
    """The replay after a choice was written."""
    return replace(
        replay,
        position=choice.position,
        is_exhausted=choice.is_exhausted,
        pending_count=replay.pending_count + len(choice.pairs),
    )


async def count(database: Queries, spec: ReplaySpec, seconds: float) -> Count:
    """How much a replay would choose now. It ends with the batch in which the time is up. Raises Unavailable."""
    until = time.monotonic() + seconds
    position, delivery_count = spec.first_position, 0
    while True:
        choice = await choose(database, spec, position, EVENTS_MAX)
        position = choice.position
        delivery_count += len(choice.pairs)
        if choice.is_exhausted or time.monotonic() >= until:
            return Count(delivery_count, position, choice.is_exhausted)


async def sweep(database: Queries, replay_id: int) -> Collection[int]:
    """Cancels what a cancelled replay has not sent; returns the shards whose owners have something to cancel.

    Does nothing for another replay. Raises Unavailable.
    """
    return [shard for (shard,) in await database.rows(SWEEP, {"replay_id": replay_id})]


async def finish(database: Queries, replay_id: int) -> ReplayStatus | None:
    """Settles a replay of which nothing is under way any more; None if something is, or it was. Raises Unavailable."""
    rows = await database.rows(FINISH, {"replay_id": replay_id})
    return ReplayStatus(rows[0][0]) if rows else None


def _unsettled(row: Row) -> UnsettledReplay:
    replay_id, customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time, *rest = row
    status, position, is_exhausted, pending_count = rest
    spec = ReplaySpec(
        customer_id, webhook_ids, event_types, tuple(map(DeliveryStatus, statuses)), include_undelivered, start_time,
        end_time,
    )  # fmt: skip
    return UnsettledReplay(replay_id, spec, ReplayStatus(status), position, is_exhausted, pending_count)
