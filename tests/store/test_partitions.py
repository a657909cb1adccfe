"""Partitions are made ahead, once, whoever makes them."""

from __future__ import annotations

import asyncio

import psycopg

from tests.support.postgres import TestPostgres
from tests.support.store import new_event, publish
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.schema.partitions import DAYS_AHEAD, DAYS_BEHIND, ensure_partitions

PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('events'::regclass, 'attempts'::regclass)"
)


async def test_partitions_exist_from_yesterday_to_a_week_ahead(database: Database, postgres: TestPostgres) -> None:
    assert len(postgres.rows(PARTITIONS)) == 2 * (DAYS_BEHIND + 1 + DAYS_AHEAD)
    assert await ensure_partitions(database) == []


async def test_processes_that_start_together_make_each_partition_once(
    database: Database, postgres: TestPostgres
) -> None:
    for (name,) in postgres.rows(PARTITIONS):
        postgres.rows(f"DROP TABLE {name}")  # pyright: ignore[reportArgumentType] - a name from the catalogue
    made = await asyncio.gather(*(ensure_partitions(database) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, (list, Unavailable)) for one in made), "who waits too long for the others may give up"
    names = [name for names in made if isinstance(names, list) for name in names]
    assert len(names) == len(set(names)) == len(postgres.rows(PARTITIONS))


async def test_making_a_partition_waits_for_no_reader_and_stops_no_writer(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    """A dump or a long query holds the parent for hours; CREATE TABLE … PARTITION OF would wait, and all behind it."""
    [(name,)] = postgres.rows("SELECT max(relname) FROM pg_class WHERE relname ~ '^events_[0-9]+$'")
    postgres.rows(f"DROP TABLE {name}")  # pyright: ignore[reportArgumentType] - a name from the catalogue
    async with await psycopg.AsyncConnection.connect(postgres.url) as reader:
        await reader.execute("SELECT count(*) FROM events")  # and its transaction stays open
        assert await ensure_partitions(database) == [name]
        await publish(connection, new_event())
