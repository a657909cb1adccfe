"""TLS before HTTP: a connection belongs to HTTP once its handshake is done.

asyncio's server could do the handshakes, but with one context for ever, and a connection would count only after its
handshake: whoever begins handshakes and ends none could take the last file descriptor.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

HANDSHAKE_SECONDS_MAX: Final = 10.0
_CLOSE_SECONDS_MAX: Final = 5.0  # for the other side to take the end of TLS


class Handshakes:
    """Does the handshakes of an address."""

    def __init__(self, context: Callable[[], ssl.SSLContext], make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """`context` returns what a connection that begins now gets."""
        self._context = context
        self._make_protocol = make_protocol
        self._tasks = set[asyncio.Task[None]]()

    @property
    def count(self) -> int:
        """Returns how many handshakes are under way."""
        return len(self._tasks)

    def accept(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection."""
        return _Accepted(self._begin)

    async def stop(self) -> None:
        """Ends those that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, transport: asyncio.Transport) -> None:
        task = asyncio.create_task(self._shake_hands(transport), name="TLS handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        early = _Early()
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                early,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
                ssl_shutdown_timeout=_CLOSE_SECONDS_MAX,
            )
        except OSError:  # of TLS, too: no handshake, a certificate that is missing or refused, out of time
            transport.abort()
            return
        if secured is not None and not early.is_lost:
            early.hand_over(secured, self._make_protocol())


class _Accepted(asyncio.Protocol):
    """A connection in the moment in which it is accepted. Nothing is read before TLS reads it."""

    def __init__(self, begin: Callable[[asyncio.Transport], None]) -> None:
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake."""
        accepted = cast("asyncio.Transport", transport)
        accepted.pause_reading()
        self._begin(accepted)


class _Early(asyncio.Protocol):
    """Keeps what comes in the same moment as the end of the handshake: a first request may."""

    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._is_ended = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Keeps it."""
        self._received.append(data)

    def eof_received(self) -> bool:
        """Keeps that there is no more to come."""
        self._is_ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that nobody is there any more."""
        del exc
        self.is_lost = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Gives the connection to a protocol, with what has come."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._received:
            protocol.data_received(data)
        if self._is_ended:
            protocol.eof_received()
