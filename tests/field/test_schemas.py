"""The schema of our tables, on a server as people have it: search_path leads to `public`.

A new installation makes one of its own, an old one goes on in `public`, and two in one database do not meet.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, LiteralString, cast

import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support import slowness
from tests.support.distribution import DistributionPostgres
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import connected, query
from tests.support.receiver import Receiver
from tests.support.roles import block
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory, until_shared
from tests.support.store import options
from webhook_grpc.cli import main
from webhook_grpc.hub.hints import LISTEN, NOTIFY
from webhook_grpc.store.connection.poolers import check_sessions
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.db import Database, LoopConnection, connect
from webhook_grpc.store.registry import tokens, webhooks
from webhook_grpc.store.schema import partitions
from webhook_grpc.store.schema.migrate import check_schema, migrate
from webhook_grpc.store.schema.migration_files import migration_names

Start = Callable[[str], ServiceFactory]
NUMBERS = itertools.count(1)
TABLES: LiteralString = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind <> 'i'
"""
PATHS: LiteralString = """
SELECT DISTINCT p.proconfig FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.prosecdef
"""


@pytest.fixture
def url(distribution: DistributionPostgres) -> str:
    """An empty database with Postgres' own search_path, and not that of other tests."""
    name = f"schemas_{next(NUMBERS)}"
    url = distribution.new_database(name)
    query(url, cast("LiteralString", f'ALTER DATABASE {name} SET search_path = "$user", public'))
    return url


async def round_trip(service: Service, receiver: Receiver, path: str) -> None:
    """One event, published, delivered and watched."""
    await service.create_webhook(receiver.url(path))
    async with service.watching() as watch:
        event = await service.publish()
        [delivery] = await watch.until_ended()
    assert delivery.event_id == event.event_id
    [request] = [one for one in receiver.requests if one.path == path]
    request.verify(SECRET)
    assert request.event_id == event.event_id


def database_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def made(url: str, schema: str) -> int:
    """How many tables, views and sequences are in a schema."""
    [(count,)] = query(url, TABLES, [schema])
    return count


def paths(url: str, schema: str) -> list[tuple[Any, ...]]:
    """What functions of the owner have as search_path."""
    return query(url, PATHS, [schema])


@pytest.mark.slow(2)
async def test_a_new_installation_has_a_schema_of_its_own_and_public_stays_empty(
    url: str, receiver: Receiver, services_on: Start
) -> None:
    assert await asyncio.to_thread(migrate, url) == migration_names()
    assert check_schema(url).schema == "webhook_grpc"
    assert (made(url, "public"), paths(url, "webhook_grpc")) == (0, [(["search_path=webhook_grpc, pg_temp"],)])
    service = await services_on(url).start()
    await round_trip(service, receiver, "/new")
    assert await asyncio.to_thread(migrate, url) == []
    assert made(url, "public") == 0
    [[event_id]] = query(url, "SELECT webhook_grpc.publish_event(%s, 'job.completed', '{}')", [CUSTOMER])
    assert (await receiver.wait_for(2))[-1].event_id == event_id


@pytest.mark.slow
async def test_what_is_in_public_goes_on_there(url: str, receiver: Receiver, services_on: Start) -> None:
    await asyncio.to_thread(migrate, url, schema="public")
    assert await asyncio.to_thread(migrate, url) == []
    assert check_schema(url).schema == "public"
    assert query(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'webhook_grpc'") == [(0,)]
    await round_trip(await services_on(url).start(), receiver, "/old")


@pytest.mark.slow(4)
async def test_two_installations_in_one_database_do_not_meet(url: str, receiver: Receiver, services_on: Start) -> None:
    """Customers and ids are the same. One has two processes, so that there are hints between them."""
    schemas = ("public", "webhook_grpc")
    pairs: dict[str, list[Service]] = {}
    for schema in schemas:
        await asyncio.to_thread(migrate, url, schema=schema)
        factory = services_on(url)
        pairs[schema] = [
            await factory.start(database_schema=schema) for _ in range(2 if schema == "webhook_grpc" else 1)
        ]
    await until_shared(*pairs["webhook_grpc"])
    await asyncio.gather(*(round_trip(pairs[schema][0], receiver, f"/{schema}") for schema in schemas))
    workers = dict[str, set[object]]()
    for schema in schemas:
        name = sql.Identifier(schema)
        assert query(url, sql.SQL("SELECT count(*) FROM {}.webhooks").format(name)) == [(1,)], schema
        found = query(url, sql.SQL("SELECT worker_id FROM {}.workers").format(name))
        workers[schema] = {worker for (worker,) in found}  # one that stood still too long registers again
        assert len(workers[schema]) >= len(pairs[schema]), schema
        assert paths(url, schema) == [([f"search_path={schema}, pg_temp"],)]
    assert not workers["public"] & workers["webhook_grpc"]
    assert len(receiver.requests) == 2


@pytest.mark.slow
async def test_each_schema_has_its_locks_its_channel_and_its_partitions(url: str) -> None:
    locks: tuple[tuple[LiteralString, dict[str, int] | None], ...] = (
        (webhooks.LOCK_CUSTOMER, {"customer_id": CUSTOMER}), (tokens.LOCK_TOKENS, None),
        (partitions.LOCK_PARTITIONS, None),
    )  # fmt: skip
    for schema in ("public", "webhook_grpc"):
        await asyncio.to_thread(migrate, url, schema=schema)
    ours, theirs = (replace(options(url), schema=schema, loops=[]) for schema in ("webhook_grpc", "public"))
    database = Database(ours)
    await database.open()
    try:
        for lock, parameters in locks:
            async with await connect(theirs, "theirs") as holder, holder.transaction():
                await holder.execute(lock, parameters)
                async with database.connection() as connection, connection.transaction():
                    await connection.execute("SET LOCAL lock_timeout = '1ms'")
                    await connection.execute(lock, parameters)
        assert len(await partitions.ensure_partitions(database)) == 18
        assert await partitions.ensure_partitions(database) == []
    finally:
        await database.close()
    inherited = "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass"
    assert query(url, inherited, ["public.events"]) == [(0,)]
    assert query(url, inherited, ["webhook_grpc.events"]) == [(9,)]
    heard: list[str] = []
    listening = asyncio.Event()
    listener = LoopConnection(ours, "listen")
    hearing = asyncio.create_task(listener.listen(LISTEN, heard.append, listening.set))
    async with slowness.timeout(20):
        await listening.wait()
    for place, payload in ((theirs, "d1"), (ours, "d2")):
        async with await connect(place, "hints") as connection:
            await connection.execute(NOTIFY, [payload])
    async with slowness.timeout(20):
        while not heard:
            await asyncio.sleep(0.01)
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    await listener.close()
    assert heard == ["d2"]


@pytest.mark.slow
def test_a_new_installation_does_not_come_before_one_that_there_is(url: str) -> None:
    migrate(url)
    with pytest.raises(UnsuitableServer, match="user is a key word of SQL"):
        migrate(url, schema="user")
    with pytest.raises(UnsuitableServer, match="processes without WEBHOOK_DATABASE_SCHEMA would take"):
        migrate(url, schema="public")
    query(url, cast("LiteralString", f"ALTER DATABASE {database_of(url)} SET search_path = cell_0, public"))
    with pytest.raises(UnsuitableServer, match="there is an installation in the schema webhook_grpc, and processes"):
        migrate(url, schema="cell_0")
    assert query(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'cell_0'") == [(0,)], "it was only tried"
    assert migrate(url, schema="cell_1") == migration_names()
    assert check_schema(url).schema == "webhook_grpc"
    assert check_schema(url, schema="cell_1").schema == "cell_1"
    said: list[str] = []
    query(url, "CREATE SCHEMA cell_0")
    assert migrate(url, say=said.append) == []
    assert [words.partition(" of the database")[0] for words in said] == ["search_path leads to the schema cell_0"]


@pytest.mark.slow
def test_a_role_that_may_make_no_schema_uses_one_that_was_made_for_it(url: str) -> None:
    owner = f"schema_owner_{next(NUMBERS)}"
    query(url, cast("LiteralString", f"CREATE ROLE {owner} LOGIN"))
    own_url = make_conninfo(url, user=owner)
    with pytest.raises(UnsuitableServer, match="may not make the schema webhook_grpc") as refusal:
        migrate(own_url)
    assert f'CREATE SCHEMA "webhook_grpc"; GRANT USAGE, CREATE ON SCHEMA "webhook_grpc" TO "{owner}"' in str(
        refusal.value
    )
    query(url, block("schema", owner, "nobody"))
    assert migrate(own_url) == migration_names()
    assert check_schema(own_url).schema == "webhook_grpc"
    assert made(url, "public") == 0


@contextmanager
def transaction_pooler(url: str) -> Generator[PgBouncer]:
    pooler = PgBouncer(url, "transaction")
    try:
        yield pooler
    finally:
        pooler.stop()


@pytest.mark.slow(2)
async def test_behind_a_transaction_pooler_the_role_has_to_lead_to_the_schema(
    url: str, receiver: Receiver, services_on: Start
) -> None:
    role = f"schema_role_{next(NUMBERS)}"
    query(url, cast("LiteralString", f"CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET jit = off"))
    own_url = make_conninfo(url, user=role)
    await asyncio.to_thread(migrate, own_url, schema="cell_1")
    with transaction_pooler(own_url) as pooler:
        place = await asyncio.to_thread(check_schema, pooler.url, Pooling.TRANSACTION, "cell_1")
        through = replace(options(pooler.url), pooling=Pooling.TRANSACTION, schema=place.schema)
        with pytest.raises(UnsuitableServer, match="run the following") as refusal:
            await check_sessions(through)
        [line] = [line for line in str(refusal.value).splitlines() if line.startswith("ALTER ROLE")]
        assert line.endswith('SET "search_path" = "cell_1";')
        query(url, cast("LiteralString", line))
        pooler.reconnect()
        await check_sessions(through)
        factory = services_on(pooler.url)
        await round_trip(await factory.start(database_pooler="transaction", database_schema="cell_1"), receiver, "/p")
        await factory.stop()
    with connected(own_url) as connection:
        assert connection.execute("SELECT count(*) FROM cell_1.attempts").fetchall() == [(1,)]


def test_commands_take_the_schema_of_the_setting(url: str) -> None:
    environment = {"WEBHOOK_DATABASE_URL": url, "WEBHOOK_DATABASE_SCHEMA": "cell_1"}
    planned = CliRunner().invoke(main, ["migrate", "--plan"], env=environment)
    assert planned.stdout.splitlines()[-1].startswith("in the schema cell_1; nothing was changed")
    assert CliRunner().invoke(main, ["migrate"], env=environment).exit_code == 0
    assert (made(url, "public"), made(url, "webhook_grpc")) == (0, 0)
    create = ["tokens", "create", "--database", "--role", "admin", "--all-customers"]
    ran = CliRunner().invoke(main, create, env=environment)
    assert ran.exit_code == 0, ran.output
    assert query(url, "SELECT count(*) FROM cell_1.tokens") == [(1,)]
