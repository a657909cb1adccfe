"""TLS: crowds of handshakes that begin at once, never end, or end at once. By whoever reaches a port, without a token.

Each function attacks once, at both doors, from another address than that of the others, who make a new connection for
each call over HTTP meanwhile, and says what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from .target import HOSTILE_ADDRESS, Target

SECONDS_MAX: Final = 20.0

Attack = Callable[[Target, float], Awaitable[str]]
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Shaking:
    """A handshake of a client, of which each side's bytes are moved by hand."""

    def __init__(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)

    def next(self, received: bytes = b"") -> bytes:
        """Returns what the client sends next; nothing as long as it waits for more."""
        self._incoming.write(received)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()


async def greetings(target: Target, scale: float) -> str:
    """TLS: connections that all greet in one moment, and say nothing more."""
    greeting = Shaking().next()
    pipes = await _connected(target, scale)
    for _, writer in pipes:
        writer.write(greeting)
    answered = await asyncio.gather(*(_came(reader) for reader, _ in pipes))
    return f"{sum(map(bool, answered))} of {len(pipes)} answered"


async def greetings_in_pieces(target: Target, scale: float) -> str:
    """TLS: greetings of which all but a byte is there, and then that in one moment."""
    greeting = Shaking().next()
    pipes = await _connected(target, scale)
    for _, writer in pipes:
        writer.write(greeting[:-1])
    await asyncio.gather(*(writer.drain() for _, writer in pipes))
    for _, writer in pipes:
        writer.write(greeting[-1:])
    answered = await asyncio.gather(*(_came(reader) for reader, _ in pipes))
    return f"{sum(map(bool, answered))} of {len(pipes)} answered"


async def endings(target: Target, scale: float) -> str:
    """TLS: handshakes that go on to their last message, which all send in one moment."""
    pipes = await _connected(target, scale)
    last = await asyncio.gather(*(_all_but_last(*pipe) for pipe in pipes))
    for (_, writer), part in zip(pipes, last, strict=True):
        writer.write(part)
    return f"{sum(map(bool, last))} of {len(pipes)} ended"


async def new_connections(target: Target, scale: float) -> str:
    """TLS: whole handshakes, one after the other on many connections."""
    until, count = time.monotonic() + max(0.5, 5 * scale), 0

    async def one() -> None:
        nonlocal count
        while time.monotonic() < until:
            with contextlib.suppress(OSError):  # TimeoutError, too: whoever is kept out tries again
                reader, writer = await target.connect(target.grpc, HOSTILE_ADDRESS)
                writer.write(await _all_but_last(reader, writer))
                count += 1
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(max(2, round(100 * scale)))))
    return f"{count} handshakes"


async def _connected(target: Target, scale: float) -> Sequence[Pipe]:
    doors = (target.grpc, target.http) * round(700 * scale)
    return [await target.connect(door, HOSTILE_ADDRESS) for door in doors]


async def _all_but_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Goes on with a handshake; returns the last message, nothing if the service does not answer."""
    shaking = Shaking()
    writer.write(shaking.next())
    while received := await _came(reader):
        if last := shaking.next(received):
            return last
    return b""


async def _came(reader: asyncio.StreamReader) -> bytes:
    """Returns what comes next; nothing if that is the end, or nothing comes."""
    with contextlib.suppress(OSError, TimeoutError):
        return await asyncio.wait_for(reader.read(65_536), SECONDS_MAX)
    return b""


HANDSHAKES: Final[tuple[Attack, ...]] = (greetings, greetings_in_pieces, endings, new_connections)
