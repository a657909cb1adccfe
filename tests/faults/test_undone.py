"""For how long a round is waited for, and what one that has not drained reports of its database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import LiteralString, cast
from uuid import UUID

import psycopg
import pytest

from tests.support import slowness
from tests.support.postgres import query
from webhook_grpc.domain.ids import event_id_text

from . import database
from .database import Asker, until_nothing_is_pending
from .undone import undone

EVENT, WORKER = UUID(int=1), UUID(int=2)
DELIVERY: LiteralString = """
INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)
VALUES (7, 7, now() + interval '1 hour', %(event)s, 1, 2)
"""
COMMAND: LiteralString = """
INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)
VALUES (8, 8, %(event)s, 'retry', 1, now())
"""
OPEN: LiteralString = "INSERT INTO webhook_health (webhook_id, breaker) VALUES (7, 'open')"
OWNED: LiteralString = "UPDATE shards SET owner = %(worker)s WHERE shard = 7"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that moves only while a round is waited for, on a machine that is as quick as the reference."""
    clock = SimpleNamespace(now=0.0)

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(database, "asyncio", SimpleNamespace(sleep=sleep, to_thread=_at_once))
    monkeypatch.setattr(slowness, "_ratio", 1.0)
    return clock


async def _at_once(function: Callable[[Asker], int | None], ask: Asker) -> int | None:
    return function(ask)


def test_what_is_pending_is_named_with_what_it_waits_for(database_url: str) -> None:
    for statement in (DELIVERY, COMMAND):
        query(database_url, statement, {"event": EVENT})
    query(database_url, OPEN)
    query(database_url, OWNED, {"worker": WORKER})
    count, delivery, command = undone(database_url)
    assert count == "1 deliveries and 1 commands are pending"
    assert delivery.startswith(f"{event_id_text(EVENT)} to webhook 7, 2 attempts made, due in 3")
    assert delivery.endswith(f"; webhook not stored, breaker open; shard 7 of {WORKER}, without a lease")
    assert command.startswith(f"retry of {event_id_text(EVENT)} to webhook 8, ")
    assert command.endswith("; shard 8 without an owner")


def counting(counts: Iterable[int | None]) -> Asker:
    """Answers with these numbers of what is undone, and at last with the last one. None: the database is away."""
    left = list(counts)

    def ask(_: LiteralString) -> list[tuple[int]]:
        count = left.pop(0) if len(left) > 1 else left[0]
        if count is None:
            raise psycopg.OperationalError
        return [(count,)]

    return cast("Asker", ask)


async def test_a_round_is_waited_for_as_long_as_more_and_more_of_it_ends(clock: SimpleNamespace) -> None:
    """A backlog takes as long as it takes; here a delivery ends every second."""
    slow = [count for count in range(30, 0, -1) for _ in range(20)]
    assert await until_nothing_is_pending(counting([None, *slow, 0]), 10.0)
    assert clock.now > 25


@pytest.mark.parametrize(
    ("counts", "seconds"),
    [
        pytest.param([3, 2, 1], 10, id="one is stuck"),
        pytest.param([1, 2] * 1000, 10, id="what ends comes back"),
        pytest.param([None], 10, id="the database is away"),
        pytest.param([count for count in range(100, 0, -1) for _ in range(100)], 50, id="too slow"),
    ],
)
async def test_a_round_in_which_something_is_stuck_is_not_waited_for(
    clock: SimpleNamespace, counts: list[int | None], seconds: int
) -> None:
    assert not await until_nothing_is_pending(counting(counts), 10.0)
    assert clock.now == pytest.approx(seconds, abs=1.0)
