"""What roles, databases and clusters set does not change what we promise, nor how we read answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import AsyncConnection, sql
from webhook.v1 import service_pb2 as pb

from tests.field.conftest import Field, new_field
from tests.support.distribution import DistributionPostgres
from tests.support.postgres import query
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, ServiceFactory
from tests.support.store import options
from webhook_grpc.store.connection.server_checks import UnsuitableServer, durability_warnings
from webhook_grpc.store.connection.session import REQUIRED
from webhook_grpc.store.db import LoopConnection, connect
from webhook_grpc.store.schema.migrate import check_schema

Start = Callable[[str], ServiceFactory]

# Each is something that an operator may have set for a reason of his own.
HOSTILE = {
    "synchronous_commit": "off",
    "jit": "on",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "array_nulls": "off",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "300",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "300",
    "idle_session_timeout": "300",
    "exit_on_error": "on",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "plan_cache_mode": "force_generic_plan",
}


async def settings_of(connection: AsyncConnection[Any], *names: str) -> dict[str, str]:
    cursor = await connection.execute("SELECT n, current_setting(n) FROM unnest(%s::text[]) n", [list(names)])
    return dict(await cursor.fetchall())


async def test_every_connection_has_our_settings_whatever_the_role_has(field: Field) -> None:
    field.alter(**HOSTILE)
    async with await connect(options(field.url), "settle") as connection:
        found = await settings_of(connection, *REQUIRED, "synchronous_commit", "client_encoding", "application_name")
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        deadlines = "SELECT name, setting::integer FROM pg_settings WHERE name = ANY(%s)"
        cursor = await connection.execute(deadlines, [[*names]])
        deadlines_ms = dict(await cursor.fetchall())
    ours = {"synchronous_commit": "on", "client_encoding": "UTF8", "application_name": "webhook-grpc settle"}
    assert found == {**REQUIRED, **ours}
    client_seconds = options(field.url).statement_timeout_seconds
    assert deadlines_ms.pop("lock_timeout") == int(client_seconds * 900), "then Postgres says that it was a lock"
    assert set(deadlines_ms.values()) == {int((client_seconds + 1) * 1000)}, "a second more than the client's deadline"


@pytest.mark.parametrize(
    ("given", "kept"), [("remote_apply", "remote_apply"), ("remote_write", "on"), ("local", "on"), ("off", "on")]
)
async def test_a_stricter_synchronous_commit_is_kept_and_a_weaker_one_is_not(
    field: Field, given: str, kept: str
) -> None:
    field.alter(synchronous_commit=given)
    async with await connect(options(field.url), "publish") as connection:
        assert await settings_of(connection, "synchronous_commit") == {"synchronous_commit": kept}


async def test_names_lead_to_our_schema_whatever_is_made_before_it_later(field: Field) -> None:
    query(field.admin_url, sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(sql.Identifier(field.role)))
    async with await connect(options(field.url), "start") as connection:
        assert await settings_of(connection, "search_path") == {"search_path": "webhook_grpc, pg_temp"}


async def test_the_service_works_for_a_role_with_every_hostile_setting(
    distribution: DistributionPostgres, receiver: Receiver, services_on: Start
) -> None:
    """In a database whose language folds I otherwise, and sorts punctuation otherwise than C."""
    field = new_field(distribution, "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'")
    field.alter(**HOSTILE)
    service = await services_on(field.url).start()
    webhook = await service.create_webhook(receiver.url(), name="naïve 通知", max_in_flight=5)
    async with service.watching() as watch:
        first = [await service.publish('{"text":"Grüße, 世界"}', request_id=f"r{number}") for number in range(20)]
        again = await service.publish('{"text":"Grüße, 世界"}', request_id="r0")
        await watch.until_ended(20)
    assert (again.event_id, again.duplicate) == (first[0].event_id, True)
    assert len(receiver.requests) == 20
    listed = await service.stub.ListDeliveries(pb.ListDeliveriesRequest(customer_id=CUSTOMER))
    assert len(listed.deliveries) == 20
    found = await service.stub.GetWebhook(pb.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id))
    assert found.name == "naïve 通知"


async def test_what_was_acknowledged_outlives_a_crash_where_commits_are_asynchronous(services_on: Start) -> None:
    server = DistributionPostgres({"wal_writer_delay": "10s"})  # the loss, if there is one, is certain
    try:
        field = new_field(server)
        field.alter(synchronous_commit="off")
        service = await services_on(field.url).start()
        event_ids = [(await service.publish()).event_id for _ in range(5)]
        server.stop("immediate")
        server.start()
        [(count,)] = query(field.url, "SELECT count(*) FROM events")
        assert count == len(event_ids)
    finally:
        server.remove()


# --- what is refused or warned of ------------------------------------------------------------------------------------


async def warnings_of(url: str) -> list[str]:
    connection = LoopConnection(options(url), "test")
    try:
        return await durability_warnings(connection)
    finally:
        await connection.close()


async def test_a_server_that_may_lose_commits_is_warned_of(distribution: DistributionPostgres) -> None:
    url = distribution.url
    [warning] = await warnings_of(url)
    assert warning.startswith("fsync=off: a crash of the machine can lose acknowledged events")
    for setting in ("fsync = on", "full_page_writes = off"):
        query(url, sql.SQL(f"ALTER SYSTEM SET {setting}").format())
    query(url, "SELECT pg_reload_conf()")
    try:
        [warning] = await warnings_of(url)
        assert warning.startswith("full_page_writes=off")
    finally:
        query(url, "ALTER SYSTEM RESET ALL")
        query(url, "SELECT pg_reload_conf()")


async def test_health_checks_carry_the_warning_in_their_details(field: Field, services_on: Start) -> None:
    service = await services_on(field.url).start()
    channel: Any = service.channel
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    call = check(b"", timeout=30)
    await call
    trailing = dict(await call.trailing_metadata())
    assert trailing["webhook-warning"].startswith("fsync=off")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_text_is_refused(
    distribution: DistributionPostgres, encoding: str
) -> None:
    url = distribution.new_database(f"webhook_{encoding.lower()}", encoding)
    with pytest.raises(UnsuitableServer, match=f"encoding {encoding}, which cannot hold every text"):
        check_schema(url)


async def test_a_read_only_role_is_refused(field: Field) -> None:
    field.alter(default_transaction_read_only="on")
    with pytest.raises(UnsuitableServer, match="read-only"):
        check_schema(field.url)
