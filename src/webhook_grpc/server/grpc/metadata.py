"""What gRPC has in header fields: metadata, deadlines, encodings, statuses.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md is the source.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote_from_bytes

from webhook_grpc.api.codes import Code
from webhook_grpc.server import header_names

from .http2.header_blocks import Field, written

CONTENT_TYPE: Final = b"application/grpc"
METADATA_BYTES_MAX: Final = 16 * 1024  # of a request's fields, with 32 for each
ENCODINGS: Final = ("identity", "deflate", "gzip")
BINARY_PARTS_MAX: Final = 32  # of one value, which may be a list
TIMEOUT_SECONDS_MAX: Final = 10 * 365 * 86_400.0

Metadata = Sequence[tuple[str, str | bytes]]

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA: Final = frozenset(
    {
        header_names.TE,
        header_names.CONTENT_TYPE,
        header_names.TIMEOUT,
        header_names.ENCODING,
        header_names.ACCEPT_ENCODING,
    }
)
_KEPT_AS_THEY_ARE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

# `:status: 200` is number 8 of the static table (RFC 7541, appendix A).
HEAD: Final = b"\x88" + written([(header_names.CONTENT_TYPE, CONTENT_TYPE)])
_OK: Final = written([(header_names.STATUS, b"0")])


def read_metadata(fields: Iterable[Field]) -> list[tuple[str, str | bytes]]:
    """Returns the metadata in the fields of a request; what can't be read of a binary value is left out."""
    found = list[tuple[str, str | bytes]]()
    for name, value in fields:
        key = name.decode("ascii")
        if name.endswith(b"-bin"):
            found += [(key, part) for part in map(_binary, value.split(b",", BINARY_PARTS_MAX)) if part is not None]
        elif name not in _NOT_METADATA:
            found.append((key, _text(value)))
    return found


def _binary(value: bytes) -> bytes | None:
    value = value.strip()
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return None


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def read_timeout(value: bytes) -> float | None:
    """Returns the seconds in a `grpc-timeout`, None if it is malformed."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        return None
    return min(int(found[1]) * _UNITS[found[2]], TIMEOUT_SECONDS_MAX)


def trailers(code: Code, message: str = "", metadata: Metadata = ()) -> bytes:
    """Returns the header block that an answer ends with."""
    if code is Code.OK:
        return _OK + written(_fields(metadata)) if metadata else _OK
    fields = [(header_names.STATUS, b"%d" % code)]
    if message:
        text = quote_from_bytes(message.encode("utf-8", "replace"), safe=_KEPT_AS_THEY_ARE)
        fields.append((header_names.MESSAGE, text.encode("ascii")))
    return written([*fields, *_fields(metadata)])


def refusal(status: bytes) -> bytes:
    """Returns the header block that answers what is no call of gRPC, with a status of HTTP."""
    return written([(b":status", status), (header_names.CONTENT_TYPE, b"text/plain")])


def _fields(metadata: Metadata) -> list[Field]:
    return [(key.encode("ascii"), _written(value)) for key, value in metadata]


def _written(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return base64.b64encode(value).rstrip(b"=")
    return value.encode("utf-8")
