"""The live stream over HTTP: server-sent events that a browser resumes by itself, and lines for jq."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from tests.support import slowness
from tests.support.receiver import Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory

from .client import Http

WATCH = f"/api/deliveries:watch?customer_id={CUSTOMER}"
MANY = 1000  # answers of 16 kB each: several times what a connection takes that nobody reads


@pytest.fixture
async def http(services: ServiceFactory) -> AsyncGenerator[Http]:
    """A service of its own: its deliveries are sent."""
    async with Http(await services.start(http_address="127.0.0.1:0")) as client:
        yield client


async def test_an_event_stream_tells_what_happens_to_deliveries(http: Http, receiver: Receiver) -> None:
    async with http.watch(WATCH) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        await response.begun()
        webhook = await http.create(receiver.url())
        await http.service.publish()
        [delivery], _ = await response.deliveries(1)
    assert delivery["webhook_id"] == webhook["webhook_id"]
    assert (delivery["status"], delivery["last_attempt"]["outcome"]) == ("succeeded", "succeeded")
    assert delivery["last_attempt"]["response_status"] == 200


async def test_a_stream_that_is_cut_is_resumed_by_the_last_id_without_a_gap(http: Http, receiver: Receiver) -> None:
    """As a browser does: the same URL, though it names another beginning, and the header Last-Event-ID."""
    await http.create(receiver.url())
    async with http.watch(WATCH) as response:
        last = await response.begun()
    told = list[str]()
    for _ in range(3):
        published = await http.service.publish_many(2)
        async with http.watch(f"{WATCH}&snapshot=true", {"Last-Event-ID": last}) as response:
            deliveries, last = await response.deliveries(2)
        told += [delivery["event_id"] for delivery in deliveries]
        assert set(told[-2:]) == set(published)
    assert len(set(told)) == 6


async def test_a_quiet_stream_sends_comments_that_move_the_cursor(http: Http) -> None:
    async with (
        http.watch(f"{WATCH}&heartbeat_interval=1s") as response,
        slowness.timeout(20),
        aclosing(response.blocks()) as events,
    ):
        blocks = [await anext(events) for _ in range(3)]
    assert [sorted(block) for block in blocks] == [["", "id"]] * 3


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/jsonl, */*", "application/json"])
async def test_lines_of_json_for_those_who_want_them(http: Http, receiver: Receiver, accept: str) -> None:
    async with http.watch(WATCH, {"Accept": accept}) as response, slowness.timeout(20):
        assert response.content_type == "application/x-ndjson"
        first = await response.line()
        await http.create(receiver.url())
        await http.service.publish()
        line = await response.line()
    assert [delivery["status"] for delivery in line["deliveries"]] == ["succeeded"]
    assert line["cursor"] != first["cursor"]
    async with http.watch(f"{WATCH}&cursor={first['cursor']}", {"Accept": accept}) as again:
        lines = [await again.line() for _ in range(2)]
    assert [line["deliveries"] for line in lines] == [[], line["deliveries"]]


async def test_what_receivers_answered_is_in_the_stream_if_that_is_wanted(http: Http, receiver: Receiver) -> None:
    await http.create(receiver.on("/talkative", answer(200, "hello", x_request_id="7")))
    for query, has_bodies in (("", False), ("&bodies=false", False), ("&bodies=true", True)):
        async with http.watch(WATCH + query) as response:
            await response.begun()
            await http.service.publish()
            [delivery], _ = await response.deliveries(1)
        attempt = delivery["last_attempt"]
        assert {"response_body", "response_headers", "request_headers"} & attempt.keys() == (
            {"response_body", "response_headers", "request_headers"} if has_bodies else set()
        )
    assert base64.b64decode(attempt["response_body"]) == b"hello"


async def test_filters_are_those_of_the_method(http: Http, receiver: Receiver) -> None:
    async with http.watch(f"{WATCH}&event_types=job.failed,quota.*&statuses=succeeded") as response:
        await response.begun()
        await http.create(receiver.url())
        await http.service.publish(event_type="job.completed")
        await http.service.publish(event_type="job.failed")
        [delivery], _ = await response.deliveries(1)
    assert delivery["event_type"] == "job.failed"


@pytest.mark.parametrize(
    ("query", "headers", "status", "reason"),
    [
        ("", {"Last-Event-ID": "!"}, 400, "CURSOR_INVALID"),
        ("", {"Last-Event-ID": "AAAA"}, 400, "CURSOR_INVALID"),
        ("&cursor=%21", {}, 400, "FIELD_INVALID"),
        ("&heartbeat_interval=1h", {}, 400, "FIELD_INVALID"),
        ("&statuses=lost", {}, 400, "FIELD_INVALID"),
        ("&bodies=yes", {}, 400, "FIELD_INVALID"),
    ],
)
async def test_a_stream_that_cannot_begin_is_a_problem(
    http: Http, query: str, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = await http.call("GET", WATCH + query, headers=headers)
    assert (answer.status, answer.reason) == (status, reason)


async def test_a_stopping_service_says_why_the_stream_ends(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http, http.watch(WATCH) as response:
        await response.begun()
        async with slowness.timeout(20):
            await services.stop()
            blocks = [block async for block in response.blocks()]
    assert blocks[-1]["event"] == "problem"
    assert json.loads(blocks[-1]["data"])["reason"] == "SERVER_STOPPING"


@pytest.mark.slow(3)
async def test_a_reader_that_stops_reading_is_dropped_and_may_resume_while_others_are_not_held_up(
    services: ServiceFactory, receiver: Receiver
) -> None:
    # long enough for the other reader, which shares a busy machine with all this
    service = await services.start(http_address="127.0.0.1:0", stream_write_seconds_max=slowness.scaled(2.0))
    await service.create_webhook(receiver.on("/large", answer(200, "x" * 16_000)))
    async with Http(service) as http, http.watch(WATCH) as reading:
        stuck, writer = await small_reader(service)
        head = await stuck.readuntil(b"\n\n")
        await reading.begun()
        for _ in range(4):
            await service.publish_many(MANY // 4)
        received, _ = await reading.deliveries(MANY)
        async with slowness.timeout(60):
            while len(service.app._tail._subscriptions) > 1:  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0.05)  # one that does not read hears nothing of being dropped
        async with slowness.timeout(30):
            rest = await stuck.read()  # which ends: the server has let go of it
        writer.close()
        whole = (head + rest).rpartition(b"\r\n\r\n")[2].decode(errors="replace")
        seen = set(re.findall(r'"delivery_id":"([^"]+)"', whole.rpartition("\n\n")[0]))
        last = re.findall(r"(?m)^id: (\S+)$", whole.rpartition("\n\n")[0])[-1]
        assert len(seen) < MANY
        async with http.watch(WATCH, {"Last-Event-ID": last}) as resumed:
            others, _ = await resumed.deliveries(MANY - len(seen))
    assert len(received) == len(seen | {delivery["delivery_id"] for delivery in others}) == MANY


async def small_reader(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begins to watch on a connection that takes little unread."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", service.app.http_port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    writer.write(f"GET {WATCH}&bodies=true HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer
