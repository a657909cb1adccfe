"""A bare HTTP client on httptools, as lean as Python allows: the limit that a sender of webhooks is held against.

It does what no client can leave out: writes the headers of each request, has a deadline, keeps the answer's headers and
body. No guard, no pool, no signature. One request at a time on each connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

import httptools

BODY = (
    b'{"event":"job.completed","timestamp":1767225600,"data":{"job_id":"job-abc123","status":"completed"' + b" " * 400
)
SECONDS_MAX = 15.0
# The headers that the service sends, with values of their lengths.
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "webhook-grpc/1",
    "X-Webhook-Event": "job.completed",
    "X-Webhook-Delivery": "dlv_" + "a" * 40,
    "X-Webhook-Attempt": "1",
    "X-Webhook-Signature": "sha256=" + "0" * 64,
    "webhook-timestamp": "1767225600",
    "webhook-signature": "v1," + "c" * 44,
}


def request_to(host: str, path: str, number: int) -> bytes:
    """Returns the bytes of a POST with the headers and the size of ours."""
    fields = HEADERS | {"Host": host, "webhook-id": f"evt_{number:026d}", "Content-Length": str(len(BODY))}
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + BODY


class Connection(asyncio.Protocol):
    """One connection; raises ConnectionError into the request that it ends under."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answered: asyncio.Future[int] | None = None
        self.headers: list[tuple[bytes, bytes]] = []  # of the last answer, as its body
        self.body = b""

    @classmethod
    async def open(cls, url: str, context: ssl.SSLContext | None) -> Connection:
        parts = urlsplit(url)
        secure = context if parts.scheme == "https" else None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, parts.hostname or "", parts.port or 0, ssl=secure)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    async def post(self, request: bytes) -> int:
        """Sends the bytes of a request; returns the status once the answer is whole. Raises TimeoutError."""
        self.headers = []
        self._answered = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(SECONDS_MAX):
            self._transport.write(request)
            return await self._answered

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body = body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self._transport.close()
        self._parser = httptools.HttpResponseParser(self)
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("closed without an answer"))
