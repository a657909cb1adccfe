"""All receivers of the catalogue in a process of their own, so that what is measured in ours is the client alone.

`python -m tests.engine.hostile.farm` listens on a port for each, prints them as JSON, and ends when its input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import certificates
from .catalogue import CATALOGUE, Hostile, gzip_bomb
from .peer import Behaviour, Peer

ROOT: Final = Path(__file__).parents[3]
GOOD: Final = "a good receiver"
HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Farm:
    """Where the receivers are."""

    ports: Mapping[str, int]
    authority_pem: str

    def url(self, hostile: Hostile, path: str = "/") -> str:
        """The URL that a customer would register."""
        if hostile.tls:
            return f"https://{certificates.HOST}:{self.ports[hostile.name]}{path}"
        return f"http://{HOST}:{self.ports[hostile.name]}{path}"

    @property
    def good_url(self) -> str:
        """The URL of a receiver that answers 200 with the body of the request."""
        return f"http://{HOST}:{self.ports[GOOD]}/"


@contextlib.contextmanager
def running_farm() -> Generator[Farm]:
    """Starts the process, and ends it."""
    command = [sys.executable, "-m", f"{__package__}.farm"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            told: dict[str, Any] = json.loads(process.stdout.readline())
            yield Farm(told["ports"], told["authority_pem"])
        finally:
            process.kill()


def echo(peer: Peer) -> None:
    """Answers each request with its own body."""
    while True:
        peer.read_request()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(peer.body) + peer.body)


def main() -> None:
    """Serves until the standard input ends."""
    certificates.prepare()
    gzip_bomb()
    behaviours: dict[str, Behaviour] = {hostile.name: hostile.behaviour for hostile in CATALOGUE}
    small_windows = {hostile.name for hostile in CATALOGUE if hostile.small_window}
    listeners = selectors.DefaultSelector()
    ports: dict[str, int] = {}
    for name, behaviour in {**behaviours, GOOD: echo}.items():
        listener = _listening(small_window=name in small_windows)
        listeners.register(listener, selectors.EVENT_READ, behaviour)
        ports[name] = listener.getsockname()[1]
    threading.Thread(target=_accept, args=(listeners,), daemon=True).start()
    sys.stdout.write(json.dumps({"ports": ports, "authority_pem": certificates.authority_pem()}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # whatever the receivers are at


def _listening(*, small_window: bool) -> socket.socket:
    listener = socket.socket()
    if small_window:  # of accepted connections; with small segments the client's kernel takes little off its hands too
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    listener.bind((HOST, 0))
    listener.listen(100)
    return listener


def _accept(listeners: selectors.BaseSelector) -> None:
    while True:
        for key, _ in listeners.select():
            assert isinstance(key.fileobj, socket.socket)
            accepted, _ = key.fileobj.accept()
            threading.Thread(target=_serve, args=(key.data, accepted), daemon=True).start()


def _serve(behaviour: Behaviour, accepted: socket.socket) -> None:
    peer = Peer(accepted)
    with contextlib.suppress(OSError, ValueError):  # ValueError: of a TLS socket that the client has closed
        behaviour(peer)
    peer.sock.close()


if __name__ == "__main__":
    main()
