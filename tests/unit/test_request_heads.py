"""What a connection over HTTP may send before it is refused: the headers of a request have a bound together."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from webhook_grpc.server.http.connection import HEAD_BYTES_MAX, REQUESTS_AHEAD_MAX, Parser

FIRST = b"POST /api/events HTTP/1.1\r\nHost: x\r\n"
LONG = b"X-Long: " + b"x" * 8000 + b"\r\n"
SMALL = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def parser() -> Any:
    loop = asyncio.get_running_loop()
    made: Any = Parser
    return made(Mock(), loop, 65_536, max_field_size=8190, max_msg_queue_size=REQUESTS_AHEAD_MAX)


async def test_a_head_that_does_not_end_is_refused_while_it_comes() -> None:
    reads = parser()
    reads.feed_data(FIRST)
    taken = 0
    with pytest.raises(BadHttpMessage, match="more than 65536 bytes"):
        while taken < 1_000_000:
            reads.feed_data(LONG)
            taken += len(LONG)
    assert taken <= HEAD_BYTES_MAX
    with pytest.raises(BadHttpMessage):
        reads.feed_data(b"\r\n")  # its end changes nothing


async def test_a_head_that_comes_at_once_is_refused_too() -> None:
    with pytest.raises(BadHttpMessage):
        parser().feed_data(FIRST + LONG * 9 + b"\r\n")
    messages, *_ = parser().feed_data(FIRST + LONG * 7 + b"\r\n")
    assert len(messages) == 1, "below the bound"


async def test_a_body_is_no_head_and_after_it_the_next_head_counts() -> None:
    reads = parser()
    [(_, body)], *_ = reads.feed_data(FIRST + b"Content-Length: 1000000\r\n\r\n")
    for _ in range(10):
        reads.feed_data(b"x" * 100_000)
    assert body.is_eof()
    [_], *_ = reads.feed_data(SMALL)
    with pytest.raises(BadHttpMessage):
        for _ in range(10):
            reads.feed_data(LONG if _ else FIRST)


async def test_few_requests_are_read_ahead() -> None:
    reads = parser()
    messages, *_ = reads.feed_data(SMALL * 100)
    assert len(messages) == REQUESTS_AHEAD_MAX
    for _ in messages:
        reads.message_consumed()
    assert len(reads.feed_data(b"")[0]) == REQUESTS_AHEAD_MAX, "the others are not lost"
