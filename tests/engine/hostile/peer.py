"""The receiver's end of one connection, in blocking calls: a behaviour reads like the attack that it is."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final

SECONDS_MAX: Final = 60.0  # then the receiver gives up: later than any deadline of a request on a slow machine

Behaviour = Callable[["Peer"], None]


class Peer:
    """One accepted connection. Every method raises OSError when the client has had enough."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(SECONDS_MAX)
        self.sock = sock
        self._until = time.monotonic() + SECONDS_MAX
        self._unread = b""

    def read_request(self) -> str:
        """Reads one request to its end. Returns its path."""
        while b"\r\n\r\n" not in self._unread:
            self._receive()
        head, _, rest = self._unread.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self._unread = rest
        while len(self._unread) < length:
            self._receive()
        self.body, self._unread = self._unread[:length], self._unread[length:]
        return head.split(b" ")[1].decode("ascii")

    def _receive(self) -> None:
        piece = self.sock.recv(65_536)
        if not piece:
            raise ConnectionResetError
        self._unread += piece

    def say(self, data: bytes) -> None:
        """Sends all of it."""
        self.sock.sendall(data)

    def drip(self, piece: bytes, every_seconds: float = 0.05) -> None:
        """Sends a piece from time to time, until the client closes."""
        while time.monotonic() < self._until:
            self.say(piece)
            time.sleep(every_seconds)

    def flood(self, piece: bytes) -> None:
        """Sends a piece over and over, as fast as the client takes it."""
        many = piece * max(1, 65_536 // len(piece))
        while time.monotonic() < self._until:
            self.say(many)

    def hang(self) -> None:
        """Says nothing more, until the client closes."""
        while self.sock.recv(65_536):
            pass

    def ignore(self) -> None:
        """Neither reads nor writes nor closes."""
        time.sleep(max(0.0, self._until - time.monotonic()))

    def sip(self, every_seconds: float = 0.01) -> None:
        """Reads one byte at a time."""
        while time.monotonic() < self._until and self.sock.recv(1):
            time.sleep(every_seconds)

    def reset(self) -> None:
        """Ends the connection with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Speaks TLS from here on. The client may refuse, which raises OSError."""
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def say_below_tls(self, data: bytes) -> None:
        """Sends bytes that are no TLS record of this connection."""
        os.write(self.sock.fileno(), data)

    def cut_off(self) -> None:
        """Ends TCP without having ended TLS."""
        os.close(self.sock.detach())

    def end_tls(self) -> None:
        """Sends close_notify and waits for the client's."""
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock = self.sock.unwrap()


def close(_: Peer) -> None:
    """What a behaviour does that does nothing more: the connection is closed after it."""
