"""Receivers that speak whatever a test wants, byte for byte; and a socket that is read so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawServers:
    """Starts servers on loopback, and counts their connections."""

    def __init__(self) -> None:
        self.connections = 0
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def __call__(self, serve: Serve, **options: Any) -> str:
        """Starts a server whose connections are each handed to `serve`. Returns its URL."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            self.connections += 1
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self._handlers.discard(task)
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    async def stop(self) -> None:
        """Ends all of them."""
        for server in self._servers:
            server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Reads one request to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def says(response: bytes, then: Serve | None = None) -> Serve:
    """Reads one request, answers it, and goes on with `then`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(response)
        await writer.drain()
        if then is not None:
            await then(reader, writer)

    return serve


def says_in_turn(*pieces: bytes) -> Serve:
    """Reads one request, and sends each piece when the one before it has most likely been read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)  # so that it is a segment of its own

    return serve


async def until_closed(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Waits until the client has closed the connection."""
    while await reader.read(65_536):
        pass


async def first_byte(connection: socket.socket) -> bytes:
    """Waits for the first byte that comes, and returns it; b"" if the connection is closed or reset instead."""
    connection.setblocking(False)
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 1)
    except ConnectionError:
        return b""
