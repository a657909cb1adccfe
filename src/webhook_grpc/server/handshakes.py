"""TLS before a door: accepts connections, and gives those to the door whose handshake is done.

asyncio's server could do the handshakes, but with one context for ever, and a connection would count only after its
handshake: whoever begins handshakes and ends none could take the last file descriptor.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import structlog

from .strangers import Strangers

HANDSHAKE_SECONDS_MAX: Final = 10.0
_CLOSE_SECONDS_MAX: Final = 5.0  # for the other side to take the end of TLS
_PLAIN_TEXT: Final = frozenset({"HTTP_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"})  # OpenSSL's words
_PAUSE_SECONDS: Final = 1.0  # when no connection can be accepted: as asyncio's server does

log = structlog.get_logger("webhook_grpc.tls")


class Handshakes:
    """Accepts the connections of an address."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        make_protocol: Callable[[], asyncio.Protocol],
        has_room: Callable[[], bool],
    ) -> None:
        """`context` returns what a connection that begins now gets; `has_room` whether one more may begin."""
        self._context = context
        self._make_protocol = make_protocol
        self._has_room = has_room
        self._tasks = set[asyncio.Task[None]]()
        self._strangers = Strangers()
        self._accepting: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Returns how many handshakes are under way."""
        return len(self._tasks)

    def start(self, listening: socket.socket) -> None:
        """Begins to accept."""
        listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept_all(listening), name="TLS accept")

    async def stop(self) -> None:
        """Accepts no more, and ends the handshakes that are under way."""
        tasks = [*self._tasks, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept_all(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # no file descriptor, say
                log.warning("no connection can be accepted", problem=error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if self._has_room():
                self._begin(connection)
            else:
                connection.close()
            await asyncio.sleep(0)  # while more come, the loop has others to serve

    def _begin(self, connection: socket.socket) -> None:
        task = asyncio.create_task(self._shake_hands(connection), name="TLS handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        address = _address_of(connection)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
                ssl_shutdown_timeout=_CLOSE_SECONDS_MAX,
            )
        except OSError as error:  # of TLS, too: a certificate that is missing or refused, plain text, out of time
            reason = getattr(error, "reason", None)
            log.debug("no TLS", problem=reason or str(error))
            if reason in _PLAIN_TEXT:
                remedy = "let the proxy, or the client, speak TLS"
                self._strangers.note("plain text came to a port with TLS", address, remedy, time.monotonic())


def _address_of(connection: socket.socket) -> str:
    """Returns the IP address at the other end; nothing if it has left."""
    try:
        return str(connection.getpeername()[0])
    except OSError:
        return ""
