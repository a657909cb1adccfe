"""The first message of TLS, ClientHello: whether it has come whole, seen without taking it from the socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

GREETING_BYTES_MAX: Final = 32 * 1024  # with keys for after quantum computers it has 2 KB
RECORDS_MAX: Final = 8  # that it may come in: clients send one
_RECORD_HEAD_BYTES: Final = 5
_RECORD_BYTES_MAX: Final = 2**14
_MESSAGE_HEAD_BYTES: Final = 4
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_PAUSE_SECONDS: Final = 0.01


class NoGreeting(ConnectionError):
    """The client sends none."""


async def until_greeted(connection: socket.socket) -> None:
    """Returns when a greeting has come whole, or something that is none: OpenSSL says what is wrong with it.

    Nothing of it is taken from the socket. Raises OSError.
    """
    wanted, had_bytes = _RECORD_HEAD_BYTES, 0
    while wanted:
        if wanted > GREETING_BYTES_MAX:
            raise NoGreeting("the greeting is too large")
        await _until_there(connection, wanted)
        seen = connection.recv(GREETING_BYTES_MAX, socket.MSG_PEEK)
        if len(seen) <= had_bytes:
            raise NoGreeting("the client has left")
        had_bytes = len(seen)
        if had_bytes < wanted:  # a system that is short of memory says so before they are there
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        wanted = whole_bytes(seen)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def until_lost(connection: socket.socket) -> None:
    """Raises NoGreeting when the client has left, or sends without end: after a greeting it waits. Never returns."""
    try:
        await _until_there(connection, GREETING_BYTES_MAX)
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    raise NoGreeting("the client has left")


def whole_bytes(seen: bytes) -> int:
    """Returns how many bytes have to be there before more can be said; 0 when the greeting is whole, or is none.

    Raises NoGreeting for one that comes in too many records.
    """
    message, at = b"", 0
    for _ in range(RECORDS_MAX):
        head = at + _RECORD_HEAD_BYTES
        if len(seen) < head:
            return head
        size = int.from_bytes(seen[at + 3 : head], "big")
        if seen[at] != _HANDSHAKE or not 0 < size <= _RECORD_BYTES_MAX:
            return 0
        if len(seen) < head + size:
            return head + size
        message, at = message + seen[head : head + size], head + size
        if message[0] != _CLIENT_HELLO:
            return 0
        if len(message) >= _MESSAGE_HEAD_BYTES + int.from_bytes(message[1:_MESSAGE_HEAD_BYTES], "big"):
            return 0
    raise NoGreeting("the greeting comes in too many pieces")


async def _until_there(connection: socket.socket, size: int) -> None:
    """Returns when so many bytes wait at the socket, or the client sends no more. Raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(connection)
