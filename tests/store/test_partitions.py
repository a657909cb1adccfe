"""Partitions are made ahead, once, whoever makes them."""

from __future__ import annotations

import asyncio

from tests.support.postgres import TestPostgres
from webhook_grpc.store.db import Database
from webhook_grpc.store.partitions import DAYS_AHEAD, DAYS_BEHIND, ensure_partitions

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
    made = await asyncio.gather(*(ensure_partitions(database) for _ in range(3)))
    names = [name for names in made for name in names]
    assert len(names) == len(set(names)) == len(postgres.rows(PARTITIONS))
