"""The hot statements are answered from their indexes, however large the tables are.

Each is explained with the parameters that it is run with, on tables with enough rows to make a sequential scan cheaper
only if an index is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres import TestPostgres, query
from tests.support.store import AUDIT, new_event, new_webhook, new_worker, options, succeeded
from webhook_grpc.domain.ids import event_id_time
from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.store import audit
from webhook_grpc.store.audit import entry_parameters
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import explain, feed, lookup, stats
from webhook_grpc.store.outbox import due, expiry, figures, paces, poison_marks, publishing, settlement
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.registry import census, own_headers, resealing, secret_keys, signing_keys, url_queries, webhooks
from webhook_grpc.store.replays import progress, rows, selection
from webhook_grpc.store.schema.partitions import ensure_partitions
from webhook_grpc.store.upkeep import erasure, retention

pytestmark = pytest.mark.xdist_group("query plans")  # one process fills the tables

FILL: tuple[LiteralString, ...] = (
    """
    INSERT INTO deliveries SELECT w % 64, w, now() - n * interval '1 s', gen_random_uuid(), 42, 0
    FROM generate_series(1, 200) w, generate_series(1, 100) n
    """,
    """
    INSERT INTO attempts SELECT w % 64, w * 1000 + n, now(), 42, w, gen_random_uuid(), 'job.completed', now(),
        'succeeded', 1, NULL, 'succeeded', 'scheduled', now(), 5, 'none', 200, NULL
    FROM generate_series(1, 200) w, generate_series(1, 100) n
    """,
    """
    INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events)
    SELECT n / 10, 'n', 'u', '', '', false, '{*}' FROM generate_series(1, 5000) n
    """,
    """
    INSERT INTO events SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 13))::uuid, 42, 'job.completed', now(), now(), '', 0
    FROM generate_series(1, 5000)
    """,
    """
    INSERT INTO audit_entries (created_at, method, caller, source_address, request_id, customer_id, resources, fields,
        result, reason)
    SELECT now(), 'CreateWebhook', 'c', '', '', n % 500, '{}', '{}', 'OK', '' FROM generate_series(1, 5000) n
    """,
    """
    INSERT INTO commands SELECT w % 64, w, gen_random_uuid(), 'replay', 42, w, now()
    FROM generate_series(1, 200) w, generate_series(1, 20)
    """,
    """
    INSERT INTO replays (customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time,
        status, is_settled)
    SELECT n / 10, '{}', '{}', '{}', false, now(), now(),
        CASE WHEN n % 500 = 0 THEN 'running' ELSE 'completed' END, n % 500 <> 0
    FROM generate_series(1, 5000) n
    """,
    """
    INSERT INTO replay_webhooks SELECT r.replay_id, w, gen_random_uuid(), now()
    FROM (SELECT replay_id FROM replays LIMIT 200) r, generate_series(1, 50) w
    """,
    """
    INSERT INTO signing_keys (customer_id, public_key, private_key, created_at, retire_at)
    SELECT n / 2, '', decode('0102030405', 'hex') || int4send(n), now(), CASE WHEN n % 2 = 0 THEN now() + '1 h' END
    FROM generate_series(1, 10000) n
    """,
    "ANALYZE signing_keys",
    "ANALYZE audit_entries",
    "ANALYZE replay_webhooks",
    "ANALYZE commands",
    "ANALYZE replays",
    "ANALYZE events",
    "ANALYZE deliveries",
    "ANALYZE attempts",
    "ANALYZE webhooks",
)


@pytest.fixture(scope="module")
def filled(postgres: TestPostgres) -> TestPostgres:
    """Filled once: the tests only explain."""
    fill(postgres, FILL)
    return postgres


def fill(postgres: TestPostgres, statements: Sequence[LiteralString]) -> None:
    """Makes one webhook by way of the store, and everything else with statements."""

    async def prepare() -> None:
        database = Database(options(postgres.url))
        await database.open()
        await ensure_partitions(database)
        await new_webhook(database)
        await database.close()

    postgres.empty()
    asyncio.run(prepare())
    for statement in statements:
        postgres.rows(statement)


# An index alone answers for pages whose rows everybody sees.
SEEN_BY_ALL: LiteralString = """
SELECT relallvisible >= 0.95 * relpages FROM pg_class WHERE oid = (SELECT tableoid FROM attempts LIMIT 1)
"""


def day_of_rows(postgres: TestPostgres) -> str:
    """The end of the names of the partitions that were filled, which are yesterday's once midnight has passed."""
    [(name,)] = postgres.rows("SELECT tableoid::regclass::text FROM attempts LIMIT 1")
    return name.partition("_20")[2]


def last_event_id(postgres: TestPostgres) -> UUID:
    """The newest event of that day. One of now would be of the next day's partitions, once midnight has passed."""
    [(event_id,)] = postgres.rows("SELECT event_id FROM events ORDER BY event_id DESC LIMIT 1")
    return event_id


def scans(postgres: TestPostgres, statement: LiteralString, parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Every scan of a plan: its kind and its table (today's partition counts as its parent)."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        [(plan,)] = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchall()  # pyright: ignore[reportArgumentType]
    found: list[tuple[str, str]] = []
    filled_on = day_of_rows(postgres)

    def visit(node: dict[str, Any]) -> None:
        table, _, day = node.get("Relation Name", "").partition("_20")
        if table and day in ("", filled_on):  # the other partitions are empty, and read in whatever way
            found.append((node["Node Type"], table))
        for child in node.get("Plans", ()):
            visit(child)

    visit(plan[0]["Plan"])
    return found


def assert_indexed(found: list[tuple[str, str]], *tables: str) -> None:
    for table in tables:
        kinds = {kind for kind, name in found if name == table}
        assert kinds, f"{table} is not read at all"
        assert not any(kind == "Seq Scan" for kind in kinds), f"{table} is read sequentially"


async def test_discover_jumps_through_the_index(filled: TestPostgres) -> None:
    assert_indexed(scans(filled, due.SELECT_PENDING_WEBHOOKS, {"shards": list(range(64))}), "deliveries")


async def test_figures_jump_through_the_index_and_stop_at_their_bound(filled: TestPostgres) -> None:
    shards = list(range(64))
    oldest = {"shards": shards, "webhooks_max": figures.WEBHOOKS_MAX}
    assert_indexed(scans(filled, figures.SELECT_OLDEST_DUE, oldest), "deliveries", "webhooks")
    assert_indexed(scans(filled, figures.COUNT_PENDING, {"shards": shards, "rows_max": 100}), "deliveries")
    assert_indexed(scans(filled, figures.COUNT_FAILING, {"rows_max": 100}), "webhooks")
    assert_indexed(scans(filled, census.COUNT_SLICE, {"after": 100, "limit": census.SLICE}), "webhooks")


async def test_fetch_reads_only_the_next_rows_of_each_webhook(filled: TestPostgres) -> None:
    now = datetime.now(UTC)
    parameters = {"shard": [1], "webhook_id": [1], "room": [10], "floor": [now], "ahead": [0.0], "fresh": [False]}
    assert_indexed(scans(filled, due.SELECT_DUE_ROWS, parameters), "deliveries")


async def test_publish_finds_webhooks_by_customer(filled: TestPostgres) -> None:
    parameters = publishing._publish_parameters([new_event()], [])  # pyright: ignore[reportPrivateUsage]
    assert_indexed(scans(filled, publishing.PUBLISH, parameters), "webhooks")
    alone = publishing._parameters_of_one(new_event(request_id="r"))  # pyright: ignore[reportPrivateUsage]
    assert_indexed(scans(filled, publishing.PUBLISH_ONE, alone), "webhooks")
    assert_indexed(scans(filled, publishing.PUBLISH_ONE_ONCE, alone), "webhooks")


async def test_settle_finds_deliveries_by_their_key(filled: TestPostgres) -> None:
    now = datetime.now(UTC)
    delivery = PendingDelivery(1, UUID(int=1), now, 42, 0, "job.completed", now, b"")
    parameters = settlement._settle_parameters(  # pyright: ignore[reportPrivateUsage]
        new_worker(), {1: OwnedShard(1, 0)}, [succeeded(delivery)]
    )
    assert_indexed(scans(filled, settlement.SETTLE, parameters), "deliveries")


async def test_the_stream_reads_on_from_its_position(filled: TestPostgres) -> None:
    parameters = {
        "shards": [1],
        "after": [5],
        "until": [10**6],
        "read_at": datetime.now(UTC),
        "limit": 100,
        "limit_per_shard": 100,
    }
    assert_indexed(scans(filled, feed.SELECT_CHANGES, parameters), "attempts")


async def test_where_the_log_ends_is_found_without_reading_it(filled: TestPostgres) -> None:
    assert_indexed(scans(filled, feed.SELECT_LOG_ENDS, {}), "attempts")


async def test_a_delivery_is_found_by_its_key(filled: TestPostgres) -> None:
    parameters = lookup.delivery_parameters(42, last_event_id(filled), 1)
    assert_indexed(scans(filled, lookup.SELECT_DELIVERY, parameters), "attempts", "deliveries", "events")


async def test_a_delivery_of_an_event_that_is_gone_is_found_by_the_time_in_its_id(filled: TestPostgres) -> None:
    parameters = lookup.delivery_parameters(42, last_event_id(filled), 1)
    assert_indexed(scans(filled, lookup.SELECT_DELIVERY_OF_DELETED_EVENT, parameters), "attempts", "events")


async def test_marking_finds_deliveries_by_their_key(filled: TestPostgres) -> None:
    parameters = {
        "danger": 2,
        "worker": new_worker(),
        "shard": [1],
        "epoch": [1],
        "webhook_id": [1],
        "due_at": [datetime.now(UTC)],
        "event_id": [UUID(int=1)],
        "attempt": [0],
    }
    assert_indexed(scans(filled, poison_marks.SET_DANGER, parameters), "deliveries")


async def test_a_last_success_is_looked_for_at_the_end_of_a_shards_log_only(filled: TestPostgres) -> None:
    parameters = {"webhook_id": [1], "shard": [1], "until": [1050], "reach": 2000}
    assert_indexed(scans(filled, paces.SELECT_SUCCEEDED_LAST, parameters), "attempts")


async def test_what_the_log_knows_of_a_delivery_is_found_by_its_webhook(filled: TestPostgres) -> None:
    parameters = {"webhook_id": [1], "event_id": [UUID(int=1)]}
    assert_indexed(scans(filled, due.SELECT_LOGGED_TYPES, parameters), "attempts")


async def test_an_event_is_explained_without_reading_a_log(filled: TestPostgres) -> None:
    event_id = last_event_id(filled)
    parameters = {
        "customer_id": 42,
        "event_id": event_id,
        "event_type": "job.completed",
        "event_created_at": event_id_time(event_id),
        "since": event_id_time(event_id),
        "webhooks_max": explain.WEBHOOKS_MAX,
        "deleted_max": explain.DELETED_MAX,
    }
    assert_indexed(scans(filled, explain.SELECT_WEBHOOKS_OF_EVENT, parameters), "webhooks", "attempts", "deliveries")


async def test_the_keys_of_secrets_are_found_without_reading_all_webhooks(filled: TestPostgres) -> None:
    """The looks at webhooks that are sealed with a key, or were, or their headers or queries, jump through an index."""
    assert_indexed(scans(filled, secret_keys.SELECT_KEYS_IN_USE, {"limit": secret_keys.KEYS_MAX}), "webhooks")
    assert_indexed(
        scans(filled, secret_keys.COUNT_WEBHOOKS_OF_KEY, {"head": bytes(5), "limit": secret_keys.COUNTED_MAX}),
        "webhooks",
    )


@pytest.mark.parametrize(
    "statement",
    [
        resealing.SELECT_SECRETS_OF_KEY,
        resealing.SELECT_PREVIOUS_SECRETS_OF_KEY,
        resealing.SELECT_HEADERS_OF_KEY,
        resealing.SELECT_QUERIES_OF_KEY,
        resealing.COUNT_SECRETS_OF_KEY,
    ],
)
async def test_what_is_sealed_with_a_key_is_found_without_reading_all_webhooks(
    filled: TestPostgres, statement: LiteralString
) -> None:
    assert_indexed(scans(filled, statement, {"head": bytes(5), "after": 7, "limit": 200}), "webhooks")


async def test_signing_keys_are_found_by_their_customer_and_by_what_sealed_them(filled: TestPostgres) -> None:
    now = datetime.now(UTC)
    new = signing_keys.NewSigningKey(1, 42, b"", b"")
    parameters = signing_keys._parameters(new)  # pyright: ignore[reportPrivateUsage]
    rotated = {**parameters, **entry_parameters(AUDIT), "overlap_seconds": 3600.0}
    erased = {"customer_id": 42, "requested_at": now}
    assert_indexed(scans(filled, signing_keys.SELECT_SIGNING_KEYS, parameters), "signing_keys")
    assert_indexed(scans(filled, signing_keys.INSERT_FIRST_SIGNING_KEY, parameters), "signing_keys")
    assert_indexed(scans(filled, signing_keys.ROTATE_SIGNING_KEY, rotated), "signing_keys", "webhooks")
    assert_indexed(scans(filled, signing_keys.DELETE_SIGNING_KEYS_OF_CUSTOMER, erased), "signing_keys", "webhooks")
    assert_indexed(scans(filled, webhooks.SELECT_WEBHOOKS_BY_ID, {"ids": [1, 2]}), "signing_keys", "webhooks")
    named = {"ids": [1, 2], "customer_id": 42}
    assert_indexed(scans(filled, webhooks.SELECT_WEBHOOK_STATUSES, named), "webhooks")
    of_key = {"head": b"other", "after": 7, "limit": 200}
    assert_indexed(scans(filled, resealing.SELECT_SIGNING_KEYS_OF_KEY, of_key), "signing_keys")
    sealed = {"id": 7, "before": b"a", "sealed": b"b"}
    assert_indexed(scans(filled, resealing.RESEAL_SIGNING_KEYS, sealed), "signing_keys")


async def test_what_is_in_the_clear_is_found_without_reading_all_webhooks(filled: TestPostgres) -> None:
    assert_indexed(scans(filled, own_headers.SELECT_CLEAR_HEADERS, {"limit": 100}), "webhooks")
    assert_indexed(scans(filled, url_queries.SELECT_CLEAR_QUERIES, {"limit": 100}), "webhooks")


async def test_attempts_are_counted_by_index(filled: TestPostgres) -> None:
    """Else a million of them would be read from as many pages."""
    for _ in range(100):
        query(filled.url, "VACUUM attempts")  # in vain while an autoanalyse has a snapshot
        if query(filled.url, SEEN_BY_ALL) == [(True,)]:
            break
        await asyncio.sleep(0.1)
    now = datetime.now(UTC)
    parameters = {
        "webhook_id": 1,
        "start": now - timedelta(hours=24),
        "end": now,
        "rows_max": stats.COUNTED_ROWS_MAX,
        "final": ["succeeded", "failed", "cancelled", "expired"],
        "percentiles": list(stats.PERCENTILES),
    }
    found = scans(filled, stats.SELECT_WINDOW_NUMBERS, parameters)
    assert {kind for kind, table in found if table == "attempts"} == {"Index Only Scan"}
    found = scans(filled, stats.SELECT_BINS, {**parameters, "width": 3600})
    assert {kind for kind, table in found if table == "attempts"} == {"Index Only Scan"}


async def test_a_backlog_is_counted_from_its_index(filled: TestPostgres) -> None:
    parameters = {"webhook_id": 1, "shard": 1, "rows_max": stats.COUNTED_ROWS_MAX}
    assert_indexed(scans(filled, stats.SELECT_BACKLOG, parameters), "deliveries")


async def test_the_newest_entries_of_the_audit_are_found_by_index(filled: TestPostgres) -> None:
    page = {"before": 2**63 - 1, "limit": 50}
    assert_indexed(scans(filled, audit.SELECT_AUDIT_ENTRIES, page), "audit_entries")
    of_two = scans(filled, audit.SELECT_AUDIT_ENTRIES_OF, {**page, "customer_ids": [42, 43]})
    assert_indexed(of_two, "audit_entries")


REPLAY: dict[str, Any] = {"customer_id": 42, "webhook_ids": [], "replay_id": 7, "shard_count": 64}


async def test_the_replays_to_attend_to_and_whether_something_waits_are_found_by_index(filled: TestPostgres) -> None:
    parameters = {**REPLAY, "shards": list(range(64)), "after": 0, "limit": 100}
    found = scans(filled, progress.SELECT_UNSETTLED_REPLAYS, parameters)
    assert_indexed(found, "replays", "replay_webhooks", "commands", "deliveries")


async def test_what_waits_for_each_webhook_of_a_replay_is_counted_by_index(filled: TestPostgres) -> None:
    found = scans(filled, progress.SELECT_WEBHOOKS_WITH_ROOM, {**REPLAY, "pending_max": 100, "limit": 8})
    assert_indexed(found, "replay_webhooks", "webhooks", "commands", "deliveries")


async def test_the_webhooks_that_something_is_replayed_to_are_found_by_jumps(filled: TestPostgres) -> None:
    found = scans(filled, due.SELECT_REPLAYING_WEBHOOKS, {"shards": list(range(64))})
    assert_indexed(found, "deliveries", "webhooks")


async def test_the_webhooks_of_a_new_replay_are_found_by_their_customer(filled: TestPostgres) -> None:
    assert_indexed(scans(filled, selection.SELECT_CHOSEN_WEBHOOKS, REPLAY), "webhooks")


async def test_a_replay_goes_through_the_events_of_its_customer_in_their_order(filled: TestPostgres) -> None:
    wanted = {"position": UUID(int=0), "end_position": UUID(int=2**128 - 1), "limit": 100}
    assert_indexed(scans(filled, selection.SELECT_NEXT_EVENTS_OF_REPLAY, {**REPLAY, **wanted}), "events")


async def test_a_replay_finds_where_each_delivery_stands_by_its_key(filled: TestPostgres) -> None:
    event_ids = [last_event_id(filled)] * 100
    parameters = {
        **REPLAY,
        "webhook_ids": [1],
        "event_id": event_ids,
        "created_at": [event_id_time(event_ids[0])] * 100,
        "patterns": ["job.completed job.* *"] * 100,
        "statuses": ["failed"],
        "include_undelivered": True,
    }
    assert_indexed(scans(filled, selection.CHOOSE_DELIVERIES, parameters), "attempts", "deliveries", "webhooks")


async def test_a_replay_goes_on_and_ends_by_its_keys(filled: TestPostgres) -> None:
    step = {"webhook_id": 1, "expected": UUID(int=0), "position": UUID(int=1), "event_id": [UUID(int=1)]}
    assert_indexed(scans(filled, progress.ADVANCE_REPLAY, {**REPLAY, **step}), "replays", "replay_webhooks")
    assert_indexed(scans(filled, progress.SWEEP_REPLAY, REPLAY), "replays", "commands", "deliveries")
    tables = ("replays", "replay_webhooks", "commands", "deliveries", "attempts")
    assert_indexed(scans(filled, progress.FINISH_REPLAY, REPLAY), *tables)


async def test_the_numbers_of_replays_are_found_by_index(filled: TestPostgres) -> None:
    tables = ("replays", "replay_webhooks", "commands", "deliveries", "attempts")
    assert_indexed(scans(filled, rows.SELECT_REPLAY, REPLAY), *tables)
    listing = {"customer_id": 42, "before": 2**62, "statuses": None, "limit": 50}
    assert_indexed(scans(filled, rows.SELECT_REPLAYS, listing), *tables)


async def test_what_is_overdue_is_looked_for_shard_by_shard_and_only_among_old_events(filled: TestPostgres) -> None:
    bound = UUID(int=1 << 80)
    assert scans(filled, expiry.SELECT_OVERDUE_EXIST, {"bound": bound}) == [], "no partition is that old"
    parameters = {
        "shard": 1,
        "bound": bound,
        "after_webhook": 0,
        "after_due_at": datetime(2000, 1, 1, tzinfo=UTC),
        "after_event": UUID(int=0),
        "limit": 100,
    }
    assert_indexed(scans(filled, expiry.SELECT_OVERDUE_ROWS, parameters), "deliveries")


async def test_how_far_a_log_reaches_is_kept_without_reading_it(filled: TestPostgres) -> None:
    assert_indexed(scans(filled, retention.KEEP_LAST_SEQS, {"before": datetime(2100, 1, 1, tzinfo=UTC)}), "attempts")


async def test_a_customer_is_erased_by_way_of_indexes(filled: TestPostgres) -> None:
    parameters = {
        "customer_id": 42,
        "requested_at": datetime.now(UTC),
        "event_bound": UUID(int=2**128 - 1),
        "log_rows": 100,
        "events": 100,
        "keys": 100,
    }
    assert_indexed(scans(filled, erasure.BLANK_LOG, parameters), "attempts", "webhooks")
    assert_indexed(scans(filled, erasure.DELETE_EVENTS_OF_CUSTOMER, parameters), "events")
    assert_indexed(scans(filled, erasure.SELECT_IS_PENDING, parameters), "deliveries", "webhooks")
    assert_indexed(scans(filled, erasure.DELETE_WEBHOOKS_OF_CUSTOMER, parameters), "deliveries", "attempts", "webhooks")
