"""What is older than it is kept goes, and nothing else: no delivery that has not ended, no hole in the log."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.support.past import Past, noon
from tests.support.postgres import TestPostgres
from tests.support.store import (
    CUSTOMER,
    new_event,
    new_webhook,
    new_worker,
    pending,
    publish,
    succeeded,
)
from webhook_grpc.domain.clock import DOUBT_SECONDS_MAX
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties.clear_sealing import ClearSealing
from webhook_grpc.engine.duties.janitor import Janitor
from webhook_grpc.store.clock import look_at_clock
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import feed
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.schema.partitions import day_of, partition_name
from webhook_grpc.store.upkeep import retention

BOTH = ["events", "attempts"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries to detach only once."""
    monkeypatch.setattr(retention, "DETACH_TRIES", 1)


async def drop_both(database: Database, days: int = 30) -> list[str]:
    return [
        name
        for table in ("events", "attempts")
        for name in (await retention.drop_partitions(database, table, days)).dropped
    ]


# --- partitions ------------------------------------------------------------------------------------------------------


async def test_a_day_goes_as_a_whole_when_all_of_it_is_too_old(database: Database, past: Past) -> None:
    older, oldest_kept = await past.day(31), await past.day(30)

    dropped = await drop_both(database, days=30)

    assert sorted(dropped) == [partition_name("attempts", older), partition_name("events", older)]
    assert (past.has(older), past.has(oldest_kept)) == ([], BOTH)
    assert await drop_both(database, days=30) == []


async def test_each_table_is_kept_for_its_own_time(database: Database, past: Past) -> None:
    day = await past.day(40)

    await retention.drop_partitions(database, "events", 30)
    await retention.drop_partitions(database, "attempts", 60)

    assert past.has(day) == ["attempts"]


async def test_many_days_go_in_several_calls_the_oldest_first(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DAYS_PER_CALL", 2)
    days = [await past.day(age) for age in (40, 41, 42)]

    first = await retention.drop_partitions(database, "events", 30)
    second = await retention.drop_partitions(database, "events", 30)

    assert first.dropped == [partition_name("events", day) for day in (days[2], days[1])]
    assert second.dropped == [partition_name("events", days[0])]
    assert (first.has_more, second.has_more) == (True, False)


async def test_what_is_not_delivered_keeps_its_day_and_those_after_it(database: Database, past: Past) -> None:
    before, day, after = await past.day(42), await past.day(41), await past.day(40)
    webhook_id = await new_webhook(database)
    past.delivery(webhook_id, past.event(day), day, due_at=noon(day) + timedelta(days=365))

    for table in ("events", "attempts"):
        result = await retention.drop_partitions(database, table, 30)
        assert result.dropped == [partition_name(table, before)]
        assert result.undelivered == [partition_name(table, day), partition_name(table, after)]
    assert past.has(day) == past.has(after) == BOTH


async def test_what_somebody_asked_for_keeps_its_day(database: Database, past: Past, postgres: TestPostgres) -> None:
    day = await past.day(40)
    webhook_id = await new_webhook(database)
    postgres.rows(
        "INSERT INTO commands VALUES (%s, %s, %s, 'retry', %s, NULL, now())",
        (shard_of(webhook_id), webhook_id, past.event(day), CUSTOMER),
    )

    assert await drop_both(database) == []
    postgres.rows("DELETE FROM commands")
    assert len(await drop_both(database)) == 2


async def test_the_log_of_a_quiet_shard_goes_on_where_it_ended(
    database: Database, connection: LoopConnection, past: Past, postgres: TestPostgres
) -> None:
    """Its last rows are gone: nothing but the shard itself knows how far it was."""
    day = await past.day(40)
    webhook_id = await new_webhook(database)
    shard = shard_of(webhook_id)
    for seq in (1, 2, 3):
        past.attempt(webhook_id, past.event(day), day, seq)

    await drop_both(database)

    assert postgres.rows("SELECT count(*) FROM attempts") == [(0,)]
    worker = new_worker()
    await leases.register(connection, worker, 60)
    owned = await leases.take(connection, worker, 64)
    [delivery] = pending(await publish(connection, new_event()))
    await settle(connection, worker, owned, [succeeded(delivery)])
    assert postgres.rows("SELECT shard, seq FROM attempts") == [(shard, 4)]
    position, _ = await feed.end_position(database)
    assert position[shard] == 4


async def test_how_far_a_log_reached_is_never_set_back(database: Database, past: Past, postgres: TestPostgres) -> None:
    day = await past.day(40)
    webhook_id = await new_webhook(database)
    past.attempt(webhook_id, past.event(day), day, 3)
    postgres.rows("UPDATE shards SET last_seq = 9 WHERE shard = %s", [shard_of(webhook_id)])

    await drop_both(database)

    assert postgres.rows("SELECT last_seq FROM shards WHERE shard = %s", [shard_of(webhook_id)]) == [(9,)]


@pytest.mark.usefixtures("hasty")
async def test_the_log_of_events_that_could_not_be_dropped_is_kept(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    """Without it a replay with include_undelivered would send once more what has succeeded."""
    day = await past.day(40)
    janitor = Janitor(
        database,
        RetentionPolicy(30, 30, 168, 400),
        lambda: True,
        lambda _: None,
        ClearSealing(database, Sealer([bytes(32)])),
    )
    async with await psycopg.AsyncConnection.connect(postgres.url) as reader:
        await reader.execute("LOCK TABLE events IN ACCESS SHARE MODE")
        await janitor.drop_partitions()
        assert past.has(day) == BOTH
    await janitor.drop_partitions()
    assert past.has(day) == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("table", ["events", "attempts"])
async def test_dropping_gives_up_rather_than_make_others_wait(
    database: Database, connection: LoopConnection, past: Past, postgres: TestPostgres, table: str
) -> None:
    """A dump holds its locks for hours. Whoever comes while the lock is waited for queues up behind it."""
    day = await past.day(40)
    await new_webhook(database)
    async with await psycopg.AsyncConnection.connect(postgres.url) as reader:
        await reader.execute("SELECT count(*) FROM events, attempts")  # and its transaction stays open
        dropping = asyncio.create_task(retention.drop_partitions(database, table, 30))  # pyright: ignore[reportArgumentType]
        published = await publish(connection, new_event())
        assert len(pending(published)) == 1
        result = await dropping
        assert result.in_use == [f"{table}_{day:%Y%m%d}"]
        assert result.dropped == []
    assert past.has(day) == BOTH
    assert len(await drop_both(database)) == 2


def test_nobody_waits_100_ms_for_it() -> None:
    """It waits for two locks in turn, the table's and the partition's."""
    assert 2 * retention.DETACH_LOCK_TIMEOUT_MS < 100


@pytest.mark.usefixtures("hasty")
async def test_the_lock_is_waited_for_no_longer(database: Database, past: Past, postgres: TestPostgres) -> None:
    """As Postgres says it itself, whatever the machine: with a limit of an hour this would not end."""
    await past.day(40)
    limits: list[str] = []
    ran = retention._ran  # pyright: ignore[reportPrivateUsage]

    async def noting(database: Database, statement: sql.Composed) -> bool:
        limits.append(statement.as_string(None))
        return await ran(database, statement)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "_ran", noting)
        async with await psycopg.AsyncConnection.connect(postgres.url) as reader:
            await reader.execute("LOCK TABLE attempts IN ROW EXCLUSIVE MODE")
            assert (await retention.drop_partitions(database, "attempts", 30)).in_use
    [limit] = limits
    assert f"'lock_timeout', '{retention.DETACH_LOCK_TIMEOUT_MS}ms', true" in limit


async def test_what_was_detached_and_not_dropped_is_dropped_later(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    """The process ended between the two. Tables of other names, or of days that are kept, are somebody's own."""
    old, recent = await past.day(40), await past.day(3)
    for day in (old, recent):
        postgres.rows(f"ALTER TABLE events DETACH PARTITION {partition_name('events', day)}")  # pyright: ignore[reportArgumentType]
    postgres.rows("CREATE TABLE events_2020010 ()")
    postgres.rows("CREATE TABLE events_20200199 ()")
    postgres.rows("CREATE TABLE events_20200101_archive ()")

    result = await retention.drop_partitions(database, "events", 30)

    assert result.dropped == [partition_name("events", old)]
    assert postgres.rows("SELECT to_regclass(%s) IS NOT NULL", [partition_name("events", recent)]) == [(True,)]
    for name in ("events_2020010", "events_20200199", "events_20200101_archive"):
        postgres.rows(f"DROP TABLE {name}")  # pyright: ignore[reportArgumentType] - still there


async def test_two_leaders_at_once_do_no_harm(database: Database, past: Past) -> None:
    days = [await past.day(age) for age in range(40, 44)]

    await asyncio.gather(*(drop_both(database) for _ in range(2)))
    await drop_both(database)

    assert [past.has(day) for day in days] == [[]] * 4


def test_only_our_own_names_are_days() -> None:
    assert day_of("events", "events_20260229") is None
    assert day_of("events", "events_2026111") is None
    assert day_of("events", "attempts_20261124") is None
    assert str(day_of("events", "events_20261124")) == "2026-11-24"


# --- the rest --------------------------------------------------------------------------------------------------------


async def test_idempotency_keys_are_forgotten_when_their_time_is_over(
    database: Database, connection: LoopConnection, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEYS_PER_BATCH", 2)
    for number in range(5):
        await publish(connection, new_event(request_id=f"order-{number}"))
    postgres.rows(
        "UPDATE idempotency_keys SET created_at = now() - interval '1 hour 1 s' WHERE request_id <> 'order-4'"
    )

    assert await retention.delete_keys(database, hours=2) == 0
    assert [await retention.delete_keys(database, hours=1) for _ in range(3)] == [2, 2, 0]

    [again] = (await publish(connection, new_event(request_id="order-0"))).answers
    [kept] = (await publish(connection, new_event(request_id="order-4"))).answers
    assert (getattr(again, "duplicate", None), getattr(kept, "duplicate", None)) == (False, True)


async def test_replays_that_have_ended_are_kept_as_long_as_the_log(database: Database, postgres: TestPostgres) -> None:
    for status, finished in (("running", None), ("completed", 10), ("completed", 31), ("cancelled", 31)):
        postgres.rows(
            "INSERT INTO replays (customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time,"
            " end_time, status, position, created_at, finished_at) VALUES (42, '{}', '{}', '{}', false, now(), now(),"
            " %s, gen_random_uuid(), now() - interval '40 days', now() - %s * interval '1 day')",
            (status, finished),
        )

    assert await retention.delete_replays(database, days=30) == 2

    assert sorted(postgres.rows("SELECT status FROM replays")) == [("completed",), ("running",)]


async def test_tombstones_of_customers_are_kept_for_longer_than_backups(
    database: Database, postgres: TestPostgres
) -> None:
    postgres.rows(
        "INSERT INTO erasures VALUES (1, now() - interval '500 days', now() - interval '401 days'),"
        " (2, now() - interval '500 days', now() - interval '399 days'), (3, now() - interval '500 days', NULL)"
    )

    assert await retention.delete_erasures(database) == 1

    assert postgres.rows("SELECT customer_id FROM erasures ORDER BY 1") == [(2,), (3,)]


async def test_a_deleted_webhook_is_purged_when_nothing_refers_to_it_any_more(
    database: Database, connection: LoopConnection, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(40)
    with_history, with_pending, with_nothing, recent, active = [await new_webhook(database) for _ in range(5)]
    past.attempt(with_history, past.event(day), day, 1)
    past.delivery(with_pending, uuid4(), day)
    postgres.rows(
        "UPDATE webhooks SET status = 'deleted', updated_at = now() - interval '31 days' WHERE id = ANY(%s)",
        [[with_history, with_pending, with_nothing]],
    )
    postgres.rows("UPDATE webhooks SET status = 'deleted' WHERE id = %s", [recent])
    postgres.rows("UPDATE webhooks SET updated_at = now() - interval '31 days' WHERE id = %s", [active])
    postgres.rows("INSERT INTO webhook_health (webhook_id, breaker) VALUES (%s, 'open')", [with_nothing])

    assert await retention.purge_webhooks(database, days=30) == 1
    assert webhook_ids(postgres) == {with_history, with_pending, recent, active}
    assert postgres.rows("SELECT * FROM webhook_health") == []

    postgres.rows("DELETE FROM deliveries")
    await drop_both(database)
    assert await retention.purge_webhooks(database, days=30) == 2
    assert webhook_ids(postgres) == {recent, active}


def webhook_ids(postgres: TestPostgres) -> set[int]:
    return {webhook_id for (webhook_id,) in postgres.rows("SELECT id FROM webhooks")}


async def test_webhook_logs_tells_of_attempts_whose_events_are_gone(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(40)
    webhook_id = await new_webhook(database)
    past.attempt(webhook_id, past.event(day), day, 1)
    shown = "SELECT webhook_id, payload->>'event', response_status, response_body, retry_count FROM webhook_logs"
    assert postgres.rows(shown) == [(webhook_id, "job.completed", 200, "ok", 0)]

    await retention.drop_partitions(database, "events", 30)
    assert postgres.rows(shown) == [(webhook_id, None, 200, "ok", 0)]

    await retention.drop_partitions(database, "attempts", 30)
    assert postgres.rows(shown) == []


async def test_whether_anything_is_undelivered_is_asked_of_the_whole_outbox(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(40)
    past.delivery(1, UUID(int=5), day)  # an id of 1970

    assert await drop_both(database) == []
    postgres.rows("DELETE FROM deliveries")
    assert len(await drop_both(database)) == 2


# --- a clock that is implausible ------------------------------------------------------------------------------------

JUMP = "UPDATE believed_time SET at = at - interval '40 days'"  # the same as 40 days more of now()


async def test_a_clock_that_jumped_ahead_drops_no_day_and_no_key(
    database: Database, connection: LoopConnection, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(35)
    await publish(connection, new_event(request_id="kept"))
    postgres.rows("UPDATE idempotency_keys SET created_at = created_at - interval '35 days'")
    postgres.rows(JUMP)
    assert await drop_both(database) == []
    assert await retention.delete_keys(database, hours=168) == 0
    await look_at_clock(database, 60)
    assert await drop_both(database) == []
    assert past.has(day) == BOTH


async def test_what_the_service_was_off_for_is_dropped_when_it_has_run_for_a_day(
    database: Database, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(35)
    postgres.rows(JUMP)
    before, after = await look_at_clock(database, 60)
    assert (before.is_doubted, after.is_doubted) == (False, True)
    before, after = await look_at_clock(database, DOUBT_SECONDS_MAX)
    assert (before.is_doubted, after.is_doubted) == (True, False)
    await drop_both(database)
    assert past.has(day) == []
