"""The bytes of a request, and where it goes."""

from __future__ import annotations

import pytest

from webhook_grpc.engine.http.faults import NotSendable
from webhook_grpc.engine.http.target import Origin, target_of


@pytest.mark.parametrize(
    ("url", "origin", "start"),
    [
        ("https://a.example", ("https", "a.example", 443), b"POST / HTTP/1.1\r\nHost: a.example"),
        ("http://A.Example.:80/a?", ("http", "a.example", 80), b"POST /a? HTTP/1.1\r\nHost: A.Example"),
        ("https://a.example:81/%2f?%zz", ("https", "a.example", 81), b"POST /%2f?%zz HTTP/1.1\r\nHost: a.example:81"),
        ("http://[2606::1]:8080/", ("http", "2606::1", 8080), b"POST / HTTP/1.1\r\nHost: [2606::1]:8080"),
        ("https://[2606:0:0::A]/", ("https", "2606::a", 443), b"POST / HTTP/1.1\r\nHost: [2606:0:0::A]"),
        ("https://a.example?x", ("https", "a.example", 443), b"POST /?x HTTP/1.1\r\nHost: a.example"),
    ],
)  # fmt: skip
def test_where_a_request_goes_and_how_it_begins(url: str, origin: tuple[str, str, int], start: bytes) -> None:
    target = target_of(url)
    assert target.origin == Origin(*origin)
    assert target.request({"X-A": "b"}, b"{}") == start + b"\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}"


NO_URLS = [
    *["", "/path", "//a.example/", "ftp://a.example/", "https://", "https://a:99999/"],
    *["https://a.example/ b", "https://a.example/\r\nX: y"],
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_of_http_cannot_be_sent_to(url: str) -> None:
    with pytest.raises(NotSendable):
        target_of(url)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\r", "\0", "\ud800"])
def test_a_header_that_would_break_the_request_is_not_sent(value: str) -> None:
    with pytest.raises(NotSendable):
        target_of("https://a.example/").request({"X-A": value}, b"")


def test_a_header_that_hides_a_line_break_behind_another_headers_is_not_sent() -> None:
    with pytest.raises(NotSendable):
        target_of("https://a.example/").request({"X-A\r": "b\n"}, b"")
