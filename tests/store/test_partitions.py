"""Partitions are made ahead, once, whoever makes them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg

from tests.support.postgres import TestPostgres
from tests.support.store import new_event, publish
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.schema.partitions import (
    DAYS_AHEAD,
    DAYS_BEHIND,
    SELECT_TODAY,
    TABLES,
    ensure_partitions,
    ensure_partitions_at_start,
    partition_name,
)

PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('events'::regclass, 'attempts'::regclass)"
)


def missing(postgres: TestPostgres) -> set[str]:
    """Those of yesterday to a week ahead that there are not. A run that goes past midnight has those of a day more."""
    [(today,)] = postgres.rows(SELECT_TODAY)
    days = [today + timedelta(days=number) for number in range(-DAYS_BEHIND, DAYS_AHEAD + 1)]
    wanted = {partition_name(table, day) for table in TABLES for day in days}
    return wanted - {name for (name,) in postgres.rows(PARTITIONS)}


async def test_partitions_exist_from_yesterday_to_a_week_ahead(database: Database, postgres: TestPostgres) -> None:
    assert missing(postgres) == set()
    assert await ensure_partitions(database) == []


async def test_processes_that_start_together_make_each_partition_once(
    database: Database, postgres: TestPostgres
) -> None:
    for (name,) in postgres.rows(PARTITIONS):
        postgres.rows(f"DROP TABLE {name}")  # pyright: ignore[reportArgumentType] - a name from the catalogue
    # As at a start: on a slow machine the one that makes them may hold the lock for longer than the others wait at once
    await asyncio.gather(*(ensure_partitions_at_start(database) for _ in range(3)))
    assert missing(postgres) == set()


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
