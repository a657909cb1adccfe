"""Whatever arrives, in whichever pieces and order: one typed outcome, never an exception, within bytes and time."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import re
import ssl
from collections.abc import Sequence
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dns import Leading
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, Outcome
from webhook_grpc.engine.http.answer import RAW_BYTES_MAX
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

from .wired_loop import END, LOST, RESET, Happening, Script, Wire, WiredLoop

LOCAL: Final = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
CONTEXT: Final = ssl.create_default_context()  # takes longer to make than all the rest
TIMEOUT_SECONDS: Final = 5.0
BODY_SECONDS: Final = 1.0
BODY_BYTES_MAX: Final = 100
PIECE_BYTES_MAX: Final = 70_000

# --- what may arrive -------------------------------------------------------------------------------------------------

status_lines = st.builds(
    b"%b %b %b%b".__mod__,
    st.tuples(
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b"ICY"]),
        st.sampled_from(
            [b"200", b"204", b"304", b"500", b"410", b"100", b"103", b"101", b"99", b"000", b"2000", b"+20"]
        ),
        st.sampled_from([b"OK", b"", b"\xff\0", b"a reason"]),
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]),
    ),
)
fields = st.sampled_from(
    [
        *[b"Content-Length: 2\r\n", b"Content-Length: 3\r\n", b"Content-Length: 99999999999\r\n"] * 3,
        *[b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"] * 2,
        *[b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"Keep-Alive: timeout=1\r\n", b"Retry-After: 7\r\n"],
        *[b"X: a\0b\r\n", b"X : y\r\n", b"no colon\r\n", b": y\r\n", b"X: y\n", b"X: y\r", b" folded\r\n", b"X:\r\n"],
        b"X: " + b"x" * 70_000 + b"\r\n",
        b"X: y\r\n" * 600,
    ]
)
bodies = st.sampled_from(
    [
        *[b"ok", b"okx", b"2\r\nok\r\n", b"0\r\n\r\n", b"0\r\nTrailer: y\r\n\r\n", b"zz\r\n", b"-1\r\n", b""],
        *[b"1\r\nx\r\n" * 300, b"x" * 200, b"x" * 70_000, b"fffffffffffffffff\r\n", b"\r\n", b"\0", b"HTTP/1.1 4"],
    ]
)


def head_of(line: bytes, of: list[bytes], end: bytes) -> bytes:
    return line + b"".join(of) + end


def plain_answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


head_ends = st.sampled_from([b"\r\n", b"\r\n", b"\n", b""])
heads = st.builds(head_of, status_lines, st.lists(fields, max_size=4), head_ends)
plain = st.builds(plain_answer, st.sampled_from([200, 200, 200, 500, 410, 103]), st.sampled_from([b"", b"ok"]))
streams = st.lists(st.one_of(plain, heads, bodies, st.binary(max_size=20)), max_size=6).map(b"".join)
delays = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.9, 1.1, 4.9, 6.0, 25.0])
ends = st.sampled_from([END, LOST, RESET])


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """The stream in pieces, at the places modulo its length."""
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in itertools.pairwise(borders)]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A connection on which anything may happen."""
    pieces: list[bytes | str] = [*cut(draw(streams), draw(st.lists(st.integers(0, 10_000), max_size=6)))]
    for end in draw(st.lists(ends, max_size=1)):
        pieces.insert(draw(st.integers(0, len(pieces))), end)
    happenings = tuple(Happening(piece, draw(delays)) for piece in pieces)
    return Script(happenings, draw(st.booleans()), is_refused=draw(st.integers(0, 9)) == 0)


# --- what must hold --------------------------------------------------------------------------------------------------


class Run:
    """A few requests, one after the other, with what came of each and when."""

    def __init__(self, loop: WiredLoop) -> None:
        self.loop = loop
        self.results: list[AttemptResult] = []
        self.seconds: list[float] = []
        self.texts: list[bytes] = []

    async def send(self, count: int, pauses: Sequence[float]) -> None:
        """Sends, and closes the sender."""
        limits = SendLimits(BODY_BYTES_MAX, body_seconds_max=BODY_SECONDS)
        names = Leading(["127.0.0.1"])
        sender = Sender(LOCAL, DatabaseClock(), Random(), limits, resolver=names, ssl_context=CONTEXT)
        for number in range(count):
            started_at = self.loop.time()
            request = Request("http://127.0.0.1/", {"X-Number": str(number)}, b"{}", TIMEOUT_SECONDS, webhook_id=1)
            self.results.append(await sender.send(request))
            self.seconds.append(self.loop.time() - started_at)
            await asyncio.sleep(pauses[number])
        await sender.close()

    def times_sent(self, number: int) -> int:
        """How often a request was written, in all."""
        marks = (wire.requests.count for wire in self.loop.wires)
        text = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Number: %d\r\nContent-Length: 2\r\n\r\n{}" % number
        return sum(count(text) for count in marks)


def assert_bounds(run: Run) -> None:
    assert not run.loop.complaints
    for number, (result, seconds) in enumerate(zip(run.results, run.seconds, strict=True)):
        assert result.outcome in set(Outcome) - {Outcome.INTERNAL_ERROR, Outcome.BLOCKED}
        assert (result.response_status is None) == (result.outcome not in {Outcome.SUCCEEDED, Outcome.HTTP_ERROR})
        assert len(result.response_body) <= BODY_BYTES_MAX
        assert seconds <= TIMEOUT_SECONDS + BODY_SECONDS + 0.01
        assert result.latency_ms <= 1000 * (TIMEOUT_SECONDS + BODY_SECONDS)
        assert run.times_sent(number) <= 2
        if result.response_status is not None:
            assert any(has_status_line(wire, result.response_status) for wire in run.loop.wires)
    for wire in run.loop.wires:
        assert not wire.is_open
        assert len(wire.delivered) <= (len(wire.requests) + 1) * (RAW_BYTES_MAX + PIECE_BYTES_MAX)


def has_status_line(wire: Wire, status: int) -> bool:
    return re.search(rb"HTTP/[0-9]\.[0-9] %03d[^\r\n]*\r?\n" % status, wire.delivered) is not None


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(scripts(), min_size=1, max_size=3), st.lists(delays, min_size=3, max_size=3), st.integers(0, 2**32))
def test_whatever_arrives_in_whichever_pieces_and_order_each_request_has_one_typed_outcome_within_bounds(
    connections: list[Script], pauses: list[float], seed: int
) -> None:
    loop = WiredLoop(seed, connections)
    run = Run(loop)
    with loop.patched_time():
        loop.run_until_complete(run.send(3, pauses))
    loop.close()
    assert_bounds(run)


@settings(max_examples=100, deadline=None)
@given(plain, st.lists(st.integers(0, 10_000), max_size=10), st.integers(0, 2**32))
def test_a_plain_answer_is_read_alike_in_whichever_pieces_it_comes(answer: bytes, places: list[int], seed: int) -> None:
    def result_of(pieces: Sequence[bytes]) -> tuple[object, ...]:
        loop = WiredLoop(seed, [Script(tuple(map(Happening, pieces)))])
        run = Run(loop)
        with loop.patched_time():
            loop.run_until_complete(run.send(1, [0.0]))
        loop.close()
        [result] = run.results
        return result.outcome, result.response_status, result.response_body

    assert result_of(cut(answer, places)) == result_of([answer])
