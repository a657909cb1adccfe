"""Statements that failed are counted by the class of their SQLSTATE, once for each caller that got an error."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.store import options
from webhook_grpc.domain.errors import DiskFull, Unavailable
from webhook_grpc.domain.tally import DatabaseErrors
from webhook_grpc.store.connection.failures import ERROR_CLASSES, StoreRefusal
from webhook_grpc.store.db import Database, LoopConnection, translated_errors


async def test_errors_of_the_pool_and_of_loops_are_counted_by_class(database_url: str) -> None:
    settings = options(database_url)
    database, loop = Database(settings), LoopConnection(settings, "loop")
    await database.open()
    with pytest.raises(Unavailable):
        await database.rows("SELECT * FROM nowhere")
    with pytest.raises(Unavailable):
        await loop.rows("SELECT nothing()")
    with pytest.raises(StoreRefusal):
        await loop.rows("SELECT 1 / 0")
    await database.rows("SELECT 1")
    await database.close()
    assert settings.errors.by_class == {"42": 2, "22": 1}
    assert settings.errors.disk_full_count == 0


async def test_what_a_caller_expects_is_not_counted(database_url: str) -> None:
    settings = options(database_url)
    database = Database(settings)
    await database.open()
    with pytest.raises(Unavailable):
        async with database.connection(expected={"42P01"}) as connection:
            await connection.execute("SELECT * FROM nowhere")
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.execute("SELECT * FROM nowhere")
    await database.close()
    assert settings.errors.by_class == {"42": 1}


async def test_a_server_that_is_not_there_and_one_that_does_not_answer_have_words(database_url: str) -> None:
    away = options("host=127.0.0.1 port=1 user=nobody dbname=nothing")
    with pytest.raises(Unavailable):
        await LoopConnection(away, "away").rows("SELECT 1")
    assert away.errors.by_class == {"connection": 1}

    slow = replace(options(database_url), statement_timeout_seconds=0.2)
    loop = LoopConnection(slow, "slow")
    with pytest.raises(Unavailable):
        await loop.rows("SELECT pg_sleep(60)")
    await loop.close()
    assert slow.errors.by_class == {"timeout": 1}


async def test_the_statement_of_a_caller_that_leaves_is_ended_and_disturbs_no_other(
    database_url: str, postgres: TestPostgres
) -> None:
    loop = LoopConnection(options(database_url), "left")
    caller = asyncio.create_task(loop.rows("SELECT pg_sleep(600)"))
    running = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
    async with slowness.timeout(20):
        while not postgres.rows(running):
            await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert await loop.rows("SELECT 1") == [(1,)]
        await loop.close()
        while postgres.rows(running):
            await asyncio.sleep(0.01)
    assert caller.cancelled()
    assert loop.opened_count == 2


@pytest.mark.parametrize(
    ("error", "name", "disk_full_count"),
    [
        (psycopg.errors.DiskFull(), "53", 1),
        (psycopg.errors.TooManyConnections(), "53", 0),
        (psycopg.errors.QueryCanceled(), "timeout", 0),
        (psycopg.errors.lookup("HV000")(), "other", 0),
        (psycopg.OperationalError("server closed the connection"), "connection", 0),
        (psycopg.OperationalError("FATAL:  could not write init file: No space left on device"), "53", 1),
        (TimeoutError(), "timeout", 0),
    ],
)
def test_each_error_has_one_of_few_names(error: Exception, name: str, disk_full_count: int) -> None:
    errors = DatabaseErrors()
    with pytest.raises(DiskFull if disk_full_count else Unavailable), translated_errors(errors):
        raise error
    assert errors == DatabaseErrors({name: 1}, disk_full_count)
    assert name in ERROR_CLASSES
