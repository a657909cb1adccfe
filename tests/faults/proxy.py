"""A network that can fail, between the service and Postgres: a TCP proxy with toxiproxy's toxics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum

from psycopg.conninfo import conninfo_to_dict

from tests.support import slowness

_CHUNK_BYTES = 65_536


class Toxic(StrEnum):
    """What the network does now."""

    NONE = "none"
    LATENCY = "latency"  # the server's bytes come later
    BLACKHOLE = "blackhole"  # nothing passes in either direction, connections stay open
    NO_ANSWERS = "no answers"  # what the client sends arrives, what the server answers does not
    REFUSE = "refuse"  # connections are reset as soon as they are made


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    sent: bytes = b""  # the beginning of what the client sent: enough to tell what the connection is for
    losing: bool = False
    swallowed: bytes = b""

    def reset(self) -> None:
        """Ends both sides at once, the client's with RST."""
        for writer in (self.client, self.server):
            connection: socket.socket | None = writer.get_extra_info("socket")
            if connection is not None and connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@dataclass
class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to a server: to a Unix socket, or to host:port."""

    address: str
    latency_seconds: float = 0.05
    port: int = 0
    toxic: Toxic = Toxic.NONE
    lost_answers: int = 0
    late_answers: int = 0
    _links: set[Link] = field(default_factory=set[Link])
    _passable: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _lose_on: bytes | None = None  # connections that run this
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def before(cls, url: str) -> Proxy:
        """Returns a proxy before the server of a connection string."""
        parts = conninfo_to_dict(url)
        host, port = str(parts["host"]), parts.get("port") or 5432
        return cls(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}")

    async def start(self) -> None:
        """Listens."""
        self._passable.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections."""
        self.set(Toxic.NONE)
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.sleep(0)

    def set(self, toxic: Toxic) -> None:
        """From now on, on all connections. What was held back in a blackhole passes when it ends."""
        self.toxic = toxic
        if toxic is Toxic.BLACKHOLE:
            self._passable.clear()
        else:
            self._passable.set()

    def cut(self) -> int:
        """Resets every connection that is open. Returns how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def lose_answer(self, statement: bytes, seconds: float = 2.0) -> bool:
        """Lets the next statement of a connection that runs such statements be executed, and then resets it.

        The server's answer is read and thrown away, so it has committed: exactly the case in which a client can't know.
        Returns True when that has happened, False after some seconds in which there was no such statement.
        """
        self._lost.clear()
        self._lose_on = statement
        with contextlib.suppress(TimeoutError):
            async with slowness.timeout(seconds):
                await self._lost.wait()
        self._lose_on = None
        return self._lost.is_set()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.startswith("/"):
            return await asyncio.open_unix_connection(self.address)
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.toxic is Toxic.REFUSE:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            server_reader, server_writer = await self._connect()
            link = Link(writer, server_writer)
            self._links.add(link)
            tasks = [
                asyncio.create_task(self._forward(reader, link)),
                asyncio.create_task(self._answer(server_reader, link)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._links.discard(link)
                for side in (writer, server_writer):
                    side.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, link: Link) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._passable.wait()
            if len(link.sent) < _CHUNK_BYTES:  # a statement's text is sent a few times, before the client prepares it
                link.sent += chunk
            if self._lose_on is not None and self._lose_on in link.sent:
                self._lose_on, link.losing = None, True
            link.server.write(chunk)
            await link.server.drain()

    async def _answer(self, reader: asyncio.StreamReader, link: Link) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._passable.wait()
            if self.toxic is Toxic.LATENCY:
                self.late_answers += 1
                await asyncio.sleep(self.latency_seconds)
            if link.losing:
                link.swallowed += chunk
                if _is_complete(link.swallowed):
                    self.lost_answers += 1
                    link.reset()
                    self._lost.set()
                    return
            elif self.toxic is not Toxic.NO_ANSWERS:
                link.client.write(chunk)
                await link.client.drain()


def _is_complete(answer: bytes) -> bool:
    """Whether the answer's last message is ReadyForQuery: Postgres sends it when a statement has committed."""
    return answer.endswith(b"Z\x00\x00\x00\x05I")
