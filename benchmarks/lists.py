"""`make bench-lists`: how long lists take when the log holds ten million attempts.

Seeds a throw-away embedded Postgres (scripts/seed_history.py; about 20 GB for ten million), then asks the store for
each form of list so many times, in turns, over one pool as the service does, and prints a Markdown table of
milliseconds. What gRPC adds is not in it. `--url` measures a database that was seeded before.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from scripts import seed_history as seeded

from webhook_grpc.domain.filters import AttemptFilter, DeliveryFilter, EventFilter
from webhook_grpc.domain.model import DeliveryStatus, Outcome
from webhook_grpc.store.db import Database, DatabaseOptions
from webhook_grpc.store.lists import attempts as attempt_lists
from webhook_grpc.store.lists import deliveries, events
from webhook_grpc.store.lists.attempts import AttemptKey
from webhook_grpc.store.lists.deliveries import DeliveryKey
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import lookup
from webhook_grpc.store.schema.embedded import EmbeddedPostgres
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions

ATTEMPTS = 10_000_000
RUNS = 20
PAGE = 50
BYTES = 2_000_000  # as the API bounds it
STATEMENT_SECONDS = 30.0
FREE_BYTES_PER_ATTEMPT = 2_500

Ask = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Form:
    """One way to ask."""

    name: str
    ask: Ask


class Forms:
    """Every form of list, over one database."""

    def __init__(self, database: Database, today: datetime) -> None:
        self._database = database
        self._deep = today - timedelta(days=20)
        self._hour: dict[str, Any] = {"start_time": self._deep, "end_time": self._deep + timedelta(hours=1)}

    def _deliveries(self, before: datetime | None = None, items: int = PAGE, **wanted: Any) -> Ask:
        values: dict[str, Any] = {"customer_id": None, **wanted}
        key = DeliveryKey(before, deliveries.DELIVERIES_START.event_id, 0) if before else deliveries.DELIVERIES_START
        bounds = PageBounds(items, BYTES)
        return lambda: deliveries.list_deliveries(self._database, DeliveryFilter(**values), key, bounds)

    def _attempts(self, before: datetime | None = None, items: int = PAGE, **wanted: Any) -> Ask:
        values: dict[str, Any] = {"customer_id": None, **wanted}
        key = AttemptKey(before, 0, 0) if before else attempt_lists.ATTEMPTS_START
        bounds = PageBounds(items, BYTES)
        return lambda: attempt_lists.list_attempts(self._database, AttemptFilter(**values), key, bounds)

    def _events(self, items: int = PAGE, **wanted: Any) -> Ask:
        values: dict[str, Any] = {"customer_id": None, **wanted}
        bounds = PageBounds(items, BYTES)
        return lambda: events.list_events(self._database, EventFilter(**values), events.EVENTS_START, bounds)

    async def all(self) -> list[Form]:
        """The forms, with what they need to know looked up."""
        busiest: dict[str, Any] = {"customer_id": seeded.BUSIEST, "webhook_ids": (seeded.BUSIEST,)}
        large: dict[str, Any] = {"customer_id": 1, "webhook_ids": (seeded.WITH_LARGE_ANSWERS,)}
        failed: dict[str, Any] = {"statuses": (DeliveryStatus.FAILED,)}
        pending: dict[str, Any] = {"statuses": (DeliveryStatus.PENDING,)}
        rare: dict[str, Any] = {"event_types": (seeded.RARE_TYPE,)}
        before = DeliveryKey(self._deep, deliveries.DELIVERIES_START.event_id, 0)
        page = await deliveries.list_deliveries(self._database, DeliveryFilter(1, (1,)), before, PageBounds(1, BYTES))
        [logged] = page.items
        page = await deliveries.list_deliveries(
            self._database, DeliveryFilter(2, (6,), statuses=(DeliveryStatus.PENDING,)), deliveries.DELIVERIES_START,
            PageBounds(1, BYTES),
        )  # fmt: skip
        [waiting] = page.items
        one: dict[str, Any] = {"webhook_ids": (logged.webhook_id,), "event_id": logged.event_id}

        def get(customer_id: int, event_id: Any, webhook_id: int) -> Ask:
            return lambda: lookup.get_delivery(self._database, customer_id, event_id, webhook_id)

        return [
            Form("GetDelivery: ended", get(1, logged.event_id, logged.webhook_id)),
            Form("GetDelivery: waits for its first attempt", get(2, waiting.event_id, waiting.webhook_id)),
            Form("ListDeliveries: busiest webhook", self._deliveries(**busiest)),
            Form("… 20 days back", self._deliveries(self._deep, **busiest)),
            Form("… 1,000 a page", self._deliveries(items=1000, **busiest)),
            Form("… one hour, 20 days ago", self._deliveries(**busiest, **self._hour)),
            Form("… status failed (one in 100,000)", self._deliveries(**busiest, **failed)),
            Form("… type of one in a million: one call", self._deliveries(**busiest, **rare)),
            Form("ListDeliveries: answers of 16 KiB, 1,000 a page", self._deliveries(items=1000, **large)),
            Form("ListDeliveries: all of a customer", self._deliveries(customer_id=9)),
            Form("… 20 days back", self._deliveries(self._deep, customer_id=9)),
            Form("… status failed", self._deliveries(customer_id=9, **failed)),
            Form("… one event", self._deliveries(customer_id=1, event_id=logged.event_id)),
            Form("… pending, 100,000 wait", self._deliveries(customer_id=2, **pending)),
            Form("… pending, 20,000 of them retries", self._deliveries(customer_id=3, **pending)),
            Form("ListDeliveries: all customers", self._deliveries()),
            Form("… 20 days back", self._deliveries(self._deep)),
            Form("… 1,000 a page", self._deliveries(items=1000)),
            Form("… status failed", self._deliveries(**failed)),
            Form("… type of one in a million: one call", self._deliveries(**rare)),
            Form("ListDeliveryAttempts: of one delivery", self._attempts(customer_id=1, **one)),
            Form("ListDeliveryAttempts: busiest webhook", self._attempts(**busiest)),
            Form("… 20 days back", self._attempts(self._deep, **busiest)),
            Form("… 1,000 a page", self._attempts(items=1000, **busiest)),
            Form("… one hour, 20 days ago", self._attempts(**busiest, **self._hour)),
            Form("… outcome http_error", self._attempts(**busiest, outcomes=(Outcome.HTTP_ERROR,))),
            Form("… outcome timeout (none): one call", self._attempts(**busiest, outcomes=(Outcome.TIMEOUT,))),
            Form("ListDeliveryAttempts: all of a customer", self._attempts(customer_id=9)),
            Form("ListDeliveryAttempts: all customers", self._attempts()),
            Form("… 20 days back", self._attempts(self._deep)),
            Form("ListEvents: busiest customer", self._events(customer_id=seeded.BUSIEST)),
            Form("… one hour, 20 days ago", self._events(customer_id=seeded.BUSIEST, **self._hour)),
            Form("… type of one in a million: one call", self._events(customer_id=seeded.BUSIEST, **rare)),
            Form("ListEvents: all customers", self._events()),
            Form("… 1,000 a page", self._events(items=1000)),
        ]


async def measure(url: str, runs: int) -> list[str]:
    """The rows of the table."""
    database = Database(DatabaseOptions(url, 1, 5.0, 100, STATEMENT_SECONDS))
    await database.open()
    try:
        await ensure_partitions(database)
        [(today, count)] = await database.rows(
            "SELECT date_trunc('day', now()), (SELECT sum(last_seq)::bigint FROM shards)"
        )
        forms = await Forms(database, today).all()
        times: list[list[float]] = [[] for _ in forms]
        found: list[str] = ["" for _ in forms]
        for run in range(runs + 1):
            for number, form in enumerate(forms):
                started_at = time.perf_counter()
                answer = await form.ask()
                if run:  # the first is not counted: it reads what the next find in memory
                    times[number].append((time.perf_counter() - started_at) * 1000)
                found[number] = _found(answer)
        return [
            f"{count:,} attempts in the log, {runs} runs of each form in turns",
            "",
            "| | p50 ms | p95 ms | found |",
            "|---|---|---|---|",
            *(
                f"| {form.name} | {statistics.median(taken):.1f} | {_p95(taken):.1f} | {what} |"
                for form, taken, what in zip(forms, times, found, strict=True)
            ),
        ]
    finally:
        await database.close()


def _found(answer: Any) -> str:
    items: Sequence[Any] | None = getattr(answer, "items", None)
    if items is None:
        return "1"
    return f"{len(items)}{', goes on' if answer.next_key else ''}"


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95) - (len(values) == int(len(values) * 0.95))]


def seeded_database(attempts: int, directory: Path, postgres: EmbeddedPostgres) -> str:
    """Fills a new database in an embedded Postgres and returns its URL."""
    if shutil.disk_usage(directory).free < attempts * FREE_BYTES_PER_ATTEMPT:
        raise SystemExit(f"{directory} has not enough room for {attempts:,} attempts")
    url = postgres.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here has to survive a power cut
        connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
        connection.execute("ALTER SYSTEM SET search_path = webhook_grpc, public")
        connection.execute("SELECT pg_reload_conf()")
    migrate(url)
    seeded.seed(url, attempts, lambda text: print(text, flush=True))
    asyncio.run(_ensure_partitions(url))
    seeded.seed_pending(url)
    return url


async def _ensure_partitions(url: str) -> None:
    database = Database(DatabaseOptions(url, 1, 5.0, 100, STATEMENT_SECONDS))
    await database.open()
    await ensure_partitions(database)
    await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--url", help="of a database that was seeded before")
    arguments = parser.parse_args()
    if arguments.url:
        print("\n".join(asyncio.run(measure(arguments.url, arguments.runs))))
        return
    directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-lists-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)  # after Postgres' own, which locks a file in it
    postgres = EmbeddedPostgres(directory)
    try:
        url = seeded_database(arguments.attempts, directory, postgres)
        print("\n".join(asyncio.run(measure(url, arguments.runs))))
    finally:
        postgres.stop()


if __name__ == "__main__":
    main()
