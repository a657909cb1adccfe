"""An address that HTTP is served on: taken at the start, served from the first connection on.

What serves it is a sixth of what a start would import, and some processes are never called over HTTP. So connections
wait at the socket, where the system keeps them, until that is loaded.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final, Protocol, cast

import structlog

from webhook_grpc.server.certificates import Certificates
from webhook_grpc.server.handshakes import Handshakes

_BACKLOG: Final = 1024
_PAUSE_SECONDS: Final = 1.0  # before the door is loaded again
_OURS: Final = "webhook_grpc."  # modules

Loading = Callable[[], AbstractContextManager[None]]

log = structlog.get_logger("webhook_grpc.http")


class HttpAddressInUse(Exception):
    """The address can't be served: it is taken, or it is not one of this machine's."""


class Door(Protocol):
    """What serves the connections of an address."""

    @property
    def connection_count(self) -> int:
        """How many connections there are."""
        ...

    async def open(self) -> None:
        """Gets ready for connections."""
        ...

    def protocol(self) -> asyncio.Protocol:
        """Returns what serves a connection that begins now."""
        ...

    async def close(self) -> None:
        """Gives calls in progress a moment to end, and closes all connections."""
        ...


class Listener:
    """Listens on one address, and opens its door when somebody comes."""

    def __init__(
        self,
        address: str,
        connections_max: int,
        load: Callable[[], Door],
        loading: Loading,
        certificates: Certificates | None = None,
    ) -> None:
        """`load` makes the door, in a thread, within `loading`. Without certificates it serves plain text."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._connections_max = connections_max
        self._load = load
        self._loading = loading
        self._door: Door | None = None
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handshakes: Handshakes | None = None
        if certificates is not None:
            self._handshakes = Handshakes(lambda: certificates.current.http_context, self._protocol, self._has_room)

    @property
    def connection_count(self) -> int:
        """How many connections there are, but those that wait until the door is open."""
        in_handshake = 0 if self._handshakes is None else self._handshakes.count
        return in_handshake + (0 if self._door is None else self._door.connection_count)

    def bind(self, *, is_shared: bool = False) -> int:
        """Takes the address and returns its port. `is_shared`: with other processes. Raises HttpAddressInUse."""
        try:
            self._socket = socket.create_server(
                (self._host.strip("[]"), self._port),
                family=_family(self._host),
                backlog=_BACKLOG,
                reuse_port=is_shared,
                dualstack_ipv6=False,
            )
        except OSError as error:
            raise HttpAddressInUse(f"cannot listen on {self._host}:{self._port} for HTTP: {error.strerror}") from None
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Starts to serve whoever comes."""
        assert self._socket is not None, "the address is taken before"
        self._serving = asyncio.create_task(self._serve(self._socket), name="HTTP door")

    async def failed(self) -> None:
        """Waits until the door ends, which should never happen. Raises why."""
        assert self._serving is not None, "it was started before"
        await asyncio.shield(self._serving)
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Takes no more connections, and gives calls in progress a moment to end."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        if self._handshakes is not None:
            await self._handshakes.stop()
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        if self._door is not None:
            await self._door.close()

    async def _serve(self, listening: socket.socket) -> None:
        self._door = await self._loaded(listening)
        await self._door.open()
        if self._handshakes is not None:
            self._handshakes.start(listening)
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=listening, backlog=_BACKLOG, start_serving=False)
        await self._server.start_serving()

    async def _loaded(self, listening: socket.socket) -> Door:
        """Returns the door when somebody has come. If it can't be loaded, whoever comes next tries again.

        During an upgrade in place the files may be of two versions for a while; nothing else has to end for that.
        """
        while True:
            await _first_connection(listening)
            before = set(sys.modules)
            try:
                with self._loading():
                    return await asyncio.to_thread(self._load)
            except Exception:
                log.exception(
                    "HTTP can't be served; the next connection tries again", address=f"{self._host}:{self._port}"
                )
                for name in set(sys.modules) - before:
                    if name.startswith(_OURS):
                        del sys.modules[name]  # perhaps of the version before
                _close_waiting(listening)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _accept(self) -> asyncio.Protocol:
        return self._protocol() if self._has_room() else _Refusal()

    def _protocol(self) -> asyncio.Protocol:
        assert self._door is not None, "nothing is accepted before"
        return self._door.protocol()

    def _has_room(self) -> bool:
        return self.connection_count < self._connections_max


async def _first_connection(listening: socket.socket) -> None:
    """Returns when a connection waits at the socket, where it stays."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(listening)


def _close_waiting(listening: socket.socket) -> None:
    """Closes the connections that wait at the socket."""
    listening.setblocking(False)
    with suppress(OSError):
        for _ in range(_BACKLOG):
            listening.accept()[0].close()


class _Refusal(asyncio.Protocol):
    """What a connection beyond the bound gets: its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Closes it."""
        cast("asyncio.Transport", transport).abort()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
