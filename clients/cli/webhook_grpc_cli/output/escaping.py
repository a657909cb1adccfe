"""Text that others wrote, made harmless for a terminal: nothing in it moves the cursor or turns the direction."""

from __future__ import annotations

import re
from typing import Final

# C0, DEL and C1, the marks that change the direction of text, the ends of lines that are no line feed, lone surrogates.
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAMED: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escaped(text: str) -> str:
    r"""Returns the text with control and bidi characters as `\xNN` and `\u202e`, on one line."""
    return _HARMFUL.sub(_escape, text)


def escaped_lines(text: str) -> str:
    """Returns the same for text of several lines: line feeds and tabs stay."""
    return "\n".join("\t".join(map(escaped, line.split("\t"))) for line in text.split("\n"))


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return _NAMED.get(found[0]) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
