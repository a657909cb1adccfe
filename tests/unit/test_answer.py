"""What is read of an answer, without a connection. The tables are the specification."""

from __future__ import annotations

import pytest

from webhook_grpc.engine.http.answer import Answer, AnswerReader
from webhook_grpc.engine.http.faults import NotHttp

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nServer:  x \r\n\r\nok"


def read(*pieces: bytes, body_bytes_max: int = 100) -> AnswerReader:
    reader = AnswerReader(body_bytes_max)
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("at", range(1, len(PLAIN)))
def test_a_plain_answer_is_read_in_any_two_pieces(at: int) -> None:
    reader = read(PLAIN[:at], PLAIN[at:])
    assert reader.answer() == Answer(200, {"content-type": "text/plain", "server": "x"}, b"ok")
    assert reader.is_ended
    assert reader.is_reusable


REUSABLE = [
    (PLAIN, True),
    (b"HTTP/1.1 204 X\r\n\r\n", True),
    (b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n", True),
    (b"HTTP/1.0 200 X\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", True),
    (b"HTTP/1.0 200 X\r\nContent-Length: 0\r\n\r\n", False),
    (b"HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
    (b"HTTP/1.1 101 X\r\n\r\n", False),
    (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx", False),
    (b"HTTP/1.1 204 X\r\nContent-Length: 2\r\n\r\nok", False),
    (PLAIN + b"x", False),
    (PLAIN + PLAIN, False),
    (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300, False),
    (b"HTTP/1.1 200 X\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 200 X\r\nContent-Length: 999\r\n\r\n" + b"x" * 101, False),
]


@pytest.mark.parametrize(("data", "expected"), REUSABLE)
def test_after_which_answers_another_may_follow(data: bytes, *, expected: bool) -> None:
    reader = read(data)
    assert reader.is_ended
    assert reader.is_reusable is expected


UNENDED = [b"HTTP/1.1 200 X\r\n", b"HTTP/1.1 200 X\r\n\r\nbody", PLAIN[:-1], b"HTTP/1.1 100 X\r\n\r\n", b"\r\n", b""]


@pytest.mark.parametrize("data", UNENDED)
def test_which_answers_have_not_ended(data: bytes) -> None:
    assert not read(data).is_ended


@pytest.mark.parametrize("data", [b"SSH-2.0", b"<html>", b"HTTP/1.1 200 OK\rX: y", b"\0", b"HTTX", b"HTTP/1.1 2x"])
def test_what_can_not_become_an_answer_is_known_at_once(data: bytes) -> None:
    with pytest.raises(NotHttp):
        read(data)


def test_trailers_and_interim_answers_give_no_headers() -> None:
    """They may come from somebody else than the answer's head."""
    interim = b"HTTP/1.1 103 X\r\nRetry-After: 1\r\n\r\n"
    answer = b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 2\r\n\r\n"
    assert read(interim + answer).answer() == Answer(503, {}, b"")


def test_of_several_headers_of_one_name_the_first_counts() -> None:
    reader = read(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nretry-after: 2\r\nContent-Length: 0\r\n\r\n")
    assert reader.answer().headers == {"retry-after": "1"}


def test_a_reader_that_is_started_again_knows_nothing_of_the_answer_before() -> None:
    reader = read(PLAIN)
    reader.start()
    assert (reader.status, reader.is_ended, reader.raw_bytes) == (None, False, 0)
    reader.feed(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
    assert reader.answer() == Answer(500, {}, b"")


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
    assert Answer(200, {"keep-alive": value} if value else {}, b"").kept_seconds == expected
