"""Reading an answer: the status line decides, and nothing that follows may cost more than a plain answer does.

The parser is llhttp with no lenient flags. What it refuses after the status line ends the connection, not the outcome.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from webhook_grpc.domain.record import record
from webhook_grpc.domain.request_headers import RESPONSE_HEADERS_KEPT

from .faults import NotHttp

RAW_BYTES_MAX: Final = 65_536  # of one answer, heads and all
FIELDS_MAX: Final = 500  # headers and trailers, of interim answers too
INTERIM_ANSWERS_MAX: Final = 100  # 1xx before the answer; each costs as much as a head
LINES_MAX: Final = 1000  # before the answer's status line: those of interim answers, and empty ones
CHUNKS_MAX: Final = 256  # each costs as much as a header
_WANTED: Final[Mapping[bytes, str]] = {
    name.encode("ascii"): name for name in (*RESPONSE_HEADERS_KEPT, "retry-after", "keep-alive")
}
_SWITCHING_PROTOCOLS: Final = 101  # an answer although it is 1xx: nothing else follows
_BODILESS: Final = frozenset({_SWITCHING_PROTOCOLS, 204, 304})
_KEEP_ALIVE: Final = re.compile(r"(?:^|[,;\s])timeout\s*=\s*([0-9]{1,9})(?![0-9])", re.IGNORECASE)


class _BeyondLimits(Exception):
    """Stops the parser."""


@record
class Answer:
    """What a receiver has answered. Of the headers, with names in lower case, those that somebody reads."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)  # its start

    @property
    def kept_seconds(self) -> float | None:
        """For how long the receiver says that it keeps the idle connection. None: it does not say."""
        found = _KEEP_ALIVE.search(self.headers.get("keep-alive", ""))
        return float(found[1]) if found else None


class AnswerReader:
    """Reads the answers that come over one connection, one after the other. Does no I/O.

    Memory and work for one answer are bounded, whatever arrives.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._parser = HttpResponseParser(self)
        self.start()

    def start(self) -> None:
        """Gets ready for the answer to the next request. Only the reader writes what it has read."""
        self.raw_bytes = 0
        self.status: int | None = None
        """That of the answer, once its status line is whole. Its outcome is decided then."""
        self.head_is_read = False
        self.is_ended = False
        """Whether no more is wanted: the answer is whole, its excerpt is full, or it broke."""
        self.is_reusable = False
        """Whether the answer ended so that another one may follow on its connection."""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._last_byte = b""
        self._is_interim = self._has_begun = False
        self._line_count = self._interim_count = self._field_count = self._chunk_count = 0

    def feed(self, data: bytes) -> None:
        """Takes what has arrived. Raises NotHttp if no status line can come of it any more."""
        room = RAW_BYTES_MAX - self.raw_bytes
        self.raw_bytes += len(data)
        try:
            self._parse(data if len(data) <= room else data[:room])  # what fits: a large 200 stays a 200
        except (HttpParserError, HttpParserUpgrade):
            self._break()
        if len(data) > room:
            self._break()
        elif len(self._body) > self._body_bytes_max:
            self.is_ended = True

    def cut_off(self) -> None:
        """Notes that nothing more will be read, and that no other answer may follow."""
        self.is_ended, self.is_reusable = True, False

    def answer(self) -> Answer:
        """Returns what was read. There must be a status."""
        assert self.status is not None
        return Answer(self.status, self._headers, bytes(self._body[: self._body_bytes_max]))

    def _break(self) -> None:
        if self.status is None:
            raise NotHttp
        self.cut_off()

    def _parse(self, data: bytes) -> None:
        """Gives the parser line by line what precedes the answer's headers, the rest at once."""
        start = 0
        while self.status is None and (end := data.find(b"\n", start) + 1):
            is_bare = (data[end - 2 : end - 1] if end > 1 else self._last_byte) != b"\r"
            # RFC 9112 2.2: a line may end in LF alone. No header may, so such an answer is a status only.
            self._parser.feed_data(data[start : end - 1] + b"\r\n" if is_bare else data[start:end])
            start = end
            self._line_count += 1
            if self._line_count > LINES_MAX:
                raise NotHttp
            if self._has_begun and not self._is_interim:
                self._take_status(self._parser.get_status_code())
        self._last_byte = data[-1:]
        if start < len(data):
            self._parser.feed_data(data[start:] if start else data)

    def _take_status(self, status: int) -> None:
        if 100 <= status <= 199 and status != _SWITCHING_PROTOCOLS:
            self._is_interim = True
        else:
            self.status = status

    # --- called by the parser --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; when there is one already, it is to no request."""
        if self.status is not None:
            raise _BeyondLimits
        self._has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header or trailer."""
        self._field_count += 1
        if self._field_count > FIELDS_MAX:
            raise _BeyondLimits
        wanted = _WANTED.get(name.lower())
        if wanted is not None and self.status is not None and not self.head_is_read:
            self._headers.setdefault(wanted, value.strip(b" \t").decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """A head is whole."""
        if self.status is None:
            self._interim_count += 1
            if self._interim_count > INTERIM_ANSWERS_MAX:
                raise _BeyondLimits
            return
        self.head_is_read = True
        self.is_ended = self.status in _BODILESS

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunk_count += 1
        if self._chunk_count > CHUNKS_MAX:
            raise _BeyondLimits

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if len(self._body) <= self._body_bytes_max:  # a byte more shows that there is more
            self._body += data[: self._body_bytes_max + 1 - len(self._body)]

    def on_message_complete(self) -> None:
        """An answer is whole."""
        if self.status is None:
            self._is_interim = self._has_begun = False
            return
        self.is_ended = True
        self.is_reusable = self.status != _SWITCHING_PROTOCOLS and self._parser.should_keep_alive()
