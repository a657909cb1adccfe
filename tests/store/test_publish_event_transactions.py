"""publish_event in the application's transaction: all of it or nothing, once for a request_id, in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.api.asking import until
from tests.support.application import Connection, application, publish_event, stored_id
from tests.support.postgres import TestPostgres, query
from tests.support.store import (
    AUDIT,
    CUSTOMER,
    new_event,
    new_webhook,
    new_worker,
    options,
    pending,
    publish,
    succeeded,
)
from webhook_grpc.domain.model import Published, WebhookStatus
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions

WAITING: LiteralString = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
COUNTS: LiteralString = """
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries), (SELECT count(*) FROM idempotency_keys)
"""
LAST_PARTITION: LiteralString = """
SELECT max(c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass
"""


@pytest.fixture
async def app(database: Database, postgres: TestPostgres) -> AsyncGenerator[Connection]:
    """An application, on a database with partitions and a webhook."""
    await new_webhook(database)
    with application(postgres.url) as connection:
        yield connection


@pytest.fixture
def other_app(postgres: TestPostgres) -> Generator[Connection]:
    """Another session of the application."""
    with application(postgres.url) as connection:
        yield connection


# --- all of it or nothing --------------------------------------------------------------------------------------------


def test_nobody_sees_an_event_before_its_transaction_commits(app: Connection, postgres: TestPostgres) -> None:
    publish_event(app, request_id="r")

    assert postgres.rows(COUNTS) == [(0, 0, 0)]
    app.commit()
    assert postgres.rows(COUNTS) == [(1, 1, 1)]


def test_what_is_rolled_back_never_existed(app: Connection, postgres: TestPostgres) -> None:
    first = publish_event(app, request_id="r")
    app.rollback()

    assert postgres.rows(COUNTS) == [(0, 0, 0)]
    again = publish_event(app, request_id="r", data="[]")
    app.commit()
    assert again != first, "the request_id was not used"
    assert postgres.rows("SELECT event_id FROM events") == [(stored_id(again),)]


def test_a_savepoint_that_is_rolled_back_takes_its_events_along(app: Connection, postgres: TestPostgres) -> None:
    kept = publish_event(app)
    with pytest.raises(psycopg.errors.InvalidParameterValue), app.transaction():
        publish_event(app)
        publish_event(app, customer_id=0)
    app.commit()

    assert postgres.rows("SELECT event_id FROM events") == [(stored_id(kept),)]
    assert postgres.rows("SELECT event_id FROM deliveries") == [(stored_id(kept),)]


def test_a_statement_may_publish_many(app: Connection, postgres: TestPostgres) -> None:
    cursor = app.execute(
        "SELECT publish_event(%s, 'job.completed', json_build_object('n', n), 'order-' || n)"
        " FROM generate_series(1, 500) n",
        [CUSTOMER],
    )
    event_ids = [event_id for (event_id,) in cursor.fetchall()]
    app.commit()

    assert len(set(event_ids)) == 500
    assert event_ids == sorted(event_ids)
    assert postgres.rows(COUNTS) == [(500, 500, 500)]


# --- once for a request_id -------------------------------------------------------------------------------------------


def test_the_same_event_again_gives_the_id_of_the_first(app: Connection, postgres: TestPostgres) -> None:
    first = publish_event(app, request_id="r")
    assert publish_event(app, request_id="r") == first, "in the same transaction"
    app.commit()
    assert publish_event(app, request_id="r") == first, "in a later one"
    app.commit()

    assert postgres.rows(COUNTS) == [(1, 1, 1)]
    assert publish_event(app, request_id="r", customer_id=CUSTOMER + 1) != first, "each customer has its own"


@pytest.mark.parametrize("other", [{"data": '{"job_id": "job-abc123"}'}, {"event_type": "job.failed"}], ids=str)
def test_a_different_event_with_the_same_request_id_is_refused(
    app: Connection, postgres: TestPostgres, other: dict[str, str]
) -> None:
    publish_event(app, request_id="order-42-paid")
    app.commit()

    with pytest.raises(psycopg.errors.UniqueViolation, match="order-42-paid was used before") as caught:
        publish_event(app, request_id="order-42-paid", **other)

    assert caught.value.diag.message_hint
    app.rollback()
    assert postgres.rows(COUNTS) == [(1, 1, 1)]


def test_a_repetition_is_known_when_the_event_itself_is_not_kept_any_more(app: Connection) -> None:
    first = publish_event(app, request_id="r")
    app.execute("DELETE FROM events")

    assert publish_event(app, request_id="r") == first
    with pytest.raises(psycopg.errors.UniqueViolation):
        publish_event(app, request_id="r", data="[]")


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_second_transaction_with_the_request_id_waits_for_the_first(
    app: Connection, other_app: Connection, postgres: TestPostgres, ending: str
) -> None:
    first = publish_event(app, request_id="r")
    waiting = asyncio.create_task(asyncio.to_thread(publish_event, other_app, request_id="r"))
    await until(lambda: postgres.rows(WAITING) == [(1,)])

    getattr(app, ending)()
    second = await waiting
    other_app.commit()

    assert (second == first) is (ending == "commit")
    assert postgres.rows("SELECT event_id FROM events") == [(stored_id(second),)]
    assert postgres.rows(COUNTS) == [(1, 1, 1)]


def test_a_snapshot_from_before_the_first_event_is_told_to_start_anew(app: Connection, other_app: Connection) -> None:
    """As with every unique key under REPEATABLE READ: it may not see the first event, and must not make a second."""
    other_app.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    other_app.execute("SELECT 1")
    first = publish_event(app, request_id="r")
    app.commit()

    with pytest.raises(psycopg.errors.SerializationFailure):
        publish_event(other_app, request_id="r")
    other_app.rollback()
    assert publish_event(other_app, request_id="r") == first


# --- in nobody's way -------------------------------------------------------------------------------------------------


async def test_an_open_transaction_with_a_request_id_keeps_nobody_from_publishing(
    app: Connection, connection: LoopConnection
) -> None:
    """PublishEvent answers many callers with one statement: if that waited for an application, all of them would."""
    theirs = publish_event(app, request_id="r")

    batch = await publish(connection, new_event(request_id="r"), new_event(request_id="s"), new_event())
    app.commit()
    again = await publish(connection, new_event(request_id="r"))

    assert [isinstance(answer, Published) and not answer.duplicate for answer in batch.answers] == [True] * 3
    [repeated], first = again.answers, batch.answers[0]
    assert isinstance(first, Published)
    assert repeated == replace(first, duplicate=True)
    assert stored_id(theirs) != first.event_id, "request_ids of the function are its own"


async def test_an_open_transaction_keeps_nobody_from_changing_webhooks_settling_or_making_partitions(
    app: Connection, database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    """Each of these would be Unavailable if it waited."""
    earlier = pending(await publish(connection, new_event()))
    [(name,)] = await database.rows(LAST_PARTITION)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    worker = new_worker()
    await leases.register(connection, worker, 60)
    shards = await leases.take(connection, worker, 64)
    publish_event(app, request_id="r")

    [webhook] = await webhooks.list_page(database, CUSTOMER, [], 2**62, 10)
    await webhooks.set_status(database, webhook, WebhookStatus.PAUSED, [WebhookStatus.ACTIVE], audit=AUDIT)
    assert (await settle(connection, worker, shards, [succeeded(delivery) for delivery in earlier])).changed_count == 1
    assert await ensure_partitions(database) == [name]

    app.commit()
    assert await database.rows(COUNTS) == [(2, 1, 1)]


# --- who may ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def role(postgres: TestPostgres) -> Generator[str]:
    """A role that may connect, and nothing else."""
    with postgres.role() as name:
        yield name


def become(connection: Connection, role: str) -> None:
    connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
    connection.commit()


def grant(postgres: TestPostgres, role: str) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION publish_event TO {}").format(sql.Identifier(role)))


def test_a_role_needs_to_be_allowed_and_then_needs_nothing_else(
    app: Connection, postgres: TestPostgres, role: str
) -> None:
    become(app, role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="publish_event"):
        publish_event(app)
    app.rollback()

    grant(postgres, role)

    event_id = publish_event(app, request_id="r")
    app.commit()
    assert postgres.rows("SELECT event_id FROM deliveries") == [(stored_id(event_id),)]
    for table in ("events", "deliveries", "webhooks", "idempotency_keys", "event_types"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(table)))
        app.rollback()


def test_tables_and_functions_of_the_callers_own_do_not_fool_it(
    app: Connection, postgres: TestPostgres, role: str
) -> None:
    grant(postgres, role)
    for table in ("events", "deliveries", "webhooks", "event_types", "idempotency_keys"):
        app.execute(sql.SQL("CREATE TEMP TABLE {} (LIKE {})").format(*[sql.Identifier(table)] * 2))
        app.execute(sql.SQL("GRANT ALL ON pg_temp.{} TO PUBLIC").format(sql.Identifier(table)))
    become(app, role)
    app.execute("CREATE FUNCTION pg_temp.event_patterns(text) RETURNS text[] LANGUAGE sql AS 'SELECT NULL::text[]'")
    app.execute("SET search_path = pg_temp, webhook_grpc")

    event_id = publish_event(app, request_id="r")
    app.commit()

    assert app.execute("SELECT count(*) FROM events").fetchall() == [(0,)]
    assert postgres.rows("SELECT event_id FROM deliveries") == [(stored_id(event_id),)]
    assert postgres.rows(COUNTS) == [(1, 1, 1)]


async def test_in_a_schema_of_its_own_it_is_called_by_its_full_name(postgres: TestPostgres, worker_id: str) -> None:
    name = f"webhook_test_cell_{worker_id}"
    plain_url = postgres.create_database(name)
    query(plain_url, 'CREATE SCHEMA "Cell-1"')
    migrate(cell_url := make_conninfo(plain_url, options='-c search_path="Cell-1"'))
    database = Database(options(cell_url))
    await database.open()
    await ensure_partitions(database)
    await new_webhook(database)
    await database.close()

    [[event_id]] = query(plain_url, """SELECT "Cell-1".publish_event(42, 'job.completed', '{}')""")

    assert query(cell_url, "SELECT event_id FROM deliveries") == [(stored_id(event_id),)]
    postgres.drop_database(name)
