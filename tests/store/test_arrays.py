"""Arrays of the hot statements: what the driver's own lists mean, and always one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, LiteralString
from uuid import UUID

import pytest

from tests.support.store import new_event, new_webhook, publish
from webhook_grpc.domain.ids import INT64_MAX
from webhook_grpc.store.connection import arrays
from webhook_grpc.store.connection.arrays import Array
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import Database, LoopConnection

ROUNDS = 8  # the driver prepares a statement when it comes for the sixth time
HERE = timezone(timedelta(hours=5))
TIMES = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 11, 29, 20, 0, 0, 123_457, tzinfo=HERE)]
CASES: list[tuple[Callable[[Sequence[Any]], Array], LiteralString, list[Any]]] = [
    (arrays.smallints, "smallint", [0, -(2**15), 2**15 - 1]),
    (arrays.integers, "integer", [0, -(2**31), 2**31 - 1]),
    (arrays.bigints, "bigint", [0, -(2**63), INT64_MAX]),
    (arrays.doubles, "double precision", [0.0, -1.5, float("inf")]),
    (arrays.booleans, "boolean", [True, False]),
    (arrays.texts, "text", ["", "a", "zürich 🐘"]),
    (arrays.byteas, "bytea", [b"", b"\0\xff", b"x" * 70_000]),
    (arrays.uuids, "uuid", [UUID(int=0), UUID(int=2**128 - 1)]),
    (arrays.times, "timestamptz", [*TIMES, datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]),
]
NAMES: dict[int, LiteralString] = {21: "smallint", 20: "bigint", 25: "text"}


@pytest.mark.parametrize(("array", "name", "items"), CASES, ids=[name for _, name, _ in CASES])
async def test_an_array_means_what_a_list_means(
    connection: LoopConnection, array: Callable[[Sequence[Any]], Array], name: LiteralString, items: list[Any]
) -> None:
    for given in ([], [None], [None, None], items, items[:1], items[:1] * 3, [None, *items, None]):
        [(read,)] = await connection.rows(f"SELECT %(items)b::{name}[]", {"items": array(given)})
        assert read == given


@pytest.mark.parametrize(
    "items",
    [arrays.smallints([2**15]), arrays.bigints([1, 2**63]), arrays.texts(["\ud800"]), arrays.texts(["a\0"])],
    ids=["smallint", "bigint", "half a character", "zero"],
)
async def test_an_item_that_fits_nowhere_is_refused_and_the_connection_goes_on(
    connection: LoopConnection, items: Array
) -> None:
    with pytest.raises(StoreRefusal):
        await connection.rows(f"SELECT %(items)b::{NAMES[items.oid]}[]", {"items": items})
    assert await connection.rows("SELECT 1") == [(1,)]


async def test_publishing_is_one_prepared_statement_whatever_the_values_are(
    database: Database, connection: LoopConnection
) -> None:
    """Lists of the driver would make one of each mix of small and large numbers, texts and NULLs."""
    await new_webhook(database)
    plain = new_event()
    for number in range(ROUNDS):
        large = {"fingerprint": INT64_MAX, "request_id": f"r{number}", "attributes": {"a": "b"}} if number % 2 else {}
        await publish(connection, replace(plain, event_id=new_event().event_id, customer_id=plain.customer_id, **large))
    prepared = await connection.rows("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'new_events AS'")
    assert prepared == [(2,)], "one with a request id, one without"
