"""Floods of HTTP/2 and HTTP/1 by whoever reaches the ports, without a token unless it says so.

Each function attacks once and says in some words what came of it. `scale` 1 is the whole attack; none lasts longer than
SECONDS_MAX.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from webhook.v1 import delivery_pb2, event_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from webhook_grpc.server.grpc.http2.streams import QUICK_SECONDS

from .target import (
    CONTINUATION,
    DATA,
    HEADERS,
    HOSTILE,
    METHOD,
    PING,
    RESET,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    Target,
    bearer,
    frame,
    head,
    message,
    once_calm,
    streams,
)

SECONDS_MAX: Final = 20.0
END_HEADERS, END_STREAM = 4, 1
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"

Attack = Callable[[Target, float], Awaitable[str]]


async def rapid_reset(target: Target, scale: float) -> str:
    """HTTP/2: streams that are opened and reset at once."""
    connection, block, sent = await Http2.open(target), head(METHOD + "GetWebhook"), 0
    numbers = list(streams(round(100_000 * scale)))
    until = time.monotonic() + SECONDS_MAX
    while sent < len(numbers) and time.monotonic() < until:
        some = numbers[sent : sent + 100]
        frames = [frame(HEADERS, END_HEADERS, n, block) + frame(RESET, 0, n, b"\0\0\0\x08") for n in some]
        if not await connection.send(*frames):
            break
        sent += len(some)
    return f"{sent} streams, {await connection.answered()}"


async def patient_reset(target: Target, scale: float) -> str:
    """HTTP/2: as many streams as a connection may have, which are reset when that is not rapid any more, and again."""
    connection, block, sent = await Http2.open(target), head(METHOD + "GetWebhook"), 0
    numbers = list(streams(round(100_000 * scale)))
    until = time.monotonic() + SECONDS_MAX
    while sent < len(numbers) and time.monotonic() < until:
        some = numbers[sent : sent + 1000]
        for kind, flags, payload in ((HEADERS, END_HEADERS, block), (RESET, 0, b"\0\0\0\x08")):
            if not await connection.send(*(frame(kind, flags, n, payload) for n in some)):
                return f"{sent} streams, {await connection.answered()}"
            await asyncio.sleep(2 * QUICK_SECONDS if kind == HEADERS else 0)  # as long as it has to wait
        sent += len(some)
    return f"{sent} streams, {await connection.answered()}"


async def many_strangers(target: Target, scale: float) -> str:
    """gRPC: refused calls on five connections, each again as soon as it has an answer: more than may wait for one."""
    block = head(METHOD + "GetWebhook", ("authorization", "Bearer unknown"))
    opened = [await Http2.open(target) for _ in range(5)]
    numbers = [iter(streams(1_000_000)) for _ in opened]
    until, sent = time.monotonic() + SECONDS_MAX * scale, 0
    while time.monotonic() < until:
        for connection, its in zip(opened, numbers, strict=True):
            room = 1000 - (connection.begun - connection.ended)
            connection.begun += room
            await connection.send(*(frame(HEADERS, END_HEADERS | END_STREAM, next(its), block) for _ in range(room)))
            sent += room
        await asyncio.sleep(0.005)  # a flood of its own pace: it does not wait for answers
    return f"{sent} calls, {sum(connection.is_open for connection in opened)} connections kept"


async def half_open(target: Target, scale: float) -> str:
    """HTTP/2: streams whose message never begins."""
    connection, block, sent = await Http2.open(target), head(METHOD + "GetWebhook"), 0
    numbers = list(streams(round(20_000 * scale)))
    while sent < len(numbers):
        some = numbers[sent : sent + 100]
        if not await connection.send(*(frame(HEADERS, END_HEADERS, n, block) for n in some)):
            break
        sent += len(some)
    return f"{sent} streams, {await connection.answered()}"


async def half_sent(target: Target, scale: float) -> str:
    """HTTP/2: messages of 5 MB that never end."""
    return await _half_sent(target, scale, head(METHOD + "BatchPublishEvents"))


async def half_sent_with_token(target: Target, scale: float) -> str:
    """HTTP/2: messages of 5 MB that never end, with a token."""
    block = head(METHOD + "BatchPublishEvents", ("authorization", f"Bearer {HOSTILE}"))
    return await _half_sent(target, scale, block)


async def _half_sent(target: Target, scale: float, block: bytes) -> str:
    """Sends what the flow control lets through."""
    connection, numbers, sent = await Http2.open(target), list(streams(90)), 0
    begin = b"\0" + (5_000_000).to_bytes(4, "big")
    for number in numbers:
        await connection.send(frame(HEADERS, END_HEADERS, number, block))
    left = dict.fromkeys(numbers, round(4_900_000 * scale))
    until = time.monotonic() + max(1.0, 8 * scale)
    await connection.send(*(frame(DATA, 0, number, begin) for number in numbers))
    while left and time.monotonic() < until and connection.is_open:
        went = 0
        for number in list(left):
            went += (part := await connection.send_data(number, left[number]))
            left[number] -= part
            if not left[number]:
                del left[number]
        sent += went
        await asyncio.sleep(0 if went else 0.01)
    return f"{sent / 1e6:.1f} MB taken"


async def zero_window(target: Target, scale: float) -> str:
    """HTTP/2: health watches that take no bytes."""
    request = message(health_pb2.HealthCheckRequest().SerializeToString())
    count = max(1, round(10 * scale))
    for _ in range(count):
        connection = await Http2.open(target, window=0)
        for number in streams(20):
            await connection.send(
                frame(HEADERS, END_HEADERS, number, head(HEALTH_WATCH)), frame(DATA, END_STREAM, number, request)
            )
    return f"{count * 20} watches"


async def large_health_checks(target: Target, scale: float) -> str:
    """gRPC: health watches with names of 4 MB."""
    codes = dict[str, int]()
    async with target.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for number in range(max(2, round(40 * scale))):
            name, code = f"{number}{'y' * 4_000_000}", "kept"
            try:
                await stub.Watch(health_pb2.HealthCheckRequest(service=name)).read()
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            codes[code] = codes.get(code, 0) + 1
    return _words(codes)


async def control_frames(target: Target, scale: float) -> str:
    """HTTP/2: PING, SETTINGS and WINDOW_UPDATE without end."""
    count = 0
    for one in (frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0), frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")):
        connection = await Http2.open(target)
        for _ in range(round(100 * scale)):
            if not await connection.send(one * 1000):
                break
            count += 1000
    return f"{count} frames"


async def endless_headers(target: Target, scale: float) -> str:
    """HTTP/2: a block of headers that never ends."""
    connection, sent = await Http2.open(target), 0
    await connection.send(frame(HEADERS, 0, 1, head(METHOD + "GetWebhook")))
    block = b"\x00\x03x-a\x7f\xa1\x7c" + b"b" * 16_000
    for _ in range(round(1000 * scale)):
        if not await connection.send(frame(CONTINUATION, 0, 1, block[:16_384])):
            break
        sent += 16_000
    return f"{sent / 1e6:.1f} MB sent"


async def header_bomb(target: Target, scale: float) -> str:
    """HTTP/2: headers of 4 KB, each named 16,000 times by one byte."""
    connection, sent = await Http2.open(target), 0
    first = head(METHOD + "GetWebhook") + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000
    for number in streams(max(2, round(20 * scale))):
        block = first if number == 1 else head(METHOD + "GetWebhook")
        repeated = frame(CONTINUATION, END_HEADERS, number, b"\xbe" * 16_000)
        if not await connection.send(frame(HEADERS, 0, number, block), repeated):
            break
        sent += 1
    return f"{sent} streams, {await connection.answered()}"


async def idle_grpc(target: Target, scale: float) -> str:
    """TCP: connections to the gRPC port that say nothing, more than it has."""
    return await _idle(target, target.grpc, round(2500 * scale))


async def idle_http(target: Target, scale: float) -> str:
    """TCP: connections to the HTTP port that say nothing, more than it has."""
    return await _idle(target, target.http, round(2500 * scale))


async def _idle(target: Target, door: tuple[str, int], count: int) -> str:
    readers = list[asyncio.StreamReader]()
    with contextlib.suppress(OSError, TimeoutError):
        for _ in range(count):
            readers.append((await target.connect(door))[0])
    await asyncio.sleep(0.5)  # those that are too many are closed
    return f"{len(readers)} connections, {sum(reader.at_eof() for reader in readers)} closed at once"


async def slow_heads(target: Target, scale: float) -> str:
    """HTTP/1: heads of which a line comes now and then."""
    writers = [(await target.connect(target.http))[1] for _ in range(round(500 * scale))]
    for writer in writers:
        writer.write(b"GET /api/webhooks HTTP/1.1\r\nHost: x\r\n")
    for number in range(3):
        for writer in writers:
            writer.write(b"X-%d: y\r\n" % number)
        await asyncio.sleep(min(1.0, scale))
    return f"{len(writers)} connections"


async def slow_bodies(target: Target, scale: float) -> str:
    """HTTP/1: bodies that never end, with a token."""
    writers = [(await target.connect(target.http))[1] for _ in range(round(500 * scale))]
    for writer in writers:
        writer.write(
            b"POST /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + HOSTILE.encode() + b"\r\n"
            b"Content-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + b" " * 20_000
        )
    return f"{len(writers)} connections"


async def event_streams(target: Target, scale: float) -> str:
    """HTTP/1: event streams that are not read, with a token."""
    readers = list[asyncio.StreamReader]()
    for _ in range(round(800 * scale)):
        reader, writer = await target.connect(target.http)
        writer.write(
            b"GET /api/deliveries:watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + HOSTILE.encode() + b"\r\n\r\n"
        )
        readers.append(reader)
    statuses = dict[str, int]()
    for reader in readers:
        with contextlib.suppress(OSError, TimeoutError):
            line = await asyncio.wait_for(reader.readline(), SECONDS_MAX)
            status = line.decode("ascii", "replace").split(" ")[1:2] or ["closed"]
            statuses[status[0]] = statuses.get(status[0], 0) + 1
    return _words(statuses)


async def watches(target: Target, scale: float) -> str:
    """gRPC: watches of one token, over several connections, that take no bytes."""
    request = message(service_pb2.WatchDeliveriesRequest(customer_id=1).SerializeToString())
    block = head(METHOD + "WatchDeliveries", ("authorization", f"Bearer {HOSTILE}"))
    count = 0
    for _ in range(max(1, round(10 * scale))):
        connection = await Http2.open(target, window=0)
        for number in streams(100):
            await connection.send(frame(HEADERS, END_HEADERS, number, block), frame(DATA, END_STREAM, number, request))
            count += 1
    return f"{count} watches"


async def unread_changes(target: Target, scale: float) -> str:
    """gRPC: watches of one token that stop reading, while answers of 16 KB to its events are to be shown to them."""
    request = message(service_pb2.WatchDeliveriesRequest().SerializeToString())
    block = head(METHOD + "WatchDeliveries", ("authorization", f"Bearer {HOSTILE}"))
    async with _webhook(target, b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n" + b"x" * 16_000) as stub:
        before = await once_calm(lambda: _succeeded(stub))
        for _ in range(max(1, round(5 * scale))):
            connection = await Http2.open(target, window=1000)
            for number in streams(100):
                await connection.send(
                    frame(HEADERS, END_HEADERS, number, block), frame(DATA, END_STREAM, number, request)
                )
        count = max(5, round(100 * scale))
        event = event_pb2.Event(event_type="job.completed", data_json="{}")
        batch = service_pb2.BatchPublishEventsRequest(requests=[service_pb2.PublishEventRequest(event=event)] * count)
        await stub.BatchPublishEvents(batch, metadata=bearer(HOSTILE))
        try:
            async with slowness.timeout(SECONDS_MAX):
                while await _succeeded(stub) < before + count:
                    await asyncio.sleep(0.1)  # a list gives no signal
        except grpc.aio.AioRpcError as refused:
            if refused.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return f"{max(1, round(5 * scale)) * 100} watches, until no further answers were given"
    return f"{max(1, round(5 * scale)) * 100} watches, {count} changes"


async def _succeeded(stub: Any) -> int:
    """Returns how many deliveries of the hostile customer have succeeded: on all pages, which large answers shorten."""
    listed, count = service_pb2.ListDeliveriesRequest(statuses=[delivery_pb2.DELIVERY_STATUS_SUCCEEDED]), 0
    while True:
        page = await stub.ListDeliveries(listed, metadata=bearer(HOSTILE))
        count += len(page.deliveries)
        if not page.next_page_token:
            return count
        listed.page_token = page.next_page_token


async def unread_answers(target: Target, scale: float) -> str:
    """gRPC: calls of one token that take no byte of their answers: as many as a connection has streams, and again."""
    request = message(service_pb2.ListEventTypesRequest().SerializeToString())
    block = head(METHOD + "ListEventTypes", ("authorization", f"Bearer {HOSTILE}"))
    answers = list[str]()
    for _ in range(max(1, round(10 * scale))):
        connection = await Http2.open(target, window=0)
        for number in streams(round(1000 * min(1.0, 4 * scale))):
            frames = frame(HEADERS, END_HEADERS, number, block), frame(DATA, END_STREAM, number, request)
            if not await connection.send(*frames):
                break
        answers.append(await connection.answered())
    return f"{len(answers)} connections, {answers[-1]}"


async def unread_pages(target: Target, scale: float) -> str:
    """HTTP/1: requests for the largest file of the page, one after the other, of which no answer is read."""
    writers = list[asyncio.StreamWriter]()
    for _ in range(round(200 * scale)):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, target.http)
        _, writer = await asyncio.open_connection(sock=connection, limit=4096)
        target.opened.append(writer)
        writer.write(b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
        writers.append(writer)
    await asyncio.sleep(15 * scale)  # how long the attack lasts
    return f"{len(writers)} connections, {sum(writer.is_closing() for writer in writers)} closed by then"


async def cancels(target: Target, scale: float) -> str:
    """gRPC: cancellations, with a token, of one delivery whose receiver does not answer."""
    codes = dict[str, int]()
    async with _webhook(target, b"") as stub:
        event = event_pb2.Event(event_type="job.completed", data_json="{}")
        await stub.PublishEvent(service_pb2.PublishEventRequest(event=event), metadata=bearer(HOSTILE))
        listed = service_pb2.ListDeliveriesRequest(statuses=[delivery_pb2.DELIVERY_STATUS_PENDING])
        async with slowness.timeout(SECONDS_MAX):
            while not (found := (await stub.ListDeliveries(listed, metadata=bearer(HOSTILE))).deliveries):
                await asyncio.sleep(0.1)  # a list gives no signal
        request = service_pb2.CancelDeliveryRequest(delivery_id=found[0].delivery_id)

        async def cancel() -> None:
            code = "OK"
            try:
                await stub.CancelDelivery(request, metadata=bearer(HOSTILE), timeout=SECONDS_MAX)
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            codes[code] = codes.get(code, 0) + 1

        await asyncio.gather(*(cancel() for _ in range(max(30, round(1100 * scale)))))
    return _words(codes)


@contextlib.asynccontextmanager
async def _webhook(target: Target, answer: bytes) -> AsyncGenerator[Any]:
    """Gives the hostile customer a webhook whose receiver answers so; nothing: it does not answer. Yields a client."""

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                writer.write(answer)
        writer.close()

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    async with target.stub() as stub:
        webhook = webhook_pb2.Webhook(name="hostile", url=url, events=["*"], timeout=Duration(seconds=30))
        request = service_pb2.CreateWebhookRequest(webhook=webhook)
        made = await once_calm(lambda: stub.CreateWebhook(request, metadata=bearer(HOSTILE)))
        try:
            yield stub
        finally:
            target.webhooks.append(made.webhook_id)  # while it is refused everything it can't be deleted
            receiver.close()


async def junk(target: Target, scale: float) -> str:
    """TCP: what is neither HTTP/2 nor HTTP/1, at both ports."""
    count = round(300 * scale)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    for door in (target.grpc, target.http):
        for _ in range(count):
            for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", hello + os.urandom(200), os.urandom(500)):
                _, writer = await target.connect(door)
                writer.write(noise)
        await target.close()
    return f"{count * 6} connections"


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


FLOODS: Final[tuple[Attack, ...]] = (
    rapid_reset,
    patient_reset,
    many_strangers,
    half_open,
    half_sent,
    half_sent_with_token,
    zero_window,
    large_health_checks,
    control_frames,
    endless_headers,
    header_bomb,
    idle_grpc,
    idle_http,
    slow_heads,
    slow_bodies,
    event_streams,
    watches,
    unread_changes,
    unread_answers,
    unread_pages,
    cancels,
    junk,
)
# These attack as long as their connections are open.
HELD: Final = frozenset[Attack](
    (
        half_open,
        half_sent,
        half_sent_with_token,
        zero_window,
        idle_grpc,
        idle_http,
        slow_heads,
        slow_bodies,
        event_streams,
        watches,
        unread_changes,
        unread_answers,
        unread_pages,
    )
)
