"""Chooses the deliveries of a replay: reads the customer's events, and looks up how each delivery stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from webhook_grpc.domain.matching import patterns_matching
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.domain.record import record
from webhook_grpc.domain.replay import ReplaySpec
from webhook_grpc.store import literals
from webhook_grpc.store.db import Queries, Row

PAIRS_MAX: Final = 2000  # deliveries (an event and a webhook) that are looked up for one batch

# The columns of a ReplaySpec in a row `r` of replays, in the order of `spec_from_columns`.
SPEC_COLUMNS: Final = """r.customer_id, r.webhook_ids, r.event_types, r.statuses, r.include_undelivered, r.start_time,
    r.end_time"""

# The webhooks of a replay: those that the caller named, or all that the customer has.
SELECT_CHOSEN_WEBHOOKS: Final = """
SELECT id FROM webhooks
WHERE customer_id = %(customer_id)b::bigint AND status IN ('active', 'paused')
    AND (%(webhook_ids)b::bigint[] = '{}' OR id = ANY(%(webhook_ids)b::bigint[]))
"""

SELECT_NEXT_EVENTS_OF_REPLAY: Final = """
SELECT event_id, event_type, created_at, test_webhook_id IS NOT NULL
FROM events
WHERE customer_id = %(customer_id)b::bigint AND event_id > %(position)b::uuid AND event_id < %(end_position)b::uuid
ORDER BY event_id
LIMIT %(limit)b::integer
"""

# Whether a delivery is chosen depends on its last row in the log; without one it is in the outbox at its event's
# created_at, and is not chosen; else there is no delivery, and the webhook's patterns decide. No row of the log is
# older than its event, unless a clock was set back: that lets Postgres skip partitions.
CHOOSE_DELIVERIES: Final = f"""
SELECT e.event_id, w.id
FROM unnest(%(event_id)b::uuid[], %(created_at)b::timestamptz[], %(patterns)b::text[])
    WITH ORDINALITY AS e(event_id, created_at, patterns, ord)
JOIN webhooks w ON w.customer_id = %(customer_id)b::bigint AND w.status IN ('active', 'paused')
    AND w.id = ANY(%(webhook_ids)b::bigint[])
LEFT JOIN LATERAL (
    SELECT a.status FROM attempts a
    WHERE a.webhook_id = w.id AND a.event_created_at = e.created_at AND a.event_id = e.event_id
        AND a.created_at >= e.created_at - {literals.CLOCK_SLACK}
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


@record
class Choice:
    """The deliveries that a batch has chosen, (event, webhook) in the order of events, and its last event."""

    pairs: Sequence[tuple[UUID, int]]
    position: UUID | None  # None: no event was left

    def fitting(self, room: int) -> Choice:
        """Returns the first part of a choice for one webhook, with at most `room` deliveries. `room` is positive."""
        kept = self.pairs[:room]
        return self if len(kept) == len(self.pairs) else Choice(kept, kept[-1][0])


@record
class Count:
    """How many deliveries a replay would choose up to a position; None: up to the end of its window."""

    delivery_count: int
    position: UUID | None


def spec_from_columns(columns: Sequence[Any]) -> ReplaySpec:
    """Returns what the SPEC_COLUMNS of a replay say."""
    customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time = columns
    return ReplaySpec(
        customer_id=customer_id,
        webhook_ids=webhook_ids,
        event_types=event_types,
        statuses=tuple(map(DeliveryStatus, statuses)),
        include_undelivered=include_undelivered,
        start_time=start_time,
        end_time=end_time,
    )


async def choose(
    database: Queries, spec: ReplaySpec, webhook_ids: Sequence[int], position: UUID, events_max: int
) -> Choice:
    """Returns what fits these webhooks among the next events: at most `events_max`, fewer for many webhooks.

    Nothing fits a webhook that is deleted or disabled. Raises Unavailable.
    """
    limit = max(1, min(events_max, PAIRS_MAX // max(1, len(webhook_ids))))
    bounds = {"position": position, "end_position": spec.end_position, "limit": limit}
    events = await database.rows(SELECT_NEXT_EVENTS_OF_REPLAY, {"customer_id": spec.customer_id, **bounds})
    admitted = [
        (event_id, event_type, created_at)
        for event_id, event_type, created_at, is_test in events
        if not is_test and spec.admits(event_type, created_at)
    ]
    pairs: list[Row] = []
    if admitted:
        parameters = {
            "customer_id": spec.customer_id,
            "webhook_ids": list(webhook_ids),
            "event_id": [event_id for event_id, _, _ in admitted],
            "created_at": [created_at for _, _, created_at in admitted],
            "patterns": [" ".join(patterns_matching(event_type)) for _, event_type, _ in admitted],
            "statuses": [status.value for status in spec.statuses],
            "include_undelivered": spec.include_undelivered,
        }
        pairs = await database.rows(CHOOSE_DELIVERIES, parameters)
    return Choice([(event_id, webhook_id) for event_id, webhook_id in pairs], events[-1][0] if events else None)


async def count(database: Queries, spec: ReplaySpec, seconds: float) -> Count:
    """Counts the deliveries that a replay would choose now. Ends with the batch in which the time is up.

    Reads the events once, for all webhooks together, so everything up to the returned position is counted. Raises
    Unavailable.
    """
    until = time.monotonic() + seconds
    wanted = {"customer_id": spec.customer_id, "webhook_ids": list(spec.webhook_ids)}
    webhook_ids = [webhook_id for (webhook_id,) in await database.rows(SELECT_CHOSEN_WEBHOOKS, wanted)]
    position: UUID | None = spec.first_position if webhook_ids else None
    delivery_count = 0
    while position is not None:
        choice = await choose(database, spec, webhook_ids, position, PAIRS_MAX)
        position = choice.position
        delivery_count += len(choice.pairs)
        if time.monotonic() >= until:
            break
    return Count(delivery_count, position)
