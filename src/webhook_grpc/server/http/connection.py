"""A connection: what is no request that the server can read is refused with a problem document too.

A caller that does not take what is sent to it is dropped: it would hold the answer, and one of the connections, for as
long as it likes. It has to take TAKEN_BYTES_MIN in each UNTAKEN_SECONDS_MAX. (Watchers have a time of their own.)

What a connection can leave in memory is bounded: the headers of a request, all together, and how many requests are read
ahead of the one that is answered. (aiohttp bounds each header only, and reads 32 requests ahead: 64 MB.)

So is the work: a chunk of one byte costs as much as a large one, and 40,000 of them come with one read of the socket.
Whoever sends a body in crumbs is dropped, also while the body of a refused call is read to its end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, Final
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD

from webhook_grpc.api.codes import Code

from .problem import Problem

LINE_BYTES_MAX: Final = 8190  # of the request line, and of one header
HEAD_BYTES_MAX: Final = 64 * 1024  # of all headers of a request
HEADERS_MAX: Final = 128
REQUESTS_AHEAD_MAX: Final = 2  # that are read while another one is answered
BODY_BYTES_AHEAD: Final = 64 * 1024  # of a body that nobody reads; twice of it, and what one read of the socket brings
CHUNKS_MIN: Final = 1000  # of a body: so many may be as small as they like
CHUNK_BYTES_MIN: Final = 64  # of the others, on average, with their frames
UNTAKEN_SECONDS_MAX: Final = 10.0
TAKEN_BYTES_MIN: Final = 16 * 1024

_CHUNK: Final = re.compile(rb"\r\n[0-9A-Fa-f]+(?:[ \t]*;[^\r\n]*)?\r\n")  # its size, with extensions

log = structlog.get_logger("webhook_grpc.http")


class Parser(HttpRequestParser):
    """Reads requests. One whose headers are too large all together is refused, if it can be before it has come."""

    def __init__(self, connection: Connection, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self._connection = connection
        self._coming_bytes = 0  # of a head that has not come whole
        self._body: Any = EMPTY_PAYLOAD  # of the last request
        self._is_chunked = False  # the body
        self._is_dropped = False
        self._chunks = self._chunked_bytes = 0  # of the body so far

    def feed_data(self, data: bytes) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - it is typed as another
        """Returns the requests whose heads are whole now. Raises BadHttpMessage."""
        if self._coming_bytes > HEAD_BYTES_MAX:
            raise _head_too_large()  # it was refused already
        if self._is_dropped:  # aiohttp still hands over what has come
            return (), False, b""
        chunks, is_body = _count_chunks(data), not self._body.is_eof()
        if self._is_crumbs(chunks, len(data), is_body=is_body):
            return self._drop(chunks)
        found: Any = super().feed_data(data)
        if messages := found[0]:
            self._body, self._coming_bytes = messages[-1][1], 0
            self._is_chunked = messages[-1][0].chunked
            self._chunks, self._chunked_bytes = chunks, len(data)  # what came with the head
            for message, _ in messages:
                if sum(len(name) + len(value) for name, value in message.raw_headers) > HEAD_BYTES_MAX:
                    self._coming_bytes = HEAD_BYTES_MAX + 1
        elif not is_body:
            self._coming_bytes += len(data)
        if self._coming_bytes > HEAD_BYTES_MAX:
            raise _head_too_large()
        return found

    def _drop(self, chunks: int) -> Any:
        self._is_dropped = True
        self._connection.drop("a caller that sent a body in crumbs was dropped", chunks=chunks)
        return (), False, b""

    def _is_crumbs(self, chunks: int, size_bytes: int, *, is_body: bool) -> bool:
        """Judges one read of the socket, whatever is in it, and the body that it goes on with."""
        if is_body and self._is_chunked:
            self._chunks += chunks
            self._chunked_bytes += size_bytes
            if self._chunks > _chunks_max(self._chunked_bytes):
                return True
        return chunks > _chunks_max(size_bytes)


def _chunks_max(size_bytes: int) -> int:
    return CHUNKS_MIN + size_bytes // CHUNK_BYTES_MIN


def _count_chunks(data: bytes) -> int:
    """Returns how many chunks there are, or one more than there may be: crumbs are not counted to their end."""
    return sum(1 for _ in islice(_CHUNK.finditer(data), _chunks_max(len(data)) + 1))


def _head_too_large() -> BadHttpMessage:
    return BadHttpMessage(f"the headers have more than {HEAD_BYTES_MAX} bytes")


class Connection(web.RequestHandler):
    """A connection of aiohttp's server."""

    __slots__ = ("_look", "_lost", "is_watched")
    _look: asyncio.TimerHandle | None
    is_watched: bool  # whether the stream that writes bounds the time itself: then nothing is looked at here

    def __init__(
        self,
        manager: web.Server,
        loop: asyncio.AbstractEventLoop,
        keepalive_seconds: float,
        lost: Callable[[], None],
    ) -> None:
        """`lost` is called when the connection is lost."""
        self._lost = lost
        silent: Any = None
        bounds: dict[str, Any] = {
            "max_line_size": LINE_BYTES_MAX,
            "max_field_size": LINE_BYTES_MAX,
            "max_headers": HEADERS_MAX,
            "auto_decompress": False,  # a compressed body is refused: see Exchange
        }
        super().__init__(
            manager,
            loop=loop,
            access_log=silent,
            keepalive_timeout=keepalive_seconds,
            read_bufsize=BODY_BYTES_AHEAD,
            **bounds,
        )
        self._max_msg_queue_size, self._msg_queue_resume_size = REQUESTS_AHEAD_MAX, REQUESTS_AHEAD_MAX // 2
        parser: Any = Parser
        self._parser = parser(
            self,
            loop,
            BODY_BYTES_AHEAD,
            payload_exception=web.RequestPayloadError,
            max_msg_queue_size=REQUESTS_AHEAD_MAX,
            **bounds,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        super().connection_made(transport)
        self._look, self.is_watched = None, False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends what is served."""
        self._lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begins to look whether the caller takes what is sent to it: more waits than a connection may hold."""
        super().pause_writing()
        if not self.is_watched:
            self._look_later()

    def resume_writing(self) -> None:
        """Looks no more."""
        super().resume_writing()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    async def start(self) -> None:
        """Serves the requests of the connection. It is cut if the caller does not take what is left at its end."""
        try:
            await super().start()
        finally:
            if self.transport is not None and self.transport.is_closing():  # by aiohttp, and not lost
                _cut_later(self.transport)

    def force_close(self) -> None:
        """Closes the connection; it is cut if the caller does not take what is left."""
        transport = self.transport
        super().force_close()
        if transport is not None:
            _cut_later(transport)

    def drop(self, why: str, **facts: int) -> None:
        """Cuts the connection, and says why in the log."""
        if self.transport is not None:
            log.info(why, **facts)
            _cut(self.transport)

    def _look_later(self) -> None:
        if self.transport is not None:
            left = self.transport.get_write_buffer_size()
            self._look = asyncio.get_running_loop().call_later(UNTAKEN_SECONDS_MAX, self._drop_if_untaken, left)

    def _drop_if_untaken(self, before: int) -> None:
        if self.transport is None:
            return
        if before - self.transport.get_write_buffer_size() < TAKEN_BYTES_MIN:
            untaken_bytes = self.transport.get_write_buffer_size()
            self.drop("a caller that took no answer was dropped", untaken_bytes=untaken_bytes)
        else:
            self._look_later()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the answer to what the parser can't read (400), and to a bug of a handler (500).

        The caller's bytes come back in neither.
        """
        request_id = uuid4().hex
        if status < 500:
            log.info("request refused", status=status, request_id=request_id, problem=type(exc).__name__)
        else:
            log.error("unhandled", path=request.path, request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:  # an answer has begun: a second one would be taken for its end
            raise ConnectionError(message)
        response = _problem(status, request_id).response(request_id)
        response.force_close()
        return response


def _cut_later(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(UNTAKEN_SECONDS_MAX, _cut, transport)


def _cut(transport: asyncio.Transport) -> None:
    """Ends a connection at once. What has reached the caller's side it may still read."""
    transport.abort()


def _problem(status: int, request_id: str) -> Problem:
    if status >= 500:
        detail = f"internal error; give this request id to the operator: {request_id}"
        return Problem(500, detail, Code.INTERNAL, "INTERNAL")
    detail = (
        f"this is not HTTP, or its first line or one of its headers has more than {LINE_BYTES_MAX} bytes, "
        f"or all of its headers more than {HEAD_BYTES_MAX}"
    )
    return Problem.of_http("REQUEST_MALFORMED", detail)
