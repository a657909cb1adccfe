"""A call of gRPC as its client sees it, on a real connection: statuses, messages, and what clients try again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

import grpc
import pytest

from tests.support import slowness
from webhook_grpc.api.codes import Code
from webhook_grpc.server.grpc.call import Call, Handler
from webhook_grpc.server.grpc.listening import Listener, TransportLimits

LIMITS: Final = TransportLimits(
    connections_max=10, streams_per_connection_max=100, idle_seconds_max=60.0, read_seconds_max=10.0
)
TRIED_AGAIN: Final[dict[str, Any]] = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


class Door:
    """Serves one handler. Each test sets its own."""

    handler: Handler

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[None]]()
        self.listener = Listener("127.0.0.1:0", LIMITS, None, self._begin)
        self.port = self.listener.bind(is_shared=False)

    def _begin(self, stream: Any, peer: Any) -> None:
        task = Call(stream, peer).serve(self.handler)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@pytest.fixture
async def door() -> AsyncGenerator[Door]:
    door = Door()
    await door.listener.start()
    yield door
    await door.listener.stop(0)
    await door.listener.close()


def channel(door: Door, **config: Any) -> Any:
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    if config:
        options.append(("grpc.service_config", json.dumps(config)))
    return grpc.aio.insecure_channel(f"127.0.0.1:{door.port}", options=options)


async def test_a_call_that_is_refused_before_its_answer_began_is_tried_again_by_clients(door: Door) -> None:
    """Where the answer has begun, clients try nothing again (gRFC A6)."""
    tries = list[bytes | None]()

    async def handler(call: Call) -> bytes:
        tries.append(await call.read())
        if len(tries) < 3:
            call.abort(Code.UNAVAILABLE, "come again")
        return b"answer"

    door.handler = handler
    async with channel(door, **TRIED_AGAIN) as made:
        assert await made.unary_unary("/a/B")(b"request", timeout=slowness.scaled(20)) == b"answer"
    assert tries == [b"request"] * 3


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 3_000_000])
async def test_messages_of_any_size_come_through_both_ways(door: Door, size: int) -> None:
    async def echo(call: Call) -> None:
        while (raw := await call.read()) is not None:
            await call.write(raw)

    door.handler = echo
    sent = [b"x" * size, b"", b"y" * size]
    async with channel(door) as made:
        answer = made.stream_stream("/a/B")(iter(sent), timeout=slowness.scaled(30))
        assert [message async for message in answer] == sent


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(door: Door, compression: grpc.Compression) -> None:
    async def echo(call: Call) -> bytes:
        return await call.read() or b""

    door.handler = echo
    async with channel(door) as made:
        call = made.unary_unary("/a/B")(b"x" * 100_000, compression=compression, timeout=slowness.scaled(20))
        assert await call == b"x" * 100_000


async def test_a_message_beyond_the_bound_of_its_method_is_refused_before_it_has_come(door: Door) -> None:
    async def handler(call: Call) -> bytes:
        await call.read(1000, "at most 1000 bytes")
        return b""

    door.handler = handler
    async with channel(door) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.unary_unary("/a/B")(b"x" * 1001, timeout=slowness.scaled(20))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "at most 1000 bytes")


class Waiting:
    """A handler that waits until it is ended."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def serve(self, _: Call) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return b""


async def test_a_deadline_ends_the_handler_and_the_call(door: Door) -> None:
    waiting = Waiting()
    door.handler = waiting.serve
    async with channel(door) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.unary_unary("/a/B")(b"", timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with slowness.timeout(20):
            await waiting.ended.wait()


async def test_a_client_that_leaves_ends_the_handler(door: Door) -> None:
    waiting = Waiting()
    door.handler = waiting.serve
    async with channel(door) as made:
        call = made.unary_unary("/a/B")(b"")
        async with slowness.timeout(20):
            await waiting.began.wait()
            call.cancel()
            await waiting.ended.wait()


async def test_an_unexpected_error_is_internal_without_its_text(door: Door) -> None:
    async def handler(call: Call) -> bytes:
        raise ValueError("secret")

    door.handler = handler
    async with channel(door) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.unary_unary("/a/B")(b"", timeout=slowness.scaled(20))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())


async def test_an_answer_that_waits_is_sent_before_a_stopping_door_closes(door: Door) -> None:
    may = asyncio.Event()

    async def handler(call: Call) -> bytes:
        await may.wait()
        return b"x" * 200_000

    door.handler = handler
    async with channel(door) as made:
        call = asyncio.ensure_future(made.unary_unary("/a/B")(b"", timeout=slowness.scaled(20)))
        async with slowness.timeout(20):
            while not door.listener.stream_count:
                await asyncio.sleep(0)
            stopping = asyncio.create_task(door.listener.stop(10))
            await asyncio.sleep(0)
            may.set()
            assert len(await call) == 200_000
            await stopping
