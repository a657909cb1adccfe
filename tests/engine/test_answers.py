"""A status is believed whatever comes with it and after it; what is not HTTP is not."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncGenerator
from random import Random

import pytest

from tests.support import slowness
from tests.support.raw import RawServers, says, says_in_turn, until_closed
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.connections import INTERIM_ANSWERS_MAX, RAW_BYTES_MAX
from webhook_grpc.engine.http.sender import HEADERS_MAX, Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

LOCAL = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
CONTEXT = ssl.create_default_context()  # takes longer to make than most of these tests


@pytest.fixture
async def sender() -> AsyncGenerator[Sender]:
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(16_384, body_seconds_max=0.2), ssl_context=CONTEXT)
    yield sender
    await sender.close()


async def send(sender: Sender, url: str) -> AttemptResult:
    return await sender.send(Request(url, {}, b"{}", slowness.scaled(5)))


def head(status: int, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *fields, "", ""]).encode("latin-1")


CHUNKED = "Transfer-Encoding: chunked"
ODD_ENDINGS = {
    "a body after 204": (head(204), b"body"),
    "a body after 204 that has a length": (head(204, "Content-Length: 4"), b"body"),
    "chunks after 204": (head(204, CHUNKED), b"1\r\nx\r\n0\r\n\r\n"),
    "more than the length": (head(200, "Content-Length: 2"), b"okextra"),
    "another whole answer": (head(200, "Content-Length: 2"), b"ok" + head(500, "Content-Length: 0")),
    "half of another answer": (head(200, "Content-Length: 2"), b"okHTTP/1.1 50"),
    "a chunk without a size": (head(200, CHUNKED), b"zz\r\nx\r\n0\r\n\r\n"),
    "a chunk with a size that overflows": (head(200, CHUNKED), b"fffffffffffffffff\r\nx"),
    "chunks that do not end": (head(200, CHUNKED), b"1\r\nx\r\n"),
    "a trailer that is none": (head(200, CHUNKED), b"1\r\nx\r\n0\r\nno colon\r\n\r\n"),
    "fewer bytes than the length": (head(200, "Content-Length: 9"), b"x"),
    "more than the length, and a bare CR in the body": (head(200, "Content-Length: 3"), b"a\rbEXTRA"),
    "a chunk without a size, and a bare CR": (head(200, CHUNKED), b"zz\r\nx\ry\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("odd", ODD_ENDINGS)
@pytest.mark.parametrize("segments", ["one segment", "two segments", "the head in pieces"])
async def test_a_2xx_is_a_success_whatever_follows_its_head_and_in_whichever_segment(
    sender: Sender, raw_server: RawServers, odd: str, segments: str
) -> None:
    start, rest = ODD_ENDINGS[odd]
    pieces = {
        "one segment": [start + rest],
        "two segments": [start, rest],
        "the head in pieces": [start[:5], start[5:-3], start[-3:-1], start[-1:] + rest],
    }[segments]
    result = await send(sender, await raw_server(says_in_turn(*pieces)))
    assert (result.outcome, result.response_status) == (Outcome.SUCCEEDED, int(start[9:12]))


async def test_what_is_kept_of_a_body_is_no_more_than_the_answer_said(sender: Sender, raw_server: RawServers) -> None:
    for answer in (head(200, "Content-Length: 2") + b"okextra", head(200, CHUNKED) + b"2\r\nok\r\n0\r\n\r\nextra"):
        result = await send(sender, await raw_server(says(answer)))
        assert result.response_body == b"ok"


LARGE_HEADS = {
    "one header of 9,000 bytes": head(200, "Content-Security-Policy: " + "x" * 9_000, "Content-Length: 2"),
    "64 KiB": head(200, "Content-Length: 2", "X: " + "x" * (RAW_BYTES_MAX - 46)),
    "a reason of 8,000 bytes": head(200, "Content-Length: 2").replace(b"X\r\n", b"r" * 8_000 + b"\r\n", 1),
    "400 headers": head(200, "Content-Length: 2", *(f"X-{n}: y" for n in range(HEADERS_MAX - 100))),
    "200 headers of one name": head(200, "Content-Length: 2", *["Set-Cookie: a=b"] * 200),
}


@pytest.mark.parametrize("large", LARGE_HEADS)
async def test_a_2xx_with_a_large_head_is_a_success(sender: Sender, raw_server: RawServers, large: str) -> None:
    answer = LARGE_HEADS[large]
    assert len(answer) <= RAW_BYTES_MAX
    result = await send(sender, await raw_server(says(answer + b"ok")))
    assert (result.outcome, result.response_status) == (Outcome.SUCCEEDED, 200)


async def test_a_head_beyond_64_kib_is_not_http(sender: Sender, raw_server: RawServers) -> None:
    answer = head(200, "Content-Length: 2", "X: " + "x" * RAW_BYTES_MAX) + b"ok"
    result = await send(sender, await raw_server(says(answer)))
    assert (result.outcome, result.reason) == (Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP)


LENGTHS = {
    "equal": (["Content-Length: 2", "content-length: 2"], Outcome.SUCCEEDED),
    "equal, apart": (["Content-Length: 2", "Server: x", "Content-Length:2 "], Outcome.SUCCEEDED),
    "equal, in one field": (["Content-Length: 2, 2"], Outcome.SUCCEEDED),
    "unequal": (["Content-Length: 2", "Content-Length: 3"], Outcome.PROTOCOL_ERROR),
    "unequal, in one field": (["Content-Length: 2, 3"], Outcome.PROTOCOL_ERROR),
    "equal and no numbers": (["Content-Length: +2", "Content-Length: +2"], Outcome.PROTOCOL_ERROR),
    "with chunks": (["Content-Length: 2", CHUNKED], Outcome.PROTOCOL_ERROR),
    "equal, with chunks": (["Content-Length: 2", "Content-Length: 2", CHUNKED], Outcome.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("which", LENGTHS)
async def test_equal_lengths_are_one_and_others_are_not_http(
    sender: Sender, raw_server: RawServers, which: str
) -> None:
    fields, outcome = LENGTHS[which]
    result = await send(sender, await raw_server(says(head(200, *fields) + b"ok")))
    assert result.outcome is outcome
    assert result.response_body == (b"ok" if outcome is Outcome.SUCCEEDED else b"")


@pytest.mark.parametrize(
    ("count", "outcome"),
    [(INTERIM_ANSWERS_MAX, Outcome.SUCCEEDED), (INTERIM_ANSWERS_MAX + 1, Outcome.PROTOCOL_ERROR)],
)
async def test_so_many_interim_answers_are_taken_and_no_more(
    sender: Sender, raw_server: RawServers, count: int, outcome: Outcome
) -> None:
    """2,500 of them in 62 KB took as much work as thousands of deliveries."""
    answer = head(103, "Link: </x>") * count + head(200, "Content-Length: 2") + b"ok"
    assert (await send(sender, await raw_server(says(answer)))).outcome is outcome


async def test_what_is_no_head_is_not_waited_for_to_end(sender: Sender, raw_server: RawServers) -> None:
    """A server of another protocol that says its line and waits is not a timeout."""
    for line in (b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail.example.com ESMTP\r\n", b"HTTP/1.1 200 OK\rX: y\r\r"):
        result = await send(sender, await raw_server(says(line, until_closed)))
        assert (result.outcome, result.reason) == (Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP)
