"""What a loop runs with plans that are kept is run without a cursor, and gives what a cursor gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.store import options
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.connection.direct import DirectStatements
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.db import LoopConnection

SOME_ID: Final = UUID("018f4e5a-0000-7000-8000-000000000001")
SOME_TIME: Final = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
ALL_KINDS: Final = """
SELECT t.*, %(worker)b::uuid, %(count)b::integer, %(large)b::bigint, 100 %% 7, %(count)b::integer + 1,
    %(shard)b::smallint, %(word)b::text, %(nothing)b::text, %(bytes)b::bytea, %(at)b::timestamptz,
    %(list)b::bigint[]
FROM unnest(
    %(small)b::smallint[], %(big)b::bigint[], %(id)b::uuid[], %(text)b::text[], %(time)b::timestamptz[],
    %(body)b::bytea[], %(double)b::double precision[]
) AS t
"""
NEGATIVE: Final = "SELECT sqrt(item) FROM unnest(%(double)b::double precision[]) AS t(item)"
SLEEP: Final = "SELECT pg_sleep(item) FROM unnest(%(double)b::double precision[]) AS t(item)"

END_SLEEP: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query LIKE 'SELECT pg_sleep(item)%' AND state = 'active'
"""


def all_kinds() -> dict[str, Any]:
    return {
        "worker": SOME_ID,
        "count": 7,
        "large": 2**40,
        "shard": -3,
        "word": "größer",
        "nothing": None,
        "bytes": b"\x00'%",
        "at": SOME_TIME,
        "list": [1, 2**40],
        "small": arrays.smallints([1, None]),
        "big": arrays.bigints([2**50, None]),
        "id": arrays.uuids([SOME_ID, None]),
        "text": arrays.texts(["größer", None]),
        "time": arrays.times([SOME_TIME, None]),
        "body": arrays.byteas([b"\x00'%", None]),
        "double": arrays.doubles([0.5, None]),
    }


@pytest.fixture
async def loop(database_url: str) -> AsyncGenerator[LoopConnection]:
    loop = LoopConnection(options(database_url), "loop")
    yield loop
    await loop.close()


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that a cursor ran after all."""
    statements, run = list[str](), DirectStatements.run

    async def noted(self: DirectStatements, connection: Any, statement: str, params: Any) -> Any:
        rows = await run(self, connection, statement, params)
        if rows is None:
            statements.append(statement)
        return rows

    monkeypatch.setattr(DirectStatements, "run", noted)
    return statements


async def names(loop: LoopConnection) -> list[str]:
    rows = await loop.rows("SELECT name FROM pg_prepared_statements WHERE name LIKE 'direct%'", keeps_plan=True)
    return [name for (name,) in rows]


async def test_rows_are_those_of_a_cursor(loop: LoopConnection, given_up: list[str]) -> None:
    expected = await loop.rows(ALL_KINDS, all_kinds())
    for _ in range(3):
        assert await loop.rows(ALL_KINDS, all_kinds(), keeps_plan=True) == expected
    assert len(expected) == 2
    assert await loop.rows(ALL_KINDS, {**all_kinds(), "text": arrays.texts([])}, keeps_plan=True) != expected
    assert await names(loop) == ["direct_0"], "it is prepared once"
    assert not given_up


async def test_what_only_psycopg_can_write_is_run_by_a_cursor(loop: LoopConnection, given_up: list[str]) -> None:
    listed = "SELECT item FROM unnest(%(items)s::bigint[]) AS t(item)"
    assert await loop.rows(listed, {"items": [1, 2]}, keeps_plan=True) == [(1,), (2,)]
    assert await loop.rows("SELECT %(half)b::numeric", {"half": 0.5}, keeps_plan=True) == [(Decimal("0.5"),)]
    assert await loop.rows("SELECT %s::integer", [3], keeps_plan=True) == [(3,)]
    assert given_up == [listed, "SELECT %(half)b::numeric"]
    assert await names(loop) == []


async def test_behind_a_transaction_pooler_nothing_is_prepared(database_url: str, given_up: list[str]) -> None:
    loop = LoopConnection(replace(options(database_url), pooling=Pooling.TRANSACTION), "loop")
    await loop.rows(NEGATIVE, {"double": arrays.doubles([4.0])}, keeps_plan=True)
    assert await names(loop) == []
    assert not given_up
    await loop.close()


async def test_a_value_that_postgres_refuses_costs_no_connection(loop: LoopConnection) -> None:
    for _ in range(2):
        with pytest.raises(StoreRefusal):
            await loop.rows(NEGATIVE, {"double": arrays.doubles([-1.0])}, keeps_plan=True)
    with pytest.raises(StoreRefusal):
        await loop.rows("SELECT %(small)b::smallint[]", {"small": arrays.smallints([2**40])}, keeps_plan=True)
    with pytest.raises(StoreRefusal):
        await loop.rows("SELECT %(word)b::text", {"word": "\ud800"}, keeps_plan=True)
    assert await loop.rows(NEGATIVE, {"double": arrays.doubles([4.0])}, keeps_plan=True) == [(2.0,)]
    assert loop.opened_count == 1


async def test_a_statement_that_postgres_cannot_prepare_is_an_error_each_time(loop: LoopConnection) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable) as raised:
            await loop.rows("SELECT nothing(%(count)b::integer)", {"count": 1}, keeps_plan=True)
        assert isinstance(raised.value.__cause__, psycopg.errors.UndefinedFunction)


async def test_a_connection_that_was_ended_is_replaced_and_its_statements_prepared_again(
    loop: LoopConnection, postgres: TestPostgres
) -> None:
    assert await loop.rows(NEGATIVE, {"double": arrays.doubles([4.0])}, keeps_plan=True) == [(2.0,)]
    sleeping = asyncio.create_task(loop.rows(SLEEP, {"double": arrays.doubles([600.0])}, keeps_plan=True))
    async with slowness.timeout(20):
        while not postgres.rows(END_SLEEP):
            await asyncio.sleep(0.01)  # until the statement runs
        while loop.opened_count < 2:
            await asyncio.sleep(0.01)  # until it is run again, as a read is
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        assert sleeping.cancelled()
        assert await loop.rows(NEGATIVE, {"double": arrays.doubles([9.0])}, keeps_plan=True) == [(3.0,)]
    assert loop.opened_count == 3, "the statement that was left took its connection along"
