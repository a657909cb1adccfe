"""The HTTP client: one request, one typed result, in bounded time and memory, to nowhere it should not go.

The facts behind each guard are in docs/security.md. The one that carries the weight is the socket factory: it sees
every address that is really dialled, which a resolver does not (IP literals never reach it) and a check of the URL can
not (names change their minds). What may be believed on a connection: `connections.py`.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from webhook_grpc.domain.egress import EgressPolicy, host_of, policy_for, why_address_blocked
from webhook_grpc.domain.headers import kept_headers
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.store.clock import DatabaseClock

from .connections import (
    CONNECTION_SECONDS_MAX,
    KEEPALIVE_SECONDS,
    RAW_BYTES_MAX,
    Connections,
    Exchange,
    GuardedRequest,
    begin,
    current_policy,
    install_guard,
)
from .failures import classify
from .faults import BlockedDestination
from .resolver import GuardedResolver, ResolverDown
from .sockets import OwnedSocket

HEADERS_MAX: Final = 500  # of an answer
DIAL_NEXT_SECONDS: Final = 0.25  # after which the next address of a name is dialled too (RFC 8305)
_GONE: Final = 410
# How the end of a kept connection shows, besides in not having an answer.
_CONNECTION_LOST: Final = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)


@dataclass(frozen=True, slots=True)
class Request:
    """One POST."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    start_time: datetime | None = None  # at which it was signed; None: now
    webhook_id: int = 0  # whose kept connections it may use


@dataclass(frozen=True, slots=True)
class SendLimits:
    """The bounds of one request, and of the connections that are kept."""

    response_body_bytes_max: int
    idle_connections_max: int = 1000
    connect_seconds_max: float = 5.0
    body_seconds_max: float = 1.0  # for the body of an answer, after its status
    connection_seconds_max: float = CONNECTION_SECONDS_MAX  # for which a connection is kept


class Sender:
    """Sends requests over kept connections."""

    def __init__(
        self,
        policy: EgressPolicy,
        clock: DatabaseClock,
        random: Random,
        limits: SendLimits,
        *,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._random = random
        self._limits = limits
        self.connections = Connections(limits.idle_connections_max, limits.connection_seconds_max)
        self._resolver = resolver
        self._ssl_context = ssl_context

    @functools.cached_property
    def _opened_resolver(self) -> AbstractResolver:
        return self._resolver or GuardedResolver(self._policy, self._random)

    @functools.cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Opened with the first request, in the running loop."""
        connector = aiohttp.TCPConnector(
            resolver=self._opened_resolver,
            socket_factory=self._socket,
            ssl=self._ssl_context or _default_context(),
            limit=0,  # ours is the dispatcher's; aiohttp's would count waiting for it as the receiver's time
            use_dns_cache=False,
            happy_eyeballs_delay=DIAL_NEXT_SECONDS,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        install_guard(connector, self.connections)
        return aiohttp.ClientSession(
            connector=connector,
            request_class=GuardedRequest,
            auto_decompress=False,  # no bombs
            cookie_jar=aiohttp.DummyCookieJar(),  # nothing of one customer's delivery in another's
            trust_env=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept", "Content-Type"),
            max_line_size=RAW_BYTES_MAX,  # the bound on raw bytes is bound enough: browsers and curl take such heads
            max_field_size=RAW_BYTES_MAX,
            max_headers=HEADERS_MAX,
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
        """Makes one attempt. Returns within the timeout and a second. Raises SenderFault."""
        start_time, started_at = request.start_time or self._clock.now(), time.monotonic()
        self.connections.in_use += 1
        try:
            async with asyncio.timeout(request.timeout_seconds) as deadline:
                response = await self._answer(request)
                latency_ms = _milliseconds_since(started_at)
                deadline.reschedule(None)  # the status has decided; the body has a deadline of its own
                async with response:
                    body = await self._excerpt(response)
        except Exception as error:  # sorted by `classify`, which raises again what it does not know
            if isinstance(error, TimeoutError) and await self._is_resolver_to_blame(request.url, started_at):
                raise ResolverDown("resolver") from error
            outcome, reason = classify(error)
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

    async def _answer(self, request: Request) -> aiohttp.ClientResponse:
        """Sends the request, and once more on a new connection where a kept one may be to blame for what came.

        A kept connection without an answer was dead before: the receiver closed it as the request went out, and most
        likely has not seen it. A 410 on one may be late and mean an earlier request.
        """
        exchange = self._exchange(request)
        try:
            response = await self._post(request, exchange)
        except _CONNECTION_LOST:
            if not exchange.had_no_answer:
                raise
            self.connections.closed_unexpectedly(request.webhook_id, time.monotonic())
        else:
            if response.status != _GONE or not exchange.used_kept_connection:
                return response
            response.close()
        return await self._post(request, self._exchange(request, wants_new=True))

    def _exchange(self, request: Request, *, wants_new: bool = False) -> Exchange:
        policy = policy_for(host_of(request.url), self._policy)
        return Exchange(request.webhook_id, request.url, policy, wants_new)

    async def _is_resolver_to_blame(self, url: str, since: float) -> bool:
        """Whether a deadline passed during a look-up that no name would have been answered to."""
        resolver = self._opened_resolver
        if not isinstance(resolver, GuardedResolver):
            return False
        return resolver.was_cut_off(host_of(url), since) and await resolver.knows_nobody()

    async def _post(self, request: Request, exchange: Exchange) -> aiohttp.ClientResponse:
        begin(exchange)
        try:
            return await self._post_once(request)
        except _CONNECTION_LOST as error:
            if (tls_error := await exchange.tls_error()) is None:
                raise
            raise error from tls_error

    async def _post_once(self, request: Request) -> aiohttp.ClientResponse:
        return await self._session.post(
            URL(request.url, encoded=True),  # as the customer gave it: re-quoting would break signed URLs
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_seconds_max, sock_read=request.timeout_seconds
            ),
        )

    async def _excerpt(self, response: aiohttp.ClientResponse) -> bytes:
        """The start of the body. The status has decided: trouble with the body changes nothing."""
        excerpt = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds_max):
                while chunk := await response.content.read(self._limits.response_body_bytes_max + 1 - len(excerpt)):
                    excerpt += chunk
                    if len(excerpt) > self._limits.response_body_bytes_max:
                        break
        except (aiohttp.ClientError, OSError, TimeoutError, RuntimeError):
            pass  # a RuntimeError is how aiohttp says that the connection was closed before the read
        if not response.content.at_eof():
            response.close()  # a connection with unread bytes can't be kept
        return bytes(excerpt[: self._limits.response_body_bytes_max])

    def _socket(self, address_info: Any) -> socket.socket:
        """Called for every address that is about to be dialled."""
        family, kind, protocol, _, address = address_info
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise BlockedDestination
        has_scope = len(address) > 3 and address[3]
        if has_scope or why_address_blocked(address[0], current_policy()) is not None:
            raise BlockedDestination
        return OwnedSocket(family, kind, protocol)


def _default_context() -> ssl.SSLContext:
    """Python's own, but that SSLKEYLOGFILE does not make it write the keys of all connections to a file."""
    context = ssl.create_default_context()
    context.keylog_filename = None  # pyright: ignore[reportAttributeAccessIssue] - typed as never None
    return context


def _judge(status: int) -> tuple[Outcome, FailureReason]:
    if 200 <= status <= 299:
        return Outcome.SUCCEEDED, FailureReason.NONE
    if 300 <= status <= 399:
        return Outcome.HTTP_ERROR, FailureReason.REDIRECT
    if status == _GONE:
        return Outcome.HTTP_ERROR, FailureReason.GONE
    return Outcome.HTTP_ERROR, FailureReason.STATUS


def _milliseconds_since(started_at: float) -> int:
    return round((time.monotonic() - started_at) * 1000)
