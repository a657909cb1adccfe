"""The tier itself, on plain Postgres: two cells in one database, and how it finds out whether there is Citus."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.citus.coordinator import VARIABLE, coordinator, programs_with_citus
from tests.support.cells import CellPostgres
from tests.support.postgres import TestPostgres, query
from tests.support.store import new_event, new_webhook, options, publish
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.schema.migrate import migrate
from webhook_grpc.store.schema.partitions import ensure_partitions


@pytest.fixture
def cells(postgres: TestPostgres, worker_id: str) -> Generator[CellPostgres]:
    """A database whose schemas stand for databases."""
    name = f"webhook_test_cells_{worker_id}"
    yield CellPostgres(postgres.create_database(name), "cell_1", None, None)
    postgres.drop_database(name)


async def fill(url: str, events: int) -> None:
    """Publishes so many events, each for one webhook, in a cell."""
    database = Database(options(url))
    await database.open()
    connection = LoopConnection(database.options, "test")
    try:
        await ensure_partitions(database)
        await new_webhook(database)
        await publish(connection, *(new_event() for _ in range(events)))
    finally:
        await connection.close()
        await database.close()


async def test_two_cells_in_one_database_know_nothing_of_each_other(cells: CellPostgres) -> None:
    urls = [cells.create_database(name) for name in ("cell_1", "cell_2")]
    for url in urls:
        migrate(url)
    assert cells.url == urls[0]
    for events, url in enumerate(urls, start=1):
        await fill(url, events)
    assert [query(url, "SELECT count(*) FROM deliveries") for url in urls] == [[(1,)], [(2,)]]
    assert query(urls[0], "SELECT to_regclass('public.meta')") == [(None,)]
    cells.drop_database("cell_1")
    assert query(urls[1], "SELECT to_regclass('cell_1.meta') IS NULL, count(*) FROM events") == [(True, 2)]
    cells.create_database("cell_2")
    assert query(urls[1], "SELECT to_regclass('meta')") == [(None,)]


def test_a_server_with_the_library_is_found(tmp_path: Path) -> None:
    servers = [tmp_path / "17", tmp_path / "16"]
    for server in servers:
        for file in (server / "bin" / "initdb", server / "lib" / "pgoutput.so"):
            file.parent.mkdir(parents=True)
            file.touch()
    assert programs_with_citus(servers) is None
    (servers[1] / "lib" / "citus.so").touch()
    assert programs_with_citus(servers) == tmp_path / "16" / "bin"


def test_without_citus_the_tier_is_skipped_and_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=VARIABLE), coordinator([]):
        pass


def test_a_database_that_is_named_but_has_no_citus_fails_the_tier(
    postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, postgres.url)
    with pytest.raises(AssertionError, match="CREATE EXTENSION citus"), coordinator():
        pass
