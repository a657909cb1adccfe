"""The numbers of a webhook, against the same numbers counted in Python."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import new_worker
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.model import DeliveryStatus, Outcome
from webhook_grpc.domain.pace import ReceiverHealth, SavedHealth
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import stats
from webhook_grpc.store.log.stats import WindowNumbers
from webhook_grpc.store.outbox import paces
from webhook_grpc.store.ownership import leases

WEBHOOK_ID = 7
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
END = START + timedelta(hours=1)
FINAL = {status.value for status in DeliveryStatus} - {"pending"}


@dataclass(frozen=True)
class LogRow:
    """As far as it is counted."""

    at: datetime
    status: str = "succeeded"
    outcome: str | None = "succeeded"
    latency_ms: int | None = 5
    response_status: int | None = 200
    trigger: str | None = "scheduled"
    webhook_id: int = WEBHOOK_ID


def write(postgres: TestPostgres, rows: list[LogRow]) -> None:
    """Appends to the log."""
    [(first_seq,)] = postgres.rows("SELECT coalesce(max(seq), 0) + 1 FROM attempts")
    for seq, row in enumerate(rows, first_seq):
        postgres.rows(
            "INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type,"
            " event_created_at, status, attempt_count, outcome, trigger, latency_ms, response_status)"
            " VALUES (%s, %s, %s, 42, %s, %s, 'job.completed', now(), %s, 1, %s, %s, %s, %s)",
            [row.webhook_id % 64, seq, row.at, row.webhook_id, uuid4(), row.status, row.outcome, row.trigger,
             row.latency_ms, row.response_status],
        )  # fmt: skip


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def count(database: Database, start: datetime = START, end: datetime = END) -> WindowNumbers:
    return await stats.window(database, WEBHOOK_ID, start, end)


async def test_of_nothing_there_are_no_numbers(database: Database) -> None:
    assert await count(database) == WindowNumbers({}, {}, {}, is_truncated=False)


async def test_the_window_has_its_start_and_not_its_end(database: Database, postgres: TestPostgres) -> None:
    write(postgres, [LogRow(at(seconds)) for seconds in (-0.001, 0, 1, 3599.999, 3600)])
    assert (await count(database)).outcomes == {Outcome.SUCCEEDED: 3}


async def test_tests_and_other_webhooks_are_not_counted(database: Database, postgres: TestPostgres) -> None:
    rows = [LogRow(at(1), trigger=trigger) for trigger in ("scheduled", "manual", "replay", "test")]
    write(postgres, [*rows, LogRow(at(1), webhook_id=WEBHOOK_ID + 64)])
    numbers = await count(database)
    assert numbers.outcomes == {Outcome.SUCCEEDED: 3}
    assert numbers.endings == {DeliveryStatus.SUCCEEDED: 3}


async def test_what_has_no_outcome_is_no_attempt_but_may_be_an_ending(
    database: Database, postgres: TestPostgres
) -> None:
    none: dict[str, Any] = {"outcome": None, "latency_ms": None, "response_status": None}
    rows = [
        LogRow(at(1), status="cancelled", **none),
        LogRow(at(2), status="expired", trigger=None, **none),  # as versions before wrote it
        LogRow(at(3), status="pending", trigger="manual", **none),  # begun anew
    ]
    write(postgres, rows)
    numbers = await count(database)
    assert numbers.outcomes == {}
    assert numbers.endings == {DeliveryStatus.CANCELLED: 1, DeliveryStatus.EXPIRED: 1}
    assert numbers.latencies_ms == {}


@pytest.mark.parametrize(
    ("latencies_ms", "expected"),
    [
        ([7], {50: 7, 95: 7, 99: 7}),
        ([1, 2], {50: 1, 95: 2, 99: 2}),
        ([3, 1, 2], {50: 2, 95: 3, 99: 3}),
        (list(range(1, 101)), {50: 50, 95: 95, 99: 99}),
        (list(range(1, 102)), {50: 51, 95: 96, 99: 100}),
        ([5] * 99 + [9000], {50: 5, 95: 5, 99: 5}),
        ([5] * 98 + [9000] * 2, {50: 5, 95: 5, 99: 9000}),
    ],
)
async def test_a_percentile_is_the_smallest_latency_that_so_many_do_not_exceed(
    database: Database, postgres: TestPostgres, latencies_ms: list[int], expected: dict[int, int]
) -> None:
    write(postgres, [LogRow(at(1), latency_ms=latency_ms) for latency_ms in latencies_ms])
    assert (await count(database)).latencies_ms == expected


async def test_latencies_are_those_of_attempts_that_were_answered(database: Database, postgres: TestPostgres) -> None:
    timeout: dict[str, Any] = {"status": "pending", "outcome": "timeout", "response_status": None}
    refused: dict[str, Any] = {"status": "pending", "outcome": "http_error", "response_status": 404}
    write(postgres, [LogRow(at(1), latency_ms=15_000, **timeout)] * 50 + [LogRow(at(2), latency_ms=20, **refused)])
    numbers = await count(database)
    assert numbers.latencies_ms == {50: 20, 95: 20, 99: 20}
    assert numbers.outcomes == {Outcome.HTTP_ERROR: 1, Outcome.TIMEOUT: 50}


def counted(rows: list[LogRow], start: datetime, end: datetime) -> WindowNumbers:
    """The same, counted here."""
    inside = [row for row in rows if row.webhook_id == WEBHOOK_ID and start <= row.at < end and row.trigger != "test"]
    outcomes = Counter(Outcome(row.outcome) for row in inside if row.outcome)
    endings = Counter(DeliveryStatus(row.status) for row in inside if row.status in FINAL)
    latencies = sorted(row.latency_ms for row in inside if row.response_status and row.latency_ms is not None)
    return WindowNumbers(
        outcomes,
        endings,
        {p: latencies[-(-len(latencies) * p // 100) - 1] for p in stats.PERCENTILES if latencies},
        is_truncated=False,
    )


@pytest.mark.slow
async def test_the_numbers_are_those_that_python_counts(database: Database, postgres: TestPostgres) -> None:
    chance = random.Random(3)
    rows = [
        LogRow(
            at=at(seconds),
            status=chance.choice([status.value for status in DeliveryStatus]),
            outcome=chance.choice([None, *(outcome.value for outcome in Outcome)]),
            latency_ms=chance.choice([1, 5, 5, 5, 20, 30_000, chance.randrange(1000)]),
            response_status=chance.choice([None, 200, 500]),
            trigger=chance.choice([None, "scheduled", "manual", "replay", "test"]),
            webhook_id=chance.choice([WEBHOOK_ID, WEBHOOK_ID, WEBHOOK_ID + 64]),
        )
        for seconds in sorted(chance.uniform(0, 3600) for _ in range(300))
    ]
    write(postgres, rows)
    for _ in range(50):
        start, end = sorted(chance.uniform(-10, 3610) for _ in range(2))
        assert await count(database, at(start), at(end)) == counted(rows, at(start), at(end))


@pytest.mark.slow
async def test_bins_have_the_numbers_of_the_windows_that_they_are(database: Database, postgres: TestPostgres) -> None:
    chance = random.Random(5)
    rows = [
        LogRow(
            at=at(seconds),
            status=chance.choice([status.value for status in DeliveryStatus]),
            outcome=chance.choice([None, *(outcome.value for outcome in Outcome)]),
            latency_ms=chance.choice([1, 5, 20, 30_000, chance.randrange(1000)]),
            response_status=chance.choice([None, 200, 500]),
            trigger=chance.choice([None, "scheduled", "test"]),
            webhook_id=chance.choice([WEBHOOK_ID, WEBHOOK_ID, WEBHOOK_ID + 64]),
        )
        for seconds in [0.0, 59.999_999, 60.0, 3599.0, *(chance.uniform(0, 3600) for _ in range(200))]
    ]
    write(postgres, rows)
    for width_seconds in (60.0, 7.3, 3600.0, 1000.0, 0.999_999):
        width = timedelta(seconds=width_seconds)
        found = await stats.bins(database, WEBHOOK_ID, START, END, width)
        starts = [START + number * width for number in range(len(found))]
        assert starts[-1] < END <= starts[-1] + width
        for start, one in zip(starts, found, strict=True):
            expected = counted(rows, start, min(start + width, END))
            assert (one.outcomes, one.latencies_ms) == (expected.outcomes, expected.latencies_ms)


async def test_bins_of_nothing_are_empty(database: Database) -> None:
    found = await stats.bins(database, WEBHOOK_ID, START, END, timedelta(minutes=20))
    assert found == [stats.BinNumbers({}, {})] * 3


@pytest.mark.parametrize(
    ("rows_max", "is_truncated", "median_ms"), [(4, True, 50), (5, True, 40), (6, False, 40), (7, False, 40)]
)  # fmt: skip
async def test_of_more_rows_than_are_looked_at_the_latest_count(
    database: Database, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch,
    rows_max: int, median_ms: int, *, is_truncated: bool,
) -> None:  # fmt: skip
    """Also if what is cut off has the same time, as the results of one batch have."""
    monkeypatch.setattr(stats, "COUNTED_ROWS_MAX", rows_max)
    write(postgres, [LogRow(at(-1)), LogRow(at(0), latency_ms=20, trigger="scheduled")])
    write(postgres, [LogRow(at(0), latency_ms=latency_ms) for latency_ms in (30, 40, 50, 60)])
    write(postgres, [LogRow(at(5), trigger="test")])
    numbers = await count(database)
    assert numbers.is_truncated is is_truncated
    assert sum(numbers.outcomes.values()) == min(rows_max, 6) - 1
    assert numbers.latencies_ms[50] == median_ms


# --- now -------------------------------------------------------------------------------------------------------------


def pend(postgres: TestPostgres, due_in_seconds: list[float], webhook_id: int = WEBHOOK_ID) -> None:
    """Puts deliveries into the outbox."""
    for seconds in due_in_seconds:
        postgres.rows(
            "INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)"
            " VALUES (%s, %s, now() + %s * interval '1 s', %s, 42, 0)",
            [webhook_id % 64, webhook_id, seconds, uuid4()],
        )


async def test_the_backlog_is_counted_and_the_oldest_due_row_gives_its_age(
    database: Database, postgres: TestPostgres
) -> None:
    pend(postgres, [-100, -5, -0.001, 600, 6000])
    pend(postgres, [-10_000], WEBHOOK_ID + 64)
    backlog = await stats.backlog(database, WEBHOOK_ID)
    assert (backlog.pending_count, backlog.due_count) == (5, 3)
    assert backlog.oldest_due_seconds == pytest.approx(100, abs=60)
    assert abs(backlog.read_time - datetime.now(UTC)) < timedelta(seconds=60)


@pytest.mark.parametrize("due_in_seconds", [[], [600]])
async def test_what_is_not_due_has_no_age(
    database: Database, postgres: TestPostgres, due_in_seconds: list[float]
) -> None:
    pend(postgres, due_in_seconds)
    backlog = await stats.backlog(database, WEBHOOK_ID)
    assert (backlog.pending_count, backlog.due_count) == (len(due_in_seconds), 0)
    assert backlog.oldest_due_seconds is None


async def test_of_a_large_backlog_what_is_due_first_is_counted(
    database: Database, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "COUNTED_ROWS_MAX", 3)
    pend(postgres, [600, -100, 700, -50, 800])
    backlog = await stats.backlog(database, WEBHOOK_ID)
    assert (backlog.pending_count, backlog.due_count) == (3, 2)
    assert backlog.oldest_due_seconds == pytest.approx(100, abs=60)


async def test_health_is_what_was_saved_and_well_without_a_row(database: Database, connection: LoopConnection) -> None:
    assert (await stats.backlog(database, WEBHOOK_ID)).health == ReceiverHealth()
    worker = new_worker()
    await leases.register(connection, worker, 60)
    await leases.take(connection, worker, 64)
    saved = SavedHealth(BreakerState.OPEN, 1800.0, 4, 7200.0, 33, 0, None, 900.0)
    await paces.save(connection, worker, {WEBHOOK_ID: saved}, [])
    found = await stats.backlog(database, WEBHOOK_ID)
    assert found.health.breaker is BreakerState.OPEN
    assert found.health.probe_time is not None
    assert abs(found.health.probe_time - found.read_time - timedelta(minutes=30)) < timedelta(seconds=30)
    assert found.health.throttled_until is None
