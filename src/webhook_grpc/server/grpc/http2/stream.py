"""One stream: what the client sends in it, taken in as it is read, and what is sent, as far as the windows go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from .frames import (
    FRAME_BYTES_MAX,
    WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    ConnectionEnds,
    Kind,
    Reason,
    frame,
    header_frames,
    reset,
    window_update,
)
from .header_blocks import Head

TAKEN_BYTES_MIN: Final = 16 * 1024  # of an answer: less is as good as nothing, as over HTTP/1
READ_BYTES_AHEAD: Final = 1024 * 1024  # a client may send so much of what is waited for before it hears of it


class Way(Protocol):
    """What a stream sends through: the sending side of its connection."""

    @property
    def window(self) -> int:
        """Returns how many bytes of data may be sent in all streams."""
        ...

    @property
    def is_clogged(self) -> bool:
        """Returns whether the send buffer is full: the client takes less than is sent."""
        ...

    def write(self, data: bytes) -> None:
        """Sends frames."""
        ...

    def take_window(self, size_bytes: int, *, is_cut: bool = False) -> None:
        """Counts data that is sent. `is_cut`: by a window, so that more waits."""
        ...

    def as_block(self, block: bytes) -> bytes:
        """Returns a header block as it is sent next."""
        ...

    def line_up(self, stream: Stream) -> None:
        """Lets a stream that has something to send send it when its turn comes."""
        ...

    def wait_for_taking(self, stream: Stream) -> None:
        """Remembers a stream whose answer is made, so that it is ended if nothing of it is taken for too long."""
        ...

    def send_waiting(self) -> None:
        """Sends what waits, as the windows allow."""
        ...


class Home(Protocol):
    """What a stream reports to: the streams of its connection."""

    def keep(self, size_bytes: int) -> None:
        """Counts what has come and nobody has read, or, negative, what is not kept any more."""
        ...

    def forget(self, stream: Stream) -> None:
        """Called once, when a stream has ended."""
        ...


class StreamEnded(Exception):
    """The stream has ended, so nothing can be sent in it: the client has left, or was sent a status."""


class Stream:
    """One stream. Nothing that comes is taken in beyond the first window unless somebody reads."""

    __slots__ = (
        "_done",
        "_drained",
        "_has_ended_sending",
        "_home",
        "_leave",
        "_receive_window",
        "_received",
        "_taken_bytes",
        "_trailers",
        "_unsent",
        "_waiter",
        "_way",
        "began_at",
        "has_all",
        "head",
        "is_open",
        "send_window",
        "stream_id",
        "taken_at",
    )

    def __init__(
        self,
        way: Way,
        home: Home,
        stream_id: int,
        head: Head,
        send_window: int,
        *,
        has_all: bool,
        began_at: float,
    ) -> None:
        self._way = way
        self._home = home
        self.stream_id = stream_id
        self.head = head
        self.has_all = has_all
        """Whether the client has sent all that it will."""
        self.began_at = began_at
        """By the clock of the loop."""
        self._leave: Callable[[], None] | None = None
        self.is_open = True
        self.send_window = send_window
        self._receive_window = WINDOW_BYTES
        self._received = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._unsent = memoryview(b"")
        self._trailers: bytes | None = None
        self._drained: asyncio.Future[None] | None = None
        self._has_ended_sending = False
        self.taken_at = 0.0
        """When TAKEN_BYTES_MIN of the answer were sent last, by the clock of the loop, if it had to wait."""
        self._taken_bytes = 0  # since then
        self._done: list[Callable[[], None]] = []

    def on_leave(self, leave: Callable[[], None]) -> None:
        """Has `leave` called when the connection ends for its age: it ends the stream with a status. Must not raise."""
        self._leave = leave

    def add_done_callback(self, done: Callable[[], None]) -> None:
        """Has `done` called when all is sent and done, or the client has left; at once if it has. Must not raise."""
        if self.is_open:
            self._done.append(done)
        else:
            done()

    # --- what comes ------------------------------------------------------------------------------------------------

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for what comes."""
        return self._waiter is not None

    def received(self, data: bytes, window_bytes: int, *, is_last: bool) -> None:
        """Takes in what has come, `window_bytes` with its padding. Raises ConnectionEnds."""
        if window_bytes > self._receive_window:
            raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "more was sent than the window of a stream allows")
        self._receive_window -= window_bytes
        if data and not self._has_ended_sending:
            self._received += data
            self._home.keep(len(data))
        self.has_all = is_last
        self._wake()

    async def read(self, size: int) -> bytes:
        """Returns so many bytes; fewer if the client sends no more. Raises StreamEnded. One task at a time."""
        while len(self._received) < size and not self.has_all:
            if not self.is_open:
                raise StreamEnded
            self._open_window(size - len(self._received))
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = bytes(self._received[:size])
        del self._received[:size]
        self._home.keep(-len(taken))
        return taken

    def _open_window(self, wanted: int) -> None:
        window = max(WINDOW_BYTES, min(wanted, READ_BYTES_AHEAD))
        if 2 * self._receive_window <= window:
            self._way.write(window_update(self.stream_id, window - self._receive_window))
            self._receive_window = window

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what is sent ----------------------------------------------------------------------------------------------

    def send_head(self, block: bytes) -> None:
        """Sends the fields that an answer begins with. Raises StreamEnded."""
        self._check()
        self._way.write(header_frames(self.stream_id, self._way.as_block(block), is_last=False))

    async def send(self, data: bytes) -> None:
        """Sends a part of the answer; returns when the client was able to take it. Raises StreamEnded."""
        self._check()
        self._offer(data)
        while self.is_open and self._unsent:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        if not self.is_open and self._unsent:
            raise StreamEnded

    def finish(self, head: bytes | None, data: bytes, trailers: bytes) -> None:
        """Sends the rest of the answer, as the windows allow: fields at its begin if any, a part, fields at its end.

        Raises StreamEnded.
        """
        self._check()
        self._has_ended_sending = True
        self._drop_received()
        begin = b"" if head is None else header_frames(self.stream_id, self._way.as_block(head), is_last=False)
        if not self._unsent and not self._way.is_clogged and len(data) <= self._allowed():
            self._take(len(data))
            body = frame(Kind.DATA, 0, self.stream_id, data) if data else b""
            self._way.write(begin + body + header_frames(self.stream_id, self._way.as_block(trailers), is_last=True))
            self._close()
            return
        if begin:
            self._way.write(begin)
        self._trailers = trailers
        self.taken_at = asyncio.get_running_loop().time()
        self._way.wait_for_taking(self)
        self._offer(data)

    def reset(self, reason: Reason) -> None:
        """Ends the stream at once."""
        if self.is_open:
            self._way.write(reset(self.stream_id, reason))
            self.end()

    def leave(self) -> None:
        """Ends the stream because its connection ends, though nobody did anything wrong."""
        if self._leave is not None:
            self._leave()
        else:
            self.reset(Reason.CANCEL)

    @property
    def has_answer(self) -> bool:
        """Whether all of the answer is given: it is sent, or on its way."""
        return self._has_ended_sending

    def _drop_received(self) -> None:
        self._home.keep(-len(self._received))
        self._received.clear()

    def _check(self) -> None:
        if not self.is_open or self._has_ended_sending:
            raise StreamEnded

    def _offer(self, data: bytes) -> None:
        if not self._unsent and self._trailers is None and not self._way.is_clogged and len(data) <= self._allowed():
            self._take(len(data))
            self._way.write(frame(Kind.DATA, 0, self.stream_id, data))
            return
        self._unsent = memoryview(bytes(self._unsent) + data if self._unsent else data)
        self._way.line_up(self)
        self._way.send_waiting()

    @property
    def needs_window(self) -> bool:
        """Whether what the stream has to send counts: fields do not."""
        return bool(self._unsent)

    @property
    def may_send(self) -> bool:
        """Whether the stream has something to send that its own window allows."""
        return self.is_open and (self.send_window > 0 if self._unsent else self._trailers is not None)

    def send_some(self) -> None:
        """Sends one frame, and what ends the stream behind the last one."""
        size = min(len(self._unsent), self._allowed())
        if size > 0:
            part, self._unsent = self._unsent[:size], self._unsent[size:]
            self._take(size, is_cut=bool(self._unsent))
            self._taken_bytes += size
            if self._taken_bytes >= TAKEN_BYTES_MIN:
                self.taken_at, self._taken_bytes = asyncio.get_running_loop().time(), 0
            self._way.write(frame(Kind.DATA, 0, self.stream_id, bytes(part)))
        if self._unsent:
            return
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
        if self._trailers is not None:
            self._way.write(header_frames(self.stream_id, self._way.as_block(self._trailers), is_last=True))
            self._close()

    def _allowed(self) -> int:
        return max(0, min(self.send_window, self._way.window, FRAME_BYTES_MAX))

    def _take(self, size: int, *, is_cut: bool = False) -> None:
        self.send_window -= size
        self._way.take_window(size, is_cut=is_cut)

    def add_window(self, increment: int) -> bool:
        """Lets so much more be sent. Returns whether a window may be so large."""
        self.send_window += increment
        return self.send_window <= WINDOW_BYTES_MAX

    # --- its end ---------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Ends the stream when all is sent. A client that has not sent all yet need not go on."""
        if not self.has_all:
            self._way.write(reset(self.stream_id, Reason.NO_ERROR))
        self._unsent, self._trailers = memoryview(b""), None
        self.end()

    def end(self) -> None:
        """Notes that the stream has ended, and wakes whoever reads or sends."""
        if not self.is_open:
            return
        self.is_open = False
        self._drop_received()
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._leave = None
        done, self._done = self._done, []
        try:
            self._home.forget(self)
        finally:  # they give back what the stream has taken of others
            for each in done:
                each()
