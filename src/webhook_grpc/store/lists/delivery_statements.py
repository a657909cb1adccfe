"""The sources from which deliveries are listed, as parts of one statement.

The order is (event's created_at, event id, webhook id), newest first. Each source has an index in that order, or is
small enough to be sorted:

- the log, of which a delivery's last row counts: `attempts_by_delivery`; for endings but success `attempts_by_ending`;
- the outbox, for deliveries without a row in the log: due_at is the event's created_at, so the outbox's key has the
  order;
- the outbox, for retried and redelivered ones: sorted if there are few, else found through the log.

One statement reads all sources that are needed, so that a delivery that moves between two is seen in one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

from webhook_grpc.store import literals

# The last row that the log has of each delivery.
SELECT_LOGGED_DELIVERIES: Final = """
    SELECT f.* FROM wanted w CROSS JOIN LATERAL (
        SELECT DISTINCT ON (a.event_created_at, a.event_id)
            'logged' AS source, a.event_created_at, a.event_id, a.webhook_id, a.customer_id, a.status, a.event_type,
            a.shard, a.seq, a.created_at, octet_length(a.response_body) AS size, a.replay_id
        FROM attempts a
        WHERE a.webhook_id = w.id
            AND (a.event_created_at, a.event_id) <= (%(before_time)b::timestamptz, %(before_event)b::uuid)
            AND (a.event_created_at, a.event_id, a.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND a.event_created_at >= %(from_time)b::timestamptz
            AND a.created_at >= %(logged_from)b::timestamptz
            AND (%(event_id)b::uuid IS NULL OR a.event_id = %(event_id)b)
        ORDER BY a.event_created_at DESC, a.event_id DESC, a.seq DESC
        LIMIT %(per_webhook)b::integer
    ) f
"""

# Every ending with a status; whether the delivery was redelivered since is looked up for the rows of the step only.
SELECT_ENDED_DELIVERIES: Final = """
    SELECT f.* FROM wanted w CROSS JOIN unnest(%(endings)b::text[]) s(status) CROSS JOIN LATERAL (
        SELECT s.status AS source, a.event_created_at, a.event_id, a.webhook_id, a.customer_id, a.status, a.event_type,
            a.shard, a.seq, a.created_at, octet_length(a.response_body) AS size, a.replay_id
        FROM attempts a
        WHERE a.webhook_id = w.id AND a.status = s.status AND a.status IN ('failed', 'cancelled', 'expired')
            AND (a.event_created_at, a.event_id) <= (%(before_time)b::timestamptz, %(before_event)b::uuid)
            AND (a.event_created_at, a.event_id, a.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND a.event_created_at >= %(from_time)b::timestamptz
            AND a.created_at >= %(logged_from)b::timestamptz
            AND (%(event_id)b::uuid IS NULL OR a.event_id = %(event_id)b)
        ORDER BY a.event_created_at DESC, a.event_id DESC, a.seq DESC
        LIMIT %(per_webhook)b::integer
    ) f
"""

# Deliveries without a row in the log. None is due later than its event was stored, so later retries are not read.
SELECT_UNLOGGED_DELIVERIES: Final = f"""
    SELECT 'unlogged' AS source, d.due_at AS event_created_at, d.event_id, d.webhook_id, d.customer_id,
        'pending' AS status, NULL::text AS event_type, d.shard, 0::bigint AS seq, d.due_at AS created_at, 0 AS size,
        NULL::bigint AS replay_id
    FROM wanted w CROSS JOIN LATERAL (
        SELECT d.shard, d.webhook_id, d.due_at, d.event_id, d.customer_id
        FROM deliveries d
        WHERE d.shard = w.shard AND d.webhook_id = w.id AND d.attempt = 0 AND d.trigger IS NULL
            AND (d.due_at, d.event_id) <= (%(before_time)b::timestamptz, %(before_event)b::uuid)
            AND (d.due_at, d.event_id, d.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND d.due_at >= %(from_time)b::timestamptz AND d.due_at <= now() + {literals.CLOCK_SLACK}
            AND (%(event_id)b::uuid IS NULL OR d.event_id = %(event_id)b)
        ORDER BY d.due_at DESC, d.event_id DESC
        LIMIT %(per_webhook)b::integer
    ) d
"""

# Retried and redelivered ones. Only run if there are at most RETRIES_SORTED_MAX.
SELECT_RETRIED_DELIVERIES: Final = """
    SELECT 'retried' AS source, d.event_created_at, d.event_id, d.webhook_id, d.customer_id, a.status, a.event_type,
        a.shard, a.seq, a.created_at, octet_length(a.response_body) AS size, a.replay_id
    FROM (
        SELECT e.created_at AS event_created_at, d.event_id, d.webhook_id, d.customer_id
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT d.event_id, d.webhook_id, d.customer_id FROM deliveries d
            WHERE d.shard = w.shard AND d.webhook_id = w.id AND (d.attempt > 0 OR d.trigger IS NOT NULL)
                AND d.event_id BETWEEN %(earliest_id)b::uuid AND %(latest_id)b::uuid
            OFFSET 0
        ) d
        CROSS JOIN LATERAL (SELECT created_at FROM events WHERE event_id = d.event_id LIMIT 1) e
        WHERE (e.created_at, d.event_id, d.webhook_id)
                < (%(before_time)b::timestamptz, %(before_event)b::uuid, %(before_webhook)b::bigint)
            AND e.created_at >= %(from_time)b::timestamptz
            AND (%(event_id)b::uuid IS NULL OR d.event_id = %(event_id)b)
        ORDER BY e.created_at DESC, d.event_id DESC, d.webhook_id DESC
        LIMIT %(limit)b::integer
    ) d
    CROSS JOIN LATERAL (
        SELECT * FROM attempts a
        WHERE a.webhook_id = d.webhook_id AND a.event_created_at = d.event_created_at AND a.event_id = d.event_id
            AND a.created_at >= %(logged_from)b::timestamptz
        ORDER BY a.event_created_at DESC, a.event_id DESC, a.seq DESC
        LIMIT 1
    ) a
"""

# The next rows of all sources, newest first: those that fit, and those at which the step ends, because it is full or
# because a webhook's rows are cut off there. An ending that is not its delivery's last row has no status and never
# fits. A delivery of a deleted event that has no row in the log has no type; it is about to expire.
SELECT_NEXT_DELIVERIES: Final = f""")
SELECT s.event_created_at, s.event_id, s.webhook_id, s.customer_id, s.known_type, s.shard, s.seq, s.created_at, s.size,
    s.fits, s.is_cut, s.step_rows, s.rows_read
FROM (
    SELECT j.*, j.known_type IS NOT NULL AND j.status_now = ANY(%(statuses)b::text[])
        AND (%(type_regex)b::text IS NULL OR j.known_type ~ %(type_regex)b::text)
        AND (%(replay_id)b::bigint IS NULL OR coalesce(j.replay_id = %(replay_id)b::bigint, false)) AS fits
    FROM (
        SELECT n.*,
            coalesce(n.event_type, (SELECT e.event_type FROM events e WHERE e.event_id = n.event_id)) AS known_type,
            CASE WHEN n.source IN ('failed', 'cancelled', 'expired') AND EXISTS (
                SELECT 1 FROM attempts later
                WHERE later.webhook_id = n.webhook_id AND later.event_created_at = n.event_created_at
                    AND later.event_id = n.event_id AND later.seq > n.seq
                    AND later.created_at >= n.created_at - {literals.CLOCK_SLACK}
            ) THEN NULL ELSE n.status END AS status_now,
            n.source <> 'retried' AND %(per_webhook)b::integer = row_number() OVER (
                PARTITION BY n.source, n.webhook_id ORDER BY n.event_created_at DESC, n.event_id DESC, n.seq DESC
            ) AS is_cut,
            row_number() OVER (
                ORDER BY n.event_created_at DESC, n.event_id DESC, n.webhook_id DESC, n.seq DESC
            ) AS ord,
            count(*) OVER () AS step_rows
        FROM (
            SELECT found.*, count(*) OVER () + %(look_cost)b::integer * (SELECT count(*) FROM wanted) AS rows_read
            FROM found
            ORDER BY event_created_at DESC, event_id DESC, webhook_id DESC, seq DESC
            LIMIT %(limit)b::integer
        ) n
    ) j
) s
WHERE s.fits OR s.is_cut OR s.ord = s.step_rows
ORDER BY s.ord
"""


def next_of(sources: Sequence[LiteralString]) -> LiteralString:
    """Returns the statement of a step, without its beginning with `wanted`."""
    found: LiteralString = ", found AS (" + " UNION ALL ".join(sources)
    return found + SELECT_NEXT_DELIVERIES
