"""The receiver: a raw protocol on uvloop that answers 200 to every POST, and counts.

A path that begins with `/close` is answered with `Connection: close`. `GET /count` returns how many POSTs have come.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from pathlib import Path
from typing import Any, cast

from .commands import run, serve

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
LAST_ANSWER = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
ID_HEADER = b"\r\nwebhook-id: "


class Counts:
    """What has come. Only the connections write it."""

    def __init__(self) -> None:
        self.posts = 0
        self.connections = 0
        self.is_noting = False
        self.arrivals: dict[str, float] = {}  # "path id": the time of the first arrival, time.monotonic

    def note(self, head: bytes) -> None:
        """Notes when a request came, by its path and `webhook-id`. The clock is the same in all processes."""
        now = time.monotonic()
        start = head.find(ID_HEADER) + len(ID_HEADER)
        key = head[5 : head.find(b" ", 5)] + b" " + head[start : head.find(b"\r", start)]
        self.arrivals.setdefault(key.decode(), now)


class Connection(asyncio.Protocol):
    """Reads requests with a Content-Length and nothing that is rarer."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._counts.connections += 1

    def data_received(self, data: bytes) -> None:
        data = self._left + data if self._left else data
        at = 0
        while (end := data.find(b"\r\n\r\n", at)) >= 0:
            length = data.find(b"ength: ", at, end)
            after = end + 4 + (int(data[length + 7 : data.find(b"\r", length)]) if length > 0 else 0)
            if after > len(data):
                break
            self._answer(data[at : end + 2])
            at = after
        self._left = data[at:]

    def _answer(self, head: bytes) -> None:
        counts = self._counts
        if head.startswith(b"GET "):
            text = str(counts.posts).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            return
        counts.posts += 1
        if counts.is_noting:
            counts.note(head)
        if head.startswith(b"POST /close"):
            self._transport.write(LAST_ANSWER)
            self._transport.close()
        else:
            self._transport.write(ANSWER)


async def main(certificate: Path | None) -> None:
    """Listens on a port of loopback, and with a certificate on a second one with TLS."""
    counts = Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts), "127.0.0.1", 0, backlog=4096)
    ports = {"http": server.sockets[0].getsockname()[1]}
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        secure = await loop.create_server(lambda: Connection(counts), "127.0.0.1", 0, backlog=4096, ssl=context)
        ports["https"] = secure.sockets[0].getsockname()[1]

    async def count() -> dict[str, int]:
        return {"posts": counts.posts, "connections": counts.connections}

    async def note(*, on: bool) -> None:
        counts.is_noting = on
        counts.arrivals = {}

    async def arrivals() -> dict[str, float]:
        return counts.arrivals

    commands: dict[str, Any] = {"count": count, "note": note, "arrivals": arrivals}
    await serve(commands, ports)


if __name__ == "__main__":
    run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
