"""Fixtures for tests of the store: a pool and a connection on an empty database."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.store import options
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.schema.partitions import ensure_partitions


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    database = Database(options(database_url))
    await database.open()
    await ensure_partitions(database)
    yield database
    await database.close()


@pytest.fixture
async def connection(database: Database) -> AsyncGenerator[LoopConnection]:
    connection = LoopConnection(database.options, "test")
    yield connection
    await connection.close()
