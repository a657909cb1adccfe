"""The service under a role that can change no table: it lives through days, and is refused what it does not need."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Generator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import LiteralString, cast

import grpc
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.api.asking import METHODS, ask, code_of, furnish, valid_requests
from tests.api.asking import REFUSED as REFUSED_ANYWAY
from tests.cli.running import Program
from tests.support.distribution import DistributionPostgres
from tests.support.postgres import TestPostgres, query
from tests.support.receiver import Receiver
from tests.support.roles import block
from tests.support.service import SECRET_KEY, ServiceFactory
from tests.support.store import options
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.connection.server_facts import RIGHTS, look_at_role
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema.migrate import check_schema, migrate
from webhook_grpc.store.schema.migration_files import FOLDER
from webhook_grpc.store.schema.partitions import DAYS_AHEAD, ensure_partitions, partition_name
from webhook_grpc.store.upkeep.bloat import vacuum_outbox
from webhook_grpc.store.upkeep.retention import drop_partitions
from webhook_grpc.store.upkeep.statistics import analyse_small_tables

REFUSED: tuple[LiteralString, ...] = (
    "CREATE TABLE mine ()",
    "ALTER TABLE events ADD COLUMN mine text",
    "DROP TABLE webhooks",
    "TRUNCATE events",
    "CREATE INDEX ON webhooks (name)",
    "ALTER TABLE attempts DISABLE TRIGGER ALL",
    "UPDATE webhook_migrations SET steps_done = 0",
    "UPDATE audit_entries SET caller = 'somebody else'",
    "DELETE FROM audit_entries",
    "TRUNCATE audit_entries",
    "INSERT INTO audit_entries SELECT * FROM audit_entries ON CONFLICT (entry_id) DO UPDATE SET caller = 'x'",
    "CREATE OR REPLACE FUNCTION drop_partition(parent text, day date) RETURNS void LANGUAGE sql AS 'SELECT'",
)
MISUSED: tuple[LiteralString, ...] = (
    "SELECT make_partition('webhooks', current_date)",
    "SELECT make_partition('events; DROP TABLE webhooks', current_date)",
    "SELECT make_partition(NULL, current_date)",
    "SELECT make_partition('events', current_date + 30)",
    "SELECT make_partition('events', current_date - 500)",
    "SELECT detach_partition('events', current_date + 1)",
    "SELECT detach_partition('webhooks', current_date - 9)",
    "SELECT drop_partition('events', current_date + 2)",
    "SELECT drop_partition('meta', NULL)",
    "SELECT analyse_table('pg_catalog.pg_class')",
    "SELECT analyse_table(NULL)",
    "SELECT delete_audit_entries(29, 100)",
    "SELECT delete_audit_entries(NULL, 100)",
    "SELECT delete_audit_entries(30, 10001)",
)


@dataclass(frozen=True)
class Roles:
    """A database whose tables belong to one role, and that another one uses."""

    admin: str
    owner: str
    service: str


def in_two_roles(admin: str) -> Generator[Roles]:
    owner, service = (f"webhook_test_{secrets.token_hex(6)}" for _ in range(2))
    query(admin, block("roles", owner, service))
    try:
        migrate(make_conninfo(admin, user=owner))
        query(admin, block("roles after migrate", owner, service))
        yield Roles(admin, make_conninfo(admin, user=owner), make_conninfo(admin, user=service))
    finally:
        for role in (service, owner):
            query(admin, cast("LiteralString", f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))


@pytest.fixture(params=["embedded", "distribution"])
def roles(
    request: pytest.FixtureRequest, postgres: TestPostgres, distribution: DistributionPostgres
) -> Generator[Roles]:
    name = f"webhook_test_roles_{secrets.token_hex(4)}"
    if request.param == "distribution":
        yield from in_two_roles(distribution.new_database(name))
        return
    admin = postgres.create_database(name)
    try:
        yield from in_two_roles(admin)
    finally:
        postgres.drop_database(name)


def today_of(roles: Roles) -> date:
    [(today,)] = query(roles.admin, "SELECT (now() AT TIME ZONE 'UTC')::date")
    return today


def sqlstate_of(url: str, statement: LiteralString) -> str | None:
    """Returns what a statement is refused with."""
    with pytest.raises(psycopg.Error) as raised:
        query(url, statement)
    return raised.value.sqlstate


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("housekeeping_by_hand")  # else the service makes the partition that the test has dropped
async def test_the_service_lives_through_days_under_a_role_that_can_change_no_table(
    roles: Roles, receiver: Receiver, tmp_path: Path
) -> None:
    check_schema(roles.service)
    services = ServiceFactory(roles.service, tmp_path)
    service = await services.start()
    database = service.app.database
    try:
        await service.create_webhook(receiver.url("/two"))
        await service.publish()
        await receiver.wait_for(1, "/two")

        # a day later: the last day of the week ahead is missing
        today = today_of(roles)
        last = partition_name("events", today + timedelta(days=DAYS_AHEAD))
        query(roles.owner, cast("LiteralString", f"DROP TABLE {last}"))
        assert await ensure_partitions(database) == [last]

        old = today - timedelta(days=40)
        for table in ("events", "attempts"):
            query(roles.owner, cast("LiteralString", f"SELECT make_partition('{table}', '{old}')"))
            assert (await drop_partitions(database, table, 30)).dropped == [partition_name(table, old)]

        query(roles.admin, "UPDATE pg_class SET reltuples = -1 WHERE oid = 'meta'::regclass")
        assert await analyse_small_tables(database) == []
        assert query(roles.admin, "SELECT reltuples FROM pg_class WHERE oid = 'meta'::regclass") == [(1.0,)]
        for step in service.app.engine.janitor.steps:
            await step.run()
        await service.publish()
        await receiver.wait_for(2, "/two")
    finally:
        await services.stop()


@pytest.mark.slow
@pytest.mark.parametrize("roles", ["embedded"], indirect=True)
async def test_each_method_is_served_under_that_role(roles: Roles, tmp_path: Path) -> None:
    """All of tests/api, engine and http runs under it in `make test-long`, by WEBHOOK_TEST_ROLE=runtime."""
    services = ServiceFactory(roles.service, tmp_path)
    service = await services.start(replays_per_customer_max=1000, replay_poll_seconds=60.0)
    try:
        for method in sorted(METHODS, key="DeleteCustomerData".__eq__):  # last: what is to be erased takes no calls
            request = valid_requests(await furnish(service))[method]
            wanted = grpc.StatusCode.FAILED_PRECONDITION if method in REFUSED_ANYWAY else grpc.StatusCode.OK
            assert await code_of(ask(service, method, request)) is wanted, method
    finally:
        await services.stop()


@pytest.mark.slow
async def test_it_may_vacuum_the_outbox_where_postgres_can_grant_that(roles: Roles) -> None:
    database = Database(options(roles.service))
    await database.open()
    try:
        with pytest.raises(Unavailable, match="who has MAINTAIN"):
            await vacuum_outbox(database, -1)
        grant = cast("LiteralString", f"GRANT MAINTAIN ON deliveries TO {conninfo_to_dict(roles.service)['user']}")
        [(version,)] = query(roles.admin, "SELECT current_setting('server_version_num')::int")
        if version >= 170_000:
            query(roles.owner, grant)
            assert await vacuum_outbox(database, -1) == 0
    finally:
        await database.close()


@pytest.mark.slow
def test_that_role_is_refused_what_the_service_does_not_need(roles: Roles) -> None:
    assert {sqlstate_of(roles.service, statement) for statement in REFUSED} == {"42501"}
    query(roles.service, "SELECT make_partition('events', current_date + 2)")
    assert {sqlstate_of(roles.service, statement) for statement in MISUSED} == {"22023"}
    with psycopg.connect(roles.service, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE events (mine text)")
        connection.execute("SET search_path = pg_temp, webhook_grpc")
        today = today_of(roles)
        connection.execute("SELECT make_partition('events', %s)", [today])
    name = partition_name("events", today)
    made = "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = %s::regclass"
    assert query(roles.admin, made, [name]) == [("events",)], "not of the table that the caller made"


@pytest.mark.slow
def test_a_role_that_has_rights_on_every_new_table_gets_none_to_change_the_audit(roles: Roles) -> None:
    owner, service = (conninfo_to_dict(url)["user"] for url in (roles.owner, roles.service))
    assert owner
    assert service
    query(roles.owner, "DROP TABLE audit_entries; DROP FUNCTION delete_audit_entries")
    text = (FOLDER / "0015-audit.pre.sql").read_text().partition("-- step")[2]
    query(roles.owner, cast("LiteralString", text))  # as an upgrade does, after "roles" and without what follows it
    rights = "SELECT privilege_type FROM information_schema.role_table_grants WHERE table_name = %s AND grantee = %s"
    assert sorted(query(roles.admin, rights, ["audit_entries", service])) == [("INSERT",), ("SELECT",)]
    assert query(roles.service, "SELECT delete_audit_entries(400, 100)") == [(0,)]


@pytest.mark.slow
def test_another_role_may_not_run_the_functions(roles: Roles) -> None:
    stranger = f"webhook_test_{secrets.token_hex(6)}"
    query(
        roles.admin,
        cast("LiteralString", f"CREATE ROLE {stranger} LOGIN; GRANT USAGE ON SCHEMA webhook_grpc TO {stranger}"),
    )
    try:
        calls: tuple[LiteralString, ...] = (
            "SELECT make_partition('events', current_date)",
            "SELECT detach_partition('events', current_date - 9)",
            "SELECT drop_partition('events', current_date - 9)",
            "SELECT analyse_table('meta')",
            "SELECT delete_audit_entries(400, 100)",
        )
        url = make_conninfo(roles.admin, user=stranger)
        assert {sqlstate_of(url, call) for call in calls} == {"42501"}
    finally:
        query(roles.admin, cast("LiteralString", f"DROP OWNED BY {stranger}; DROP ROLE {stranger}"))


@pytest.mark.slow
@pytest.mark.parametrize("roles", ["embedded"], indirect=True)
async def test_the_doctor_says_what_to_grant_to_a_role_and_that_is_enough_to_serve(
    roles: Roles, receiver: Receiver, tmp_path: Path
) -> None:
    """As the role of `migrate`, of another one: each right that is missing, and nothing of one that has all."""
    stranger = f"webhook_test_{secrets.token_hex(6)}"
    query(roles.admin, cast("LiteralString", f"CREATE ROLE {stranger} NOLOGIN"))
    url = make_conninfo(roles.admin, user=stranger)
    try:

        async def found(role: str | None, as_who: str = roles.owner) -> tuple[str, str, str]:
            environment = {"WEBHOOK_DATABASE_URL": as_who, "WEBHOOK_SECRET_KEYS": b64encode(SECRET_KEY).decode()}
            more = f" --role {role}" if role else ""
            ran = await Program(tmp_path, {"HOME": str(tmp_path)}).run(f"doctor --server{more} -o json", **environment)
            [one] = [one for one in ran.objects if one["check"] == "role"]
            return one["state"], one["detail"], one["remedy"]

        assert (await found(str(conninfo_to_dict(roles.service)["user"])))[0] == "ok"
        assert (await found("nobody_at_all"))[:2] == ("problem", "there is no role nobody_at_all")
        _, detail, remedy = await found(stranger)
        assert detail == f"{stranger} may not log in"
        query(roles.admin, cast("LiteralString", remedy))
        state, detail, remedy = await found(stranger)
        assert (state, detail.startswith(f"{stranger} may not do all that the service does: ")) == ("problem", True)
        query(roles.owner, cast("LiteralString", remedy.partition(": ")[2]))
        assert (await found(stranger))[:2] == ("ok", f"{stranger} reads and writes rows, and can change no table")

        services = ServiceFactory(url, tmp_path)
        try:
            service = await services.start()
            await service.create_webhook(receiver.url("/granted"))
            await service.publish()
            await receiver.wait_for(1, "/granted")
        finally:
            await services.stop()

        query(roles.owner, cast("LiteralString", f"REVOKE ALL ON tokens FROM {stranger}"))
        said = f"{stranger} may not do all that the service does: SELECT, INSERT, UPDATE, DELETE on webhook_grpc.tokens"
        assert (await found(None, url))[1] == said, "also of the role that connects itself"
    finally:
        query(roles.admin, cast("LiteralString", f"DROP OWNED BY {stranger}; DROP ROLE {stranger}"))


@pytest.mark.slow
def test_the_doctor_knows_each_table_of_ours(database_url: str) -> None:
    tables = """
SELECT relname::text FROM pg_class
WHERE relnamespace = 'webhook_grpc'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
    assert {name for (name,) in query(database_url, tables)} == RIGHTS.keys()
    assert not look_at_role(database_url, "webhook_grpc").lacking
