"""Heads of answers (RFC 9112): where they end, how long the body is, how long the receiver keeps the connection.

What is decided here is only what aiohttp's parser decides too late or too strictly; the rest is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_START: Final = b"HTTP/"
_END: Final = re.compile(rb"\r?\n\r?\n")
_END_BYTES_MAX: Final = 4
_BARE_CR: Final = re.compile(rb"\r[^\n]")
_LENGTH: Final = re.compile(rb"^content-length:([^\r\n]*)\r?\n", re.IGNORECASE | re.MULTILINE)
_KEEP_ALIVE: Final = re.compile(r"(?:^|[,;\s])timeout\s*=\s*([0-9]{1,9})(?![0-9])", re.IGNORECASE)
_LINE_END: Final = b"\r\n"
_LENGTH_FIELD: Final = b"\r\ncontent-length:"
_CHUNKS_FIELD: Final = b"\r\ntransfer-encoding"
_PLAIN: Final = re.compile(rb"http/1\.[01] (?:2(?!04)|3(?!04)|[45])[0-9][0-9][ \r]")
_BODILESS: Final = frozenset({101, 204, 304})
_DIGITS_MAX: Final = 18


class HeadReader:
    """Collects the bytes of one head. The memory is bounded by whoever feeds it."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._searched = 0  # in so many bytes there is no end

    def feed(self, data: bytes) -> None:
        """Takes what has arrived."""
        self._bytes += data if self._bytes else data.lstrip(b"\r\n")  # RFC 9112 2.2: empty lines before it are none

    @property
    def is_one(self) -> bool:
        """Whether what was fed can be the start of a head."""
        if not self._bytes.startswith(_START[: len(self._bytes)]):
            return False
        end = self._end()
        stop = end.end() if end else len(self._bytes)  # what follows the head may hold any bytes
        return _BARE_CR.search(self._bytes, max(0, self._searched - 1), stop) is None

    def take(self) -> bytes | None:
        """Returns the head when its end has come, and keeps what follows."""
        end = self._end()
        if end is None:
            self._searched = len(self._bytes)
            return None
        head = bytes(self._bytes[: end.end()])
        self._restart(self._bytes[end.end() :])
        return head

    def take_all(self) -> bytes:
        """Returns everything that was not taken yet."""
        rest = bytes(self._bytes)
        self._restart(bytearray())
        return rest

    def _end(self) -> re.Match[bytes] | None:
        return _END.search(self._bytes, max(0, self._searched - _END_BYTES_MAX))

    def _restart(self, rest: bytearray) -> None:
        self._bytes = rest
        self._searched = 0


def is_whole(data: bytes) -> bool:
    """Whether the data is exactly one plain answer, as nearly all are: lines end in CRLF, one length, all its bytes."""
    end = data.find(_LINE_END * 2)
    head = data[: end + len(_LINE_END)].lower()
    start = head.find(_LENGTH_FIELD)
    if end < 0 or start < 0 or not _PLAIN.match(head) or head.count(b"\n") != head.count(_LINE_END):
        return False
    if head.count(_LENGTH_FIELD) > 1 or _CHUNKS_FIELD in head:
        return False
    start += len(_LENGTH_FIELD)
    length = head[start : head.find(_LINE_END, start)].strip()
    return length.isdigit() and len(length) <= _DIGITS_MAX and int(length) == len(data) - end - len(_LINE_END * 2)


def with_one_length(head: bytes) -> bytes:
    """The head with one Content-Length if it has several that are equal (RFC 9110 8.6); otherwise as it is."""
    fields = _LENGTH.findall(head)
    values = [value.strip() for field in fields for value in field.split(b",")]
    if len(values) < 2 or len(set(values)) > 1:
        return head
    status_line, line_end, headers = head.partition(b"\n")
    return b"".join((status_line, line_end, b"Content-Length: ", values[0], b"\r\n", _LENGTH.sub(b"", headers)))


def body_bytes(status: int, headers: Mapping[str, str], *, is_chunked: bool) -> int | None:
    """How many bytes of body follow the head of an answer to a POST. None: only its end will say."""
    if status in _BODILESS:
        return 0
    length = headers.get("Content-Length", "")
    if is_chunked or not (length.isascii() and length.isdigit() and len(length) <= _DIGITS_MAX):
        return None
    return int(length)


def kept_seconds(headers: Mapping[str, str]) -> float | None:
    """For how long the receiver says that it keeps the idle connection. None: it does not say."""
    found = _KEEP_ALIVE.search(headers.get("Keep-Alive", ""))
    return float(found[1]) if found else None
