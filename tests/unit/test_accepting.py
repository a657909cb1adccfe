"""New calls of gRPC are taken together, so that nobody's waits behind thousands that others have opened."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from typing import Any, cast

import grpc

from tests.attack.target import HEADERS, PREFACE, SETTINGS, frame, head, streams
from tests.support import slowness
from webhook_grpc.server.grpc.accepting import CALLS_ASKED, asking


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
