"""The HTTP client: one request, one typed result, in bounded time and memory, to nowhere it should not go.

The facts behind each guard are in docs/security.md. The one that carries the weight is the socket factory: it sees
every address that is really dialled, which a resolver does not (IP literals never reach it) and a check of the URL can
not (names change their minds). It and the raw byte limit need a private hook of aiohttp, which is checked at start.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from ..domain.egress import EgressPolicy, host_of, why_address_blocked
from ..domain.headers import kept_headers
from ..domain.model import AttemptResult, FailureReason, Outcome
from ..store.clock import DatabaseClock
from .faults import BlockedDestination, SenderFault
from .resolver import GuardedResolver, ResolverDown
from .sockets import OwnedSocket

RAW_BYTES_MAX: Final = 65_536
KEEPALIVE_SECONDS: Final = 20.0

_OWN_FAULTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class GuardMissing(RuntimeError):
    """aiohttp lacks the place for the egress guard. Nothing may be sent without it."""


class ResponseTooLarge(aiohttp.ClientError):
    """The receiver sent more raw bytes than any answer needs."""


@dataclass(frozen=True, slots=True)
class Request:
    """One POST."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    start_time: datetime | None = None  # at which it was signed; None: now


@dataclass(slots=True)
class Connections:
    """How many connections are open, and how many requests use one: the rest is idle."""

    idle_max: int
    open_count: int = 0
    in_use: int = 0

    @property
    def enough_are_idle(self) -> bool:
        """Whether a connection should be closed rather than kept: each holds a file descriptor."""
        return self.open_count - self.in_use >= self.idle_max


class _GuardedHandler(ResponseHandler):
    """aiohttp's protocol with four guards.

    The peer's address, a raw byte limit, no answer before its request, and a bound on idle connections.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, policy: EgressPolicy, connections: Connections) -> None:
        super().__init__(loop)
        self._policy = policy
        self._connections = connections
        self._raw_bytes = 0

    @property
    def should_close(self) -> bool:
        """Asked when the request that used the connection has ended."""
        return super().should_close or self._connections.enough_are_idle

    def is_connected(self) -> bool:
        """An idle connection on which something arrived would give it to the next delivery as its answer."""
        return super().is_connected() and not (self._buffer or self._tail or self._exception is not None)

    def set_response_params(self, **kwargs: Any) -> None:
        self._raw_bytes = 0  # called once for each request on a kept connection
        super().set_response_params(**kwargs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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
        self._connections.open_count -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        room = RAW_BYTES_MAX - self._raw_bytes
        self._raw_bytes += len(data)
        super().data_received(data[:room] if room < len(data) else data)  # what fits: a large 200 stays a 200
        if self._raw_bytes > RAW_BYTES_MAX and self.transport is not None:
            self.set_exception(ResponseTooLarge())
            self.transport.abort()


class Sender:
    """Sends requests over kept connections."""

    def __init__(
        self,
        policy: EgressPolicy,
        clock: DatabaseClock,
        response_body_bytes_max: int,
        idle_connections_max: int = 1000,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        connect_seconds_max: float = 5.0,
        body_seconds_max: float = 1.0,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._response_body_bytes_max = response_body_bytes_max
        self.connections = Connections(idle_connections_max)
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._connect_seconds_max = connect_seconds_max
        self._body_seconds_max = body_seconds_max

    @functools.cached_property
    def _opened_resolver(self) -> AbstractResolver:
        return self._resolver or GuardedResolver(self._policy)

    @functools.cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Opened with the first request, in the running loop."""
        connector = aiohttp.TCPConnector(
            resolver=self._opened_resolver,
            socket_factory=self._socket,
            ssl=self._ssl_context or _default_context(),
            limit=0,  # ours is the dispatcher's; aiohttp's would count waiting for it as the receiver's time
            use_dns_cache=False,
            happy_eyeballs_delay=0.25,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        install_guard(connector, self._policy, self.connections)
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # no bombs
            cookie_jar=aiohttp.DummyCookieJar(),  # nothing of one customer's delivery in another's
            trust_env=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept", "Content-Type"),
            max_line_size=4096,
            max_field_size=8190,
            max_headers=64,
            read_bufsize=16_384,
        )

    def open(self) -> None:
        """Gets ready to send. Raises GuardMissing."""
        _ = self._session

    async def close(self) -> None:
        """Closes all connections, and ends the look-ups that are under way."""
        await self._session.close()
        await self._opened_resolver.close()  # aiohttp closes only a resolver that it made itself

    async def send(self, request: Request) -> AttemptResult:
        """Makes one request. Returns within the timeout and a second. Raises SenderFault."""
        start_time, started_at = request.start_time or self._clock.now(), time.monotonic()
        self.connections.in_use += 1
        try:
            async with asyncio.timeout(request.timeout_seconds) as deadline, self._post(request) as response:
                latency_ms = _milliseconds_since(started_at)
                deadline.reschedule(None)  # the status has decided; the body has a deadline of its own
                body = await self._excerpt(response)
        except Exception as error:  # sorted by _classify, which raises again what it does not know
            if isinstance(error, TimeoutError) and await self._is_resolver_to_blame(request.url, started_at):
                raise ResolverDown("resolver") from error
            outcome, reason = _classify(error)
            return AttemptResult(outcome, start_time, _milliseconds_since(started_at), reason)
        finally:
            self.connections.in_use -= 1
        outcome, reason = _judge(response.status)
        return AttemptResult(
            outcome,
            start_time,
            latency_ms,
            reason,
            response.status,
            body,
            response.headers.get("Retry-After"),
            kept_headers(response.headers),
        )

    async def _is_resolver_to_blame(self, url: str, since: float) -> bool:
        """Whether a deadline passed during a look-up that no name would have been answered to."""
        resolver = self._opened_resolver
        if not isinstance(resolver, GuardedResolver):
            return False
        return resolver.was_cut_off(host_of(url), since) and await resolver.knows_nobody()

    def _post(self, request: Request) -> Any:  # aiohttp's private context manager type
        return self._session.post(
            URL(request.url, encoded=True),  # as the customer gave it: re-quoting would break signed URLs
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._connect_seconds_max, sock_read=request.timeout_seconds
            ),
        )

    async def _excerpt(self, response: aiohttp.ClientResponse) -> bytes:
        """The start of the body. The status has decided: trouble with the body changes nothing."""
        excerpt = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds_max):
                while chunk := await response.content.read(self._response_body_bytes_max + 1 - len(excerpt)):
                    excerpt += chunk
                    if len(excerpt) > self._response_body_bytes_max:
                        break
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        if not response.content.at_eof():
            response.close()  # a connection with unread bytes can't be kept
        return bytes(excerpt[: self._response_body_bytes_max])

    def _socket(self, address_info: Any) -> socket.socket:
        """Called for every address that is about to be dialled."""
        family, kind, protocol, _, address = address_info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise BlockedDestination
        has_scope = len(address) > 3 and address[3]
        if has_scope or why_address_blocked(address[0], self._policy) is not None:
            raise BlockedDestination
        return OwnedSocket(family, kind, protocol)


def _default_context() -> ssl.SSLContext:
    """Python's own, but that SSLKEYLOGFILE does not make it write the keys of all connections to a file."""
    context = ssl.create_default_context()
    context.keylog_filename = None  # pyright: ignore[reportAttributeAccessIssue] - typed as never None
    return context


def install_guard(connector: aiohttp.TCPConnector, policy: EgressPolicy, connections: Connections) -> None:
    """Puts our protocol in the place of aiohttp's. Raises GuardMissing if aiohttp has it no longer."""
    factory = getattr(connector, "_factory", None)
    if not isinstance(factory, functools.partial) or factory.func is not ResponseHandler:
        raise GuardMissing(
            f"aiohttp {aiohttp.__version__} lacks the hook of the egress guard; install the pinned version"
        )
    guarded = functools.partial(
        _GuardedHandler, loop=asyncio.get_running_loop(), policy=policy, connections=connections
    )
    # checked above
    connector._factory = guarded  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def _judge(status: int) -> tuple[Outcome, FailureReason]:
    if 200 <= status <= 299:
        return Outcome.SUCCEEDED, FailureReason.NONE
    if 300 <= status <= 399:
        return Outcome.HTTP_ERROR, FailureReason.REDIRECT
    if status == 410:
        return Outcome.HTTP_ERROR, FailureReason.GONE
    return Outcome.HTTP_ERROR, FailureReason.STATUS


# What an exception of the client says about the receiver; the first that fits. TimeoutError stands for aiohttp's too.
_FAILURES: Final[Sequence[tuple[type[Exception], Outcome, FailureReason]]] = (
    (aiohttp.ClientConnectorDNSError, Outcome.CONNECTION_ERROR, FailureReason.NAME_NOT_RESOLVED),
    (aiohttp.ClientConnectorCertificateError, Outcome.TLS_ERROR, FailureReason.CERTIFICATE),
    (aiohttp.ClientSSLError, Outcome.TLS_ERROR, FailureReason.TLS_HANDSHAKE),
    (TimeoutError, Outcome.TIMEOUT, FailureReason.TIMEOUT),
    (aiohttp.ClientResponseError, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (aiohttp.ClientPayloadError, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (ResponseTooLarge, Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP),
    (aiohttp.ServerDisconnectedError, Outcome.CONNECTION_ERROR, FailureReason.DISCONNECTED),
    (aiohttp.InvalidURL, Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE),
    (OSError, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
    (aiohttp.ClientError, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
    (ValueError, Outcome.INTERNAL_ERROR, FailureReason.NOT_SENDABLE),
)


def _classify(error: Exception) -> tuple[Outcome, FailureReason]:
    """Every way in which a request can fail, as an outcome that may be shown to the customer.

    Raises SenderFault if the failure is ours, and the error itself if it is not in the table: a bug.
    """
    if isinstance(error, SenderFault):
        raise error
    os_error = getattr(error, "os_error", error)
    if isinstance(os_error, OSError) and os_error.errno in _OWN_FAULTS:
        raise SenderFault(errno.errorcode[os_error.errno]) from error
    if isinstance(os_error, BlockedDestination) or _has_cause(error, BlockedDestination):
        return Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION
    for kind, outcome, reason in _FAILURES:
        if isinstance(error, kind):
            return outcome, reason
    raise error


def _has_cause(error: BaseException, kind: type[BaseException]) -> bool:
    cause = error.__cause__ or error.__context__
    return isinstance(cause, kind) or (cause is not None and _has_cause(cause, kind))


def _milliseconds_since(started_at: float) -> int:
    return round((time.monotonic() - started_at) * 1000)
