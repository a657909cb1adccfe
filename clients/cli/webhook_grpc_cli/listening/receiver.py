"""Takes POST requests on this machine, bounded in size and number, and lets one function answer them.

Made of the standard library's http.server: docs/decisions/0067-listen-on-the-standard-library.md.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Final, cast

BODY_BYTES_MAX: Final = 1024 * 1024
CONNECTIONS_MAX: Final = 50
_READ_SECONDS_MAX: Final = 30.0  # of silence, within a request and between two
_END_SECONDS_MAX: Final = 5.0  # for what is being answered when the receiver is closed
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "trailer", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that came in. Names of `headers` are in lower case; `at` is in Unix seconds."""

    at: float
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `problem` says in a few words why there is no answer of the program's own."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    problem: str = ""


class LocalReceiver:
    """Listens from the moment it is made until `close`. `answer` is called on a thread of each connection."""

    def __init__(self, host: str, port: int, answer: Callable[[Arrival], Answer]) -> None:
        """Raises OSError if the address is taken or is not of this machine."""
        self._server = _Server((host, port), answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="listen-receiver", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Returns the port, also if it was chosen by the system."""
        return self._server.server_address[1]

    def close(self) -> None:
        """Takes no more requests; waits at most five seconds for those that are being answered."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._server.answering_changed:
            self._server.answering_changed.wait_for(lambda: not self._server.answering, _END_SECONDS_MAX)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # connections that the service keeps open would hold it up
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], answer: Callable[[Arrival], Answer]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self.answering = 0
        """Requests that are being answered; their threads change it under `answering_changed`."""
        self.answering_changed = threading.Condition()
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection; one too many is closed, and the service tries again."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:  # an answer might be lost with the request, which nobody has read
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says what went wrong with a connection, instead of a traceback."""
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            sys.stderr.write(f"a request could not be answered: {type(error).__name__}: {error}\n")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _READ_SECONDS_MAX

    def do_POST(self) -> None:
        """Answers a request."""
        server = cast("_Server", self.server)
        with server.answering_changed:
            server.answering += 1
        try:
            self._handle(server)
        finally:
            with server.answering_changed:
                server.answering -= 1
                server.answering_changed.notify_all()

    def _handle(self, server: _Server) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > BODY_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._send(server.answer(Arrival(time.time(), headers, self.rfile.read(int(length)))))

    def _refuse(self, status: HTTPStatus) -> None:
        """Answers what cannot be read. What follows on the connection is not looked at."""
        self.close_connection = True
        self._send(Answer(status, [("Connection", "close")]))

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP or self.close_connection:
                self.send_header(name, " ".join(value.splitlines()))
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Writes nothing: each request has its own line."""
