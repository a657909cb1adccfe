"""Fills a migrated, empty database with a month of history: what `make bench-lists` measures lists on.

200 customers with 5 webhooks each, 30 full days before today, in daily partitions as the service makes them. Skewed as
real ones are: the first webhook has a fifth of all attempts, a few customers have most of the rest. One delivery in
ten needs a second attempt; one in fifty fails for good (of the first webhook: one in 100,000), and some of these were
begun anew by RetryDelivery. One event in a million has the type `quota.exceeded`. The second webhook's receiver answers
with 16 KiB each time. Today, one webhook has 100,000 deliveries that wait for their first attempt, another 20,000 that
wait for their second.

Rows go into bare tables that are attached to the log afterwards, so that the indexes are the migrations' own, each
built at once. They are denser than indexes that have grown.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from webhook_grpc.domain.ids import first_event_id

DAYS: Final = 30
CUSTOMERS: Final = 200
WEBHOOKS_EACH: Final = 5
ATTEMPTS_PER_EVENT: Final = 1.86  # about 1.67 deliveries, of which some need more than one attempt
BUSIEST: Final = 1  # webhook and customer
WITH_LARGE_ANSWERS: Final = 2  # webhook
WITH_BACKLOG: Final = 6  # webhook of customer 2
WITH_RETRIES: Final = 11  # webhook of customer 3
RARE_TYPE: Final = "quota.exceeded"

Connection = psycopg.Connection[tuple[Any, ...]]

WEBHOOKS: Final = """
INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events)
SELECT (n - 1) / %(each)s + 1, 'webhook ' || n, 'https://hooks.example.com/' || n, '', 'hint', true, '{*}'
FROM generate_series(1, %(customers)s * %(each)s) n
"""

# Ids are UUIDv7, so that they sort as their times do.
EVENTS: Final = """
INSERT INTO {events} (event_id, customer_id, event_type, occurred_at, created_at, body, data_start)
SELECT
    (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
        || '8' || substr(digest, 4, 15))::uuid,
    customer_id, event_type, at, at,
    convert_to('{{"event":"' || event_type || '","timestamp":1706256000,"data":{{"job_id":"' || digest
        || '","status":"completed","duration":3600,"padding":"' || repeat('x', 150) || '"}}}}', 'UTF8'),
    length(event_type) + 44
FROM (
    SELECT md5(random()::text || n) AS digest,
        %(start)s::timestamptz + (n + random()) / %(count)s * %(span)s::interval AS at,
        CASE WHEN random() < 1 / 3.0 THEN 1 ELSE 2 + floor(199 * random() ^ 3)::bigint END AS customer_id,
        CASE
            WHEN random() < 1e-6 THEN %(rare_type)s
            ELSE ('{{job.completed,job.failed,environment.started,environment.stopped,alert.triggered}}'::text[])[
                1 + floor(5 * random() ^ 2)::integer]
        END AS event_type
    FROM generate_series(1, %(count)s) n
) made
"""

# One row for each attempt and each ending, numbered within its shard in the order of time.
ATTEMPTS: Final = """
INSERT INTO {attempts} (shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status,
    attempt_count, next_due_at, outcome, trigger, started_at, latency_ms, reason, response_status, response_body,
    response_headers)
WITH made AS MATERIALIZED (
    SELECT e.event_id, e.customer_id, e.event_type, e.created_at, w.webhook_id, random() AS fate, random() AS pace,
        random() < 0.2 AS is_restarted, random() < 5e-6 AS is_cancelled
    FROM {events} e
    CROSS JOIN LATERAL (
        SELECT (e.customer_id - 1) * 5 + 1 + (hashtext(e.event_id::text) & 65535) %% 5 AS webhook_id
        WHERE e.customer_id > 1
        UNION ALL
        SELECT (e.customer_id - 1) * 5 + 1 + ((hashtext(e.event_id::text) & 65535) + 1) %% 5 WHERE e.customer_id > 1
        UNION ALL
        SELECT 1 WHERE e.customer_id = 1
        UNION ALL
        SELECT 2 WHERE e.customer_id = 1 AND hashtext(e.event_id::text) %% 100 = 0
    ) w
), fated AS (
    SELECT *, CASE
        WHEN is_cancelled THEN 0
        WHEN fate < 0.9 THEN 1
        WHEN fate < CASE WHEN webhook_id = 1 THEN 0.99999 ELSE 0.98 END THEN 2
        WHEN NOT is_restarted THEN 3
        ELSE 5
    END AS rows
    FROM made
), logged AS (
    SELECT f.*, n,
        f.created_at + interval '20 ms' + f.pace * interval '80 ms' + (n - 1) * (f.pace + 0.5) * interval '5 min' AS at,
        CASE
            WHEN f.rows = 0 THEN 'cancelled'
            WHEN n = 3 THEN 'failed'
            WHEN n = f.rows THEN 'succeeded'
            ELSE 'pending'
        END AS status
    FROM fated f CROSS JOIN LATERAL generate_series(1, greatest(f.rows, 1)) n
)
SELECT s.shard, s.last_seq + row_number() OVER (PARTITION BY s.shard ORDER BY l.at, l.webhook_id, l.event_id),
    l.at, l.customer_id, l.webhook_id, l.event_id, l.event_type, l.created_at, l.status,
    CASE WHEN l.rows = 0 THEN 0 ELSE n - (n > 3)::integer END,
    CASE WHEN l.status = 'pending' THEN l.at + (l.pace + 0.5) * interval '5 min' END,
    CASE WHEN l.rows = 0 OR n = 4 THEN NULL WHEN l.status = 'succeeded' THEN 'succeeded' ELSE 'http_error' END,
    CASE WHEN n > 3 THEN 'manual' ELSE 'scheduled' END,
    l.at - interval '20 ms', 20,
    CASE WHEN l.status = 'succeeded' THEN 'none' ELSE 'status' END,
    CASE WHEN l.status = 'succeeded' THEN 200 ELSE 503 END,
    CASE
        WHEN l.webhook_id = %(with_large_answers)s THEN %(large_answer)s
        WHEN l.status = 'succeeded' THEN 'ok'
        ELSE convert_to(repeat('Service Unavailable ', 20), 'UTF8')
    END,
    '{{"content-type":"text/plain","server":"nginx"}}'
FROM logged l JOIN shards s ON s.shard = l.webhook_id %% 64
"""

COUNT_ON: Final = """
UPDATE shards s SET last_seq = greatest(s.last_seq, l.seq)
FROM (SELECT shard, max(seq) AS seq FROM {attempts} GROUP BY shard) l
WHERE l.shard = s.shard
"""

# Deliveries of the last hour to one webhook. Those that were tried once are in the log.
PENDING: Final = """
WITH made AS (
    INSERT INTO events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start)
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
            || '8' || substr(digest, 4, 15))::uuid,
        %(customer_id)s, 'job.completed', at, at,
        '{"event":"job.completed","timestamp":1706256000,"data":{"status":"completed"}}', 57
    FROM (
        SELECT md5(random()::text || n) AS digest, now() - (n + random()) / %(count)s * interval '1 hour' AS at
        FROM generate_series(1, %(count)s) n
    ) m
    RETURNING event_id, created_at
), logged AS (
    INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at,
        status, attempt_count, next_due_at, outcome, trigger, started_at, latency_ms, reason, response_status,
        response_body)
    SELECT s.shard, s.last_seq + row_number() OVER (ORDER BY m.created_at), m.created_at + interval '30 ms',
        %(customer_id)s, %(webhook_id)s, m.event_id, 'job.completed', m.created_at,
        'pending', 1, m.created_at + interval '2 hours', 'http_error', 'scheduled', m.created_at, 20, 'status', 503,
        'no'
    FROM made m JOIN shards s ON s.shard = %(webhook_id)s %% 64
    WHERE %(attempts)s = 1
)
INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
SELECT %(webhook_id)s %% 64, %(webhook_id)s, m.created_at + %(attempts)s * interval '2 hours', m.event_id,
    %(customer_id)s, %(attempts)s
FROM made m
"""


def seed(url: str, attempts: int, say: Callable[[str], None]) -> None:
    """Fills the database. Takes about 25 s for each million attempts on two cores."""
    today = datetime.now(UTC).date()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET jit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET work_mem = '256MB'")
        connection.execute("SELECT setseed(0.42)")
        connection.execute(WEBHOOKS, {"customers": CUSTOMERS, "each": WEBHOOKS_EACH})
        for day in (today - timedelta(days=back) for back in range(DAYS, 0, -1)):
            _seed_day(connection, day, round(attempts / ATTEMPTS_PER_EVENT / DAYS))
            say(f"seeded {day}")


def seed_pending(url: str, scale: float = 1.0) -> None:
    """Adds what waits today, or a part of it. The partition of today must exist."""
    with psycopg.connect(url, autocommit=True) as connection:
        for webhook_id, customer_id, count, attempts in ((WITH_BACKLOG, 2, 100_000, 0), (WITH_RETRIES, 3, 20_000, 1)):
            values: dict[str, Any] = {"webhook_id": webhook_id, "customer_id": customer_id, "attempts": attempts}
            values["count"] = round(count * scale)
            connection.execute(PENDING, values)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def _seed_day(connection: Connection, day: date, events: int) -> None:
    start = datetime.combine(day, time.min, UTC)
    end = start + timedelta(days=1)
    values = {
        "start": start,
        "span": timedelta(hours=23.3),  # later attempts fall into the same partition
        "count": events,
        "rare_type": RARE_TYPE,
        "with_large_answers": WITH_LARGE_ANSWERS,
        "large_answer": random.Random(42).randbytes(16 * 1024),
    }
    bounds = {
        "events": (str(first_event_id(start)), str(first_event_id(end))),
        "attempts": (start.isoformat(), end.isoformat()),
    }
    names = {table: sql.Identifier(f"{table}_{day:%Y%m%d}") for table in bounds}
    for table, name in names.items():
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(name, sql.Identifier(table)))
    fill: tuple[LiteralString, ...] = (EVENTS, ATTEMPTS, COUNT_ON)
    for statement in fill:
        connection.execute(sql.SQL(statement).format(**names), values if statement != COUNT_ON else None)
    for table, (lower, upper) in bounds.items():
        attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
        connection.execute(attach.format(sql.Identifier(table), names[table], sql.Literal(lower), sql.Literal(upper)))
