"""Heads of answers: where they end, and what is read from them. The tables are the specification."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.engine.http.heads import HeadReader, body_bytes, is_whole, kept_seconds, with_one_length

HEAD = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"


@given(st.lists(st.integers(1, len(HEAD) - 1), max_size=5), st.sampled_from([b"", b"body", HEAD]))
def test_a_head_is_found_in_whichever_pieces_it_comes(cuts: list[int], rest: bytes) -> None:
    reader, places = HeadReader(), sorted({0, len(HEAD), *cuts})
    for start, end in itertools.pairwise(places):
        assert reader.take() is None
        reader.feed(HEAD[start:end] + (rest if end == len(HEAD) else b""))
        assert reader.is_one
    assert reader.take() == HEAD
    assert reader.take_all() == rest


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\nX: y\n\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\n"])
def test_lines_may_end_in_lf_alone(head: bytes) -> None:
    reader = HeadReader()
    reader.feed(b"\r\n\r\n" + head + b"body")
    assert (reader.take(), reader.take_all()) == (head, b"body")


@pytest.mark.parametrize("data", [b"SSH-2.0", b"<html>", b"HTTP/1.1 200 OK\rX: y", b"\0", b"HTTX"])
def test_what_can_not_become_a_head_is_known_at_once(data: bytes) -> None:
    reader = HeadReader()
    reader.feed(data)
    assert not reader.is_one


ONE_LENGTH = [
    (b"H 200\r\nContent-Length: 2\r\n\r\n", None),
    (b"H 200\r\nX: y\r\n\r\n", None),
    (b"H 200\r\nContent-Length: 2\r\ncontent-length:2 \r\nX: y\r\n\r\n", b"H 200\r\nContent-Length: 2\r\nX: y\r\n\r\n"),
    (b"H 200\r\nX: y\r\nContent-Length: 2, 2\r\n\r\n", b"H 200\r\nContent-Length: 2\r\nX: y\r\n\r\n"),
    (b"H 200\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", None),
    (b"H 200\r\nContent-Length: 2, 3\r\n\r\n", None),
    (b"H 200\r\nX-Content-Length: 2\r\nContent-Length: 2\r\n\r\n", None),
]


@pytest.mark.parametrize(("head", "becomes"), ONE_LENGTH)
def test_only_equal_lengths_become_one(head: bytes, becomes: bytes | None) -> None:
    assert with_one_length(head) == (becomes or head)


@pytest.mark.parametrize(
    ("status", "headers", "is_chunked", "expected"),
    [
        (200, {"Content-Length": "2"}, False, 2),
        (200, {}, False, None),
        (200, {"Content-Length": "2"}, True, None),
        (200, {"Content-Length": "-2"}, False, None),
        (200, {"Content-Length": "\u0662"}, False, None),
        (204, {"Content-Length": "2"}, False, 0),
        (304, {"Content-Length": "2"}, False, 0),
        (101, {}, False, 0),
    ],
)
def test_the_length_of_a_body(status: int, headers: dict[str, str], expected: int | None, *, is_chunked: bool) -> None:
    assert body_bytes(status, headers, is_chunked=is_chunked) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("timeout=5", 5),
        ("timeout=5, max=100", 5),
        ("max=100, Timeout = 15", 15),
        ("max=100", None),
        ("timeout=", None),
        ("timeout=-5", None),
        ("notimeout=5", None),
        ("timeout=99999999999999", None),
        ("", None),
    ],
)
def test_how_long_a_receiver_keeps_a_connection(value: str, expected: float | None) -> None:
    assert kept_seconds({"Keep-Alive": value} if value else {}) == expected


WHOLE = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
    (b"HTTP/1.0 500\r\nX: y\r\ncontent-length:0\r\n\r\n", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\n\nok\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\nX-Content-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 204 OK\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 304 OK\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 103 OK\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 OK\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2", False),
    (b"", False),
]


@pytest.mark.parametrize(("data", "expected"), WHOLE)
def test_what_is_exactly_one_plain_answer(data: bytes, *, expected: bool) -> None:
    assert is_whole(data) is expected
