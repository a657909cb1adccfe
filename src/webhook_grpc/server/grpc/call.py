"""A call of gRPC on a stream of HTTP/2: messages in and out, its deadline, the status that it ends with."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, NoReturn

import structlog

from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.domain.access import name_of
from webhook_grpc.domain.errors import Unavailable, WebhookError
from webhook_grpc.server import header_names

from .error_details import details_of, message_of
from .http2.frames import Reason
from .http2.stream import Stream, StreamEnded
from .metadata import CONTENT_TYPE, ENCODINGS, HEAD, METADATA_BYTES_MAX, Metadata, read_metadata, read_timeout, trailers

RECEIVE_BYTES_MAX: Final = 5 * 1024 * 1024  # of a message
_HEAD_BYTES: Final = 5  # of a message: whether it is compressed, and its length
_PACKED_AT_ONCE: Final = 64 * 1024
_INFLATED_AT_ONCE: Final = 256 * 1024
_KINDS: Final = frozenset({"URI", "DNS"})

log = structlog.get_logger("webhook_grpc.grpc")


class Aborted(Exception):
    """The call has its status, and its handler goes no further."""


class Refused(Exception):
    """What the client sent can't be served."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Peer:
    """Who is at the other end of a connection."""

    __slots__ = ("address", "names", "where")

    def __init__(self, address: Any, certificate: Mapping[str, Any] | None) -> None:
        """Takes what the transport says of both."""
        self.address = str(address[0]).removeprefix("::ffff:") if address else ""  # IPv4 on a socket of both
        """The IP address."""
        self.where = f"{self.address}:{address[1]}" if address else ""
        """The address with its port: another one for each connection."""
        found: Any = (certificate or {}).get("subjectAltName", ())
        self.names: Collection[str] = [name_of(kind, value) for kind, value in found if kind in _KINDS]
        """The names in the certificate that was verified, in the form of the setting `client_sans`."""


class Call:
    """One call. Its handler reads and writes, and returns the last message if there is only one."""

    __slots__ = ("_deadline", "_has_begun", "_metadata", "_stream", "_task", "_trailing", "peer")

    def __init__(self, stream: Stream, peer: Peer) -> None:
        self._stream = stream
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._trailing: Metadata = ()
        self._has_begun = False
        self._metadata: Metadata | None = None
        self.peer = peer

    # --- for handlers ----------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Metadata:
        """What the client has sent with the call, in the order in which it came."""
        if self._metadata is None:
            self._metadata = read_metadata(self._stream.head.fields)
        return self._metadata

    async def read(self, bytes_max: int = RECEIVE_BYTES_MAX, too_large: str = "") -> bytes | None:
        """Returns the next message, None if the client has sent its last one.

        `too_large`: the message of the INVALID_ARGUMENT that refuses one with more than `bytes_max`.

        Ends the call with a status if what comes is no message or too large; raises CancelledError then.
        """
        try:
            return await self._read(bytes_max, too_large)
        except Refused as refused:
            self._finish(refused.code, refused.message, self._trailing)
        except StreamEnded:
            pass
        raise asyncio.CancelledError

    async def _read(self, bytes_max: int, too_large: str) -> bytes | None:
        head = await self._stream.read(_HEAD_BYTES)
        if not head:
            return None
        size = int.from_bytes(head[1:], "big")
        if len(head) < _HEAD_BYTES or head[0] > 1:
            raise Refused(Code.INTERNAL, "the message does not begin as one")
        if size > bytes_max:
            raise Refused(Code.INVALID_ARGUMENT, too_large) if too_large else _too_large(size, bytes_max)
        raw = await self._stream.read(size)
        if len(raw) < size:
            raise Refused(Code.INTERNAL, "the message ends before its length")
        return await self._inflated(raw, bytes_max) if head[0] else raw

    async def _inflated(self, raw: bytes, bytes_max: int) -> bytes:
        """Returns a message that was compressed, bit by bit: others get turns of the loop."""
        encoding = dict(self._stream.head.fields).get(header_names.ENCODING, b"identity")
        if encoding == b"identity":
            raise Refused(Code.INTERNAL, "a message is compressed, and the call does not say how")
        inflating = zlib.decompressobj(wbits=47)  # of gzip or zlib, by its first bytes
        parts, size = list[bytes](), 0
        try:
            while raw and not inflating.eof:
                piece, raw = raw[:_PACKED_AT_ONCE], raw[_PACKED_AT_ONCE:]
                parts.append(inflating.decompress(piece, _INFLATED_AT_ONCE))
                raw, size = inflating.unconsumed_tail + raw, size + len(parts[-1])
                if size > bytes_max:
                    raise _too_large(size, bytes_max)
                await asyncio.sleep(0)  # others get turns of the loop between pieces
        except zlib.error:
            raise Refused(Code.INTERNAL, "a compressed message can't be read") from None
        if not inflating.eof:
            raise Refused(Code.INTERNAL, "a compressed message is not whole")
        return b"".join(parts)

    def begin(self) -> None:
        """Sends what an answer begins with, if that has not been sent."""
        if not self._has_begun:
            self._has_begun = True
            try:
                self._stream.send_head(HEAD)
            except StreamEnded:
                raise asyncio.CancelledError from None

    async def write(self, raw: bytes) -> None:
        """Sends a message; returns when the client was able to take it."""
        self.begin()
        try:
            await self._stream.send(_message(raw))
        except StreamEnded:
            raise asyncio.CancelledError from None
        await asyncio.sleep(0)  # who has much to send leaves turns of the loop to others

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Sets the metadata that the status comes with."""
        self._trailing = metadata

    def abort(self, code: Code, message: str, metadata: Metadata = ()) -> NoReturn:
        """Ends the call with a status."""
        self._finish(code, message, metadata)
        raise Aborted

    def add_done_callback(self, done: Callable[[], None]) -> None:
        """Has `done` called when the client has taken everything, or has left."""
        self._stream.add_done_callback(done)

    # --- for the server --------------------------------------------------------------------------------------------

    def serve(self, handler: Handler) -> asyncio.Task[None]:
        """Begins to serve the call. Returns the task, which is cancelled when the client leaves."""
        task = self._task = asyncio.get_running_loop().create_task(self._serve(handler), name="gRPC call")
        self._set_deadline()
        self._stream.on_leave(self._leave_connection)
        self._stream.add_done_callback(self._stop)
        return task

    def _set_deadline(self) -> None:
        for name, value in self._stream.head.fields:
            if name == header_names.TIMEOUT and (seconds := read_timeout(value)) is not None:
                self._deadline = asyncio.get_running_loop().call_later(seconds, self._expire)
                return

    def _expire(self) -> None:
        self.end(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _leave_connection(self) -> None:
        self.leave(Unavailable("CONNECTION_TOO_OLD", "the connection has grown too old; call again", 0.1))

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        task = self._task
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()

    async def _serve(self, handler: Handler) -> None:
        try:
            self._check_encoding()
            answer = await handler(self)
            self._finish(Code.OK, "", self._trailing, answer)
        except Aborted:
            pass
        except Refused as refused:
            self._finish(refused.code, refused.message, self._trailing)
        except asyncio.CancelledError:
            if not self._stream.has_answer:
                self._stream.reset(Reason.CANCEL)
            raise
        except Exception:  # whatever it is: the client gets a status, and the log the error
            log.exception("unhandled", path=self._stream.head.path.decode("ascii", "replace"))
            self._finish(Code.INTERNAL, "the call failed inside the service", self._trailing)

    def _check_encoding(self) -> None:
        head = self._stream.head
        if head.size_bytes > METADATA_BYTES_MAX:
            message = f"the metadata has {head.size_bytes} bytes; at most {METADATA_BYTES_MAX} are taken"
            raise Refused(Code.RESOURCE_EXHAUSTED, message)
        for name, value in head.fields:
            if name == header_names.ENCODING and value.decode("ascii", "replace") not in ENCODINGS:
                self._trailing = ((header_names.ACCEPT_ENCODING.decode(), ",".join(ENCODINGS)),)
                raise Refused(Code.UNIMPLEMENTED, "this compression is not supported; use gzip, deflate or none")

    def end(self, code: Code, message: str) -> None:
        """Ends a call that goes on, with a status; without, if its answer is on its way and not taken."""
        self._finish(code, message, self._trailing)
        self._stop()
        self._stream.reset(Reason.CANCEL)

    def leave(self, error: WebhookError) -> None:
        """Ends the handler of a call that goes on, and sends the status of an error behind what is on its way."""
        details = (header_names.STATUS_DETAILS, details_of(error))
        self._finish(code_of(error), message_of(error), (*self._trailing, details))
        self._stop()

    def _finish(self, code: Code, message: str, metadata: Metadata, answer: bytes | None = None) -> None:
        head, data, status = None, b"" if answer is None else _message(answer), trailers(code, message, metadata)
        if not self._has_begun and answer is None:
            status = HEAD + status  # in one block: clients try again only calls whose answer has not begun (gRFC A6)
        elif not self._has_begun:
            head = HEAD
        self._has_begun = True
        try:
            self._stream.finish(head, data, status)
        except StreamEnded:
            return  # the client has left, or has a status


Handler = Callable[[Call], Awaitable[bytes | None]]


def is_call(stream: Stream) -> bool:
    """Returns whether a stream begins as a call of gRPC."""
    content_type = dict(stream.head.fields).get(header_names.CONTENT_TYPE, b"")
    return content_type == CONTENT_TYPE or content_type.startswith((CONTENT_TYPE + b"+", CONTENT_TYPE + b";"))


def _message(raw: bytes) -> bytes:
    return b"\0" + len(raw).to_bytes(4, "big") + raw


def _too_large(size: int, bytes_max: int) -> Refused:
    return Refused(Code.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {bytes_max})")
