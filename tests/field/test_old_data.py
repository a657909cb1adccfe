"""A database that has lived for a month costs no more to ask than a new one: in pages, not in time.

30 daily partitions of the log, some of them dropped and made again; autovacuum was off; the outbox was large once, and
its rows are gone; statistics are of another time. An eightieth of the size by default; `WEBHOOK_TEST_OLD_DATA_SCALE=1`
is ten million attempts and a million deleted deliveries, and takes about 20 GB and ten minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, LiteralString, cast
from uuid import uuid4

import psycopg
import pytest
from benchmarks.lists import Forms
from psycopg import sql
from scripts import seed_history

from tests.support import lived
from tests.support.distribution import DistributionPostgres
from tests.support.postgres import query
from tests.support.store import new_event, options, pending, succeeded
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.store.db import Database, LoopConnection, Params, Row
from webhook_grpc.store.log import feed
from webhook_grpc.store.outbox import due, publishing, settlement
from webhook_grpc.store.outbox.due import FetchRequest
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions
from webhook_grpc.store.upkeep import bloat, retention

SCALE: Final = float(os.environ.get("WEBHOOK_TEST_OLD_DATA_SCALE", "0.0125"))
ATTEMPTS: Final = round(10_000_000 * SCALE)
DELETED: Final = round(1_000_000 * SCALE)
SHARE_MAX: Final = 1.5
PAGES_FREE: Final = 64  # a page more in each shard's index is not what this is about
WORKER: Final = uuid4()


class Counting:
    """Runs statements as a pool or a loop's connection does, and counts the pages that they look at."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET jit = off")
        self.pages = 0

    async def rows(
        self, statement: LiteralString, params: Params = None, *, is_idempotent: bool = False, keeps_plan: bool = False
    ) -> list[Row]:
        """Explains the statement, takes back what that did, and runs it."""
        del is_idempotent, keeps_plan  # this connection does not end, and plans each time
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ") + sql.SQL(statement)
        connection = self._connection
        with connection.transaction(force_rollback=True):
            [([plan],)] = connection.execute(explain, params).fetchall()
        self.pages += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        cursor = connection.execute(statement, params)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def url() -> Generator[str]:
    """A new database with a month of history."""
    server = DistributionPostgres({"autovacuum": "off", "max_wal_size": "4GB"})
    try:
        url = server.new_database("webhook_lived")
        migrate(url)
        seed_history.seed(url, ATTEMPTS, lambda _: None)
        asyncio.run(_with_partitions(url))
        seed_history.seed_pending(url, SCALE)
        query(url, "UPDATE shards SET owner = %s, epoch = 1", [WORKER])
        yield url
    finally:
        server.remove()


async def _with_partitions(url: str) -> None:
    database = Database(options(url))
    await database.open()
    await ensure_partitions(database)
    await database.close()


def seeded_on(url: str) -> date:
    """The day on which it was filled, with the full days before that."""
    [(oldest,)] = query(url, "SELECT min(created_at) FROM events")
    return oldest.astimezone(UTC).date() + timedelta(days=seed_history.DAYS)


async def keep_house(url: str) -> None:
    """What the process that owns shard 0 does by itself from time to time, where autovacuum does not come."""
    database = Database(options(url))
    await database.open()
    assert await bloat.vacuum_outbox(database, DELETED // 2) >= DELETED
    await database.close()


async def pages_of(url: str) -> dict[str, int]:
    """How many pages each hot statement and each form of list looks at."""
    counting = Counting(url)
    try:
        pages: dict[str, int] = {}
        for name, ask in [*hot(counting), *await lists(counting)]:
            counting.pages = 0
            await ask()
            pages[name] = counting.pages
        return pages
    finally:
        counting.close()


async def lists(counting: Counting) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    forms = await Forms(cast("Database", counting), today).all()
    return [(f"{number} {form.name}", form.ask) for number, form in enumerate(forms)]


def hot(counting: Counting) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    connection = cast("LoopConnection", counting)
    shards = list(range(SHARD_COUNT))

    async def publish() -> publishing.PublishedBatch:
        events = [new_event(customer_id=1 + n % 200, request_id=uuid4().hex) for n in range(100)]
        return await publishing.publish(connection, events, shards)

    async def settle() -> None:
        batch = [succeeded(delivery) for delivery in pending(await publish())]
        rows = await counting.rows("SELECT shard, last_seq FROM shards")
        reach = await counting.rows("SELECT shard, max(seq) FROM attempts GROUP BY shard")
        last: Mapping[int, int] = {**dict(rows), **dict(reach)}  # pyright: ignore[reportArgumentType]
        counting.pages = 0
        owned = {shard: OwnedShard(1, last[shard]) for shard in shards}
        answer = await settlement.settle(connection, WORKER, owned, batch)
        assert answer.changed_count == len(batch) > 0

    async def fetch() -> None:
        now = datetime.now(UTC)
        requests = [FetchRequest(w % SHARD_COUNT, w, 10, now.replace(year=now.year - 1)) for w in range(1, 101)]
        assert await due.fetch(connection, requests)

    async def read() -> None:
        end, _ = await feed.end_position(counting)
        counting.pages = 0
        await feed.read(counting, tuple(max(0, seq - 10) for seq in end), end)

    return [
        ("publish", publish),
        ("settle", settle),
        ("discover", lambda: due.discover(connection, shards)),
        ("fetch", fetch),
        ("where the log ends", lambda: feed.end_position(counting)),
        ("the stream, near its end", read),
        ("where logs reach", lambda: counting.rows(leases.SELECT_LAST_SEQS, {"shards": shards})),
        ("keep how far logs reach", lambda: counting.rows(retention.KEEP_LAST_SEQS, {"before": datetime.now(UTC)})),
    ]


@pytest.mark.slow
@pytest.mark.timeout(120 + 3600 * SCALE)
async def test_what_a_database_has_lived_through_costs_no_pages(url: str) -> None:
    new = await pages_of(url)
    lived.age(url, DELETED)
    await keep_house(url)
    old = await pages_of(url)
    worse = {name: (new[name], pages) for name, pages in old.items() if pages > SHARE_MAX * new[name] + PAGES_FREE}
    if datetime.now(UTC).date() != seeded_on(url):
        pytest.skip("midnight has passed: lists look at other days than before, which cost other pages")
    assert not worse, "pages looked at in a new database, and in one that has lived"
