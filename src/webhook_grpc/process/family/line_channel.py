"""Messages between a parent and its children: JSON objects, one a line, over a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson

LINE_BYTES_MAX: Final = 16_000_000  # the figures of all processes
_WAITING_BYTES_MAX: Final = 64_000_000  # beyond that the other end does not read any more

Message = dict[str, Any]


class LineChannel:
    """One end of the pair. Sending never waits: what the other end does not take in time is bounded, then dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> LineChannel:
        """Returns the channel of a connected socket, which belongs to it from now on."""
        return cls(*await asyncio.open_connection(sock=end, limit=LINE_BYTES_MAX))

    def send(self, message: Message) -> None:
        """Sends a message, unless the other end is gone or has stopped reading."""
        transport = self._writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < _WAITING_BYTES_MAX:
            self._writer.write(encoded(message))

    async def messages(self) -> AsyncGenerator[Message]:
        """Returns each message as it comes, until the other end is gone."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                yield orjson.loads(line)

    def close(self) -> None:
        """Closes this end."""
        self._writer.close()


def encoded(message: Message) -> bytes:
    """Returns the line of a message."""
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
