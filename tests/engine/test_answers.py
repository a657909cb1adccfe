"""A status line is believed whatever comes with it and after it; what is not HTTP is not."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from random import Random

import pytest

from tests.support import slowness
from tests.support.raw import RawServers, says, says_in_turn, until_closed
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.answer import (
    CHUNKS_MAX,
    FIELDS_MAX,
    INTERIM_ANSWERS_MAX,
    LINES_MAX,
    RAW_BYTES_MAX,
    AnswerReader,
)
from webhook_grpc.engine.http.faults import NotHttp
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
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
    "400 headers": head(200, "Content-Length: 2", *(f"X-{n}: y" for n in range(FIELDS_MAX - 100))),
    "200 headers of one name": head(200, "Content-Length: 2", *["Set-Cookie: a=b"] * 200),
}


@pytest.mark.parametrize("large", LARGE_HEADS)
async def test_a_2xx_with_a_large_head_is_a_success(sender: Sender, raw_server: RawServers, large: str) -> None:
    answer = LARGE_HEADS[large]
    assert len(answer) <= RAW_BYTES_MAX
    result = await send(sender, await raw_server(says(answer + b"ok")))
    assert (result.outcome, result.response_status) == (Outcome.SUCCEEDED, 200)


BROKEN_HEADS = {
    "beyond 64 KiB": [head(200, "Content-Length: 2", "X: " + "x" * RAW_BYTES_MAX), b"ok"],
    "more headers than are read": [head(200, "Content-Length: 2", *["X: y"] * FIELDS_MAX)],
    "equal lengths": [head(200, "Content-Length: 2", "content-length: 2"), b"ok"],
    "equal lengths in one field": [head(200, "Content-Length: 2, 2"), b"ok"],
    "unequal lengths": [head(200, "Content-Length: 2", "Content-Length: 3"), b"ok"],
    "a length that is no number": [head(200, "Content-Length: +2"), b"ok"],
    "a length and chunks": [head(200, "Content-Length: 2", CHUNKED), b"ok"],
    "a space before the colon": [head(200, "X : y", "Content-Length: 2"), b"ok"],
    "no colon": [head(200, "requirepass"), b"ok"],
    "NUL": [head(200, "X: a\0b"), b"ok"],
    "lines that end in LF": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"],
    "a line that ends in CR": [b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 2\r\n\r\nok"],
    "no end": [b"HTTP/1.1 200 OK\r\nX: y"],
}


@pytest.mark.parametrize("broken", BROKEN_HEADS)
@pytest.mark.parametrize("segments", ["one segment", "the status line first", "byte by byte at its end"])
async def test_a_status_line_decides_whatever_breaks_after_it(
    sender: Sender, raw_server: RawServers, broken: str, segments: str
) -> None:
    """The connection is not used again, and nothing of what could not be understood is kept."""
    answer = b"".join(BROKEN_HEADS[broken])
    end = answer.index(b"\n") + 1
    pieces = {
        "one segment": [answer],
        "the status line first": [answer[:end], answer[end:]],
        "byte by byte at its end": [answer[: end - 2], answer[end - 2 : end - 1], answer[end - 1 : end], answer[end:]],
    }[segments]
    url = await raw_server(says_in_turn(*pieces))
    for _ in range(2):
        result = await send(sender, url)
        assert (result.outcome, result.response_status, result.response_body) == (Outcome.SUCCEEDED, 200, b"")
    assert raw_server.connections == 2


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 ", b"HTTP/1.1 200"])
async def test_a_status_line_without_its_end_decides_nothing(
    sender: Sender, raw_server: RawServers, line: bytes
) -> None:
    result = await send(sender, await raw_server(says(line)))
    assert (result.outcome, result.response_status) == (Outcome.CONNECTION_ERROR, None)


async def test_a_head_that_does_not_end_in_time_has_a_status_all_the_same(
    sender: Sender, raw_server: RawServers
) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nX: "
    url = await raw_server(says(answer, until_closed))
    result = await sender.send(Request(url, {}, b"{}", 0.3))
    assert (result.outcome, result.response_status, result.retry_after) == (Outcome.HTTP_ERROR, 503, "7")


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


@pytest.mark.parametrize(
    "answer",
    [
        head(103) * INTERIM_ANSWERS_MAX * 20,
        b"\r\n" * (RAW_BYTES_MAX // 2),
        head(103, *["X: y"] * (RAW_BYTES_MAX // 7)),
        head(200, CHUNKED) + b"1\r\nx\r\n" * (RAW_BYTES_MAX // 7),
        head(200, CHUNKED) + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * (RAW_BYTES_MAX // 7),
        head(200, *["X: y"] * (RAW_BYTES_MAX // 7)),
    ],
    ids=["interim answers", "empty lines", "headers of an interim answer", "chunks", "trailers", "headers"],
)
def test_64_kib_of_an_answer_cost_hardly_more_than_a_plain_one(answer: bytes) -> None:
    """Counted, not timed: how often the parser has to call back."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    class Counting(AnswerReader):
        def on_message_begin(self) -> None:
            count()
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            count()
            super().on_header(name, value)

        def on_chunk_header(self) -> None:
            count()
            super().on_chunk_header()

    reader = Counting(100)
    with contextlib.suppress(NotHttp):
        reader.feed(answer)
    assert calls <= FIELDS_MAX + INTERIM_ANSWERS_MAX + CHUNKS_MAX
    assert reader._line_count <= LINES_MAX + 1  # pyright: ignore[reportPrivateUsage]


async def test_what_is_no_head_is_not_waited_for_to_end(sender: Sender, raw_server: RawServers) -> None:
    """A server of another protocol that says its line and waits is not a timeout."""
    for line in (b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail.example.com ESMTP\r\n", b"HTTP/1.1 200 OK\rX: y\r\r"):
        result = await send(sender, await raw_server(says(line, until_closed)))
        assert (result.outcome, result.reason) == (Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP)
