"""The hot statements touch no more rows than their batch and its results, whatever the planner believes.

Each is run with batches of several sizes, as a custom and as a generic plan, with statistics of every age, beside 1,
1,000 and 100,000 webhooks, on the embedded Postgres and on the distribution's with its own settings (JIT is on there).
Statistics are not waited for: in a transaction that is rolled back, `pg_class` and `pg_statistic` are made to say what
they say when a table was never analysed, when it was while it was new or drained, or when it was full.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, LiteralString
from uuid import UUID

import psycopg
import pytest

from tests.support.distribution import DistributionPostgres
from tests.support.full import in_full
from tests.support.plans import Asked, Plan, explained
from tests.support.postgres import TestPostgres
from tests.support.store import AUDIT, new_event, new_event_id, options, succeeded, to_retry
from webhook_grpc.domain.command import Command, Kind
from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.store import db
from webhook_grpc.store.audit import entry_parameters
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import feed
from webhook_grpc.store.outbox import (
    commands,
    due,
    execution,
    figures,
    misdated,
    poison_marks,
    publishing,
    settlement,
)
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.registry import census
from webhook_grpc.store.replays import progress
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions

pytestmark = pytest.mark.xdist_group("plans")  # one process: what is filled is shared
JIT_ABOVE_COST: Final = 100_000
SIZES: Final = (1, 1000)
WEBHOOKS: Final = (1, 1_000, 100_000)
SERVERS: Final = ("embedded", "distribution", "16", "17")
PLACES: Final = tuple((server, count) for server in SERVERS for count in WEBHOOKS)
FEW_PLACES: Final = (
    *((server, 1_000) for server in SERVERS if server != "embedded"),
    ("embedded", 1),
    ("embedded", 100_000),
)
MORE_SERVERS: Final = Path(__file__).parents[2] / ".postgres"  # from `make more-postgres`
WORKER: Final = UUID(int=7)
OWNED: Final = {shard: OwnedShard(1, 1_000_000) for shard in range(64)}
SOMEONE: Final = 1_000_000  # the customer of the first webhook, and of no other
BIG_CUSTOMER: Final = 42  # a hundred webhooks, of which an event goes to one
NOW: Final = datetime.now(UTC)

# 20,000 deliveries that are due, at most 200 webhooks have them; 1,000 are replays. The log knows of each one attempt.
FILL: Final[tuple[LiteralString, ...]] = (
    """
    INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events)
    SELECT CASE WHEN n > %(webhooks)s - 100 AND n > 1 THEN 42 ELSE 999999 + n END, 'n', 'https://example.com/', '', '',
        false, CASE WHEN n > %(webhooks)s - 100 AND n > 1 THEN ARRAY['job.type' || (%(webhooks)s - n)]
        ELSE '{*}' END
    FROM generate_series(1, %(webhooks)s::integer) n
    """,
    """
    INSERT INTO events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start)
    SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7000'
            || '8' || lpad(to_hex(n), 15, '0'))::uuid, 42, 'job.completed', now(), now(), '{}', 0
    FROM generate_series(1, 20000) n
    """,
    """
    INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger)
    SELECT w.id %% 64, w.id, e.created_at - e.n * interval '1 ms', e.event_id, 42, 1,
        CASE WHEN e.n %% 20 = 0 THEN 'replay' END
    FROM (SELECT *, row_number() OVER () AS n FROM events) e
    JOIN LATERAL (SELECT e.n %% least(200, %(webhooks)s) + 1 AS id) w ON true
    """,
    """
    INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at,
        status, attempt_count, next_due_at, outcome, trigger, started_at, latency_ms, reason)
    SELECT shard, row_number() OVER (PARTITION BY shard ORDER BY due_at), now(), 42, webhook_id, event_id,
        'job.completed', now(), 'pending', 1, due_at, 'http_error', 'scheduled', now(), 5, 'none'
    FROM deliveries
    """,
    """
    INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
    SELECT shard, webhook_id, event_id, CASE WHEN random() < 0.5 THEN 'cancel' ELSE 'retry' END, 42, now()
    FROM deliveries LIMIT 5000
    """,
    "INSERT INTO workers SELECT gen_random_uuid(), now() + interval '1 hour' FROM generate_series(1, 20)",
    "INSERT INTO workers VALUES ('00000000-0000-0000-0000-000000000007', now() + interval '1 hour')",
    "UPDATE shards SET owner = '00000000-0000-0000-0000-000000000007', epoch = 1",
)

# What Postgres believes of our tables, and their indexes; the real number of pages it always sees.
BELIEFS: Final[Mapping[str, tuple[LiteralString, ...]]] = {
    "never analysed": (
        "DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM ours)",
        "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid IN (SELECT oid FROM ours)",
    ),
    "analysed while new": (
        "DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM ours)",
        "UPDATE pg_class SET reltuples = 0, relpages = 0 WHERE oid IN (SELECT oid FROM ours)",
    ),
    "analysed while drained": (
        """
        UPDATE pg_class SET reltuples = 0
        WHERE oid IN (SELECT oid FROM ours) AND relname ~ '^(deliveries|commands|idempotency_keys|workers)'
        """,
    ),
    "analysed while full": (),
    "analysed while full, then emptied": ("DELETE FROM deliveries", "DELETE FROM commands", "DELETE FROM attempts"),
}
OURS: Final = """
CREATE TEMPORARY TABLE ours AS
SELECT oid FROM pg_class WHERE relnamespace = 'webhook_grpc'::regnamespace AND relkind IN ('r', 'p', 'i', 'I')
"""


@dataclass(frozen=True, slots=True)
class Filled:
    """A database with something of everything, and the keys of 1,000 of its deliveries and commands."""

    url: str
    webhook_count: int
    deliveries: Sequence[PendingDelivery]
    commands: Sequence[Command]


@dataclass(frozen=True, slots=True)
class Case:
    """A statement, its parameters for a batch, and how much it may touch for each of the batch and its results.

    `once` is what it may touch besides, whatever the batch is, and `pages_once` how many pages it may look at.
    """

    statement: str
    parameters: Callable[[Filled, int], Mapping[str, object]]
    rows_per_item: float
    buffers_per_item: float
    once: int = 100
    pages_once: int = 500
    sizes: Sequence[int] = SIZES
    cost_max: float = JIT_ABOVE_COST


def published(filled: Filled, count: int) -> Mapping[str, object]:
    """One event for each of many customers, or all for the only one."""
    last = max(1, filled.webhook_count - 100)
    events = [new_event(customer_id=SOMEONE + n % last, request_id=f"r{n}" if n % 2 else None) for n in range(count)]
    return publishing._publish_parameters(events, [1])  # pyright: ignore[reportPrivateUsage]


def published_alone(filled: Filled, count: int) -> Mapping[str, object]:
    del filled, count
    event = new_event(customer_id=BIG_CUSTOMER, event_type="job.type5", request_id="alone")
    return publishing._parameters_of_one(event)  # pyright: ignore[reportPrivateUsage]


def figured(filled: Filled, count: int) -> Mapping[str, object]:
    """What the figures for metrics are read with; so few rows are counted that the bound is reached."""
    del filled, count
    shards = {"shards": list(range(64)), "webhooks_max": figures.WEBHOOKS_MAX, "rows_max": 1_000}
    return {**shards, "after": 0, "limit": census.SLICE}


def published_to_one_of_a_hundred(filled: Filled, count: int) -> Mapping[str, object]:
    del filled
    events = [new_event(customer_id=BIG_CUSTOMER, event_type="job.type5") for _ in range(count)]
    return publishing._publish_parameters(events, [1])  # pyright: ignore[reportPrivateUsage]


def settled(filled: Filled, count: int) -> Mapping[str, object]:
    batch = [to_retry(item) if n % 3 else succeeded(item) for n, item in enumerate(filled.deliveries[:count])]
    return settlement._settle_parameters(WORKER, {item.shard: OWNED[item.shard] for item in batch}, batch)  # pyright: ignore[reportPrivateUsage]


def executed(filled: Filled, count: int) -> Mapping[str, object]:
    batch = filled.commands[:count]
    return execution._execute_parameters(WORKER, {command.shard: OWNED[command.shard] for command in batch}, batch)  # pyright: ignore[reportPrivateUsage]


def marked(filled: Filled, count: int) -> Mapping[str, object]:
    batch = filled.deliveries[:count]
    return {
        "danger": 2,
        "worker": WORKER,
        "shard": [item.shard for item in batch],
        "epoch": [1] * len(batch),
        "webhook_id": [item.webhook_id for item in batch],
        "due_at": [item.due_at for item in batch],
        "event_id": [item.event_id for item in batch],
        "attempt": [item.attempt for item in batch],
    }


def fetched(filled: Filled, count: int) -> Mapping[str, object]:
    """Ten rows of each of as many webhooks as there are, up to the size of the batch."""
    webhook_ids = range(1, min(200, filled.webhook_count, max(1, count // 10)) + 1)
    many = len(webhook_ids)
    return {
        "shard": [webhook_id % 64 for webhook_id in webhook_ids],
        "webhook_id": list(webhook_ids),
        "room": [max(1, count // many)] * many,
        "floor": [NOW - timedelta(days=1)] * many,
        "ahead": [0.0] * many,
        "fresh": [False] * many,
    }


def bodies(filled: Filled, count: int) -> Mapping[str, object]:
    ids = [item.event_id for item in filled.deliveries[:count]]
    return {"ids": ids, "first": min(ids), "last": max(ids)}


def read(filled: Filled, count: int) -> Mapping[str, object]:
    """A reader that is far behind."""
    del filled
    return {
        "shards": list(range(64)),
        "after": [0] * 64,
        "until": [1_000_000] * 64,
        "read_at": NOW + timedelta(days=1),
        "limit": count,
        "limit_per_shard": max(1, count // 64),
    }


def commanded(filled: Filled, count: int) -> Mapping[str, object]:
    del count
    item = filled.deliveries[0]
    return {
        "shard": item.shard, "webhook_id": item.webhook_id, "event_id": new_event_id(), "command": "retry",
        "customer_id": 42, "request_id": "r", "fingerprint": 1, "event_type": "job.completed", "body": b"{}",
        "data_start": 0, **entry_parameters(AUDIT),
    }  # fmt: skip


def positioned(filled: Filled, count: int) -> Mapping[str, object]:
    del filled, count
    return {"start_time": NOW, "later": NOW + timedelta(days=1)}


def shards(filled: Filled, count: int) -> Mapping[str, object]:
    del filled, count
    one = {"shard": 1, "shard_count": 64, "after": 0}
    return {"shards": list(range(64)), "worker": WORKER, "limit": 100, "ttl": 10.0, "retiring": False, **one}


# In the pages: what was deleted a moment ago is still looked at once.
CASES: Final[Mapping[str, Case]] = {
    "publish": Case(publishing.PUBLISH, published, 30, 60),
    "publish to one of a hundred": Case(publishing.PUBLISH, published_to_one_of_a_hundred, 30, 60, once=500),
    "publish one": Case(publishing.PUBLISH_ONE, published_alone, 30, 60, once=500, sizes=(1,)),
    "publish one once": Case(publishing.PUBLISH_ONE_ONCE, published_alone, 30, 60, once=500, sizes=(1,)),
    "settle": Case(settlement.SETTLE, settled, 40, 100),
    "execute": Case(execution.EXECUTE, executed, 60, 150),
    "mark": Case(poison_marks.SET_DANGER, marked, 20, 40),
    "discover": Case(due.SELECT_PENDING_WEBHOOKS, shards, 0, 0, once=5_000, pages_once=30_000, sizes=(1,)),
    # Generic plans are made where JIT is off: behind a pooler nothing is prepared. So what is expected does not matter.
    "oldest due": Case(
        figures.SELECT_OLDEST_DUE, figured, 0, 0, once=10_000, pages_once=30_000, sizes=(1,), cost_max=200_000
    ),
    "count pending": Case(figures.COUNT_PENDING, figured, 0, 0, once=25_000, pages_once=30_000, sizes=(1,)),
    "count webhooks": Case(census.COUNT_SLICE, figured, 0, 0, once=4 * census.SLICE, pages_once=1_000, sizes=(1,)),
    "fetch": Case(due.SELECT_DUE_ROWS, fetched, 10, 20, pages_once=5_000),
    "replaying": Case(due.SELECT_REPLAYING_WEBHOOKS, shards, 0, 0, once=5_000, pages_once=5_000, sizes=(1,)),
    "fetch replays": Case(due.SELECT_DUE_REPLAYS, fetched, 10, 20, pages_once=5_000),
    "bodies": Case(due.SELECT_BODIES, bodies, 10, 20),
    "read": Case(feed.SELECT_CHANGES, read, 20, 40, once=5_000, pages_once=10_000),
    "position at a time": Case(
        feed.SELECT_POSITION_AT, positioned, 0, 0, once=20_000, pages_once=60_000, sizes=(1,), cost_max=1_000_000
    ),
    "end": Case(feed.SELECT_LOG_ENDS, shards, 0, 0, once=5_000, pages_once=10_000, sizes=(1,)),
    "commands": Case(commands.SELECT_WAITING_COMMANDS, shards, 0, 0, once=20_000, pages_once=30_000, sizes=(1,)),
    "misdated": Case(misdated.SELECT_MISDATED_MAY_EXIST, shards, 0, 0, once=5_000, pages_once=5_000, sizes=(1,)),
    "replays": Case(progress.SELECT_UNSETTLED_REPLAYS, shards, 0, 0, once=5_000, pages_once=5_000, sizes=(1,)),
    "ask": Case(commands.INSERT_COMMAND, commanded, 20, 50, sizes=(1,)),
    "ask once": Case(commands.INSERT_COMMAND_ONCE, commanded, 20, 50, sizes=(1,)),
    "ask for a test": Case(commands.INSERT_TEST, commanded, 20, 50, sizes=(1,)),
    "heartbeat": Case(leases.RENEW_LEASE, shards, 10, 20, sizes=(1,)),
    "count processes": Case(leases.COUNT_LIVE_WORKERS, shards, 0, 0, sizes=(1,)),
    "own": Case(leases.SELECT_OWNED_SHARDS, shards, 0, 0, once=200, sizes=(1,)),
}
# Behind a transaction pooler our sessions can't have `enable_bitmapscan = off`. There, if all the queue is of one
# webhook and was analysed while it was drained, what is due of it is sorted for each look; see decision 19.
SORTED_BEHIND_A_POOLER: Final = ("fetch", "fetch replays")
# A pooler's session plans each time and has the server's defaults; our own may keep a plan.
MODES: Final[Mapping[str, LiteralString]] = {
    "custom plan, the server's settings": "SET plan_cache_mode = force_custom_plan; SET enable_bitmapscan = on",
    "generic plan, our settings": "SET plan_cache_mode = force_generic_plan; SET enable_bitmapscan = off",
}


@dataclass
class Server:
    """A Postgres, and the databases that were filled on it so far."""

    make_database: Callable[[str], str]
    filled: dict[int, Filled]


def need_more_postgres(version: str) -> Path:
    """The programs of a Postgres that is neither ours nor the distribution's."""
    programs = MORE_SERVERS / "node_modules" / f"postgres-{version}" / "native" / "bin"
    if not (programs / "initdb").exists():
        # not a failure in CI: not every registry has them
        pytest.skip(f"needs Postgres {version}: make more-postgres")
    return programs


@pytest.fixture(scope="module")
def servers(postgres: TestPostgres) -> Generator[Callable[[str], Server]]:
    """Starts what is asked for, once for all tests here."""
    started: dict[str, Server] = {}
    clusters: list[DistributionPostgres] = []

    def server(name: str) -> Server:
        if name not in started and name == "embedded":
            started[name] = Server(postgres.create_database, {})
        elif name not in started:
            programs = None if name == "distribution" else need_more_postgres(name)
            clusters.append(DistributionPostgres({"autovacuum": "off"}, programs=programs))
            started[name] = Server(clusters[-1].new_database, {})
        return started[name]

    yield server
    for filled in started["embedded"].filled.values() if "embedded" in started else ():
        postgres.drop_database(f"plans_{filled.webhook_count}")
    for cluster in clusters:
        cluster.remove()


async def database_with(server: Server, webhook_count: int) -> Filled:
    if webhook_count not in server.filled:
        url = server.make_database(f"plans_{webhook_count}")
        server.filled[webhook_count] = await fill(url, webhook_count)
    return server.filled[webhook_count]


async def fill(url: str, webhook_count: int) -> Filled:
    migrate(url)
    database = Database(options(url))
    await database.open()
    await ensure_partitions(database)
    await database.close()
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("webhooks", "deliveries", "commands"):
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        for statement in FILL:
            connection.execute(statement, {"webhooks": webhook_count} if "%(" in statement else None)
        connection.execute("VACUUM (ANALYZE)")
    return filled_at(url, webhook_count)


def filled_at(url: str, webhook_count: int) -> Filled:
    """Reads the keys of some of what `fill` made."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT webhook_id, event_id, due_at FROM deliveries ORDER BY event_id DESC LIMIT 1000"
        ).fetchall()
        asked = connection.execute(
            "SELECT command, webhook_id, event_id FROM commands ORDER BY event_id DESC LIMIT 1000"
        ).fetchall()
    deliveries = [PendingDelivery(w, e, due_at, 42, 1, "job.completed", NOW, b"{}") for w, e, due_at in rows]
    return Filled(url, webhook_count, deliveries, [Command(Kind(kind), w, e, 42, 0.0) for kind, w, e in asked])


def excess(case: Case, plan: Plan, count: int) -> str:
    """What a plan did too much, or nothing."""
    rows_max = case.once + case.rows_per_item * 2 * count
    buffers_max = case.pages_once + case.buffers_per_item * 2 * count
    if plan.uses_jit and case.cost_max <= JIT_ABOVE_COST:  # others run once in ten seconds
        return "compiled by JIT"
    if plan.touched > rows_max:
        return f"touched {plan.touched:,.0f} rows, {rows_max:,.0f} at most; worst: {plan.worst()}"
    if plan.buffers > buffers_max:
        return f"looked at {plan.buffers:,} pages, {buffers_max:,.0f} at most"
    return f"expected cost {plan.cost:,.0f}" if plan.cost > case.cost_max else ""


@pytest.mark.slow(4)
@pytest.mark.parametrize(("server_name", "webhook_count"), in_full(PLACES, short=FEW_PLACES))
async def test_no_belief_of_the_planner_makes_a_hot_statement_touch_more_than_its_batch(
    servers: Callable[[str], Server], server_name: str, webhook_count: int
) -> None:
    filled = await database_with(servers(server_name), webhook_count)
    failures = problems(filled)
    assert not failures, "\n".join(f"{name}: {problem}" for name, problem in failures.items())


def problems(filled: Filled) -> dict[str, str]:
    """Every statement that did too much, with the belief and the mode in which it did."""
    found: dict[str, str] = {}
    with psycopg.connect(filled.url) as connection:
        asked = {
            (name, count): Asked.of(case.statement, case.parameters(filled, count), connection)
            for name, case in CASES.items()
            for count in case.sizes
        }
        for belief, statements in BELIEFS.items():
            connection.execute(OURS)
            for statement in statements:
                connection.execute(statement)
            for mode, settings in MODES.items():
                connection.execute(settings)
                for name, case in CASES.items():
                    is_excepted = (
                        name in SORTED_BEHIND_A_POOLER
                        and belief == "analysed while drained"
                        and mode.startswith("custom")
                        and filled.webhook_count == 1
                    )
                    for count in () if is_excepted else case.sizes:
                        plan = explained(connection, asked[name, count])
                        if problem := excess(case, plan, count):
                            found[f"{name} of {count}, {belief}, {mode}"] = problem
            connection.rollback()
    return found


async def test_the_distributions_server_compiles_and_our_connections_do_not(
    servers: Callable[[str], Server],
) -> None:
    """A server that has no JIT would show nothing here."""
    filled = await database_with(servers("distribution"), 1)
    with psycopg.connect(filled.url) as connection:
        [(available, jit)] = connection.execute("SELECT pg_jit_available(), current_setting('jit')").fetchall()
    assert (available, jit) == (True, "on")
    database = Database(options(filled.url))
    await database.open()
    loop = LoopConnection(database.options, "settle")
    shown: LiteralString = (
        "SELECT current_setting('jit'), current_setting('enable_bitmapscan'), current_setting('plan_cache_mode')"
    )
    assert await database.rows(shown) == [("off", "off", "auto")]
    assert await loop.rows(shown) == [("off", "off", "force_custom_plan")]
    await loop.close()
    await database.close()


async def test_a_loop_plans_for_the_queue_as_it_is_not_as_it_was(servers: Callable[[str], Server]) -> None:
    """A plan that was made for a queue of a few rows, and kept, would read the whole queue for each of a batch."""
    filled = await database_with(servers("embedded"), 1)
    connection = await db.connect(options(filled.url), "settle")
    batch = settled(filled, 100)
    async with connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TEMPORARY TABLE deliveries (LIKE deliveries INCLUDING ALL) ON COMMIT DROP")
        await connection.execute("SET LOCAL search_path = pg_temp, webhook_grpc")
        await connection.execute("INSERT INTO deliveries SELECT * FROM webhook_grpc.deliveries LIMIT 1")
        await connection.execute("ANALYZE deliveries")
        for _ in range(10):  # after five psycopg prepares it, after five more Postgres may keep a plan
            await connection.execute(settlement.SETTLE, batch, prepare=True)
        await connection.execute("INSERT INTO deliveries SELECT * FROM webhook_grpc.deliveries ON CONFLICT DO NOTHING")
        reads = "SELECT coalesce(seq_tup_read, 0) FROM pg_stat_xact_user_tables WHERE relid = 'deliveries'::regclass"
        [(before,)] = await (await connection.execute(reads)).fetchall()
        await connection.execute(settlement.SETTLE, {**batch, "last_seqs": [2_000_000] * 64}, prepare=True)
        [(after,)] = await (await connection.execute(reads)).fetchall()
        await connection.execute("ROLLBACK")
    assert after == before
