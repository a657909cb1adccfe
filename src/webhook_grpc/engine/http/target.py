"""Where a request goes: the origin of a URL, and the bytes of a request's head."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final, NamedTuple

from yarl import URL

from webhook_grpc.domain.egress import canonical_host
from webhook_grpc.domain.record import record

from .faults import NotSendable

_TARGETS_MAX: Final = 10_000  # URLs that are remembered, each with some hundred bytes
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


class Origin(NamedTuple):
    """What a connection leads to (RFC 6454)."""

    scheme: str
    host: str  # as `canonical_host` spells it; an IPv6 address without brackets
    port: int


@record
class Target:
    """A URL, prepared for requests."""

    origin: Origin
    _start: bytes = field(repr=False)  # the request line and the Host: the same in all requests to the URL

    def request(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Returns the bytes of a POST. Raises NotSendable if a header would break its line."""
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if not fields.count("\n") == fields.count("\r") == len(headers) or "\0" in fields:
            raise NotSendable("a header holds a line break")
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._start, _encoded(fields), len(body), body)


@functools.lru_cache(_TARGETS_MAX)
def target_of(url: str) -> Target:
    """Returns the target of an absolute URL. Raises NotSendable if it has none that HTTP can be spoken to.

    Path and query are sent as they are given: quoting them again would break URLs that customers have signed.
    """
    try:
        parsed = URL(url, encoded=True)
        host, port, authority = parsed.raw_host, parsed.port, parsed.host_port_subcomponent
    except ValueError as error:
        raise NotSendable("the URL cannot be parsed") from error
    if parsed.scheme not in {"http", "https"} or not host or port is None or authority is None:
        raise NotSendable("the URL is not an absolute one of HTTP")
    path = parsed.raw_path_qs
    if url.endswith("?") and not parsed.raw_query_string:
        path += "?"  # which yarl drops
    if not _PRINTABLE.fullmatch(path) or not _PRINTABLE.fullmatch(authority):
        raise NotSendable("the URL holds characters that a request line cannot")
    origin = Origin(parsed.scheme, canonical_host(host), port)
    return Target(origin, f"POST {path} HTTP/1.1\r\nHost: {authority}\r\n".encode("ascii"))


def _encoded(fields: str) -> bytes:
    try:
        return fields.encode()
    except UnicodeEncodeError as error:
        raise NotSendable("a header is not Unicode") from error
