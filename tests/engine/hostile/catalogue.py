"""Every hostile receiver that somebody thought of: what it does, and how a delivery to it may end.

What is not a body carries `SECRET`: it must never be shown to a customer, who would read internal services through it.
"""

from __future__ import annotations

import functools
import gzip
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from webhook_grpc.domain.model import FailureReason, Outcome

from . import certificates
from .peer import Behaviour, Peer, close

SECRET: Final = b"requirepass-hunter2"


class Ending(NamedTuple):
    """How a delivery ended, as far as a customer is told."""

    outcome: Outcome
    reason: FailureReason
    status: int | None = None


def answered(status: int) -> Ending:
    """The receiver's status counts."""
    if 200 <= status <= 299:
        return Ending(Outcome.SUCCEEDED, FailureReason.NONE, status)
    if 300 <= status <= 399:
        return Ending(Outcome.HTTP_ERROR, FailureReason.REDIRECT, status)
    return Ending(Outcome.HTTP_ERROR, FailureReason.GONE if status == 410 else FailureReason.STATUS, status)


TIMEOUT: Final = Ending(Outcome.TIMEOUT, FailureReason.TIMEOUT)
NOT_HTTP: Final = Ending(Outcome.PROTOCOL_ERROR, FailureReason.NOT_HTTP)
DISCONNECTED: Final = Ending(Outcome.CONNECTION_ERROR, FailureReason.DISCONNECTED)
FAILED: Final = Ending(Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED)
EXPIRED: Final = Ending(Outcome.TLS_ERROR, FailureReason.CERTIFICATE_EXPIRED)
SELF_SIGNED: Final = Ending(Outcome.TLS_ERROR, FailureReason.CERTIFICATE_SELF_SIGNED)
UNKNOWN_AUTHORITY: Final = Ending(Outcome.TLS_ERROR, FailureReason.CERTIFICATE_UNKNOWN_AUTHORITY)
OTHER_NAME: Final = Ending(Outcome.TLS_ERROR, FailureReason.CERTIFICATE_NAME)
HANDSHAKE: Final = Ending(Outcome.TLS_ERROR, FailureReason.TLS_HANDSHAKE)


@dataclass(frozen=True)
class Hostile:
    """One receiver. `ends` are the acceptable ends of the last of `requests`.

    The bounds are generous: they tell a bounded attack from an unbounded one on a busy machine, not fast from slow.
    """

    name: str
    description: str
    behaviour: Behaviour
    ends: frozenset[Ending]
    tls: bool = False
    small_window: bool = False
    requests: int = 1
    request_bytes: int = 100
    cpu_seconds_max: float = 1.0
    memory_bytes_max: int = 30 * 2**20

    @property
    def drips(self) -> bool:
        """Whether its answer comes drop by drop, until the deadline."""
        return "drip" in self.description


def says(*pieces: bytes, then: Behaviour = close) -> Behaviour:
    """Reads the request, sends the pieces one after the other, each in a segment of its own, and goes on."""

    def behave(peer: Peer) -> None:
        peer.read_request()
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(0.05)
            peer.say(piece)
        then(peer)

    return behave


def drips(piece: bytes) -> Behaviour:
    """Sends a piece from time to time."""
    return lambda peer: peer.drip(piece)


def floods(piece: bytes) -> Behaviour:
    """Sends a piece over and over."""
    return lambda peer: peer.flood(piece)


def once(answer: bytes, then: Behaviour) -> Behaviour:
    """Answers the first request and sends something that nobody asked for; any later request gets 503."""

    def behave(peer: Peer) -> None:
        if peer.read_request() != "/0":
            peer.say(head(503, "Content-Length: 0"))
            return
        peer.say(answer)
        time.sleep(0.1)  # until the client has taken its answer
        then(peer)
        if peer.read_request():  # on the same connection: the junk was taken for the answer, or thrown away
            peer.say(head(503, "Content-Length: 0"))

    return behave


def over_tls(context: Callable[[], ssl.SSLContext], behaviour: Behaviour) -> Behaviour:
    """Does the handshake first."""

    def behave(peer: Peer) -> None:
        peer.start_tls(context())
        behaviour(peer)

    return behave


def at_once(data: bytes, then: Behaviour = Peer.hang) -> Behaviour:
    """Sends something without having read the request."""

    def behave(peer: Peer) -> None:
        peer.say(data)
        then(peer)

    return behave


def head(status: int | str, *headers: str, version: str = "HTTP/1.1", phrase: str = "X") -> bytes:
    """The head of an answer."""
    return "\r\n".join([f"{version} {status} {phrase}", *headers, "", ""]).encode("latin-1")


OK: Final = head(200, "Content-Length: 2") + b"ok"
CHUNKED: Final = head(200, "Transfer-Encoding: chunked")
_secret: Final = SECRET.decode()


@functools.cache
def gzip_bomb() -> bytes:
    """100 MB in 440 KB. Takes longer to make than a client waits."""
    return gzip.compress(bytes(100 * 2**20), 1)


def _gzip_bomb(peer: Peer) -> None:
    data = gzip_bomb()
    peer.read_request()
    peer.say(head(200, "Content-Encoding: gzip", f"Content-Length: {len(data)}") + data)
    peer.hang()


def _entries(
    group: str,
    rows: Sequence[tuple[str, Behaviour, Ending | Sequence[Ending]]],
    *,
    tls: bool = False,
    small_window: bool = False,
    requests: int = 1,
    request_bytes: int = 100,
    cpu_seconds_max: float = 1.0,
) -> list[Hostile]:
    return [
        Hostile(
            name=re.sub(r"[^a-z0-9]+", "-", f"{group} {description}".lower()).strip("-"),
            description=description,
            behaviour=behaviour,
            ends=frozenset([ends] if isinstance(ends, Ending) else ends),
            tls=tls,
            small_window=small_window,
            requests=requests,
            request_bytes=request_bytes,
            cpu_seconds_max=cpu_seconds_max,
        )
        for description, behaviour, ends in rows
    ]


_BODIES = _entries(
    "body",
    [
        ("of 10 GB", says(head(200, "Content-Length: 10000000000"), then=floods(b"x")), answered(200)),
        ("in endless chunks", says(CHUNKED, then=floods(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")), answered(200)),
        ("until the end, which does not come", says(head(200), then=floods(b"x")), answered(200)),
        ("that explodes when it is decompressed", _gzip_bomb, answered(200)),
        ("in chunks of one byte, as a flood", says(CHUNKED, then=floods(b"1\r\nx\r\n")), answered(200)),
        ("whose chunks have endless extensions", says(CHUNKED, then=floods(b"1;" + b"e" * 60_000)), answered(200)),
        ("whose chunks have many extensions", says(CHUNKED, then=floods(b"1;a=b\r\nx\r\n")), answered(200)),
        ("that drips", says(head(200, "Content-Length: 1000"), then=drips(b"x")), answered(200)),
        ("that stops", says(head(200, "Content-Length: 1000") + b"x", then=Peer.hang), answered(200)),
        ("that ends too early", says(head(200, "Content-Length: 1000"), b"x"), answered(200)),
        ("that ends with a RST", says(head(200, "Content-Length: 1000"), b"x", then=Peer.reset), answered(200)),
        ("that is complete, then a RST", says(OK, then=Peer.reset), answered(200)),
        ("of an error that does not end", says(head(500), then=floods(b"x")), answered(500)),
        ("after a 204, in the same segment", says(head(204) + b"x"), answered(204)),
        ("after a 204, in a segment of its own", says(head(204), b"x"), answered(204)),
        ("of endless trailers", says(CHUNKED, b"0\r\n", then=floods(b"X: y\r\n")), answered(200)),
        ("with a chunk size that overflows", says(CHUNKED, b"fffffffffffffffff\r\nx"), answered(200)),
        ("with a negative chunk size", says(CHUNKED, b"-1\r\nx"), answered(200)),
        ("with a chunk size in one segment with the head", says(CHUNKED + b"zz\r\n"), answered(200)),
        ("with chunks that end in LF only", says(CHUNKED, b"1\nx\n0\n\n"), answered(200)),
        (
            "that says gzip and is not",
            says(head(200, "Content-Encoding: gzip", "Content-Length: 2"), b"ok"),
            answered(200),
        ),
        (
            "in an unknown encoding",
            says(head(200, "Content-Encoding: x, gzip, br", "Content-Length: 2"), b"ok"),
            answered(200),
        ),
        ("that is too large and closes at once", says(head(200, "Content-Length: 99999999999"), b"x"), answered(200)),
        ("longer than its length", says(head(200, "Content-Length: 2") + b"okextra"), answered(200)),
        (
            "with terminal escapes, bad UTF-8, NUL and a script",
            says(head(200) + b"\x1b]0;x\x07\xff\xfe\0<script>"),
            answered(200),
        ),
    ],
)

_HEADS = _entries(
    "head",
    [
        ("never comes", says(then=Peer.hang), TIMEOUT),
        ("with a status that drips", says(b"HTTP/1.1 2", then=drips(b"0")), [TIMEOUT, NOT_HTTP]),
        ("with a reason phrase that drips", says(b"HTTP/1.1 200 ", then=drips(b"x")), TIMEOUT),
        ("with headers that drip", says(b"HTTP/1.1 200 OK\r\nX: ", then=drips(b"x")), answered(200)),
        ("with headers that drip whole", says(b"HTTP/1.1 200 OK\r\n", then=drips(b"X: y\r\n")), answered(200)),
        ("with endless headers", says(b"HTTP/1.1 200 OK\r\n", then=floods(b"X: y\r\n")), answered(200)),
        ("with an endless header", says(b"HTTP/1.1 200 OK\r\nX: ", then=floods(SECRET)), answered(200)),
        ("with an endless header name", says(b"HTTP/1.1 200 OK\r\n", then=floods(b"X")), answered(200)),
        ("with an error and endless headers", says(b"HTTP/1.1 500 X\r\n", then=floods(b"X: y\r\n")), answered(500)),
        ("with an endless status line", says(b"HTTP/1.1 200 ", then=floods(SECRET)), NOT_HTTP),
        ("with a reason phrase of 1 MB", says(head(200, phrase=_secret * 2**16)), NOT_HTTP),
        ("with 10,000 cookies", says(head(200, *["Set-Cookie: a=b"] * 10_000)), answered(200)),
        ("with a giant cookie", says(head(200, "Set-Cookie: a=" + "b" * 9_000)), answered(200)),
        (
            "with 60 large cookies",
            says(head(200, *["Set-Cookie: a=" + "b" * 1_000] * 60, "Content-Length: 0")),
            answered(200),
        ),
        ("with two lengths", says(head(200, "Content-Length: 1", "Content-Length: 2") + b"ab"), answered(200)),
        ("with two lengths in one", says(head(200, "Content-Length: 1, 1") + b"a"), answered(200)),
        (
            "with a length and chunks",
            says(head(200, "Content-Length: 1", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
            answered(200),
        ),
        ("with a negative length", says(head(200, "Content-Length: -1")), answered(200)),
        ("with a length beyond 64 bits", says(head(200, "Content-Length: " + "9" * 30)), answered(200)),
        ("with a length in other digits", says(head(200, "Content-Length: \xb2")), answered(200)),
        (
            "with the transfer encoding gzip",
            says(head(200, "Transfer-Encoding: gzip"), b"x"),
            answered(200),
        ),
        ("with chunked twice", says(head(200, "Transfer-Encoding: chunked, chunked"), b"x"), answered(200)),
        ("with NUL in a header", says(head(200, "X: a\0b")), answered(200)),
        ("with a folded header", says(head(200, "X: a\r\n b", "Content-Length: 0")), answered(200)),
        ("with a header without a colon", says(head(200, _secret)), answered(200)),
        ("with a space before the colon", says(head(200, "X : y")), answered(200)),
        ("with header bytes beyond ASCII", says(head(200, "X: \xff\xfe", "Content-Length: 0")), answered(200)),
        ("with lines that end in LF", says(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), answered(200)),
        ("with lines that end in CR", says(b"HTTP/1.1 200 OK\rContent-Length: 0\r\r"), NOT_HTTP),
        ("after blank lines", says(b"\r\n" * 10 + head(200, "Content-Length: 0")), answered(200)),
        ("after endless blank lines", says(then=floods(b"\r\n")), NOT_HTTP),
        ("of 99", says(head(99, "Content-Length: 0")), [NOT_HTTP, answered(99)]),
        ("of 0", says(head("000", "Content-Length: 0")), [NOT_HTTP, answered(0)]),
        ("of 999", says(head(999, "Content-Length: 0")), answered(999)),
        ("of 65736", says(head(65_736, "Content-Length: 0")), NOT_HTTP),
        ("of +200", says(head("+200", "Content-Length: 0")), NOT_HTTP),
        ("of 20", says(head(20, "Content-Length: 0")), [NOT_HTTP, answered(20)]),
        ("of words", says(head(_secret)), NOT_HTTP),
        ("of HTTP/9.9", says(head(200, "Content-Length: 0", version="HTTP/9.9")), NOT_HTTP),
        ("of HTTP/2.0", says(head(200, "Content-Length: 0", version="HTTP/2.0")), [NOT_HTTP, answered(200)]),
        ("of HTTP/1.0", says(head(200, version="HTTP/1.0") + b"ok"), answered(200)),
        ("of HTTP/0.9", says(b"<html>" + SECRET + b"</html>"), NOT_HTTP),
        ("of ICY", says(b"ICY 200 OK\r\n\r\n"), [NOT_HTTP]),
    ],
)

_INTERIM = _entries(
    "interim",
    [
        ("1xx flood", says(then=floods(b"HTTP/1.1 103 Early Hints\r\nX: " + SECRET + b"\r\n\r\n")), NOT_HTTP),
        ("1xx that drips", says(then=drips(b"HTTP/1.1 103 Early Hints\r\n\r\n")), [TIMEOUT, NOT_HTTP]),
        ("100 and then nothing", says(head(100), then=Peer.hang), TIMEOUT),
        ("100 and then the answer", says(head(100) + OK), answered(200)),
        ("1xx with a length and a body", says(head(103, "Content-Length: 3") + b"abc" + OK), NOT_HTTP),
        (
            "101 with data",
            says(head(101, "Upgrade: websocket", "Connection: upgrade") + SECRET, then=floods(SECRET)),
            answered(101),
        ),
        (
            "101 and then nothing",
            says(head(101, "Upgrade: websocket", "Connection: upgrade"), then=Peer.hang),
            answered(101),
        ),
        ("101 without an upgrade", says(head(101), then=Peer.hang), answered(101)),
        (
            "200 with an upgrade",
            says(head(200, "Upgrade: h2c", "Connection: upgrade", "Content-Length: 2"), b"ok"),
            answered(200),
        ),
    ],
)

_STRANGERS = _entries(
    "stranger",
    [
        ("closes at once", close, [DISCONNECTED, FAILED]),
        ("resets at once", Peer.reset, [FAILED, DISCONNECTED]),
        ("closes after the request", says(), DISCONNECTED),
        ("resets after the request", says(then=Peer.reset), [FAILED, DISCONNECTED]),
        ("closes within the status line", says(b"HTTP/1.1 2"), [DISCONNECTED, NOT_HTTP]),
        ("closes within the headers", says(b"HTTP/1.1 200 OK\r\nX: " + SECRET), answered(200)),
        ("resets within the headers", says(b"HTTP/1.1 200 OK\r\nX: ", then=Peer.reset), answered(200)),
        ("speaks SSH", at_once(b"SSH-2.0-OpenSSH_9.2 " + SECRET + b"\r\n"), NOT_HTTP),
        ("speaks Redis", says(b"-ERR unknown command " + SECRET + b"\r\n"), NOT_HTTP),
        ("speaks SMTP", at_once(b"220 " + SECRET + b" ESMTP\r\n"), NOT_HTTP),
        ("speaks HTTP/2", at_once(b"\0\0\x12\4\0\0\0\0\0" + SECRET), NOT_HTTP),
        ("speaks TLS", at_once(b"\x15\3\1\0\2\2\x46" + SECRET), NOT_HTTP),
        (
            "sends the request back",
            lambda peer: (peer.read_request(), peer.say(b"POST / HTTP/1.1\r\n\r\n"))[-1],
            NOT_HTTP,
        ),
        ("sends NUL without end", says(then=floods(b"\0")), NOT_HTTP),
    ],
)

_UPLOADS = _entries(
    "upload",
    [
        ("is never read", Peer.ignore, TIMEOUT),
        ("is read byte by byte", Peer.sip, TIMEOUT),
        ("is answered before it is read", at_once(OK, then=Peer.ignore), answered(200)),
        ("is refused before it is read", at_once(head(500, "Content-Length: 0"), then=Peer.ignore), answered(500)),
        ("is answered without end before it is read", at_once(head(200), then=floods(b"x")), answered(200)),
        ("is answered with garbage before it is read", at_once(SECRET, then=Peer.ignore), NOT_HTTP),
        ("meets a RST", lambda peer: (peer.sock.recv(1), peer.reset())[-1], [FAILED, DISCONNECTED]),
        ("is answered, then a RST", at_once(OK, then=Peer.reset), [answered(200), FAILED, DISCONNECTED]),
    ],
    small_window=True,
    request_bytes=256 * 1024,  # the largest event
)

_REDIRECTS = _entries(
    "redirect",
    [
        ("to itself", says(head(307, "Location: /", "Content-Length: 0")), answered(307)),
        (
            "to the cloud's metadata",
            says(head(302, "Location: http://169.254.169.254/", "Content-Length: 0")),
            answered(302),
        ),
        (
            "to a mapped address",
            says(head(308, "Location: http://[::ffff:127.0.0.1]/", "Content-Length: 0")),
            answered(308),
        ),
        ("to a file", says(head(301, "Location: file:///etc/passwd", "Content-Length: 0")), answered(301)),
        ("to nonsense", says(head(303, "Location: http://[::::/\xff", "Content-Length: 0")), answered(303)),
        ("to nowhere", says(head(302, "Content-Length: 0")), answered(302)),
        ("by refresh", says(head(200, "Refresh: 0; url=http://127.0.0.1/", "Content-Length: 0")), answered(200)),
        ("with a list of choices", says(head(300, "Content-Length: 0")), answered(300)),
    ],
)

RETRY_AFTERS: Final = (
    "9" * 26,
    "-1",
    "+5",
    "1e9",
    "1_000",
    "\u0661\u0662\u0663".encode().decode("latin-1"),  # digits of another script, as bytes on the wire
    "\xb2",
    "0",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Wed, 21 Oct 2026 07:28:00 -0000",
    "Wed, 99 Zzz 2026 99:99:99 GMT",
    "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
    "1" * 5_000,
    "(" * 5_000,
    ",".join("1" * 2_000),
)
_RETRY_AFTERS = _entries(
    "retry-after",
    [
        (f"{n} {value[:30]!r}", says(head(503, f"Retry-After: {value}", "Content-Length: 0")), answered(503))
        for n, value in enumerate(RETRY_AFTERS)
    ],
)

_UNASKED = _entries(
    "unasked",
    [
        ("200", once(OK, lambda peer: peer.say(OK)), answered(503)),
        ("410", once(OK, lambda peer: peer.say(head(410, "Content-Length: 0"))), answered(503)),
        (
            "408 and the end",
            once(OK, lambda peer: (peer.say(head(408, "Content-Length: 0")), peer.sock.shutdown(1))[-1]),
            answered(503),
        ),
        ("junk", once(OK, lambda peer: peer.say(SECRET)), answered(503)),
        ("half a 200", once(OK, lambda peer: peer.say(b"HTTP/1.1 200 O")), answered(503)),
        ("blank lines", once(OK, lambda peer: peer.say(b"\r\n\r\n")), answered(503)),
        ("100", once(OK, lambda peer: peer.say(head(100))), answered(503)),
        ("second answer in one segment", once(OK + OK, close), answered(503)),
        ("half a second answer in one segment", once(OK + b"HTTP/1.1 200 O", close), answered(503)),
        ("flood", once(OK, floods(OK)), answered(503)),
        ("end", once(OK, lambda peer: peer.sock.shutdown(1)), answered(503)),
        ("RST", once(OK, Peer.reset), answered(503)),
        (
            "keep-alive for ever",
            once(head(200, "Keep-Alive: timeout=999999999", "Content-Length: 0"), Peer.reset),
            answered(503),
        ),
        (
            "close that stays open",
            once(head(200, "Connection: close", "Content-Length: 0"), lambda peer: peer.say(OK)),
            answered(503),
        ),
        ("101", once(OK, lambda peer: peer.say(head(101, "Upgrade: x", "Connection: upgrade"))), answered(503)),
    ],
    requests=2,
)

_hello: Final = b"\x16\3\3\x40\0"  # the start of a record of 16 KB
_TLS = _entries(
    "tls",
    [
        ("of another host", over_tls(certificates.of_another_host, says(OK)), OTHER_NAME),
        ("expired", over_tls(certificates.expired, says(OK)), EXPIRED),
        ("of an unknown authority", over_tls(certificates.of_another_authority, says(OK)), UNKNOWN_AUTHORITY),
        ("self-signed", over_tls(certificates.self_signed, says(OK)), SELF_SIGNED),
        ("with a chain of 1 MB", over_tls(certificates.huge_chain, says(OK)), HANDSHAKE),
        ("with a thousand names", over_tls(certificates.many_names, says(OK)), answered(200)),
        ("on a port of plain HTTP", at_once(head(400, "Content-Length: 0") + SECRET), HANDSHAKE),
        ("that closes at once", close, [HANDSHAKE, FAILED, DISCONNECTED]),
        ("that resets at once", Peer.reset, [HANDSHAKE, FAILED, DISCONNECTED]),
        ("that never shakes hands", Peer.hang, TIMEOUT),
        ("that never reads", Peer.ignore, TIMEOUT),
        ("that shakes hands drop by drop", at_once(_hello, drips(b"\2")), [TIMEOUT, HANDSHAKE]),
        ("that shakes hands with garbage", at_once(b"\x16\3\3\0\x40" + SECRET * 9), HANDSHAKE),
        ("that refuses the version", at_once(b"\x15\3\1\0\2\2\x46"), HANDSHAKE),
        ("with endless warnings", floods(b"\x15\3\3\0\2\1\0"), HANDSHAKE),
        ("with endless empty records", floods(b"\x16\3\3\0\0"), HANDSHAKE),
        ("with endless changes of the cipher", floods(b"\x14\3\3\0\1\1"), [HANDSHAKE, TIMEOUT]),
        (
            "that ends within the status line",
            over_tls(certificates.in_order, says(b"HTTP/1.1 2", then=Peer.end_tls)),
            [DISCONNECTED, NOT_HTTP],
        ),
        ("that ends after the request", over_tls(certificates.in_order, says(then=Peer.end_tls)), DISCONNECTED),
        (
            "that is cut off within the body",
            over_tls(certificates.in_order, says(head(200, "Content-Length: 9"), b"x", then=Peer.reset)),
            answered(200),
        ),
        (
            "with garbage instead of the answer",
            over_tls(certificates.in_order, says(then=lambda peer: peer.say_below_tls(SECRET * 9))),
            [FAILED, HANDSHAKE, DISCONNECTED],
        ),
        (
            "with a body of 10 GB",
            over_tls(certificates.in_order, says(head(200, "Content-Length: 10000000000"), then=floods(b"x"))),
            answered(200),
        ),
        (
            "with an endless 1xx",
            over_tls(certificates.in_order, says(then=floods(b"HTTP/1.1 103 X\r\n\r\n"))),
            NOT_HTTP,
        ),
        (
            "that is cut off without a goodbye within the body",
            over_tls(certificates.in_order, says(head(200, "Content-Length: 9"), b"x", then=Peer.cut_off)),
            answered(200),
        ),
        (
            "that is cut off without a goodbye where the body may end",
            over_tls(certificates.in_order, says(head(200), b"x", then=Peer.cut_off)),
            answered(200),
        ),
        (
            "that is cut off without a goodbye after the request",
            over_tls(certificates.in_order, says(then=Peer.cut_off)),
            [DISCONNECTED, HANDSHAKE],
        ),
        (
            "that resets after the handshake",
            over_tls(certificates.in_order, Peer.reset),
            [FAILED, DISCONNECTED, HANDSHAKE],
        ),
        (
            "that answers before the request",
            over_tls(certificates.in_order, at_once(OK)),
            answered(200),
        ),
        (
            "that answers byte by byte",
            over_tls(certificates.in_order, says(*(bytes([byte]) for byte in OK[:12]), OK[12:], then=Peer.hang)),
            answered(200),
        ),
        (
            # The loop drops what it has decrypted when the record behind it is none.
            "that answers, with garbage behind it in the same segment",
            over_tls(certificates.in_order, says(OK, then=lambda peer: peer.say_below_tls(SECRET * 9))),
            [answered(200), HANDSHAKE, FAILED],
        ),
        ("in order", over_tls(certificates.in_order, says(OK)), answered(200)),
    ],
    tls=True,
)
_TICKETS: Final = _entries(
    "tls",
    [
        (
            "with 200,000 session tickets",
            over_tls(certificates.many_tickets, says(OK)),
            [answered(200), TIMEOUT, NOT_HTTP, FAILED],
        ),
    ],
    tls=True,
    cpu_seconds_max=3.0,  # what was measured is 0.15; both cores may be busy
)
_TLS_UPLOADS: Final = _entries(
    "tls upload",
    [
        ("is never read", over_tls(certificates.in_order, Peer.ignore), TIMEOUT),
        (
            "is answered before it is read",
            over_tls(certificates.in_order, at_once(OK, then=Peer.ignore)),
            answered(200),
        ),
    ],
    tls=True,
    small_window=True,
    request_bytes=256 * 1024,
)

CATALOGUE: Final[Sequence[Hostile]] = (
    *_BODIES,
    *_HEADS,
    *_INTERIM,
    *_STRANGERS,
    *_UPLOADS,
    *_REDIRECTS,
    *_RETRY_AFTERS,
    *_UNASKED,
    *_TLS,
    *_TICKETS,
    *_TLS_UPLOADS,
)
