"""Connections that end, hang or are refused, on real servers; and publishing when its answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.proxy import Proxy, Toxic
from tests.support import slowness
from tests.support.postgres import TestPostgres, query
from tests.support.store import new_event, new_webhook, options, pending, publish
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import Published
from webhook_grpc.domain.progress import Work
from webhook_grpc.store import db
from webhook_grpc.store.connection import failures, liveness
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import Database, DatabaseOptions, LoopConnection, TooFewConnections
from webhook_grpc.store.outbox import publishing

TERMINATE: LiteralString = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'webhook-grpc%' AND pid <> pg_backend_pid()
"""
WAITING: LiteralString = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
SHORT_SECONDS = 0.5


@pytest.fixture
async def proxy(postgres: TestPostgres) -> AsyncGenerator[Proxy]:
    proxy = Proxy.before(postgres.url)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def proxied(proxy: Proxy, database: Database) -> AsyncGenerator[LoopConnection]:
    """A connection by way of the proxy."""
    url = make_conninfo(database.options.conninfo, host="127.0.0.1", port=proxy.port)
    connection = LoopConnection(options(url), "test")
    yield connection
    await connection.close()


def brief(url: str) -> DatabaseOptions:
    """Options with a deadline that is over soon."""
    return DatabaseOptions(url, 2, SHORT_SECONDS, 100, SHORT_SECONDS)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with slowness.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


# --- connections that ended while they rested ------------------------------------------------------------------------


async def test_whatever_is_run_after_the_server_has_ended_all_connections_succeeds(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    """Also what may not be sent twice: nothing was sent on the dead connection."""
    for number in range(3):
        await connection.rows("SELECT 1")
        await database.rows("SELECT 1")
        assert postgres.rows(TERMINATE)[0][0] >= 2
        await connection.rows("UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0")
        await database.rows("UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0")
        assert postgres.rows("SELECT last_seq FROM shards WHERE shard = 0") == [(2 * (number + 1),)]


async def until_cut(loop: LoopConnection) -> None:
    """Waits until the proxy, which shares the event loop, has closed its end."""
    kept = loop._connection  # pyright: ignore[reportPrivateUsage]
    assert kept is not None
    async with slowness.timeout(10):
        while liveness.is_alive(kept):
            await asyncio.sleep(0)


async def test_a_call_that_waits_through_an_outage_is_answered_when_the_server_is_back(
    database: Database, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no other call comes meanwhile, for which the pool would try again."""
    monkeypatch.setattr(db, "_POOL_RETRY_SECONDS", 0.001)
    pool = database._pool  # pyright: ignore[reportPrivateUsage]
    connect, is_away, tried = pool._connect, True, asyncio.Semaphore(0)  # pyright: ignore[reportPrivateUsage]

    async def connecting(*arguments: Any) -> Any:
        tried.release()
        if is_away:
            raise psycopg.OperationalError("Connection refused")
        return await connect(*arguments)

    monkeypatch.setattr(pool, "_connect", connecting)
    postgres.rows(TERMINATE)
    call = asyncio.create_task(database.rows("SELECT 1"))
    async with slowness.timeout(20):
        for _ in range(20):  # more than the pool makes for one call
            await tried.acquire()
    is_away = False
    assert await call == [(1,)]


async def test_a_connection_that_a_proxy_cut_while_it_was_idle_is_replaced(
    proxy: Proxy, proxied: LoopConnection, postgres: TestPostgres
) -> None:
    for number in range(5):
        await proxied.rows("UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0")
        proxy.cut()
        await until_cut(proxied)
        await proxied.rows("UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0")
        assert postgres.rows("SELECT last_seq FROM shards WHERE shard = 0") == [(2 * (number + 1),)]


async def test_a_notice_that_waits_does_not_cost_the_connection(connection: LoopConnection) -> None:
    """Something to read is not yet the end: a notification, say."""
    await connection.rows("LISTEN testing")
    [(before,)] = await connection.rows("SELECT pg_backend_pid()")
    for _ in range(3):
        await asyncio.to_thread(query, connection._options.conninfo, "SELECT pg_notify('testing', 'x')")  # pyright: ignore[reportPrivateUsage]
        await connection.rows("SELECT 1")
    assert await connection.rows("SELECT pg_backend_pid()") == [(before,)]


async def test_a_server_that_became_read_only_is_left_for_another_connection(
    connection: LoopConnection, database: Database
) -> None:
    """As after a failover, when the old primary is a standby: the same statement goes to whoever is the primary now."""
    update: LiteralString = "UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0 RETURNING last_seq"
    await connection.rows("SET default_transaction_read_only = on")
    assert await connection.rows(update) == [(1,)]
    for _ in range(10):  # whichever connections the pool has
        await database.rows("SELECT set_config('default_transaction_read_only', 'on', false)")
    assert await database.rows(update) == [(2,)]


# --- connections that end under a statement --------------------------------------------------------------------------


async def test_the_driver_waits_for_a_statement_without_a_task_and_without_what_belongs_to_one(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    """A statement may be handed to another task as it stands. The driver wakes up every tenth of a second meanwhile."""
    before = asyncio.all_tasks()
    caller = asyncio.create_task(connection.rows("SELECT pg_sleep(0.35), 7"))
    async with slowness.timeout(20):
        while not postgres.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            assert not caller.done()
            await asyncio.sleep(0.01)
    assert asyncio.all_tasks() - before == {caller}
    [(_, seven)] = await caller
    assert seven == 7


async def test_a_read_is_run_again_when_its_connection_ends(proxy: Proxy, proxied: LoopConnection) -> None:
    losing = asyncio.create_task(proxy.lose_answer(b"FROM meta"))
    await asyncio.sleep(0)
    assert await proxied.rows("SELECT count(*) FROM meta") == [(1,)]
    await losing
    assert proxy.lost_answers == 1


async def test_a_write_whose_answer_was_lost_is_not_run_again(
    proxy: Proxy, proxied: LoopConnection, postgres: TestPostgres
) -> None:
    losing = asyncio.create_task(proxy.lose_answer(b"UPDATE shards"))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await proxied.rows("UPDATE shards SET last_seq = last_seq + 1 WHERE shard = 0")
    await losing
    assert postgres.rows("SELECT last_seq FROM shards WHERE shard = 0") == [(1,)]


@pytest.mark.parametrize("keys", [(None, None, None), ("a", "b", "c"), (None, "b", None)], ids=["none", "all", "some"])
async def test_an_event_whose_answer_was_lost_is_stored_once_and_answered_for_as_new(
    keys: tuple[str | None, ...], proxy: Proxy, proxied: LoopConnection, database: Database, postgres: TestPostgres
) -> None:
    webhook_ids = [await new_webhook(database) for _ in range(2)]
    events = [new_event(request_id=key) for key in keys]
    losing = asyncio.create_task(proxy.lose_answer(b"new_keys AS ("))
    await asyncio.sleep(0)
    batch = await publish(proxied, *events)
    await losing
    assert proxy.lost_answers == 1
    created = dict(postgres.rows("SELECT event_id, created_at FROM events"))
    assert batch.answers == [Published(e.event_id, len(webhook_ids), False, created[e.event_id]) for e in events]
    assert postgres.rows("SELECT count(*), count(DISTINCT event_id) FROM deliveries") == [(6, 3)]


async def test_beside_a_lost_answer_an_old_request_id_is_still_a_duplicate(
    proxy: Proxy, proxied: LoopConnection, connection: LoopConnection, database: Database
) -> None:
    await new_webhook(database)
    old = new_event(request_id="old")
    await publish(connection, old)
    losing = asyncio.create_task(proxy.lose_answer(b"new_keys AS ("))
    await asyncio.sleep(0)
    batch = await publish(proxied, new_event(), new_event(request_id="old"), new_event(request_id="new"))
    await losing
    assert [answer.duplicate for answer in batch.answers if isinstance(answer, Published)] == [False, True, False]
    assert isinstance(batch.answers[1], Published)
    assert batch.answers[1].event_id == old.event_id


async def test_a_statement_that_is_still_running_and_its_repetition_store_an_event_once(
    connection: LoopConnection, database: Database, postgres: TestPostgres
) -> None:
    """The connection was lost, the statement was not: it waits for a lock, and its repetition waits for it."""
    await new_webhook(database)
    for keys in ((None, None), ("a", "b")):
        events = [new_event(request_id=key) for key in keys]
        second = LoopConnection(database.options, "test")
        with psycopg.connect(postgres.url) as locker:
            locker.execute("LOCK TABLE deliveries")
            both = [asyncio.create_task(publish(one, *events)) for one in (connection, second)]
            await until(lambda: _are_waiting(postgres, 2))
        first, repeated = await asyncio.gather(*both)
        await second.close()
        assert [answer for answer in first.answers if isinstance(answer, Exception)] == []
        assert first.answers == repeated.answers
        ids = [event.event_id for event in events]
        assert postgres.rows("SELECT count(*) FROM deliveries WHERE event_id = ANY(%s)", [ids]) == [(2,)]


async def test_what_was_delivered_meanwhile_counts_in_a_late_answer(
    connection: LoopConnection, database: Database, postgres: TestPostgres
) -> None:
    await new_webhook(database)
    event = new_event()
    [delivery] = pending(await publish(connection, event))
    postgres.rows("DELETE FROM deliveries")
    postgres.rows(
        "INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type,"
        " event_created_at, status, attempt_count)"
        " VALUES (%s, 1, now(), %s, %s, %s, 'job.completed', %s, 'succeeded', 1)",
        [delivery.webhook_id % 64, delivery.customer_id, delivery.webhook_id, event.event_id, delivery.due_at],
    )
    [answer] = (await publish(connection, event)).answers
    assert answer == Published(event.event_id, 1, False, delivery.due_at)


async def test_values_that_are_refused_are_still_refused(connection: LoopConnection) -> None:
    with pytest.raises(StoreRefusal, match="22021"):
        await publishing.publish(connection, [new_event(request_id="\x00")], [])


async def _are_waiting(postgres: TestPostgres, count: int) -> bool:
    return postgres.rows(WAITING) == [(count,)]


# --- statements that hang --------------------------------------------------------------------------------------------


async def test_a_statement_that_is_given_up_holds_up_neither_its_caller_nor_the_next_one(
    proxy: Proxy, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is silent, so that neither the statement nor its cancellation is answered; psycopg waits for both."""

    async def never_answered(*_: object, **__: object) -> None:
        await asyncio.Event().wait()  # psycopg gives up after five seconds; here that would be too late

    monkeypatch.setattr(psycopg.AsyncConnection, "_try_cancel", never_answered)
    url = make_conninfo(database.options.conninfo, host="127.0.0.1", port=proxy.port)
    connection = LoopConnection(brief(url), "test")
    [(before,)] = await connection.rows("SELECT pg_backend_pid()")
    proxy.set(Toxic.BLACKHOLE)
    async with slowness.timeout(20):
        with pytest.raises(Unavailable):
            await connection.rows("SELECT 1")
    proxy.set(Toxic.NONE)
    [(after,)] = await connection.rows("SELECT pg_backend_pid()")
    assert after != before
    await connection.close()


async def test_a_statement_that_is_given_up_is_ended_on_the_server(
    connection: LoopConnection, database: Database, postgres: TestPostgres
) -> None:
    with psycopg.connect(postgres.url) as locker:
        locker.execute("LOCK TABLE shards")
        caller = asyncio.create_task(connection.rows("UPDATE shards SET last_seq = 7"))
        await until(lambda: _are_waiting(postgres, 1))
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await until(lambda: _are_waiting(postgres, 0))  # long before the lock is released
    assert postgres.rows("SELECT count(*) FROM shards WHERE last_seq = 7") == [(0,)]


# --- too few connections ---------------------------------------------------------------------------------------------


@pytest.fixture
def few(postgres: TestPostgres) -> Iterator[str]:
    """A role that may have six connections."""
    with postgres.role("CONNECTION LIMIT 6") as name:
        yield make_conninfo(postgres.url, user=name)


async def test_the_start_says_how_many_connections_are_needed_when_the_role_may_not_have_them(few: str) -> None:
    opts = options(few)
    for name in ("a", "b", "c"):
        LoopConnection(opts, name)
    with pytest.raises(TooFewConnections, match=r"needs 7 connections .*role `webhook_test_\w+` allows 6"):
        await Database(opts).open()


async def test_the_start_says_how_many_connections_are_needed_when_others_have_them(few: str) -> None:
    others = [await psycopg.AsyncConnection.connect(few) for _ in range(5)]
    opts = options(few)
    for name in ("a", "b"):
        LoopConnection(opts, name)
    try:
        with pytest.raises(TooFewConnections, match=r"needs 6 connections .*too many connections for role"):
            await Database(opts).open()
    finally:
        for other in others:
            await other.close()


# --- what the log says -----------------------------------------------------------------------------------------------


async def test_the_log_says_once_in_postgres_own_words_why_the_database_fails(few: str) -> None:
    others = [await psycopg.AsyncConnection.connect(few) for _ in range(6)]
    opts = options(make_conninfo(few, password="hush"))
    connection, work = LoopConnection(opts, "settle"), opts.progress.work("settle results")
    for _ in range(2):
        assert not await _succeeds(connection, work)
    said = opts.progress.advance(0.0)
    assert not await _succeeds(connection, work)
    said += opts.progress.advance(1.0)
    with pytest.raises(Unavailable) as caught:
        await connection.rows("SELECT 1")
    for other in others:
        await other.close()
    await until(lambda: _succeeds(connection, work))
    for seconds in (2.0, 3.0, 4.0):
        said += opts.progress.advance(seconds)
    assert [(news.message, news.work, news.cause and news.cause.sqlstate) for news in said] == [
        ("the database fails", "settle results", failures.TOO_MANY_CONNECTIONS),
        ("the database answers again", "settle results", None),
    ]
    assert 'too many connections for role "webhook_test_' in repr(said)
    assert "hush" not in repr(said)
    assert "webhook_test_" not in caught.value.message, "callers are not told"
    await connection.close()


async def _succeeds(connection: LoopConnection, work: Work) -> bool:
    try:
        with failures.watched(work):
            await connection.rows("SELECT 1")
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", True),
        ("\nWITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a", False),
        ("SELECT * FROM t FOR UPDATE", False),
        ("SELECT pg_notify('a', 'b')", False),
        ("SELECT nextval('s')", False),
        ("UPDATE t SET a = 1", False),
        ("LISTEN a", False),
    ],
)
def test_only_what_surely_reads_counts_as_a_read(statement: str, expected: bool) -> None:
    assert failures.is_read(statement) is expected
