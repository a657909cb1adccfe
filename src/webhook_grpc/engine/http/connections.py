"""Connections to receivers: what may be believed that arrives on one, and how long it is kept.

A kept connection belongs to one webhook, so that an answer to no request can never count for another webhook's request.
Within a webhook it is closed when bytes arrive that no request waits for. One race remains and can not be closed in
HTTP/1.1: what a receiver sends without a request, in the moment in which the next request goes out, is taken for its
answer. It reaches only requests to the same webhook, and a 410, which would disable it, must be repeated on a new
connection.

Needs private hooks of aiohttp, which are checked at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from webhook_grpc.domain.egress import EgressPolicy, why_address_blocked

from .faults import BlockedDestination
from .heads import HeadReader, body_bytes, is_whole, kept_seconds, with_one_length

RAW_BYTES_MAX: Final = 65_536  # of one answer, heads and all
INTERIM_ANSWERS_MAX: Final = 100  # 1xx before the answer; each costs as much as a head
KEEPALIVE_SECONDS: Final = 20.0  # idle
CONNECTION_SECONDS_MAX: Final = 300.0  # so that a name that moves is followed
CONNECTION_REQUESTS_MAX: Final = 1000
UNKEPT_SECONDS: Final = 300.0  # after an unexpected close nothing is kept to a webhook
UNKEPT_WEBHOOKS_MAX: Final = 10_000
_MARGIN_SECONDS: Final = 1.0  # before the receiver's own end of a connection
_END_SECONDS_MAX: Final = 2.0
_CHUNKS_END: Final = b"\r\n\r\n"


class GuardMissing(RuntimeError):
    """aiohttp lacks the place for the egress guard. Nothing may be sent without it."""


class ResponseTooLarge(aiohttp.ClientError):
    """The receiver sent more raw bytes, or more interim answers, than any answer needs."""


@dataclass(slots=True)
class Connections:
    """How many connections are open, how many requests use one (the rest is idle), and to whom none is kept."""

    idle_max: int
    seconds_max: float = CONNECTION_SECONDS_MAX
    requests_max: int = CONNECTION_REQUESTS_MAX
    open_count: int = 0
    in_use: int = 0
    _unkept: dict[int, float] = field(default_factory=dict[int, float])  # webhook to time, the oldest first

    @property
    def enough_are_idle(self) -> bool:
        """Whether a connection should be closed rather than kept: each holds a file descriptor."""
        return self.open_count - self.in_use >= self.idle_max

    def closed_unexpectedly(self, webhook_id: int, now: float) -> None:
        """Notes that a receiver has closed a connection on which a request had just been sent."""
        self._unkept.pop(webhook_id, None)
        self._unkept[webhook_id] = now + UNKEPT_SECONDS
        while len(self._unkept) > UNKEPT_WEBHOOKS_MAX:
            del self._unkept[next(iter(self._unkept))]

    def keeps(self, webhook_id: int, now: float) -> bool:
        """Whether connections to a webhook are kept now."""
        return self._unkept.get(webhook_id, now) <= now


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as far as its connection has to know. `policy` is that of its host."""

    webhook_id: int
    url: str = field(repr=False)
    policy: EgressPolicy
    wants_new: bool = False  # takes no kept connection, and ends those of its webhook
    handler: GuardedHandler | None = None

    @property
    def used_kept_connection(self) -> bool:
        """Whether another request was answered on the connection before."""
        return self.handler is not None and self.handler.request_count > 1

    @property
    def had_no_answer(self) -> bool:
        """Whether nothing has arrived on a kept connection, so that it may have been dead already."""
        return self.handler is not None and self.used_kept_connection and self.handler.is_silent

    async def tls_error(self) -> ssl.SSLError | None:
        """What TLS says at the end of a connection that was lost, if it does; aiohttp may report a failed write."""
        if self.handler is None or not self.url.lower().startswith("https:"):
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS_MAX):  # the loop may say so only after a write has failed
                await self.handler.lost.wait()
        return self.handler.ended_by if isinstance(self.handler.ended_by, ssl.SSLError) else None


_current: contextvars.ContextVar[Exchange] = contextvars.ContextVar("exchange")


def begin(exchange: Exchange) -> None:
    """Makes it the exchange of the requests that this task sends from now on."""
    _current.set(exchange)


def current_policy() -> EgressPolicy:
    """The policy of the host that this task is about to dial."""
    return _current.get().policy


class GuardedHandler(ResponseHandler):
    """aiohttp's protocol with guards.

    The peer's address, a bound on raw bytes, no answer before its request, and an end for each connection. It cuts an
    answer's head from what follows, so that no trouble with the body can hide the status.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Connections) -> None:
        super().__init__(loop)
        exchange = _current.get()
        self._policy = exchange.policy
        self._webhook_id = exchange.webhook_id
        self._connections = connections
        self._made_at = self._usable_until = time.monotonic()
        self.request_count = 0
        self.ended_by: BaseException | None = None
        self.lost = asyncio.Event()
        self._raw_bytes = 0
        self._interim_count = 0
        self._head: HeadReader | None = None  # None: it has been read
        self._body_left: int | None = 0  # None: its end will show
        self._last_bytes = b""

    # --- whether it may be used again ------------------------------------------------------------------------------

    @property
    def is_silent(self) -> bool:
        """Whether nothing has arrived since the latest request."""
        return self._raw_bytes == 0

    @property
    def should_close(self) -> bool:
        """Asked when the request that used the connection has ended."""
        return super().should_close or self._connections.enough_are_idle or not self._is_kept

    @property
    def _is_kept(self) -> bool:
        now = time.monotonic()
        is_young = now - self._made_at < self._connections.seconds_max
        is_little_used = self.request_count < self._connections.requests_max
        return (
            is_young and is_little_used and now < self._usable_until and self._connections.keeps(self._webhook_id, now)
        )

    def is_connected(self) -> bool:
        """Asked before the next request uses the connection; what is not good enough is closed."""
        unasked = self._buffer or self._tail or self._exception is not None
        exchange = _current.get(None)  # None: aiohttp's clean-up
        wants_new = exchange is not None and exchange.wants_new
        return super().is_connected() and not unasked and not wants_new and self._is_kept

    # --- one request -----------------------------------------------------------------------------------------------

    def set_response_params(self, **kwargs: Any) -> None:
        """Called before each request, in its task."""
        exchange = _current.get()
        exchange.handler, exchange.wants_new = self, False  # aiohttp's clean-up may run in a copy of this context
        self.request_count += 1
        self._raw_bytes = self._interim_count = 0
        self._head = HeadReader()
        self._last_bytes = b""
        super().set_response_params(**kwargs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Looks at where the connection really leads."""
        super().connection_made(transport)
        self._connections.open_count += 1
        peer = transport.get_extra_info("peername")
        if peer is None:  # the receiver has reset the connection already
            self._refuse(aiohttp.ServerDisconnectedError())
        elif why_address_blocked(peer[0], self._policy) is not None:
            self._refuse(BlockedDestination())

    def _refuse(self, error: Exception) -> None:
        """Ends the connection before anything is written to it."""
        transport = self.transport
        self.set_exception(error)
        if transport is not None:
            transport.close()

    def close(self) -> None:
        """Drops what is unsent. A plain close waits until the receiver has read it: one that never does keeps it."""
        self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keeps why it ended."""
        self._connections.open_count -= 1
        self.ended_by = exc
        self.lost.set()
        super().connection_lost(exc)

    # --- its answer ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Also called by aiohttp, without data, to go on after a pause."""
        if not data or not self.request_count:
            super().data_received(data)  # what comes before the first request waits for it there
        elif self._is_answered:
            self._end_unasked()
        elif self._raw_bytes == 0 and len(data) <= RAW_BYTES_MAX and is_whole(data):
            self._raw_bytes = len(data)
            self._take_head(data)  # with its body: passing each on alone takes a tenth of a request's work
            self._body_left = 0
        else:
            room = RAW_BYTES_MAX - self._raw_bytes
            self._raw_bytes += len(data)
            self._take(data[:room] if room < len(data) else data)  # what fits: a large 200 stays a 200
            if self._raw_bytes > RAW_BYTES_MAX:
                self._end_with(ResponseTooLarge())

    @property
    def _is_answered(self) -> bool:
        if self._head is not None:
            return False
        return self._body_left == 0 or (self._payload is not None and self._payload.is_eof())

    def _take(self, data: bytes) -> None:
        if self._head is not None:
            self._head.feed(data)
            data = self._take_heads(self._head)
        if data:
            self._take_body(data)

    def _take_heads(self, reader: HeadReader) -> bytes:
        """Passes on whole heads, up to that of the answer. Returns what follows it."""
        while self._head is not None and self._exception is None:
            if not reader.is_one:  # the parser says so at once
                self._head, self._body_left = None, None
            elif (head := reader.take()) is None:
                return b""
            else:
                self._take_head(with_one_length(head))
        return reader.take_all() if self._exception is None else b""

    def _take_head(self, head: bytes) -> None:
        super().data_received(head)
        if self._exception is not None or not self._buffer:
            return
        message = self._buffer[-1][0][0]
        if 100 <= message.code <= 199 and message.code != 101:
            self._interim_count += 1
            if self._interim_count > INTERIM_ANSWERS_MAX:
                self._end_with(ResponseTooLarge())
            return
        self._head = None
        self._body_left = body_bytes(message.code, message.headers, is_chunked=message.chunked)
        self._usable_until = _usable_until(time.monotonic(), kept_seconds(message.headers))

    def _take_body(self, data: bytes) -> None:
        if self._body_left is None:
            self._take_open_body(data)
            return
        wanted, self._body_left = data[: self._body_left], max(0, self._body_left - len(data))
        if len(wanted) < len(data):
            self.force_close()  # before aiohttp keeps it, which it does with the last byte
        if wanted:
            super().data_received(wanted)
        if len(wanted) < len(data):
            self._end_unasked()

    def _take_open_body(self, data: bytes) -> None:
        """Chunks, or bytes until the end. More than a whole last chunk is the start of an answer to no request."""
        messages = len(self._buffer)
        self._last_bytes = (self._last_bytes + data)[-len(_CHUNKS_END) :]
        super().data_received(data)
        if self._exception is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError())  # whoever reads it need not wait for its end
        if len(self._buffer) > messages or (self._is_answered and self._last_bytes != _CHUNKS_END):
            self._end_unasked()

    def _end_unasked(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def _end_with(self, error: Exception) -> None:
        if self.transport is not None:
            self.set_exception(error)
            self.transport.abort()


def _usable_until(now: float, said_seconds: float | None) -> float:
    """A second before the receiver closes the connection; of what it keeps for less than two, half."""
    if said_seconds is None:
        return now + KEEPALIVE_SECONDS
    return now + max(said_seconds - _MARGIN_SECONDS, said_seconds / 2)


class GuardedRequest(aiohttp.ClientRequest):
    """aiohttp's request, with connections of its webhook only, and the target of the request line as it was given."""

    url: URL

    @property
    def connection_key(self) -> ConnectionKey:
        """What a kept connection must have in common; the place of the hash is free, because there are no proxies."""
        return super().connection_key._replace(proxy_headers_hash=_current.get().webhook_id)

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        """Sends the request. yarl drops a `?` at the end, which customers may have signed."""
        url = self.url
        if _current.get().url.endswith("?") and not url.raw_query_string:
            self.url = cast(URL, _Target(url.raw_path_qs + "?"))
        try:
            return await super().send(conn)
        finally:
            self.url = url


@dataclass(frozen=True, slots=True)
class _Target:
    raw_path_qs: str  # all that sending looks at


def install_guard(connector: aiohttp.TCPConnector, connections: Connections) -> None:
    """Puts our protocol in the place of aiohttp's. Raises GuardMissing if aiohttp has it no longer."""
    factory = getattr(connector, "_factory", None)
    if not isinstance(factory, functools.partial) or factory.func is not ResponseHandler:
        raise GuardMissing(
            f"aiohttp {aiohttp.__version__} lacks the hook of the egress guard; install the pinned version"
        )
    guarded = functools.partial(GuardedHandler, loop=asyncio.get_running_loop(), connections=connections)
    # The private hook that was checked above; aiohttp has no public one
    connector._factory = guarded  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] - above
