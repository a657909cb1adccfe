"""New calls of gRPC are taken together, so that nobody's waits behind thousands that others have opened."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from typing import Any, cast

import grpc
import pytest

from tests.attack.target import HEADERS, PREFACE, SETTINGS, frame, head, streams
from tests.support import slowness
from tests.support.loop_turns import LoopTurns
from webhook_grpc.server.grpc import wake_ups
from webhook_grpc.server.grpc.accepting import CALLS_ASKED, Arrivals, asking


async def test_calls_that_have_come_are_taken_together() -> None:
    turn, begun = 0, Counter[int]()  # calls, by the turn of the loop in which they began

    async def note(_: object, context: Any) -> bytes:
        begun[turn] += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "")
        return b""

    with asking():
        server = grpc.aio.server()
    handlers: dict[str, Any] = {"Note": grpc.stream_unary_rpc_method_handler(note)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    block = head("/test/Note")
    calls = [frame(HEADERS, 4, number, block) for number in streams(CALLS_ASKED)]
    async with slowness.timeout(20):
        while max(begun.values(), default=0) < CALLS_ASKED // 2:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(calls))
                time.sleep(0.1)  # noqa: ASYNC251 - the loop stands still: meanwhile the calls come
                for _ in range(10 * CALLS_ASKED):
                    await asyncio.sleep(0)
                    turn += 1
    await server.stop(0)


async def test_calls_that_nobody_has_taken_end_when_the_server_stops() -> None:
    """Those that came in the turn in which it was asked to stop: their callers do not wait until the grace is over."""
    with asking():
        server = grpc.aio.server()
    handlers: dict[str, Any] = {"Answer": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with slowness.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        method = cast("Any", channel).unary_unary("/test/Answer")
        await method(b"")  # it is connected
        calls = [method(b"") for _ in range(10)]
        await asyncio.sleep(0)  # they are sent
        time.sleep(0.3)  # noqa: ASYNC251 - the loop stands still: meanwhile they come
        await server.stop(300)
        assert len([await call.code() for call in calls]) == 10


async def answer(*_: object) -> bytes:
    return b""


def test_a_call_begins_three_turns_of_the_loop_after_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for who takes it, and two of grpc.aio."""
    assert asyncio.run(_turns_until_begun(monkeypatch)) == 3


async def _turns_until_begun(monkeypatch: pytest.MonkeyPatch) -> int:
    turns, take_all, read_at, waited = LoopTurns(monkeypatch), wake_ups.take_all, list[int](), list[int]()

    def noted(*arguments: Any) -> None:
        read_at.append(turns.now)
        take_all(*arguments)

    async def begin(_: object, context: Any) -> None:
        waited.append(turns.now - read_at[-1])
        await context.abort(grpc.StatusCode.UNAVAILABLE, "")

    monkeypatch.setattr(wake_ups, "take_all", noted)
    arrivals = Arrivals()
    with wake_ups.read_together(arrivals.take), asking(arrivals):
        server = grpc.aio.server()
    handlers: dict[str, Any] = {"Begin": grpc.stream_unary_rpc_method_handler(begin)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with slowness.timeout(20):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(PREFACE + frame(SETTINGS, 0, 0))
            for number in streams(5):
                client.sendall(frame(HEADERS, 4, number, head("/test/Begin")))
                while len(waited) <= number // 2:
                    await asyncio.sleep(0.001)
    await server.stop(0)
    return max(waited)  # a later event of gRPC may come between, and be the last one read: then it is fewer


class Asked:
    """What gRPC was asked for: a future for each call."""

    def __init__(self) -> None:
        self.futures = list[asyncio.Future[str]]()

    async def __call__(self) -> str:
        self.futures.append(asyncio.get_running_loop().create_future())
        return await self.futures[-1]


async def test_a_call_that_has_come_is_served_in_the_next_turn_of_the_loop() -> None:
    asked, arrivals = Asked(), Arrivals()
    call = asyncio.create_task(arrivals.next(asked))
    await asyncio.sleep(0)
    assert len(asked.futures) == CALLS_ASKED
    asked.futures[0].set_result("first")
    arrivals.take()
    await asyncio.sleep(0)  # one turn of the loop
    assert call.done()
    assert call.result() == "first"
    assert len(asked.futures) == CALLS_ASKED + 1, "another one is asked for"


async def test_calls_may_come_in_any_order() -> None:
    asked, arrivals = Asked(), Arrivals()
    first = asyncio.create_task(arrivals.next(asked))
    await asyncio.sleep(0)
    asked.futures[7].set_result("eighth")
    arrivals.take()
    async with slowness.timeout(10):
        assert await first == "eighth"
    asked.futures[0].set_result("first")
    asked.futures[1].set_exception(ConnectionError("stopped"))
    arrivals.take()
    assert await arrivals.next(asked) == "first"
    with pytest.raises(ConnectionError):
        await arrivals.next(asked)
