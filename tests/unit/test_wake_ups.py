"""gRPC wakes the event loop with a byte for each event; all that have come are read in one turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import uvloop

from webhook_grpc.server.grpc import wake_ups
from webhook_grpc.server.grpc.wake_ups import read_together


async def test_all_wake_ups_that_have_come_are_read_in_one_turn_of_the_loop() -> None:
    loop, handled = asyncio.get_running_loop(), list[bytes]()
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)

        def handle() -> None:
            handled.append(reading.recv(1))  # as gRPC does: one byte, whatever has come; without one it would hang

        with read_together():
            loop.add_reader(reading, handle)
        try:
            with pytest.raises(BlockingIOError):
                while True:  # until the socket is full: now the thread of gRPC would have to wait
                    writing.send(b"1")
            while not handled:
                await asyncio.sleep(0)  # one turn of the loop
            for _ in range(100):
                writing.send(b"1")  # there is room again, not for one only
            while len(handled) < 2:
                await asyncio.sleep(0)  # one turn of the loop
        finally:
            loop.remove_reader(reading)

    assert handled == [b"1", b"1"]
    assert "add_reader" not in vars(loop), "the loop is as it was"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_the_server_of_grpc_is_read_like_that(monkeypatch: pytest.MonkeyPatch, run: Callable[..., bytes]) -> None:
    turns, handle = list[Any](), wake_ups.take_all

    def noted(*arguments: Any) -> None:
        turns.append(arguments)
        handle(*arguments)

    monkeypatch.setattr(wake_ups, "take_all", noted)
    assert run(_echoed()) == b"x"
    assert turns, "gRPC lets the loop read its wake-ups in another way than it did"


async def _echoed() -> bytes:
    async def echo(raw: bytes, _: Any) -> bytes:
        return raw

    with read_together():
        server = grpc.aio.server()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        client: Any = channel
        answer = await client.unary_unary("/test/Echo")(b"x")
    await server.stop(0)
    return answer
