"""Kept connections: whose they are, how many, and for how long.

A kept connection belongs to one webhook, so that an answer to no request can never count for another webhook's request.
Within a webhook it is closed when bytes arrive that no request waits for. One race remains and can not be closed in
HTTP/1.1: what a receiver sends without a request, in the moment in which the next request goes out, is taken for its
answer. It reaches only requests to the same webhook, and a 410, which would disable it, must be repeated on a new
connection.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from .connection import Connection
from .target import Origin

log = structlog.get_logger(__name__)

UNKEPT_SECONDS: Final = 300.0  # after an unexpected close nothing is kept to a webhook
UNKEPT_WEBHOOKS_MAX: Final = 10_000
_MARGIN_SECONDS: Final = 1.0  # before the receiver's own end of a connection
_SWEEP_SECONDS: Final = 1.0
_END_SECONDS_MAX: Final = 2.0
_DESCRIPTORS_SHARE: Final = 4  # idle connections take at most a quarter of them


class Owner(NamedTuple):
    """Whose requests a kept connection may carry, and whereto."""

    webhook_id: int
    origin: Origin


@dataclass(slots=True)
class KeptLimits:
    """How many idle connections are kept in all, to one host and to one webhook, and each for how long and how much.

    `idle_seconds_max` begins with the latest answer. `seconds_max` is the age, which bounds how long an address is used
    after its name has moved.
    """

    idle_max: int = 1000
    per_host_max: int = 250
    per_webhook_max: int = 25
    idle_seconds_max: float = 20.0
    seconds_max: float = 300.0
    requests_max: int = 1000


def within_descriptors(idle_max: int) -> int:
    """Returns how many idle connections may be kept: a process needs most of its descriptors for what is under way."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return idle_max if soft == resource.RLIM_INFINITY else min(idle_max, soft // _DESCRIPTORS_SHARE)


@dataclass(slots=True)
class _Idle:
    owner: Owner
    usable_until: float


class Pool:
    """The open connections: those in use, which it only knows, and the idle ones, which it keeps."""

    def __init__(self, limits: KeptLimits) -> None:
        self.limits = limits
        self._open = set[Connection]()
        self._all_ended = asyncio.Event()
        self._idle: dict[Connection, _Idle] = {}  # the one that is idle for longest first
        self._by_owner: dict[Owner, list[Connection]] = {}
        self._by_host = Counter[str]()
        self._unkept: dict[int, float] = {}  # webhook to time, the oldest first
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def idle_count(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    # --- one connection --------------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Notes a connection, which is in use."""
        self._open.add(connection)

    def ended(self, connection: Connection) -> None:
        """Forgets a connection that is no more."""
        self._open.discard(connection)
        if connection in self._idle:
            self._take_out(connection)
        if not self._open:
            self._all_ended.set()

    def take(self, owner: Owner, now: float) -> Connection | None:
        """Returns the idle connection that was used last. What is found to be of no use is closed."""
        while kept := self._by_owner.get(owner):
            connection = kept[-1]
            idle = self._take_out(connection)
            if connection.is_open and self._is_young(connection, now) and now < idle.usable_until:
                return connection
            connection.abort()
        return None

    def keep(self, owner: Owner, connection: Connection, said_seconds: float | None, now: float) -> None:
        """Keeps a connection for the owner's next request, or closes it.

        `said_seconds` is for how long the receiver says that it keeps it.
        """
        if not (connection.is_open and self._is_young(connection, now) and self._has_room(owner, now)):
            connection.abort()
            return
        while len(self._idle) >= self.limits.idle_max:
            self._close(next(iter(self._idle)))
        self._idle[connection] = _Idle(owner, now + self._usable_seconds(said_seconds))
        self._by_owner.setdefault(owner, []).append(connection)
        self._by_host[owner.origin.host] += 1
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _usable_seconds(self, said_seconds: float | None) -> float:
        """Returns the time that the receiver keeps the connection, less a second, or half if it is under two."""
        if said_seconds is None:
            return self.limits.idle_seconds_max
        return min(self.limits.idle_seconds_max, max(said_seconds - _MARGIN_SECONDS, said_seconds / 2))

    def _is_young(self, connection: Connection, now: float) -> bool:
        is_little_used = connection.request_count < self.limits.requests_max
        return is_little_used and now - connection.made_at < self.limits.seconds_max

    def _has_room(self, owner: Owner, now: float) -> bool:
        return (
            self.limits.idle_max > 0
            and len(self._by_owner.get(owner, ())) < self.limits.per_webhook_max
            and self._by_host[owner.origin.host] < self.limits.per_host_max
            and self.keeps(owner.webhook_id, now)
        )

    def _take_out(self, connection: Connection) -> _Idle:
        idle = self._idle.pop(connection)
        host, kept = idle.owner.origin.host, self._by_owner[idle.owner]
        kept.remove(connection)
        if not kept:
            del self._by_owner[idle.owner]
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        return idle

    def _close(self, connection: Connection) -> None:
        self._take_out(connection)
        connection.abort()

    # --- many ------------------------------------------------------------------------------------------------------

    def close_idle(self, owner: Owner) -> None:
        """Closes what is kept for an owner."""
        for connection in tuple(self._by_owner.get(owner, ())):
            self._close(connection)

    def make_room(self) -> None:
        """Closes all that is idle: a request found no descriptor."""
        for connection in tuple(self._idle):
            self._close(connection)

    def _sweep(self) -> None:
        """Closes what has been idle for too long."""
        now = time.monotonic()
        for connection, idle in tuple(self._idle.items()):
            if now >= idle.usable_until or not self._is_young(connection, now):
                self._close(connection)
        again = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep) if self._idle else None
        self._sweeper = again

    async def close(self) -> None:
        """Closes all connections, also those in use."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._all_ended.clear()
        for connection in tuple(self._open):
            connection.abort()
        try:
            async with asyncio.timeout(_END_SECONDS_MAX):
                if self._open:
                    await self._all_ended.wait()
        except TimeoutError:
            log.warning("connections to receivers did not end", count=len(self._open))

    # --- receivers that close without a word -----------------------------------------------------------------------

    def closed_unexpectedly(self, webhook_id: int, now: float) -> None:
        """Notes that a receiver has closed a connection on which a request had just been sent."""
        self._unkept.pop(webhook_id, None)
        self._unkept[webhook_id] = now + UNKEPT_SECONDS
        while len(self._unkept) > UNKEPT_WEBHOOKS_MAX:
            del self._unkept[next(iter(self._unkept))]

    def keeps(self, webhook_id: int, now: float) -> bool:
        """Returns whether connections to a webhook are kept now."""
        return self._unkept.get(webhook_id, now) <= now
