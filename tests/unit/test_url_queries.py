"""What of a URL is sealed, and what a receiver could send back of it."""

from __future__ import annotations

import pytest

from tests.support.tokens import SEALER
from webhook_grpc.domain import url_queries


@pytest.mark.parametrize(
    ("url", "is_clear", "hidden"),
    [
        ("https://a.example/in?key=v", True, "https://a.example/in?…"),
        ("https://a.example/?a?b", True, "https://a.example/?…"),
        ("https://a.example/?…", False, "https://a.example/?…"),
        ("https://a.example/in", False, None),
        ("https://a.example/in?", False, None),
    ],
)
def test_a_query_is_what_follows_the_first_question_mark(url: str, *, is_clear: bool, hidden: str | None) -> None:
    assert url_queries.is_clear(url) is is_clear
    if hidden is not None:
        assert url_queries.hidden(url) == hidden
        assert url_queries.is_sealed(hidden)


def test_a_sealed_query_opens_for_its_webhook_only() -> None:
    sealed = url_queries.sealed(SEALER, "https://a.example/in?key=v?w", 42, 7, bytes(56))
    assert SEALER.open(sealed, 42, 7, url_queries.Purpose.QUERY) == "key=v?w"
    assert b"key=v" not in sealed


def test_what_a_receiver_could_send_back_is_the_query_and_each_value_as_sent_and_decoded() -> None:
    values = url_queries.values_of("https://a.example/in?key=a%20value&flag&sig=x=y")
    assert set(values) == {"key=a%20value&flag&sig=x=y", "a%20value", "a value", "x=y", ""}
    assert url_queries.values_of("https://a.example/in") == ()
