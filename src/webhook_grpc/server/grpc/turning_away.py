"""What a client gets at the gRPC port that speaks something else than HTTP/2, and what the log says of it."""

from __future__ import annotations

import re
from typing import Final

from webhook_grpc.server.wrong_protocol import Misdirected

_HTTP_1: Final = re.compile(rb"[A-Z]{1,20} ")
_TLS: Final = b"\x16\x03"  # the begin of a handshake
_WORDS: Final = b"This port speaks gRPC, which is HTTP/2. HTTP/1.1 is served at WEBHOOK_HTTP_ADDRESS.\n"
_NOT_HTTP_1: Final = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_WORDS), _WORDS)
)


class TurningAway:
    """Turns clients away that have come to the wrong port."""

    def __init__(self) -> None:
        self._misdirected = Misdirected()

    def answer(self, coming: bytes, address: str, now: float) -> bytes:
        """Returns words that the client understands; none where there are none. `coming`: what it has said."""
        if _HTTP_1.match(coming):
            remedy = "gRPC is HTTP/2: set the proxy, or the client, to h2c or h2"
            self._misdirected.note("HTTP/1 came to the gRPC port", address, remedy, now)
            return _NOT_HTTP_1
        if coming.startswith(_TLS):
            remedy = "let the client speak plain text, or set WEBHOOK_TLS_CERTIFICATE_FILE and WEBHOOK_TLS_KEY_FILE"
            self._misdirected.note("TLS came to the gRPC port, which speaks plain text", address, remedy, now)
        return b""
