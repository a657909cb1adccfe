"""The start of a process: beside others that start, and what is left of one that fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import slowness
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres
from tests.support.process import ROOT
from tests.support.receiver import Receiver
from tests.support.service import SECRET_KEY, ServiceFactory, test_settings
from tests.support.store import options
from webhook_grpc.app import App, serve
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.process.banner import Ports
from webhook_grpc.process.service_manager import ServiceManager
from webhook_grpc.process.stopping import StopSignals
from webhook_grpc.store.db import Database
from webhook_grpc.store.schema import partitions

pytestmark = pytest.mark.fast


@contextlib.asynccontextmanager
async def another_making_partitions(postgres: TestPostgres) -> AsyncGenerator[None]:
    """Another process makes the partition of the last day meanwhile, and is at it until the block ends."""
    database = Database(options(postgres.url))
    await database.open()
    await partitions.ensure_partitions(database)
    await database.close()
    [(name,)] = postgres.rows("SELECT max(relname) FROM pg_class WHERE relname ~ '^events_[0-9]+$'")
    postgres.rows(f"DROP TABLE {name}")  # pyright: ignore[reportArgumentType] - a name from the catalogue
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute(partitions.LOCK_PARTITIONS)
        yield


class Refusals:
    """Counts how often a start did not get the lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._slots = asyncio.Semaphore(0)
        make = partitions.make_partitions

        async def counting(database: Database, days: Iterable[date]) -> list[str]:
            try:
                return await make(database, days)
            except Unavailable:
                self._slots.release()
                raise

        monkeypatch.setattr(partitions, "make_partitions", counting)

    async def wait_for(self, count: int) -> None:
        for _ in range(count):
            await self._slots.acquire()


async def test_processes_that_start_in_the_same_second_on_a_new_database_wait_for_the_one_that_makes_partitions(
    services: ServiceFactory, postgres: TestPostgres, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = Refusals(monkeypatch)
    async with another_making_partitions(postgres):
        starts = [asyncio.create_task(services.start()) for _ in range(2)]
        refused = asyncio.create_task(refusals.wait_for(4))
        await asyncio.wait([refused, *starts], return_when=asyncio.FIRST_COMPLETED)
        assert not [start for start in starts if start.done()], "one has given up"
        await refused
    first, _ = await asyncio.gather(*starts)
    await first.create_webhook(receiver.url())
    await first.publish()
    await receiver.wait_for(1)


async def test_a_start_waits_for_no_lock_if_no_partition_is_missing(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    await services.stop_one(service)
    with psycopg.connect(postgres.url) as connection:
        connection.execute(partitions.LOCK_PARTITIONS)
        await services.start()


@pytest.mark.slow(3)
async def test_a_start_that_never_gets_the_lock_fails_with_a_sentence(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    async with another_making_partitions(postgres):
        with pytest.raises(Unavailable, match="something else in the database has held their locks all the time"):
            await services.start(database_timeout_seconds=slowness.scaled(2.0))
    await services.start()


async def test_a_start_that_waits_is_left_when_the_process_is_to_stop(
    database_url: str, postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, signals = Refusals(monkeypatch), StopSignals()
    settings = test_settings(database_url, tmp_path, database_timeout_seconds=300)  # for which it would wait
    async with another_making_partitions(postgres):
        serving = asyncio.create_task(
            serve(settings, database_url, [SECRET_KEY], int, signals, ServiceManager(), list[Ports]().append)
        )
        await refusals.wait_for(1)
        signals.stop.request()
        async with slowness.timeout(20):
            await serving
    await until_none_of_ours_is_connected(postgres)


async def test_a_process_that_is_to_stop_before_it_starts_starts_nothing(database_url: str, tmp_path: Path) -> None:
    signals = StopSignals()
    signals.stop.request()
    settings, ready = test_settings(database_url, tmp_path), list[Ports]()
    async with slowness.timeout(20):
        await serve(settings, database_url, [SECRET_KEY], int, signals, ServiceManager(), ready.append)
    assert not ready


async def test_a_start_that_fails_at_its_last_step_closes_what_it_had_opened(
    database_url: str, postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()  # which no other test is given when it is free again
    settings = test_settings(database_url, tmp_path, grpc_address=f"127.0.0.1:{port}")
    app = App(settings, database_url, [SECRET_KEY], int)

    async def fail() -> None:
        assert postgres.rows("SELECT count(*) > 0 FROM shards WHERE owner IS NOT NULL") == [(True,)]
        raise RuntimeError("the last step")

    monkeypatch.setattr(app._server, "start", fail)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(RuntimeError, match="the last step"):
        await app.start()
    resolver: Any = app.engine._sender._opened_resolver  # pyright: ignore[reportPrivateUsage]
    assert resolver._resolver._closed
    assert not [task.get_name() for task in app._loops if not task.done()]  # pyright: ignore[reportPrivateUsage]
    assert postgres.rows("SELECT count(*) FROM shards WHERE owner IS NOT NULL") == [(0,)]
    await until_none_of_ours_is_connected(postgres)
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody listens there any more


async def until_none_of_ours_is_connected(postgres: TestPostgres) -> None:
    """Postgres needs a moment to see that connections are closed."""
    ours = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'webhook%'"
    )
    async with slowness.timeout(20):
        while postgres.rows(ours) != [(0,)]:
            await asyncio.sleep(0.01)


async def test_a_process_that_serves_has_opened_every_connection_of_its_own(
    database_url: str, postgres: TestPostgres, data_dir: Path
) -> None:
    """So too few of them are noticed at the start; what the start says it needs is what is opened, and documented."""
    await until_none_of_ours_is_connected(postgres)  # a service that another test shared has just stopped
    services = ServiceFactory(database_url, data_dir)
    try:
        service = await services.start()
        opened = postgres.rows(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'webhook-grpc %'"
        )
    finally:
        await services.stop()
    names = [name.removeprefix("webhook-grpc ") for (name,) in opened]
    own = [name for name in names if name != "pool"]
    needed = service.app.database.options.connections_needed
    assert sorted(own) == sorted(documented_connections() - {"pool"})
    assert needed == len(own) + service.app.database.options.pool_size


def documented_connections() -> set[str]:
    """The names in the table of docs/operations.md."""
    [section] = re.findall(
        r"^## Connections\n(.*?)^## ", (ROOT / "docs/operations.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return set(re.findall(r"^\| `([a-z ]+)` \|", section, re.MULTILINE))
