"""Hides what a receiver sends back of the values that it was sent.

A receiver that shows the request that it got (a debug page, an error that quotes it) would otherwise put the values of
a webhook's own headers into the log of attempts, where every reader of the log finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson

from .request_headers import HIDDEN

ECHO_CHARACTERS_MIN: Final = 8  # what is shorter is no credential, and stands in many texts by chance

_HIDDEN: Final = HIDDEN.encode("utf-8")


def forms_of(values: Iterable[str]) -> tuple[bytes, ...]:
    """Returns what values look like when they are sent back, longest first: as they are, in JSON, without `Bearer `."""
    whole = set(values)
    texts = whole | {value.partition(" ")[2] for value in whole}
    encoded = {text.encode("utf-8") for text in texts} | {orjson.dumps(text)[1:-1] for text in texts}
    return tuple(sorted((form for form in encoded if len(form) >= ECHO_CHARACTERS_MIN), key=len, reverse=True))


def without_echoes(text: bytes, forms: Sequence[bytes]) -> bytes:
    """Returns the text with HIDDEN in place of each form, and of the beginning of one at its end, where it was cut."""
    for form in forms:
        text = text.replace(form, _HIDDEN)
    for form in forms:
        start = text.find(form[:ECHO_CHARACTERS_MIN], max(0, len(text) - len(form)))
        while start >= 0:
            if form.startswith(text[start:]):
                return text[:start] + _HIDDEN
            start = text.find(form[:ECHO_CHARACTERS_MIN], start + 1)
    return text


def headers_without_echoes(headers: Mapping[str, str], forms: Sequence[bytes]) -> dict[str, str]:
    """Returns the headers of an answer, their values without echoes."""
    return {name: without_echoes(value.encode("utf-8"), forms).decode("utf-8") for name, value in headers.items()}
