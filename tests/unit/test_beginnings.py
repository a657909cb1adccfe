"""Which call begins next: whoever opens thousands waits behind itself."""

from __future__ import annotations

import asyncio

import pytest

from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.server.grpc.beginnings import BEGUN_MAX, Beginnings


async def test_a_flood_of_one_connection_begins_bit_by_bit_and_holds_up_no_other() -> None:
    beginnings, begun = Beginnings(), list[str]()

    async def call(connection: str) -> None:
        await beginnings.turn(connection)
        begun.append(connection)

    flood = [asyncio.create_task(call("flood")) for _ in range(100)]
    await asyncio.sleep(0)  # one turn of the loop: all of it has come
    assert begun == ["flood"]
    honest = asyncio.create_task(call("honest"))
    while not honest.done():
        await asyncio.sleep(0)

    assert len(begun) <= 2 + 2 * BEGUN_MAX, "at once, whoever waits"
    for task in flood[50:]:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert begun.count("flood") == 50, "those that left begin no more, and hold up nobody"
    await call("flood")
    await asyncio.sleep(0)


async def test_who_would_wait_is_refused_where_too_many_do_and_others_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook_grpc.server.grpc.beginnings.WAITING_MAX", 5)
    beginnings = Beginnings()
    flood = [asyncio.create_task(beginnings.turn("flood")) for _ in range(10)]
    honest = asyncio.create_task(beginnings.turn("honest"))

    came = await asyncio.gather(*flood, return_exceptions=True)
    await honest
    refused = [error for error in came if isinstance(error, Overloaded)]
    assert (len(refused), refused[0].reason, refused[0].retry_seconds) == (4, "RATE_LIMITED", 1.0)
    assert beginnings.waiting_count == 0


async def test_when_too_many_wait_a_few_calls_of_another_connection_take_the_place_of_a_floods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webhook_grpc.server.grpc.beginnings.WAITING_MAX", 20)
    beginnings = Beginnings()
    flood = [asyncio.create_task(beginnings.turn("flood")) for _ in range(21)]
    honest = [asyncio.create_task(beginnings.turn("honest")) for _ in range(5)]

    came = await asyncio.gather(*flood, return_exceptions=True)
    assert await asyncio.gather(*honest) == [None] * 5
    assert [isinstance(error, Overloaded) for error in came] == [False] * 17 + [True] * 4, "the newest of the flood"
    assert beginnings.waiting_count == 0


async def test_of_many_connections_a_few_calls_begin_in_a_turn() -> None:
    beginnings, begun = Beginnings(), list[int]()

    async def call(connection: int) -> None:
        await beginnings.turn(str(connection))
        begun.append(connection)

    calls = [asyncio.create_task(call(number % 40)) for number in range(120)]
    await asyncio.sleep(0)
    assert len(begun) == 40, "the first of each"
    most, before = 0, len(begun)
    while len(begun) < 120:
        await asyncio.sleep(0)
        most, before = max(most, len(begun) - before), len(begun)

    assert most <= BEGUN_MAX
    assert begun[40:80] == begun[80:] == list(range(40)), "connections in turn"
    await asyncio.gather(*calls)
