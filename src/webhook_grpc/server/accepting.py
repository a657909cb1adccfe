"""Accepts the connections of a door, in plain text or with TLS, up to a bound.

A connection counts from the moment when it is accepted until it is lost. asyncio's server would count none before it is
made, so that a burst goes beyond the bound, and none in its handshake: whoever begins handshakes and ends none could
take the last file descriptor. It would have one context of TLS for ever, too.

A handshake takes the loop for a millisecond or more as soon as the client's greeting has come whole. So a greeting is
left at the socket until it is whole, and then waits for a turn: one handshake begins in a turn of the loop, addresses
in turn; an address with many handshakes gets only one turn in SPACING. The handshakes of one address that wait may
take at most half of the free places. A client that leaves while it waits gives its place back.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog

from webhook_grpc.domain.crowds import Spacing
from webhook_grpc.hub.turns import LoopTurns

from .client_hello import NoGreeting, until_greeted, until_lost
from .wrong_protocol import Misdirected

BACKLOG: Final = 1024  # connections that the system keeps until they are accepted
HANDSHAKE_SECONDS_MAX: Final = 10.0  # for the greeting, and for what follows its turn
TURN_SECONDS_MAX: Final = 15.0  # to wait for a turn: clients give up after about 20
SPACING: Final = Spacing(turns=4, seconds_max=0.005)  # of handshakes of addresses that have begun others lately
AT_ONCE: Final = 4  # connections that are accepted in one turn of the event loop: others have to be served
_PLAIN_TEXT: Final = frozenset({"HTTP_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"})  # OpenSSL's words
_CLOSE_SECONDS_MAX: Final = 5.0  # for the other side to take the end of TLS
_PAUSE_SECONDS: Final = 1.0  # when no connection can be accepted: as asyncio's server does

Lost = Callable[[], None]

log = structlog.get_logger("webhook_grpc.connections")


class Accepting:
    """Accepts connections on sockets, and counts them."""

    def __init__(
        self,
        make_protocol: Callable[[Lost], asyncio.Protocol],
        connections_max: int,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        """`make_protocol` returns the protocol of a new connection, which calls its argument at the connection's end.

        `context` returns the TLS context of a new connection; None: plain text.
        """
        self._make_protocol = make_protocol
        self._connections_max = connections_max
        self._context = context
        self._turns = LoopTurns(SPACING)  # of handshakes
        self._waiting = Counter[str]()  # for the turns of their handshakes, by address
        self._misdirected = Misdirected()
        self._places = set[object]()  # of the connections, accepted and not lost
        self._beginning = dict[asyncio.Task[None], socket.socket]()
        self._made = set[asyncio.Task[None]]()  # of these, whose protocols have their transports
        self._listening: list[socket.socket] = []

    @property
    def connection_count(self) -> int:
        """Returns how many connections there are, those in their handshake included."""
        return len(self._places)

    def start(self, listening: socket.socket) -> None:
        """Begins to accept on a socket."""
        listening.setblocking(False)
        self._listening.append(listening)
        self._listen(listening)

    async def stop(self) -> None:
        """Accepts no more, and closes the sockets. Ends the handshakes that are under way; in plain text none are.

        A connection whose handshake has just ended is no handshake any more: its protocol ends it as the others.
        """
        loop = asyncio.get_running_loop()
        listening, self._listening = self._listening, []
        for each in listening:
            loop.remove_reader(each)
            each.close()
        if self._context is not None:
            for task in self._beginning.keys() - self._made:
                task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _listen(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept_some, listening)

    def _accept_some(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return  # there is none any more
            except OSError as error:  # no file descriptor, say
                log.warning("no connection can be accepted", problem=error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(_PAUSE_SECONDS, self._listen, listening)
                return
            if len(self._places) < self._connections_max:
                self._begin(connection, str(peer[0]))
            else:
                connection.close()

    def _begin(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        place = object()
        self._places.add(place)
        leave = partial(self._places.discard, place)
        task = asyncio.create_task(self._make(connection, address, leave), name="connection begins")
        self._beginning[task] = connection
        task.add_done_callback(partial(self._note_begun, leave))

    async def _make(self, connection: socket.socket, address: str, leave: Lost) -> None:
        tls: dict[str, Any] = {}
        task = asyncio.current_task()
        assert task is not None, "this runs in one"

        def begin() -> asyncio.Protocol:
            self._made.add(task)
            return self._make_protocol(leave)

        try:
            if self._context is not None:
                await self._wait_for_turn(connection, address)
                tls = {
                    "ssl": self._context(),
                    "ssl_handshake_timeout": HANDSHAKE_SECONDS_MAX,
                    "ssl_shutdown_timeout": _CLOSE_SECONDS_MAX,
                }
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(_Beginning, begin, leave), connection, **tls
            )
        except OSError as error:  # of TLS, too: a certificate that is missing or refused, plain text, out of time
            leave()
            connection.close()
            reason = getattr(error, "reason", None)
            log.debug("no connection", problem=reason or str(error))
            if reason in _PLAIN_TEXT:
                remedy = "let the proxy, or the client, speak TLS"
                self._misdirected.note("plain text came to a port with TLS", address, remedy, time.monotonic())

    async def _wait_for_turn(self, connection: socket.socket, address: str) -> None:
        """Returns when the greeting has come whole and it is this connection's turn. Raises OSError."""
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            await until_greeted(connection)
        waiting = self._waiting[address]
        if waiting > self._connections_max - len(self._places):
            raise NoGreeting("too many of its address wait for their handshakes")
        self._waiting[address] += 1
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await _first(self._turns.wait(address), until_lost(connection))
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def _note_begun(self, leave: Lost, task: asyncio.Task[None]) -> None:
        connection = self._beginning.pop(task)
        self._made.discard(task)
        if task.cancelled():
            leave()
            connection.close()
        elif (error := task.exception()) is not None:
            leave()
            connection.close()
            log.error("a connection could not begin", exc_info=error)


class _Beginning(asyncio.Protocol):
    """Stands in until the connection is made, in TLS by the end of its handshake: what serves it begins then.

    So the times that a door gives its clients do not run during a handshake, which has its own.
    """

    def __init__(self, begin: Callable[[], asyncio.Protocol], leave: Lost) -> None:
        self._begin = begin
        self._leave = leave

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Puts the protocol that serves the connection in its own place."""
        try:
            protocol = self._begin()
        except BaseException:
            transport.close()
            raise
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back: nothing else has it."""
        del exc
        self._leave()


async def _first(turn: Coroutine[Any, Any, None], lost: Coroutine[Any, Any, None]) -> None:
    """Returns when it is the turn. Raises NoGreeting if the client has left before."""
    tasks = [asyncio.ensure_future(one) for one in (turn, lost)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            tasks[1].result()  # raises
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
