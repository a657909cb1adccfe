"""Postgres is told how small the small tables are, by whoever may."""

from __future__ import annotations

from psycopg.conninfo import make_conninfo

from tests.support.postgres import TestPostgres
from tests.support.store import options
from webhook_grpc.store.db import Database
from webhook_grpc.store.upkeep.statistics import SMALL_TABLES, analyse_small_tables

NEVER = "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'meta'::regclass"
BELIEVED = "SELECT reltuples FROM pg_class WHERE oid = 'meta'::regclass"


async def test_a_table_of_one_row_is_known_to_have_one(database: Database, postgres: TestPostgres) -> None:
    postgres.rows(NEVER)
    assert await analyse_small_tables(database) == []
    assert postgres.rows(BELIEVED) == [(1.0,)]


async def test_a_role_that_may_not_analyse_names_the_tables_and_goes_on(postgres: TestPostgres) -> None:
    postgres.rows(NEVER)
    with postgres.role() as role:
        database = Database(options(make_conninfo(postgres.url, options=f"-c role={role}")))
        await database.open()
        assert await analyse_small_tables(database) == list(SMALL_TABLES)
        await database.close()
    assert postgres.rows(BELIEVED) == [(-1.0,)]
