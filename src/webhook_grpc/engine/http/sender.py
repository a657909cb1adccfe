"""The HTTP client: one request, one typed result, in bounded time and memory, to nowhere it should not go.

The facts behind each guard are in docs/security.md. Where a connection may lead: `dialling.py`. What may be believed on
one: `connection.py`, `answer.py`, `pool.py`.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from random import Random
from typing import Final

from webhook_grpc.domain.echoes import headers_without_echoes, without_echoes
from webhook_grpc.domain.egress import EgressPolicy, host_of, policy_for
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.domain.proxy import Proxy
from webhook_grpc.domain.record import record
from webhook_grpc.domain.request_headers import kept_headers
from webhook_grpc.store.clock import DatabaseClock

from .answer import Answer
from .connection import Connection
from .dialling import ConnectionLimits, Dialler, DirectDialler, Resolver
from .failures import classify
from .faults import LeaseUnsure
from .pool import KeptLimits, Owner, Pool
from .proxy import ANYWHERE, ProxyDialler
from .racing import OWN_FAULTS
from .resolver import GuardedResolver, ResolverDown
from .target import Target, target_of

_GONE: Final = 410


def at_any_time() -> bool:
    """Lets a request begin."""
    return True


@record
class Request:
    """One POST."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    start_time: datetime | None = None  # at which it was signed; None: now
    webhook_id: int = 0  # whose kept connections it may use
    unshown: Sequence[bytes] = field(default=(), repr=False)  # removed from the result if the answer repeats it
    may_begin: Callable[[], bool] = at_any_time  # looked at just before the first byte: to connect takes seconds


@record
class SendLimits:
    """The bounds of one request, and of the connections that are kept."""

    response_body_bytes_max: int
    connect_seconds_max: float = 5.0
    body_seconds_max: float = 1.0  # for the body of an answer, after its head
    kept: KeptLimits = field(default_factory=KeptLimits)


class Sender:
    """Sends requests over kept connections."""

    def __init__(
        self,
        policy: EgressPolicy,
        clock: DatabaseClock,
        random: Random,
        limits: SendLimits,
        *,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """Without a `proxy` requests go directly to their receivers."""
        self._policy = policy
        self._clock = clock
        self._random = random
        self._limits = limits
        self.pool = Pool(limits.kept)
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._proxy = proxy

    @functools.cached_property
    def _opened_resolver(self) -> Resolver:
        return self._resolver or GuardedResolver(self._policy if self._proxy is None else ANYWHERE, self._random)

    @functools.cached_property
    def _dialler(self) -> Dialler:
        """Made with the first request, in the running loop."""
        limits = ConnectionLimits(
            self._limits.connect_seconds_max, self._limits.body_seconds_max, self._limits.response_body_bytes_max
        )
        direct = DirectDialler(self._opened_resolver, self._ssl_context or _default_context(), limits, self.pool)
        return direct if self._proxy is None else ProxyDialler(self._proxy, direct, limits.connect_seconds_max)

    def open(self) -> None:
        """Gets ready to send."""
        _ = self._dialler

    async def close(self) -> None:
        """Closes all connections, and ends the look-ups that are under way."""
        await self.pool.close()
        await self._opened_resolver.close()

    async def send(self, request: Request) -> AttemptResult:
        """Makes one attempt. Returns within the timeout and a second. Raises SenderFault: no attempt counts."""
        start_time, started_at = request.start_time or self._clock.now(), time.monotonic()
        try:
            answer, answered_at = await self._answer(request, started_at + request.timeout_seconds)
        except Exception as error:  # sorted by `classify`, which raises again what it does not know
            if isinstance(error, TimeoutError) and await self._is_resolver_to_blame(request.url, started_at):
                raise ResolverDown("resolver") from error
            outcome, reason = classify(error)
            return AttemptResult(outcome, start_time, _milliseconds(time.monotonic() - started_at), reason)
        outcome, reason = _judge(answer.status)
        body, headers = answer.body, kept_headers(answer.headers)
        if request.unshown:
            body, headers = without_echoes(body, request.unshown), headers_without_echoes(headers, request.unshown)
        return AttemptResult(
            outcome,
            start_time,
            _milliseconds(answered_at - started_at),
            reason,
            answer.status,
            body,
            answer.headers.get("retry-after"),
            headers,
        )

    async def _answer(self, request: Request, until: float) -> tuple[Answer, float]:
        """Sends the request, and once more on a new connection where a kept one may be to blame for what came.

        Returns the answer, and when it came. A kept connection without an answer was dead before: the receiver closed
        it as the request went out, and most likely has not seen it. A 410 on one may be late and mean an earlier
        request.
        """
        _check_may_begin(request)
        target = target_of(request.url)
        owner = Owner(request.webhook_id, target.origin)
        data = target.request(request.headers, request.body)
        if (kept := self.pool.take(owner, time.monotonic())) is not None:
            answered = await self._answer_on_kept(kept, owner, data, until)
            if answered is not None:
                return answered
            self.pool.close_idle(owner)  # most likely just as dead
        return await self._exchange(await self._dial(target, until), owner, data, until, request)

    async def _answer_on_kept(
        self, connection: Connection, owner: Owner, data: bytes, until: float
    ) -> tuple[Answer, float] | None:
        """Returns None if the request has to be sent once more."""
        try:
            answer = await connection.exchange(data, until - time.monotonic())
        except TimeoutError:
            raise
        except OSError:
            if not connection.is_silent:
                raise
            self.pool.closed_unexpectedly(owner.webhook_id, time.monotonic())
            return None
        if answer.status == _GONE:
            connection.abort()
            return None
        return self._kept(connection, owner, answer)

    async def _exchange(
        self, connection: Connection, owner: Owner, data: bytes, until: float, request: Request
    ) -> tuple[Answer, float]:
        try:
            _check_may_begin(request)
        except LeaseUnsure:
            connection.abort()
            raise
        return self._kept(connection, owner, await connection.exchange(data, until - time.monotonic()))

    def _kept(self, connection: Connection, owner: Owner, answer: Answer) -> tuple[Answer, float]:
        self.pool.keep(owner, connection, answer.kept_seconds, time.monotonic())
        return answer, connection.answered_at

    async def _dial(self, target: Target, until: float) -> Connection:
        policy = policy_for(target.origin.host, self._policy)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await self._dialler.dial(target.origin, policy)
        except OSError as error:
            if error.errno in OWN_FAULTS:
                self.pool.make_room()
            raise

    async def _is_resolver_to_blame(self, url: str, since: float) -> bool:
        """Returns whether a look-up of the host was cut off since then, and the resolver answers for no name at all."""
        resolver = self._opened_resolver
        if not isinstance(resolver, GuardedResolver):
            return False
        return resolver.was_cut_off(host_of(url), since) and await resolver.knows_nobody()


def _check_may_begin(request: Request) -> None:
    if not request.may_begin():
        raise LeaseUnsure("the lease may have run out")


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


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
