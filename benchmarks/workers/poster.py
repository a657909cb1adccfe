"""The bare clients that limits are measured with: aiohttp, the lean one, and one that commits a row before it posts."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import psycopg
from uuid_utils import uuid7

from .commands import run, serve
from .lean import BODY, HEADERS, Connection, request_to

COPY = (
    "COPY events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start) FROM STDIN"
    " WITH (FORMAT BINARY)"
)
COPY_TYPES = ["uuid", "int8", "text", "timestamptz", "timestamptz", "bytea", "int2"]
COPY_CUSTOMER = 2_000_000
COPIES_AT_ONCE = 4  # as many as batches that are published at once
DATA_START = 57


def context_of(authority: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=authority) if authority else None


class Lean:
    """Posts over one lean connection, or over a new one for each request."""

    def __init__(self, url: str, context: ssl.SSLContext | None, is_kept: bool) -> None:
        self._url, self._context, self._is_kept = url, context, is_kept
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path
        self._connection: Connection | None = None

    async def post(self, number: int = 0) -> None:
        """Posts an event of this number."""
        if self._connection is None:
            self._connection = await Connection.open(self._url, self._context)
        status = await self._connection.post(request_to(self._host, self._path, number))
        if status != 200:
            raise RuntimeError(f"the sink answered {status}")
        if not self._is_kept:
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """Posts at once over so many connections, for so long; counts."""

    def __init__(self) -> None:
        self.count = 0

    async def work(self, post: Callable[[], Awaitable[None]], until: float) -> None:
        while time.monotonic() < until:
            await post()
            self.count += 1


async def post(
    url: str,
    seconds: float,
    connections: int = 50,
    authority: str | None = None,
    *,
    is_lean: bool,
    is_kept: bool = True,
) -> dict[str, float]:
    """Posts as fast as it can; returns how many, in how many seconds, for how much CPU time of this process."""
    load, context = Load(), context_of(authority)
    cpu, started_at = time.process_time(), time.monotonic()
    if is_lean:
        senders = [Lean(url, context, is_kept) for _ in range(connections)]
        await asyncio.gather(*(load.work(sender.post, started_at + seconds) for sender in senders))
        for sender in senders:
            sender.close()
    else:
        await _with_aiohttp(load, url, connections, started_at + seconds)
    return {"count": load.count, "seconds": time.monotonic() - started_at, "cpu": time.process_time() - cpu}


async def _with_aiohttp(load: Load, url: str, connections: int, until: float) -> None:
    headers = HEADERS | {"webhook-id": f"evt_{0:026d}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def one() -> None:
            async with session.post(url, data=BODY, headers=headers) as response:
                await response.read()

        await asyncio.gather(*(load.work(one, until) for _ in range(connections)))


async def commit_and_post(database: str, url: str, rate: float, seconds: float) -> dict[str, float]:
    """At a steady rate commits one row and posts one request; returns when each began, by its `webhook-id`."""
    began: dict[str, float] = {}
    idle: asyncio.LifoQueue[tuple[Any, Lean]] = asyncio.LifoQueue()
    made: list[tuple[Any, Lean]] = []

    async def one(number: int) -> None:
        began[f"evt_{number:026d}"] = time.monotonic()
        connection, sender = await idle.get()
        await connection.execute("INSERT INTO bench_rows (body) VALUES (%s)", [BODY])
        await sender.post(number)
        idle.put_nowait((connection, sender))

    try:
        for _ in range(8):
            connection = await psycopg.AsyncConnection.connect(database, autocommit=True)
            made.append((connection, Lean(url, None, is_kept=True)))
            idle.put_nowait(made[-1])
        await made[0][0].execute("CREATE TABLE IF NOT EXISTS bench_rows (id bigserial PRIMARY KEY, body bytea)")
        await paced(one, rate, seconds)
    finally:
        for connection, sender in made:
            sender.close()
            await connection.close()
    return began


async def copy(database: str, size: int, seconds: float) -> dict[str, float]:
    """Copies the rows of events into the service's table, so many a transaction; returns how many, in what time."""
    load = Load()
    now = datetime.now(UTC)

    async def work(until: float) -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            while time.monotonic() < until:
                async with connection.cursor() as cursor, cursor.copy(COPY) as copying:
                    copying.set_types(COPY_TYPES)
                    for _ in range(size):
                        row = (UUID(str(uuid7())), COPY_CUSTOMER, "job.completed", now, now, BODY, DATA_START)
                        await copying.write_row(row)
                load.count += size

    started_at = time.monotonic()
    await asyncio.gather(*(work(started_at + seconds) for _ in range(COPIES_AT_ONCE)))
    return {"count": load.count, "seconds": time.monotonic() - started_at}


async def paced(call: Callable[[int], Awaitable[None]], rate: float, seconds: float) -> None:
    """Makes calls at a steady rate, whatever comes of them, and waits for their ends."""
    calls: set[asyncio.Future[None]] = set()
    begin = time.monotonic()
    for number in range(max(1, int(rate * seconds))):
        await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
        calls.add(asyncio.ensure_future(call(number)))
    await asyncio.gather(*calls)


if __name__ == "__main__":
    run(serve({"post": post, "commit_and_post": commit_and_post, "copy": copy}))
