"""The streams of one connection, and the frames that belong to a stream (RFC 9113, section 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

from .bounds import Bounds, Kept
from .budgets import SMALL_DATA_BYTES, Budgets
from .frames import (
    END_HEADERS,
    END_STREAM,
    PRIORITY,
    STREAM_ID_MAX,
    WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    ConnectionEnds,
    Kind,
    Reason,
    StreamEnds,
    check_size,
    reset,
    unpadded,
    window_update,
)
from .header_blocks import BLOCK_BYTES_MAX, BlockReader
from .lifetime import Lifetime
from .sending import Sending
from .stream import Stream

RECEIVE_WINDOW_BYTES: Final = 1024 * 1024  # that a client may have on its way, in all streams
STREAMS_OF_A_CHANGE: Final = 50  # whose windows a SETTINGS frame changes; with more streams it counts as several frames
QUICK_SECONDS: Final = 0.1  # a stream that is reset after this time counts as an empty frame, not as a reset
ENDED_EARLY_MAX: Final = 200  # streams of one connection whose late fields are expected: those that ended last


class Streams:
    """The streams that are open."""

    def __init__(
        self,
        bounds: Bounds,
        kept: Kept,
        sending: Sending,
        lifetime: Lifetime,
        budgets: Budgets,
        begin: Callable[[Stream], None],
        unused: Callable[[], None],
    ) -> None:
        """`begin` gets each stream when its head has come; `unused` is called when the last one has ended."""
        self._bounds = bounds
        self._kept = kept
        self._kept_bytes = 0  # of this connection
        self._sending = sending
        self._lifetime = lifetime
        self._budgets = budgets
        self._begin = begin
        self._unused = unused
        self._open: dict[int, Stream] = {}
        self._ended_early: dict[int, None] = {}  # by us, before their clients had sent all: more may be on its way
        self._blocks = BlockReader()
        self._block: tuple[int, int, bytearray] | None = None  # of whose header block more has to come
        self._initial_window = WINDOW_BYTES
        self._receive_window = WINDOW_BYTES
        self.last_id = 0
        """Of the last stream that has begun."""

    @property
    def count(self) -> int:
        """Returns how many streams are open."""
        return len(self._open)

    @property
    def is_in_block(self) -> bool:
        """Returns whether a header block has begun that has not come whole: nothing may come before the rest."""
        return self._block is not None

    def end_all(self) -> None:
        """Ends all streams: their connection has ended."""
        for stream in list(self._open.values()):
            stream.end()

    def leave_all(self) -> None:
        """Ends all streams because their connection has to end, each with a status."""
        for stream in list(self._open.values()):
            stream.leave()

    def set_initial_window(self, window_bytes: int) -> None:
        """Changes what each stream may send before its client allows more. Raises ConnectionEnds."""
        change, self._initial_window = window_bytes - self._initial_window, window_bytes
        if not change:
            return
        for _ in range(len(self._open) // STREAMS_OF_A_CHANGE):
            self._count_empty()
        for stream in self._open.values():
            if not stream.add_window(change):
                raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "a window grew too large")
            if change > 0:
                self._sending.line_up(stream)
        self._sending.send_waiting()

    # --- what streams report ---------------------------------------------------------------------------------------

    def keep(self, size_bytes: int) -> None:
        """Counts what has come and is not read yet, or, negative, what is not kept any more."""
        self._kept.size_bytes += size_bytes
        self._kept_bytes += size_bytes

    def forget(self, stream: Stream) -> None:
        """Called once, when a stream has ended."""
        self._open.pop(stream.stream_id, None)
        self._sending.forget(stream)
        if not stream.has_all:
            self._note_ended_early(stream.stream_id)
        if stream.has_answer:
            self._budgets.allow_reset()
        if not self._open:
            self._unused()

    def _note_ended_early(self, stream_id: int) -> None:
        self._ended_early[stream_id] = None
        if len(self._ended_early) > ENDED_EARLY_MAX:
            del self._ended_early[next(iter(self._ended_early))]

    # --- data ------------------------------------------------------------------------------------------------------

    def open_window(self) -> bytes:
        """Returns the frame that lets the client have more on its way than a connection begins with."""
        increment, self._receive_window = RECEIVE_WINDOW_BYTES - self._receive_window, RECEIVE_WINDOW_BYTES
        return window_update(0, increment)

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_known(stream_id)
        self._take_of_window(len(payload))
        data, is_last = unpadded(flags, payload), bool(flags & END_STREAM)
        stream = self._open.get(stream_id)
        if stream is None:  # it has ended here; perhaps the client did not know that yet
            self._count_empty()
            if is_last:
                self._ended_early.pop(stream_id, None)
            self._sending.write(reset(stream_id, Reason.STREAM_CLOSED))
            return
        if stream.has_all:
            self._reset(stream, Reason.STREAM_CLOSED)
            return
        if len(data) < SMALL_DATA_BYTES and not is_last:
            self._count_empty()
        stream.received(data, len(payload), is_last=is_last)
        is_too_much = self._kept.size_bytes > self._bounds.kept_bytes_max
        if is_too_much and self._kept_bytes > self._bounds.kept_bytes_min and not stream.is_read:
            self._reset(stream, Reason.ENHANCE_YOUR_CALM)

    def _take_of_window(self, size_bytes: int) -> None:
        """Counts what has come, and lets as much come again: each stream has a window of its own besides."""
        self._receive_window -= size_bytes
        if self._receive_window < 0:
            raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "more was sent than the window of the connection allows")
        if 2 * self._receive_window < RECEIVE_WINDOW_BYTES:
            self._sending.write(self.open_window())

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        check_size(payload, 4)
        increment = int.from_bytes(payload, "big") & WINDOW_BYTES_MAX
        self._count_empty()
        if not increment:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a window that grows by nothing")
        if not stream_id:
            if not self._sending.add_window(increment):
                raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "a window grew too large")
            self._sending.send_waiting()
            return
        self._check_known(stream_id)
        stream = self._open.get(stream_id)
        if stream is None:
            return
        if stream.add_window(increment):
            self._sending.line_up(stream)
            self._sending.send_waiting()
        else:
            self._reset(stream, Reason.FLOW_CONTROL_ERROR)

    # --- header blocks ---------------------------------------------------------------------------------------------

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id % 2:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "streams of clients have odd numbers")
        block = unpadded(flags, payload)
        if flags & PRIORITY:
            if len(block) < 5:
                raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame is too short")
            _judge_dependency(stream_id, block)
            block = block[5:]
        if flags & END_HEADERS:
            self._take_block(stream_id, flags, block)
        else:
            self._block = stream_id, flags, bytearray(block)

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a continuation of no header block")
        self._count_empty()
        _, first_flags, block = self._block
        block += payload
        if len(block) > BLOCK_BYTES_MAX:
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._block = None
            self._take_block(stream_id, first_flags, bytes(block))

    def _take_block(self, stream_id: int, flags: int, block: bytes) -> None:
        is_last = bool(flags & END_STREAM)
        try:
            if stream_id <= self.last_id:
                self._take_trailers(stream_id, block, is_last=is_last)
            else:
                self.last_id = stream_id
                self._begin_stream(stream_id, block, is_last=is_last)
        except StreamEnds as ends:
            stream = self._open.get(stream_id)
            if stream is not None:
                self._reset(stream, ends.reason)
            else:
                self._count_reset()
                self._sending.write(reset(stream_id, ends.reason))
                if not is_last:
                    self._note_ended_early(stream_id)

    def _begin_stream(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        head = self._blocks.head(block)
        if self._lifetime.is_drained or len(self._open) >= self._bounds.streams_max:
            raise StreamEnds(Reason.REFUSED_STREAM, "no more streams are taken")
        self._budgets.allow_answers()
        began_at = self._lifetime.heard_at
        stream = Stream(self._sending, self, stream_id, head, self._initial_window, has_all=is_last, began_at=began_at)
        self._open[stream_id] = stream
        self._begin(stream)

    def _take_trailers(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        stream = self._open.get(stream_id)
        if stream is None and stream_id in self._ended_early:
            self._drop_trailers(stream_id, block, is_last=is_last)
            return
        if stream is None or stream.has_all:
            raise ConnectionEnds(Reason.STREAM_CLOSED, "a header block in a stream that has ended")
        self._blocks.trailers(block)
        if not is_last:
            raise StreamEnds(Reason.PROTOCOL_ERROR, "trailers have to end the stream")
        stream.received(b"", 0, is_last=True)

    def _drop_trailers(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        """Reads fields that were on their way when we ended their stream, for the table that all blocks share.

        (RFC 9113, section 5.1: whoever resets a stream has to bear what comes in it until the other side knows.)
        """
        self._count_empty()
        if is_last:
            del self._ended_early[stream_id]
        with suppress(StreamEnds):  # it has ended, whatever is wrong with them
            self._blocks.trailers(block)

    # --- the others ------------------------------------------------------------------------------------------------

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        self._check_known(stream_id)
        check_size(payload, 4)
        stream = self._open.get(stream_id)
        if stream is not None and self._lifetime.heard_at - stream.began_at < QUICK_SECONDS:
            self._count_reset()
        else:
            self._count_empty()  # of one that has ended: its answer, or its end, was on its way
        if stream is not None:
            stream.end()
        self._ended_early.pop(stream_id, None)  # nothing comes in it any more

    def _take_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        if not stream_id:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a priority of the connection")
        check_size(payload, 5)
        _judge_dependency(stream_id, payload)
        self._count_empty()

    def _take_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags, stream_id, payload
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "clients push nothing")

    TAKE: ClassVar[Mapping[int, Callable[[Any, int, int, bytes], None]]] = {
        Kind.DATA: _take_data,
        Kind.HEADERS: _take_headers,
        Kind.PRIORITY: _take_priority,
        Kind.RST_STREAM: _take_reset,
        Kind.PUSH_PROMISE: _take_push,
        Kind.WINDOW_UPDATE: _take_window_update,
        Kind.CONTINUATION: _take_continuation,
    }

    def _check_known(self, stream_id: int) -> None:
        """Raises ConnectionEnds for a stream that has not begun."""
        if not stream_id or stream_id > self.last_id or not stream_id % 2:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a frame of a stream that has not begun")

    def _reset(self, stream: Stream, reason: Reason) -> None:
        self._count_reset()
        stream.reset(reason)

    def _count_reset(self) -> None:
        self._budgets.count_reset(self._lifetime.heard_at)

    def _count_empty(self) -> None:
        self._budgets.count_empty(self._lifetime.heard_at)


def _judge_dependency(stream_id: int, payload: bytes) -> None:
    """Raises ConnectionEnds for a priority (RFC 9113, section 5.3.1, of which nothing else is used)."""
    if int.from_bytes(payload[:4], "big") & STREAM_ID_MAX == stream_id:
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a stream depends on itself")
