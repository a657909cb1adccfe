"""What a receiver sends back of a webhook's own headers is not kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_grpc.domain.echoes import ECHO_CHARACTERS_MIN, forms_of, headers_without_echoes, without_echoes

VALUE = 'Bearer top"secret\\token'
FORMS = forms_of([VALUE, "short"])

values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=ECHO_CHARACTERS_MIN, max_size=40)


@pytest.mark.parametrize(
    ("sent_back", "kept"),
    [
        (f"you sent {VALUE}, twice: {VALUE}", "you sent …, twice: …"),
        (json.dumps({"Authorization": VALUE}), '{"Authorization": "…"}'),
        ('no such token: top"secret\\token', "no such token: …"),
        ("no such token: top-secret-token", "no such token: top-secret-token"),
        ('cut off: Bearer top"sec', "cut off: …"),
        ("cut off: Bearer", "cut off: Bearer"),
        ("a short one stays short", "a short one stays short"),
        ("", ""),
    ],
)
def test_values_that_are_sent_back_are_hidden(sent_back: str, kept: str) -> None:
    assert without_echoes(sent_back.encode(), FORMS).decode() == kept


def test_headers_of_an_answer_are_treated_alike() -> None:
    headers = {"x-request-id": VALUE, "server": "nginx", "date": 'Bearer top"s'}
    assert headers_without_echoes(headers, FORMS) == {"x-request-id": "…", "server": "nginx", "date": "…"}


@given(st.binary(max_size=60), values, st.binary(max_size=60), st.integers(0, 160))
def test_wherever_a_value_stands_and_the_answer_is_cut_it_is_not_kept(
    before: bytes, value: str, after: bytes, length: int
) -> None:
    form = value.encode()
    kept = without_echoes((before + form + after)[:length], forms_of([value]))
    assert form not in kept
    assert not any(kept.endswith(form[:cut]) for cut in range(ECHO_CHARACTERS_MIN, len(form)))


def test_a_webhook_without_own_headers_hides_nothing() -> None:
    assert forms_of([]) == ()
