"""The HTTP client against real sockets: every way to answer ends in a typed result, in bounded time."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from dataclasses import replace
from random import Random

import pytest

from tests.support import slowness
from tests.support.dns import Leading
from tests.support.raw import OK, RawServers, read_request, says
from tests.support.receiver import Gate, Receiver, answer
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import FailureReason, Outcome
from webhook_grpc.engine.http.answer import RAW_BYTES_MAX
from webhook_grpc.engine.http.faults import LeaseUnsure
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

from .hostile.measure import until_ended

ENOUGH_SECONDS = slowness.lengthened(1.0)  # to get a status line; then the time is over
LOCAL = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))


@pytest.fixture
async def sender() -> AsyncGenerator[Sender]:
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(16_384))
    yield sender
    await sender.close()


def request(url: str, timeout_seconds: float = 30.0) -> Request:
    return Request(url, {"X-Test": "yes"}, b'{"event":"job.completed"}', timeout_seconds)


async def test_what_is_sent_is_what_was_asked_for_and_nothing_else(sender: Sender, receiver: Receiver) -> None:
    result = await sender.send(request(receiver.url("/a%2fb/../c?x=%7b1%7d")))
    assert result.outcome is Outcome.SUCCEEDED
    [received] = receiver.requests
    assert received.body == b'{"event":"job.completed"}'
    assert received.headers["X-Test"] == "yes"
    for name in ("Accept-Encoding", "User-Agent", "Accept", "Cookie"):
        assert name not in received.headers


async def test_no_request_begins_when_the_lease_ends_before_its_first_byte(sender: Sender, receiver: Receiver) -> None:
    while_it_connects = iter([True, False])
    with pytest.raises(LeaseUnsure):
        await sender.send(replace(request(receiver.url("/connecting")), may_begin=lambda: next(while_it_connects)))
    assert (await sender.send(request(receiver.url("/renewed")))).outcome is Outcome.SUCCEEDED
    with pytest.raises(LeaseUnsure):  # on the connection that is kept now
        await sender.send(replace(request(receiver.url("/kept")), may_begin=lambda: False))
    assert [received.path for received in receiver.requests] == ["/renewed"]


TARGETS = ["/a%2fb/%zz?sig=aB%2F_c-1", "/hook?", "/?", "/hook??", "/a?b=c?", "/a?b=%3F", "/a//b/../c?"]


async def test_the_path_of_the_url_is_sent_byte_for_byte(sender: Sender, raw_server: RawServers) -> None:
    """Customers sign their URLs; quoting them anew would break the signature."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader)).split(b"\r\n")[0])
        writer.write(OK)

    url = await raw_server(serve)
    for target in TARGETS:
        await sender.send(request(url.removesuffix("/") + target))
    assert seen == [b"POST %s HTTP/1.1" % target.encode() for target in TARGETS]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_a_success(sender: Sender, receiver: Receiver, status: int) -> None:
    result = await sender.send(request(receiver.on("/s", answer(status, ""))))
    assert (result.outcome, result.response_status) == (Outcome.SUCCEEDED, status)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, FailureReason.STATUS),
        (404, FailureReason.STATUS),
        (410, FailureReason.GONE),
        (429, FailureReason.STATUS),
        (500, FailureReason.STATUS),
        (503, FailureReason.STATUS),
    ],
)
async def test_any_other_status_is_a_failure(
    sender: Sender, receiver: Receiver, status: int, reason: FailureReason
) -> None:
    result = await sender.send(request(receiver.on("/s", answer(status, "why", Retry_After="7"))))
    assert (result.outcome, result.response_status, result.reason) == (Outcome.HTTP_ERROR, status, reason)
    assert (result.response_body, result.retry_after) == (b"why", "7")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sender: Sender, receiver: Receiver, status: int) -> None:
    target = receiver.url("/target")
    result = await sender.send(request(receiver.on("/from", answer(status, "", Location=target))))
    assert (result.outcome, result.reason) == (Outcome.HTTP_ERROR, FailureReason.REDIRECT)
    assert [received.path for received in receiver.requests] == ["/from"]


async def test_a_receiver_that_hangs_is_a_timeout(sender: Sender, receiver: Receiver) -> None:
    gate = Gate()
    async with slowness.timeout(20):
        result = await sender.send(request(receiver.on("/hang", gate), timeout_seconds=0.3))
    gate.opened.set()
    assert (result.outcome, result.response_status) == (Outcome.TIMEOUT, None)


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)  # the attack itself


@pytest.mark.parametrize(
    ("start", "piece", "outcomes"),
    [
        (b"HTTP/1.1 2", b"0", {Outcome.PROTOCOL_ERROR}),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a", {Outcome.SUCCEEDED}),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", {Outcome.TIMEOUT, Outcome.PROTOCOL_ERROR}),
    ],
    ids=["status", "headers", "1xx"],
)
async def test_a_receiver_that_drips_is_cut_off(
    sender: Sender, raw_server: RawServers, start: bytes, piece: bytes, outcomes: set[Outcome]
) -> None:
    url = await raw_server(says(start, lambda _, writer: drip(writer, piece)))
    async with slowness.timeout(20):
        result = await sender.send(request(url, timeout_seconds=ENOUGH_SECONDS))
    assert result.outcome in outcomes


async def test_trouble_with_the_body_does_not_undo_a_success(sender: Sender, raw_server: RawServers) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart"
    url = await raw_server(says(start, lambda _, writer: drip(writer, b"x")))
    async with slowness.timeout(20):
        result = await sender.send(request(url, timeout_seconds=ENOUGH_SECONDS))
    assert (result.outcome, result.response_status) == (Outcome.SUCCEEDED, 200)
    assert result.response_body.startswith(b"start")


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@pytest.mark.parametrize(
    ("head", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", Outcome.SUCCEEDED),
        (b"HTTP/1.1 200 OK\r\n\r\n", Outcome.SUCCEEDED),
        (b"HTTP/1.1 200 OK\r\nX: ", Outcome.SUCCEEDED),
        (b"", Outcome.PROTOCOL_ERROR),
    ],
    ids=["body", "body to the end", "header", "status line"],
)
async def test_a_flood_is_cut_off_after_the_first_bytes(
    sender: Sender, raw_server: RawServers, head: bytes, outcome: Outcome
) -> None:
    async with slowness.timeout(20):
        result = await sender.send(request(await raw_server(says(head, flood))))
    assert result.outcome is outcome
    assert len(result.response_body) <= 16_384


async def test_a_flood_of_1xx_is_cut_off(sender: Sender, raw_server: RawServers) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
            await writer.drain()

    async with slowness.timeout(20):
        result = await sender.send(request(await raw_server(says(b"", serve))))
    assert result.outcome is Outcome.PROTOCOL_ERROR


async def test_a_large_answer_is_cut_to_its_excerpt(sender: Sender, receiver: Receiver) -> None:
    result = await sender.send(request(receiver.on("/large", answer(200, "a" * (RAW_BYTES_MAX - 1000)))))
    assert (result.outcome, len(result.response_body)) == (Outcome.SUCCEEDED, 16_384)


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (b"", Outcome.CONNECTION_ERROR),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Outcome.PROTOCOL_ERROR),
        (b"HTTP/1.1 abc OK\r\n\r\n", Outcome.PROTOCOL_ERROR),
        (b"HTTP/1.1 200 OK\r", Outcome.CONNECTION_ERROR),
        (b"HTTP/1.1 200 OK\rContent-Length: 0\r\r", Outcome.PROTOCOL_ERROR),
        (b"HTTP/1.1 500 NO\r\nContent-Length: 0\r\n\r\n", Outcome.HTTP_ERROR),
    ],
)
async def test_what_is_not_http_is_told_apart(
    sender: Sender, raw_server: RawServers, response: bytes, outcome: Outcome
) -> None:
    result = await sender.send(request(await raw_server(says(response))))
    assert result.outcome is outcome
    assert b"SSH" not in result.reason.value.encode()


async def test_a_refused_connection_is_a_connection_error(sender: Sender) -> None:
    result = await sender.send(request("http://127.0.0.1:9/"))
    assert (result.outcome, result.reason) == (Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED)


@pytest.mark.parametrize(
    "first",
    [OK, b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", b"junk"],
    ids=["200", "410", "junk"],
)
async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_deliverys(
    sender: Sender, raw_server: RawServers, first: bytes
) -> None:
    """A late 200 would be a lost event, a late 410 would switch off the webhook."""
    answered, sent_unasked = asyncio.Event(), asyncio.Event()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await says(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")(reader, writer)
            return
        await says(OK)(reader, writer)
        await answered.wait()
        writer.write(first)
        await writer.drain()
        sent_unasked.set()
        await reader.read()

    url = await raw_server(serve)
    assert (await sender.send(request(url))).outcome is Outcome.SUCCEEDED
    answered.set()
    await sent_unasked.wait()
    await until_ended(sender)
    assert (await sender.send(request(url))).response_status == 503


async def test_connections_are_kept(sender: Sender, raw_server: RawServers) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await says(OK)(reader, writer)

    url = await raw_server(serve)
    for _ in range(3):
        assert (await sender.send(request(url))).outcome is Outcome.SUCCEEDED
    assert connections == 1


async def test_cookies_are_forgotten(sender: Sender, receiver: Receiver) -> None:
    url = receiver.on("/cookie", answer(200, "ok", Set_Cookie="session=1"))
    for _ in range(2):
        await sender.send(request(url))
    assert all("Cookie" not in received.headers for received in receiver.requests)


async def test_without_permission_no_socket_to_this_machine_is_opened(receiver: Receiver) -> None:
    """The resolver is bypassed by IP literals, so the guard is where sockets are made."""
    strict = Sender(EgressPolicy(allow_http=True), DatabaseClock(), Random(), SendLimits(100))
    try:
        for host in ("127.0.0.1", "localhost"):
            result = await strict.send(request(f"http://{host}:{receiver.port}/"))
            assert result.outcome in (Outcome.BLOCKED, Outcome.CONNECTION_ERROR)
            assert "127" not in result.reason
    finally:
        await strict.close()
    assert not receiver.requests


async def test_a_name_that_leads_inside_is_blocked_when_it_is_dialled(receiver: Receiver) -> None:
    strict = Sender(
        EgressPolicy(allow_http=True), DatabaseClock(), Random(), SendLimits(100), resolver=Leading(["127.0.0.1"])
    )
    result = await strict.send(request(f"http://hooks.example.com:{receiver.port}/"))
    await strict.close()
    assert (result.outcome, result.reason) == (Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION)
    assert not receiver.requests


async def test_a_name_that_changes_its_mind_is_blocked_the_second_time(receiver: Receiver) -> None:
    allowed = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.1/32"),))
    sender = Sender(allowed, DatabaseClock(), Random(), SendLimits(100), resolver=Leading(["127.0.0.1"], ["127.0.0.2"]))
    url = f"http://hooks.example.com:{receiver.port}/"
    receiver.on("/", answer(200, "ok", Connection="close"))
    first, second = await sender.send(request(url)), await sender.send(request(url))
    await sender.close()
    assert (first.outcome, second.outcome) == (Outcome.SUCCEEDED, Outcome.BLOCKED)
    assert len(receiver.requests) == 1


async def test_a_server_that_does_not_speak_tls_is_a_tls_error(sender: Sender, raw_server: RawServers) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = (await raw_server(serve)).replace("http:", "https:")
    assert (await sender.send(request(url))).outcome is Outcome.TLS_ERROR
