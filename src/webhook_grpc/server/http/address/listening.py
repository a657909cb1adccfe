"""An address that HTTP is served on: taken at the start, served from the first connection on.

The modules of the door would be a sixth of what a start imports, and some processes are never called over HTTP. So
connections wait at the socket, where the system keeps them, until the door is loaded.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final, Protocol

import structlog

from webhook_grpc.server.accepting import BACKLOG, Accepting, Lost
from webhook_grpc.server.certificates import Certificates

_PAUSE_SECONDS: Final = 1.0  # before the door is loaded again
_OURS: Final = "webhook_grpc."  # modules

Loading = Callable[[], AbstractContextManager[None]]

log = structlog.get_logger("webhook_grpc.http")


class HttpAddressInUse(Exception):
    """The address can't be served: it is taken, or it is not one of this machine's."""


class Door(Protocol):
    """What serves the connections of an address."""

    async def open(self) -> None:
        """Gets ready for connections."""
        ...

    def protocol(self, lost: Lost) -> asyncio.Protocol:
        """Returns what serves a connection that begins now, and calls `lost` when that is lost."""
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
        self._load = load
        self._loading = loading
        self._door: Door | None = None
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        context = None if certificates is None else lambda: certificates.current.http_context
        self._accepting = Accepting(self._protocol, connections_max, context)

    @property
    def connection_count(self) -> int:
        """How many connections there are, but those that wait until the door is open."""
        return self._accepting.connection_count

    def bind(self, *, is_shared: bool = False) -> int:
        """Takes the address and returns its port. `is_shared`: with other processes. Raises HttpAddressInUse."""
        try:
            self._socket = socket.create_server(
                (self._host.strip("[]"), self._port),
                family=_family(self._host),
                backlog=BACKLOG,
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
        """Waits for ever, unless the door can't be opened: then raises why. A door that is open is not watched."""
        assert self._serving is not None, "it was started before"
        await asyncio.shield(self._serving)
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Takes no more connections, and gives calls in progress a moment to end."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._accepting.stop()
        if self._socket is not None:
            self._socket.close()
        if self._door is not None:
            await self._door.close()

    async def _serve(self, listening: socket.socket) -> None:
        self._door = await self._loaded(listening)
        await self._door.open()
        self._accepting.start(listening)

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

    def _protocol(self, lost: Lost) -> asyncio.Protocol:
        assert self._door is not None, "nothing is accepted before"
        return self._door.protocol(lost)


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
        for _ in range(BACKLOG):
            listening.accept()[0].close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
