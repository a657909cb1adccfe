"""Header blocks of HTTP/2: read by the library `hpack`, within bounds, and judged; written without a table.

Written fields are literals that no table keeps (RFC 7541, section 6.2.2), so a block is made once for all connections.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

from hpack import Decoder
from hpack.exceptions import HPACKError
from hpack.table import HeaderTable

from webhook_grpc.domain.record import record

from .frames import ConnectionEnds, Reason, StreamEnds

BLOCK_BYTES_MAX: Final = 64 * 1024  # as it comes: proxies pass on 60 KiB
# As it is read, with 32 for each field. Beyond, the table of the connection can't be followed any more.
LIST_BYTES_MAX: Final = 64 * 1024
_KNOWN_MAX: Final = 8  # heads that a connection keeps: a client that makes the same call again sends the same block
_KNOWN_BYTES_MAX: Final = 1024

_SIZE_UPDATE: Final = 0x20
_SIZE_UPDATES_MAX: Final = 2

Field = tuple[bytes, bytes]

for _name in ("hpack.hpack", "hpack.table"):
    logging.getLogger(_name).disabled = True  # at the level `debug` they would write each field: tokens, too

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_OF_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_IN_VALUE: Final = re.compile(rb"[\x00\r\n]")


@record
class Head:
    """What a request begins with."""

    method: bytes
    path: bytes
    fields: Sequence[Field]
    """All others, in the order in which they came."""
    size_bytes: int
    """As RFC 9113 counts them (section 6.5.2): 32 more for each field."""


class BlockReader:
    """Reads the header blocks of one connection, in the order in which they come."""

    def __init__(self) -> None:
        self._decoder = Decoder(LIST_BYTES_MAX)
        self._known = dict[bytes, Head]()  # by their blocks; as long as the table of the connection is as it was

    def head(self, block: bytes) -> Head:
        """Returns the head of a request. Raises StreamEnds if it is malformed, ConnectionEnds if it can't be read."""
        known = self._known.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        before = table.maxsize, len(table.dynamic_entries), _newest(table)
        try:
            head = self._read_head(block)
        except StreamEnds:
            self._known.clear()  # the table has changed all the same
            raise
        if before[:2] != (table.maxsize, len(table.dynamic_entries)) or _newest(table) is not before[2]:
            self._known.clear()
        elif len(self._known) < _KNOWN_MAX and len(block) <= _KNOWN_BYTES_MAX:
            self._known[block] = head
        return head

    def _read_head(self, block: bytes) -> Head:
        pseudo, fields, size_bytes = dict[bytes, bytes](), list[Field](), 0
        for name, value in self.fields(block):
            size_bytes += len(name) + len(value) + 32
            if not name.startswith(b":"):
                fields.append((name, value))
            elif fields or name in pseudo or name not in _PSEUDO:
                raise _malformed("a pseudo-header field that is twice there, unknown, or behind others")
            else:
                pseudo[name] = value
        if not pseudo.keys() >= _NEEDED or not pseudo[b":path"]:
            raise _malformed("no method, scheme or path")
        _judge(fields)
        return Head(pseudo[b":method"], pseudo[b":path"], fields, size_bytes)

    def trailers(self, block: bytes) -> None:
        """Reads the fields behind a request, which are not kept. Raises as `head` does."""
        self._known.clear()  # they may change the table
        fields = list(self.fields(block))
        if any(name.startswith(b":") for name, _ in fields):
            raise _malformed("a pseudo-header field among trailers")
        _judge(fields)

    def fields(self, block: bytes) -> Iterable[Field]:
        """Returns the fields of a block, which the table of the connection follows. Raises ConnectionEnds."""
        _check_updates(block)
        try:
            return cast("Iterable[Field]", self._decoder.decode(block, raw=True))
        except HPACKError:
            raise ConnectionEnds(Reason.COMPRESSION_ERROR, "a header block can't be read, or is too large") from None


def _check_updates(block: bytes) -> None:
    """Raises ConnectionEnds if a block changes the size of the table more than twice (RFC 7541, section 4.2)."""
    at = count = 0
    while at < len(block) and block[at] & 0xE0 == _SIZE_UPDATE:
        count += 1
        if count > _SIZE_UPDATES_MAX:
            raise ConnectionEnds(Reason.COMPRESSION_ERROR, "the table's size changes more than twice in a block")
        at += 1
        if block[at - 1] & 0x1F == 0x1F:  # the number goes on
            while at < len(block) and block[at] & 0x80:
                at += 1
            at += 1


def _newest(table: HeaderTable) -> object:
    """Returns what is another one when fields were added."""
    return table.dynamic_entries[0] if table.dynamic_entries else None


def _judge(fields: Iterable[Field]) -> None:
    """Raises StreamEnds for fields that make a request malformed (RFC 9113, section 8.2)."""
    for name, value in fields:
        if _NAME.fullmatch(name) is None or name in _OF_CONNECTION or _BAD_IN_VALUE.search(value):
            raise _malformed("a field that HTTP/2 does not allow")
        if name == b"te" and value != b"trailers":
            raise _malformed("`te` may only be `trailers`")


def _malformed(problem: str) -> StreamEnds:
    return StreamEnds(Reason.PROTOCOL_ERROR, problem)


def written(fields: Iterable[Field]) -> bytes:
    """Returns a block of these fields."""
    parts = list[bytes]()
    for name, value in fields:
        parts += (b"\0", _length(len(name)), name, _length(len(value)), value)
    return b"".join(parts)


def _length(length: int) -> bytes:
    """Returns a length as an integer with a prefix of seven bits (RFC 7541, section 5.1)."""
    if length < 0x7F:
        return bytes((length,))
    parts, length = bytearray((0x7F,)), length - 0x7F
    while length > 0x7F:
        parts.append(length & 0x7F | 0x80)
        length >>= 7
    parts.append(length)
    return bytes(parts)
