"""The service that is attacked: a process of its own with tokens, and connections to it that speak raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import psutil
from hpack import Encoder
from webhook.v1 import service_pb2, service_pb2_grpc

from tests.support import slowness
from tests.support.process import Process
from webhook_grpc.domain.tokens import token_hash

HOSTILE: Final = "hostile-customer-1-secret"  # of customer 1: all that an attacker may have
HOSTILE_ADDRESS: Final = "127.0.0.2"  # of connections that are to come from another one than the others'
HONEST: Final = "honest-customer-2-secret"
METHOD: Final = "/webhook.v1.WebhookService/"
CLOSE_SECONDS_MAX: Final = 30.0
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW_BITS: Final = 4  # SETTINGS_INITIAL_WINDOW_SIZE
NO_WINDOW: Final = struct.pack(">HI", _WINDOW_BITS, 0)  # the settings of who takes no byte of an answer

HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION, DATA = 1, 2, 3, 4, 6, 8, 9, 0


def tokens() -> str:
    """Returns the setting with the two tokens."""
    named = (("hostile", HOSTILE, 1), ("honest", HONEST, 2))
    return json.dumps([{"name": n, "sha256": token_hash(secret), "customer_id": c} for n, secret, c in named])


@dataclass
class Target:
    """A running service, and everything that was opened to it."""

    process: Process
    log: Path
    opened: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])
    webhooks: list[int] = field(default_factory=list[int])
    """Of the hostile customer, that `close` deletes."""

    @classmethod
    async def start(cls, log: Path, **settings: str) -> Target:
        """Starts a service on loopback."""
        settings = {"WEBHOOK_TOKENS": tokens(), "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0", **settings}
        return cls(await Process.start(log, **settings), log)

    @property
    def http(self) -> tuple[str, int]:
        """Where HTTP is served."""
        parts = urlsplit(self.process.http_url)
        return parts.hostname or "", parts.port or 0

    @property
    def grpc(self) -> tuple[str, int]:
        """Where gRPC is served."""
        host, _, port = self.process.address.rpartition(":")
        return host, int(port)

    def figures(self) -> tuple[float, float]:
        """Returns the seconds of CPU so far, and the MB in memory."""
        process = psutil.Process(self.process.process.pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss / 1e6

    async def connect(
        self, door: tuple[str, int], source: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a connection that `close` closes. `source`: the address that it comes from."""
        local = None if source is None else (source, 0)
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*door, local_addr=local), 10)
        self.opened.append(writer)
        return reader, writer

    async def close(self) -> None:
        """Closes everything that an attack has opened, and deletes what it has made."""
        for writer in self.opened:
            writer.transport.abort()
        self.opened.clear()
        while self.webhooks:
            await self._delete(self.webhooks.pop())

    async def _delete(self, webhook_id: int) -> None:
        """Deletes a webhook, when the service has noticed that the attack is over. Raises AioRpcError, TimeoutError."""
        request = service_pb2.DeleteWebhookRequest(webhook_id=webhook_id)
        async with self.stub() as stub:
            await once_calm(lambda: stub.DeleteWebhook(request, metadata=bearer(HOSTILE)))

    def channel(self) -> grpc.aio.Channel:
        """Returns a connection of gRPC as it should be, without limits of its own."""
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.insecure_channel(self.process.address, options=options)

    @contextlib.asynccontextmanager
    async def stub(self) -> AsyncGenerator[Any]:
        """Opens a client."""
        async with self.channel() as channel:
            yield service_pb2_grpc.WebhookServiceStub(channel)


async def once_calm(call: Callable[[], Awaitable[Any]]) -> Any:
    """Returns what a call answers, when the service has noticed that the attack before is over."""
    async with slowness.timeout(CLOSE_SECONDS_MAX):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as refused:
                if refused.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
                    raise
                await asyncio.sleep(0.1)  # as the refusal says, though sooner


def bearer(secret: str) -> Sequence[tuple[str, str]]:
    """Returns the metadata of a caller."""
    return (("authorization", f"Bearer {secret}"),)


class Http2:
    """A connection that sends frames of HTTP/2 (RFC 9113) as it likes; `send_data` keeps to the flow control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._windows = Counter[int]({0: 65_535})  # what may be sent: on the connection, and on streams beyond `_first`
        self._first = 65_535
        self._reading = asyncio.ensure_future(self._read(reader))
        self.is_open = True
        self.refused = 0  # streams that the service has reset
        self.begun = 0  # as its user counts them
        self.ended = 0  # streams that the service has ended, with a status or a reset
        self._answered = asyncio.Event()  # the last ping

    @classmethod
    async def open(cls, target: Target, window: int = 1 << 20) -> Http2:
        """Opens one. `window`: how many bytes of each answer it takes."""
        connection = cls(*await target.connect(target.grpc))
        await connection.send(PREFACE, frame(SETTINGS, 0, 0, struct.pack(">HI", _WINDOW_BITS, window)))
        return connection

    async def send(self, *frames: bytes) -> bool:
        """Sends frames; returns whether the connection still takes any."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._writer.write(b"".join(frames))
            await asyncio.wait_for(self._writer.drain(), 5)
            return self.is_open
        return False

    async def answered(self) -> str:
        """Waits until the service has read everything so far; returns in some words what it said to that."""
        self._answered.clear()
        if await self.send(frame(PING, 0, 0, b"all read")):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), 10)
        return f"{self.refused} refused, connection {'kept' if self.is_open else 'closed'}"

    async def send_data(self, stream: int, size: int) -> int:
        """Sends as much of a message as may be sent now; returns how much that was."""
        sent = max(0, min(size, 16_384, self._windows[0], self._first + self._windows[stream]))
        if not sent or not await self.send(frame(DATA, 0, stream, b"\0" * sent)):
            return 0
        self._windows[0] -= sent
        self._windows[stream] -= sent
        return sent

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                start = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
                self._take(start[3], start[4], int.from_bytes(start[5:9], "big"), payload)
        self.is_open = False
        self._answered.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & 1:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == _WINDOW_BITS:
                    self._first = value
            self._writer.write(frame(SETTINGS, 1, 0))
        elif kind == RESET:
            self.refused += 1
            self.ended += 1
        elif kind == HEADERS and flags & 1:
            self.ended += 1
        elif kind == PING and flags & 1 and payload == b"all read":
            self._answered.set()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns one frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def head(path: str, *more: tuple[str, str]) -> bytes:
    """Returns the block of headers of a call."""
    fixed = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers"))
    return Encoder().encode([*fixed, ("content-type", "application/grpc"), *more], huffman=False)


def message(raw: bytes) -> bytes:
    """Returns a message as gRPC frames it."""
    return b"\0" + struct.pack(">I", len(raw)) + raw


def streams(count: int) -> Iterable[int]:
    """Returns the numbers of a client's streams."""
    return range(1, 2 * count, 2)
