"""Counts for one webhook: the results of its attempts in a window, and its backlog now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import DeliveryStatus, Outcome
from webhook_grpc.domain.pace import ReceiverHealth
from webhook_grpc.domain.record import record
from webhook_grpc.store.db import Database

from .receiver_health import HEALTH_COLUMNS, receiver_health

COUNTED_ROWS_MAX: Final = 1_000_000  # of the log, and of the outbox
PERCENTILES: Final = (50, 95, 99)
_FINAL: Final = tuple(status for status in DeliveryStatus if status is not DeliveryStatus.PENDING)

# Reads the newest rows of the window from an index that has every column that is used, and groups them at once: it
# counts how often each combination occurs. A percentile is the smallest latency that so many latencies do not exceed.
# If it stopped at the limit, one look at the index shows whether the window has more rows: all rows of a webhook are in
# one shard, so `seq` orders those with the same time.
SELECT_WINDOW_NUMBERS: Final = """
WITH looked_at AS (
    SELECT outcome, status, trigger, CASE WHEN response_status IS NOT NULL THEN latency_ms END AS latency_ms, seq,
        created_at
    FROM attempts
    WHERE webhook_id = %(webhook_id)b AND created_at >= %(start)b AND created_at < %(end)b
    ORDER BY created_at DESC, seq DESC
    LIMIT %(rows_max)b::integer
), combinations AS MATERIALIZED (
    SELECT outcome, status, trigger IS NOT DISTINCT FROM 'test' AS is_test, latency_ms, count(*) AS times,
        min(seq) AS first_seq, min(created_at) AS first_at
    FROM looked_at
    GROUP BY outcome, status, trigger IS NOT DISTINCT FROM 'test', latency_ms
), counted AS (
    SELECT * FROM combinations WHERE NOT is_test
), latencies AS (
    SELECT latency_ms, sum(sum(times)) OVER (ORDER BY latency_ms) AS up_to, sum(sum(times)) OVER () AS total
    FROM counted
    WHERE latency_ms IS NOT NULL
    GROUP BY latency_ms
), cut AS (
    SELECT 1 AS found
    FROM (
        SELECT min(first_seq) AS first_seq, min(first_at) AS first_at FROM combinations
        HAVING sum(times) >= %(rows_max)b::integer
    ) c
    JOIN attempts a ON a.webhook_id = %(webhook_id)b AND a.created_at >= %(start)b AND a.created_at <= c.first_at
        AND a.seq < c.first_seq
    LIMIT 1
)
SELECT 'outcome', outcome, sum(times)::bigint FROM counted WHERE outcome IS NOT NULL GROUP BY outcome
UNION ALL
SELECT 'ending', status, sum(times)::bigint FROM counted WHERE status = ANY(%(final)b::text[]) GROUP BY status
UNION ALL
SELECT 'latency', p.percent::text, min(l.latency_ms)
FROM unnest(%(percentiles)b::integer[]) AS p(percent) JOIN latencies l ON l.up_to * 100 >= l.total * p.percent
GROUP BY p.percent
UNION ALL
SELECT 'truncated', '', found FROM cut
"""

# The same rows, counted for each bin of the window. `width`: seconds.
SELECT_BINS: Final = """
WITH looked_at AS (
    SELECT outcome, trigger, CASE WHEN response_status IS NOT NULL THEN latency_ms END AS latency_ms, created_at
    FROM attempts
    WHERE webhook_id = %(webhook_id)b AND created_at >= %(start)b AND created_at < %(end)b
    ORDER BY created_at DESC, seq DESC
    LIMIT %(rows_max)b::integer
), counted AS MATERIALIZED (
    SELECT floor(extract(epoch FROM created_at - %(start)b) / %(width)b::numeric)::integer AS bin, outcome, latency_ms,
        count(*) AS times
    FROM looked_at
    WHERE trigger IS DISTINCT FROM 'test'
    GROUP BY bin, outcome, latency_ms
), latencies AS (
    SELECT bin, latency_ms, sum(sum(times)) OVER (PARTITION BY bin ORDER BY latency_ms) AS up_to,
        sum(sum(times)) OVER (PARTITION BY bin) AS total
    FROM counted
    WHERE latency_ms IS NOT NULL
    GROUP BY bin, latency_ms
)
SELECT bin, 'outcome', outcome, sum(times)::bigint FROM counted WHERE outcome IS NOT NULL GROUP BY bin, outcome
UNION ALL
SELECT l.bin, 'latency', p.percent::text, min(l.latency_ms)
FROM unnest(%(percentiles)b::integer[]) AS p(percent) JOIN latencies l ON l.up_to * 100 >= l.total * p.percent
GROUP BY l.bin, p.percent
"""

# What is pending, in the order in which it is due, and what was last saved of the receiver's health.
SELECT_BACKLOG: Final = f"""
SELECT now(), b.pending_count, b.due_count, extract(epoch FROM now() - b.oldest_due_at)::double precision,
    {HEALTH_COLUMNS}
FROM (
    SELECT count(*) AS pending_count, count(*) FILTER (WHERE due_at <= now()) AS due_count,
        min(due_at) FILTER (WHERE due_at <= now()) AS oldest_due_at
    FROM (
        SELECT due_at FROM deliveries
        WHERE shard = %(shard)b::smallint AND webhook_id = %(webhook_id)b
        ORDER BY due_at
        LIMIT %(rows_max)b::integer
    ) d
) b
LEFT JOIN webhook_health h ON h.webhook_id = %(webhook_id)b
"""


@record
class WindowNumbers:
    """The results of the attempts in a window, without tests. What did not occur is not in the mappings.

    `latencies_ms`: for each of PERCENTILES the smallest latency that so many percent of the answered attempts did not
    exceed. `is_truncated`: the window has more than COUNTED_ROWS_MAX rows, and the oldest are left out.
    """

    outcomes: Mapping[Outcome, int]
    endings: Mapping[DeliveryStatus, int]
    latencies_ms: Mapping[int, int]
    is_truncated: bool


@record
class BinNumbers:
    """The attempts of one bin, as in WindowNumbers."""

    outcomes: Mapping[Outcome, int]
    latencies_ms: Mapping[int, int]


@record
class Backlog:
    """What is pending for a webhook at `read_time` by the database's clock. Counted up to COUNTED_ROWS_MAX."""

    read_time: datetime
    pending_count: int
    due_count: int
    oldest_due_seconds: float | None  # None: nothing is due
    health: ReceiverHealth


async def window(database: Database, webhook_id: int, start: datetime, end: datetime) -> WindowNumbers:
    """Returns the numbers from `start` to before `end`. Raises Unavailable."""
    rows = await database.rows(
        SELECT_WINDOW_NUMBERS,
        {
            "webhook_id": webhook_id,
            "start": start,
            "end": end,
            "rows_max": COUNTED_ROWS_MAX,
            "final": [status.value for status in _FINAL],
            "percentiles": list(PERCENTILES),
        },
    )
    found: dict[str, dict[str, int]] = {"outcome": {}, "ending": {}, "latency": {}, "truncated": {}}
    for kind, word, number in rows:
        found[kind][word] = number
    outcomes, endings, latencies = found["outcome"], found["ending"], found["latency"]
    return WindowNumbers(
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcome in outcomes},
        endings={status: endings[status] for status in _FINAL if status in endings},
        latencies_ms={percent: latencies[str(percent)] for percent in PERCENTILES if str(percent) in latencies},
        is_truncated=bool(found["truncated"]),
    )


async def bins(
    database: Database, webhook_id: int, start: datetime, end: datetime, width: timedelta
) -> list[BinNumbers]:
    """Returns the numbers from `start` to before `end` in bins of that width, in order. Raises Unavailable."""
    rows = await database.rows(
        SELECT_BINS,
        {
            "webhook_id": webhook_id,
            "start": start,
            "end": end,
            "width": Decimal(width // timedelta(microseconds=1)) / 1_000_000,
            "rows_max": COUNTED_ROWS_MAX,
            "percentiles": list(PERCENTILES),
        },
    )
    found = defaultdict[int, dict[str, dict[str, int]]](lambda: {"outcome": {}, "latency": {}})
    for number, kind, word, count in rows:
        found[number][kind][word] = count
    return [_bin(found[number]) for number in range(-((start - end) // width))]


def _bin(found: Mapping[str, Mapping[str, int]]) -> BinNumbers:
    outcomes, latencies = found["outcome"], found["latency"]
    return BinNumbers(
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcome in outcomes},
        latencies_ms={percent: latencies[str(percent)] for percent in PERCENTILES if str(percent) in latencies},
    )


async def backlog(database: Database, webhook_id: int) -> Backlog:
    """Returns what is pending for the webhook now. Raises Unavailable."""
    [row] = await database.rows(
        SELECT_BACKLOG, {"webhook_id": webhook_id, "shard": shard_of(webhook_id), "rows_max": COUNTED_ROWS_MAX}
    )
    read_time, pending_count, due_count, oldest_due_seconds, *health = row
    breaker, probe_at, failing_since, hold_until, throttled_until = health
    return Backlog(
        read_time=read_time,
        pending_count=pending_count,
        due_count=due_count,
        oldest_due_seconds=oldest_due_seconds,
        health=receiver_health(breaker, probe_at, failing_since, hold_until, throttled_until),
    )
