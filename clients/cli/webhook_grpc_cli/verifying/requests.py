"""The request whose signatures are in question, as a person has saved it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_MARK: Final = re.compile(r"^[<>*] ?")  # `curl -v` writes one before each line
_REQUEST_LINE: Final = re.compile(r"^[A-Z]+ \S+ HTTP/|^HTTP/")


class HeaderMalformed(ValueError):
    """A line is not `name: value`."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a receiver got. Names of `headers` are in lower case."""

    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Returns the value of a header, empty if it is not there."""
        return self.headers.get(name.lower(), "")


def parsed_headers(lines: Iterable[str]) -> dict[str, str]:
    """Returns headers from lines `name: value`, names in lower case.

    Blank lines, the request line and the marks of `curl -v` are passed over. Raises HeaderMalformed.
    """
    headers: dict[str, str] = {}
    for line in lines:
        text = _MARK.sub("", line.rstrip("\r\n"))
        if not text.strip() or _REQUEST_LINE.match(text):
            continue
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise HeaderMalformed(f"{text[:80]!r} is no header: a line is `name: value`")
        headers[name.strip().lower()] = value.strip()
    return headers
