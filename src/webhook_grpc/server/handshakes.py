"""TLS before a door: accepts connections, and gives those to the door whose handshake is done.

asyncio's server could do the handshakes, but with one context for ever, and a connection would count only after its
handshake: whoever begins handshakes and ends none could take the last file descriptor.

A handshake takes the loop for a millisecond or more as soon as the client's greeting has come whole. So a greeting is
left at the socket until it is whole, and then waits for a turn: one handshake begins in a turn of the loop, addresses
in turn, and of those that have many one in SPACING. Who greets with a thousand connections holds up only itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from webhook_grpc.domain.crowds import Spacing
from webhook_grpc.hub.turns import LoopTurns

from .greetings import until_greeted

HANDSHAKE_SECONDS_MAX: Final = 10.0  # for the greeting, and for what follows its turn
SPACING: Final = Spacing(turns=4, seconds_max=0.02)  # of handshakes of addresses that have begun others lately
_CLOSE_SECONDS_MAX: Final = 5.0  # for the other side to take the end of TLS
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
        self._turns = LoopTurns(SPACING)
        self._tasks = set[asyncio.Task[None]]()
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
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:  # no file descriptor, say
                log.warning("no connection can be accepted", problem=error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if self._has_room():
                self._begin(connection, str(peer[0]))
            else:
                connection.close()
            await asyncio.sleep(0)  # while more come, the loop has others to serve

    def _begin(self, connection: socket.socket, address: str) -> None:
        task = asyncio.create_task(self._shake_hands(connection, address), name="TLS handshake")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        try:
            await self._wait_for_turn(connection, address)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS_MAX,
                ssl_shutdown_timeout=_CLOSE_SECONDS_MAX,
            )
        except OSError as error:  # of TLS, too: a certificate that is missing or refused, plain text, out of time
            log.debug("no TLS", problem=getattr(error, "reason", None) or str(error))

    async def _wait_for_turn(self, connection: socket.socket, address: str) -> None:
        """Returns when the greeting has come and it is this connection's turn. Closes it if not. Raises OSError."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
                await until_greeted(connection)
            await self._turns.wait(address)
        except BaseException:
            connection.close()
            raise
