"""Sends to one hostile receiver and takes the time, the work, the memory and the patience that it cost.

Nothing here is a time of the wall: on a busy machine that is the time of others. Time is counted in turns of the loop,
and a callback that holds it in CPU time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

import psutil

from tests.support import slowness
from tests.support.dns import Leading
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

from .catalogue import TIMEOUT, Hostile
from .farm import HOST, Farm

SILENT_SECONDS: Final = 0.4  # of a request that may end at its deadline, however late: only the wait is longer then
DRIPPING_SECONDS: Final = 1.0  # of one whose answer begins in time and lasts until its deadline
PATIENT_SECONDS: Final = 10.0  # of one that is answered: on a busy machine perhaps late
BODY_BYTES_MAX: Final = 16_384
LOCAL: Final = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
_TICK_SECONDS: Final = 0.01
_SOCKETS_GONE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Measured:
    """What a receiver did to us."""

    result: AttemptResult
    seconds: float  # of the slowest request, while the loop was free for others
    seconds_given: float  # its timeout, on a machine that is not slow
    overdue_seconds: float  # by which it was longer than its timeout
    cpu_seconds: float
    memory_bytes: int  # by which the process grew at its largest
    longest_stall_seconds: float  # of CPU time, in which nothing else could run
    good: AttemptResult  # a delivery to a good receiver afterwards, through the same client
    good_body: bytes
    sockets_left: int  # that do not close after the client was closed


class _Ticker:
    """Runs every 10 ms, and sees what the loop has done in between and how large the process has grown."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.seconds = 0.0
        self.memory_bytes = self.memory_bytes_at_start = self._process.memory_info().rss
        self.longest_stall_seconds = 0.0

    async def run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.thread_time()
            self.seconds += _TICK_SECONDS
            self.longest_stall_seconds = max(self.longest_stall_seconds, now - last)
            self.memory_bytes = max(self.memory_bytes, self._process.memory_info().rss)
            last = now


@asynccontextmanager
async def _ticking() -> AsyncGenerator[_Ticker]:
    ticker = _Ticker()
    task = asyncio.create_task(ticker.run())
    yield ticker
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def trusting(farm: Farm) -> ssl.SSLContext:
    """A context as the service makes it, that trusts the farm's authority too."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=farm.authority_pem)
    return context


async def until_ended(sender: Sender) -> None:
    """Waits until the client keeps no connection: what nobody asked for has arrived and ended the last one."""
    async with slowness.timeout(20):
        while sender.pool.idle_count:
            await asyncio.sleep(0.005)  # the end of an idle connection gives no signal


async def measure(farm: Farm, hostile: Hostile, ssl_context: ssl.SSLContext) -> Measured:
    """Sends to the receiver as often as it takes, then to a good one. Raises what the client lets through."""
    sender = Sender(
        LOCAL, DatabaseClock(), Random(), SendLimits(BODY_BYTES_MAX), resolver=Leading([HOST]), ssl_context=ssl_context
    )
    sender.open()
    timeout_seconds = slowness.scaled(_seconds_given(hostile))
    body = (b'{"event":"%s"}' % hostile.name.encode()).ljust(hostile.request_bytes)
    seconds: list[float] = []
    results: list[AttemptResult] = []
    async with _ticking() as ticker:
        cpu_started_at = time.process_time()
        for number in range(hostile.requests):
            if number:
                await until_ended(sender)  # by what is not asked for
            started_at = ticker.seconds
            url = farm.url(hostile, f"/{number}")
            results.append(await sender.send(Request(url, {"X-Test": "yes"}, body, timeout_seconds)))
            seconds.append(ticker.seconds - started_at)
        cpu_seconds = time.process_time() - cpu_started_at
        good = await sender.send(Request(farm.good_url, {}, body[:1000], slowness.scaled(PATIENT_SECONDS)))
    await sender.close()
    return Measured(
        result=results[-1],
        seconds=max(seconds),
        seconds_given=_seconds_given(hostile),
        overdue_seconds=max(seconds) - timeout_seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=ticker.memory_bytes - ticker.memory_bytes_at_start,
        longest_stall_seconds=ticker.longest_stall_seconds,
        good=good,
        good_body=body[:1000],
        sockets_left=await _sockets_left(farm.ports[hostile.name]),
    )


def _seconds_given(hostile: Hostile) -> float:
    if TIMEOUT in hostile.ends:
        return SILENT_SECONDS
    return DRIPPING_SECONDS if hostile.drips else PATIENT_SECONDS


async def _sockets_left(port: int) -> int:
    """How many of our connections to the receiver are open, once those that are about to close have closed."""
    process, until = psutil.Process(), time.monotonic() + slowness.scaled(_SOCKETS_GONE_SECONDS)
    while True:
        left = sum(
            bool(connection.raddr) and connection.raddr.port == port
            for connection in process.net_connections("tcp")
            if connection.status not in {psutil.CONN_TIME_WAIT, psutil.CONN_NONE}
        )
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(0.02)
