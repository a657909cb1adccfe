"""The address that gRPC is served on: its sockets, its connections, and what time does to them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from webhook_grpc.domain.record import record
from webhook_grpc.server.accepting import BACKLOG, Accepting, Lost
from webhook_grpc.server.certificates import Certificates

from .call import Peer
from .http2.bounds import Bounds, Kept
from .http2.connection import Connection
from .http2.frames import Reason
from .http2.lifetime import AGE_SECONDS_MAX
from .http2.read_scheduling import Reading
from .http2.stream import Stream
from .turning_away import TurningAway

KEPT_BYTES_MAX: Final = 64 * 1024 * 1024  # of requests that are not read yet: who sends more then is refused
KEPT_BYTES_MIN: Final = 1024 * 1024  # that each connection may have of them
HEARD_SECONDS_MAX: Final = 1.0  # for clients to hear that the process stops: what they begin before that is served
CLOSE_SECONDS_MAX: Final = 1.5  # for clients to take the end of their connections: more than LINGER_SECONDS
_AGE_SPREAD: Final = 0.1  # so that connections which began together do not end together
_LOOK_SECONDS: Final = 1.0
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on

log = structlog.get_logger("webhook_grpc.grpc")


@record
class TransportLimits:
    """Bounds of connections. `idle_seconds_max`: without a call; `read_seconds_max`: for a whole request to come."""

    connections_max: int
    streams_per_connection_max: int
    idle_seconds_max: float
    read_seconds_max: float


class AddressInUse(Exception):
    """The address can't be served: it is taken, or it is not an address of this machine."""


class Listener:
    """Accepts connections, and looks after them."""

    def __init__(
        self,
        address: str,
        limits: TransportLimits,
        certificates: Certificates | None,
        begin: Callable[[Stream, Peer], None],
    ) -> None:
        """`begin` gets each stream when its head has come. Without certificates connections are in plain text."""
        self._address = address
        self._limits = limits
        self._begin = begin
        self._sockets: list[socket.socket] = []
        self._connections: dict[Connection, Peer] = {}
        self._kept = Kept()
        self._reading = Reading()
        self._turning_away = TurningAway()
        self._looking: asyncio.Task[None] | None = None
        self._unused = asyncio.Event()  # set by who ends the last stream, while the server stops
        self._empty = asyncio.Event()  # set when the last connection is lost, while the server stops
        context = None if certificates is None else lambda: certificates.current.grpc_context
        self._accepting = Accepting(self._protocol, limits.connections_max, context)

    def bind(self, *, is_shared: bool) -> int:
        """Takes the address and returns its port. `is_shared`: with other processes. Raises AddressInUse."""
        host, _, wanted = self._address.rpartition(":")
        port = int(wanted)
        try:
            for family, where in _places(host.strip("[]"), port):
                taken = _bound(family, where, port, is_shared=is_shared)
                if taken is not None:
                    self._sockets.append(taken)
                    port = int(taken.getsockname()[1])  # of the first, if any will do
        except OSError:
            self._close_sockets()
        if not self._sockets:
            raise AddressInUse(
                f"cannot listen on {self._address}: it is taken, or not one of this machine's; set WEBHOOK_GRPC_ADDRESS"
            )
        return port

    async def start(self) -> None:
        """Starts to accept."""
        for each in self._sockets:
            self._accepting.start(each)
        self._looking = asyncio.create_task(self._look_at_all(), name="gRPC connections")

    async def stop(self, grace_seconds: float) -> None:
        """Accepts no more; waits until all streams have ended or the grace is over. The caller calls `close` then."""
        await self._accepting.stop()
        self._close_sockets()
        await self._drain(min(grace_seconds, HEARD_SECONDS_MAX))
        if self.stream_count:
            self._unused.clear()
            try:
                async with asyncio.timeout(grace_seconds):
                    await self._unused.wait()
            except TimeoutError:
                log.info("calls are ended: the process stops", count=self.stream_count)

    async def _drain(self, seconds_max: float) -> None:
        """Lets clients begin no more streams. What those begin that have not heard of it is taken for so long."""
        heard = [one.drain().wait() for one in list(self._connections) if one.lifetime.has_settings]
        for connection in list(self._connections):
            connection.drain()  # those that have said nothing yet, too
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                await asyncio.gather(*heard)
        for connection in list(self._connections):
            connection.refuse_streams()

    async def close(self) -> None:
        """Ends all connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        for connection in list(self._connections):
            connection.close(Reason.NO_ERROR)
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.transport.abort()

    @property
    def stream_count(self) -> int:
        """Returns how many streams are open."""
        return sum(connection.stream_count for connection in self._connections)

    def _close_sockets(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    # --- connections -----------------------------------------------------------------------------------------------

    def _protocol(self, lost: Lost) -> Connection:
        limits = self._limits
        age_seconds = AGE_SECONDS_MAX * random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)
        bounds = Bounds(
            limits.streams_per_connection_max, limits.idle_seconds_max, age_seconds, KEPT_BYTES_MAX, KEPT_BYTES_MIN
        )
        note_lost = partial(self._note_lost, lost)
        return Connection(
            bounds, self._kept, self._reading, self._begin_stream, self._note_made, note_lost, self._turning_away.answer
        )

    def _note_made(self, connection: Connection) -> None:
        transport = connection.transport
        peer = Peer(transport.get_extra_info("peername"), transport.get_extra_info("peercert"))
        self._connections[connection] = peer

    def _note_lost(self, lost: Lost, connection: Connection) -> None:
        lost()
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def _begin_stream(self, connection: Connection, stream: Stream) -> None:
        stream.add_done_callback(self._note_unused)
        self._begin(stream, self._connections[connection])

    def _note_unused(self) -> None:
        if not self._sockets and not self.stream_count:
            self._unused.set()

    async def _look_at_all(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                try:
                    connection.look(now)
                except Exception:  # the others have bounds of time, too
                    log.exception("a connection could not be looked at")


def _bound(family: socket.AddressFamily, where: str, port: int, *, is_shared: bool) -> socket.socket | None:
    """Returns a socket that listens there; None for an address that the machine lacks. Raises OSError."""
    is_dual = where in _WILDCARDS and family is socket.AF_INET6
    try:
        return socket.create_server(
            (where, port), family=family, backlog=BACKLOG, reuse_port=is_shared, dualstack_ipv6=is_dual
        )
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None  # `localhost` has ::1 in many containers without IPv6
        raise


def _places(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """Returns what to listen on. All addresses of a machine are those of both families, where it has both."""
    if host in _WILDCARDS:
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, "::")]
        return [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - what the setting says
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, str(error)) from None
    return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))
