"""One connection of HTTP/2, server side (RFC 9113).

What a connection can cost is bounded: the frames that are looked at in one turn of the loop, the streams that are open
at a time, resets and frames that bring nothing (budgets.py), the bytes of a header block, the answers to pings that
nobody takes, and how long it may be silent, idle or old. Whoever goes beyond gets GOAWAY and is closed.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, cast

import structlog

from webhook_grpc.domain.record import record
from webhook_grpc.server.strangers import Strangers

from .budgets import EMPTY_FRAMES, RESETS, Budget
from .frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    PREFACE,
    PRIORITY,
    STREAM_ID_MAX,
    WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    ConnectionEnds,
    Kind,
    Reason,
    Setting,
    StreamEnds,
    frame,
    goaway,
    reset,
    settings,
    unpadded,
    window_update,
)
from .header_blocks import BLOCK_BYTES_MAX, BlockReader
from .reading import Reading
from .stream import Stream

FRAMES_AT_ONCE: Final = 200  # that are looked at in one turn of the event loop
SENT_AT_ONCE: Final = 64  # frames that are sent in one turn of the event loop
CONNECTION_WINDOW_BYTES: Final = 1024 * 1024  # that a client may have on its way, in all streams
LIST_BYTES_ADVISED: Final = 16 * 1024  # of header fields: announced to clients
SMALL_WINDOW_BYTES: Final = 1024  # an update of less brings nothing
SMALL_DATA_BYTES: Final = 64  # data of less neither, but the last
ANSWERED_BY: Final = 4  # frames that bring nothing, which a client may send for each call and each frame of data
BUFFERED_BYTES_MAX: Final = 64 * 1024  # that the client has not taken, before sending waits
UNTAKEN_SECONDS_MAX: Final = 10.0  # that an answer may wait without a byte of it being taken
CLOGGED_SECONDS_MAX: Final = 30.0  # that a client may take nothing at all
CONTROL_BYTES_MAX: Final = 256 * 1024  # the same, of what does not wait: answers to pings and settings
SETTINGS_MAX: Final = 32  # in one frame
TABLE_BYTES: Final = 4096  # of the table of header fields, before anybody says otherwise
SIZE_UPDATE: Final = b"\x20"  # to 0: the table for what we send, which we do not use (RFC 7541, section 4.2)
SETTINGS_SECONDS_MAX: Final = 10.0  # from the connection to its settings
QUICK_SECONDS: Final = 1.0  # a stream that lived longer costs no more than others do, though it is reset
SILENT_SECONDS_MAX: Final = 30.0  # then the client is asked whether it is still there
PING_SECONDS_MAX: Final = 10.0
AGE_SECONDS_MAX: Final = 30 * 60.0
AGE_GRACE_SECONDS: Final = 60.0  # for the streams of a connection that is too old
CLOSE_SECONDS_MAX: Final = 5.0  # for the client to take the last bytes

LINGER_SECONDS: Final = 1.0  # for the client to close first: what it sends to a closed socket can cost it the answer
_ALIVE: Final = b"are-you?"
_HTTP_1: Final = re.compile(rb"[A-Z]{1,20} ")
_TLS: Final = b"\x16\x03"  # the begin of a handshake
_WORDS: Final = b"This port speaks gRPC, which is HTTP/2. HTTP/1.1 is served at WEBHOOK_HTTP_ADDRESS.\n"
_NOT_HTTP_1: Final = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_WORDS), _WORDS)
)
_DRAIN: Final = b"draining"

log = structlog.get_logger("webhook_grpc.grpc")


@record
class Bounds:
    """What a connection may have."""

    streams_max: int
    idle_seconds_max: float
    """Without a stream."""
    age_seconds_max: float
    kept_bytes_max: int
    """Of requests that are not read yet, in all connections together; only who keeps much has to give way."""
    kept_bytes_min: int
    """That a connection may keep, whatever others do."""


class Kept:
    """How many bytes of requests have come that are not read yet, in all connections."""

    def __init__(self) -> None:
        self.size_bytes = 0


class Connection(asyncio.Protocol):
    """One connection. `begin` gets each stream when its head has come."""

    def __init__(
        self,
        bounds: Bounds,
        kept: Kept,
        reading: Reading,
        begin: Callable[[Connection, Stream], None],
        made: Callable[[Connection], None],
        lost: Callable[[Connection], None],
        strangers: Strangers,
    ) -> None:
        """`made` and `lost` are called once each; `made` with a transport."""
        self._bounds = bounds
        self._kept = kept
        self._kept_bytes = 0
        self._reading = reading
        self._begin = begin
        self._made = made
        self._lost = lost
        self._strangers = strangers
        self._loop = asyncio.get_running_loop()
        self.transport = cast("asyncio.Transport", None)
        self.send_window = WINDOW_BYTES
        self.is_clogged = False
        self._streams: dict[int, Stream] = {}
        self._untaken: dict[int, Stream] = {}  # whose answers are made, and wait to be taken
        self._lined_up: OrderedDict[int, Stream] = OrderedDict()  # that have something to send, the next one first
        self._blocks = BlockReader()
        self._block: tuple[int, int, bytearray] | None = None  # of whose header block more has to come
        self._coming = b""
        self._is_lined_up = False  # for its turn to be read
        self._is_sending = False  # in the next turn
        self._last_id = 0
        self._initial_window = WINDOW_BYTES
        self._receive_window = WINDOW_BYTES
        now = self._loop.time()
        self._resets, self._empty = Budget(RESETS, now), Budget(EMPTY_FRAMES, now)
        self._began_at = self._heard_at = self._idle_since = now
        self._asked_at: float | None = None  # whether the client is still there
        self._has_preface = self._has_announced = self._has_settings = False
        self._drain_at: float | None = None  # since when no new streams are wanted
        self._is_drained = False  # none are taken any more
        self._has_heard = asyncio.Event()  # set when the client knows that, or has left
        self._ended_at: float | None = None
        self._clogged_at = self._sent_at = 0.0
        self._goaway_id = STREAM_ID_MAX
        self._updates_size = self._has_updated_size = False  # of the table for what is sent

    # --- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins. Nothing is sent before the client has said what it speaks: in TLS, too, some do not announce it."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFERED_BYTES_MAX)
        self._made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all streams."""
        del exc
        self._ended_at = self._ended_at or self._loop.time()
        self._coming = b""
        self._has_heard.set()
        for stream in list(self._streams.values()):
            stream.end()
        self._lost(self)

    def pause_writing(self) -> None:
        """Called when more waits to be taken than a connection may hold."""
        self.is_clogged = True
        self._clogged_at = self._loop.time()

    def resume_writing(self) -> None:
        """Called when most of it is taken."""
        self.is_clogged = False
        self.send_waiting()

    def data_received(self, data: bytes) -> None:
        """Takes in what has come."""
        self._heard_at = self._loop.time()
        self._coming = self._coming + data if self._coming else data
        if not self._is_lined_up:
            self.look_at_frames()

    def look_at_frames(self) -> None:
        """Looks at the frames that have come whole; for those that are too many, the connection lines up again."""
        was_lined_up, self._is_lined_up = self._is_lined_up, False
        if self._ended_at is None:
            try:
                self._is_lined_up = self._take_frames(has_turn=was_lined_up)
            except ConnectionEnds as ends:
                self.close(ends.reason, str(ends))
            except Exception:  # a mistake of ours: the other connections are read on
                log.exception("a connection could not be read")
                self.close(Reason.INTERNAL_ERROR)
        if self._ended_at is not None:
            self._coming, self._is_lined_up = b"", False
        if self._is_lined_up:
            self._reading.line_up(self)
        if was_lined_up is not self._is_lined_up and not self.transport.is_closing():
            (self.transport.pause_reading if self._is_lined_up else self.transport.resume_reading)()

    def _take_frames(self, *, has_turn: bool) -> bool:
        """Takes the frames that have come. Returns whether there are more than may be taken at once.

        `has_turn`: it has waited, so it takes one at least.
        """
        coming, at = self._coming, 0
        if not self._has_preface:
            if not coming.startswith(PREFACE[: len(coming)]):
                self._turn_away(coming)
                return False
            if len(coming) < len(PREFACE):
                return False
            self._has_preface, at = True, len(PREFACE)
            self._announce()
        taken_count, has_time = 0, self._reading.has_time() or has_turn
        while len(coming) - at >= HEAD_BYTES and self._ended_at is None:
            size = int.from_bytes(coming[at : at + 3], "big")
            if size > FRAME_BYTES_MAX:
                raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame is larger than allowed")
            end = at + HEAD_BYTES + size
            if end > len(coming) or taken_count == FRAMES_AT_ONCE or not has_time:
                break
            stream_id = int.from_bytes(coming[at + 5 : at + 9], "big") & STREAM_ID_MAX
            kind, flags, at = coming[at + 3], coming[at + 4], at + HEAD_BYTES
            self._take_frame(kind, flags, stream_id, coming[at:end])
            at, taken_count, has_time = end, taken_count + 1, self._reading.has_time()
        self._coming = coming[at:]
        return taken_count == FRAMES_AT_ONCE or not has_time

    def _announce(self) -> None:
        """Sends the settings, once: the first frame."""
        if self._has_announced:
            return
        self._has_announced = True
        announced = {
            Setting.MAX_CONCURRENT_STREAMS: self._bounds.streams_max,
            Setting.MAX_HEADER_LIST_SIZE: LIST_BYTES_ADVISED,
        }
        self.write(settings(announced) + window_update(0, CONNECTION_WINDOW_BYTES - WINDOW_BYTES))
        self._receive_window = CONNECTION_WINDOW_BYTES

    def _turn_away(self, coming: bytes) -> None:
        """Ends the connection of a client that speaks something else, with words that it understands."""
        if _HTTP_1.match(coming):
            self._speaks("HTTP/1 came to the gRPC port", "gRPC is HTTP/2: set the proxy, or the client, to h2c or h2")
            self.write(_NOT_HTTP_1)
            self._end(Reason.NO_ERROR)
            return
        if coming.startswith(_TLS):
            remedy = "let the client speak plain text, or set WEBHOOK_TLS_CERTIFICATE_FILE and WEBHOOK_TLS_KEY_FILE"
            self._speaks("TLS came to the gRPC port, which speaks plain text", remedy)
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "this is not HTTP/2")

    def _speaks(self, kind: str, remedy: str) -> None:
        peer: Any = self.transport.get_extra_info("peername")
        self._strangers.note(kind, str(peer[0]) if peer else "", remedy, self._heard_at)

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != Kind.CONTINUATION:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a header block goes on behind another frame")
        if not self._has_settings and kind != Kind.SETTINGS:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
        take = self._TAKE.get(kind)
        if take is None:
            self._count_empty()  # a kind that is not known is ignored
        else:
            take(self, flags, stream_id, payload)

    # --- frames of streams -----------------------------------------------------------------------------------------

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_known(stream_id)
        self._take_of_window(len(payload))
        data, is_last = unpadded(flags, payload), bool(flags & END_STREAM)
        stream = self._streams.get(stream_id)
        if stream is None:  # it has ended here; perhaps the client did not know that yet
            if len(payload) < SMALL_DATA_BYTES:
                self._count_empty()
            self.write(reset(stream_id, Reason.STREAM_CLOSED))
            return
        if stream.has_all:
            self._count_reset()
            stream.reset(Reason.STREAM_CLOSED)
            return
        if len(data) < SMALL_DATA_BYTES and not is_last:
            self._count_empty()
        stream.received(data, len(payload), is_last=is_last)
        is_too_much = self._kept.size_bytes > self._bounds.kept_bytes_max
        if is_too_much and self._kept_bytes > self._bounds.kept_bytes_min and not stream.is_read:
            self._count_reset()
            stream.reset(Reason.ENHANCE_YOUR_CALM)

    def _take_of_window(self, size_bytes: int) -> None:
        """Counts what has come, and lets as much come again: each stream has a window of its own besides."""
        self._receive_window -= size_bytes
        if self._receive_window < 0:
            raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "more was sent than the window of the connection allows")
        if 2 * self._receive_window < CONNECTION_WINDOW_BYTES:
            self.write(window_update(0, CONNECTION_WINDOW_BYTES - self._receive_window))
            self._receive_window = CONNECTION_WINDOW_BYTES

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id % 2:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "streams of clients have odd numbers")
        block = unpadded(flags, payload)
        if flags & PRIORITY:
            if len(block) < 5:
                raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame is too short")
            self._judge_dependency(stream_id, block)
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
            if stream_id <= self._last_id:
                self._take_trailers(stream_id, block, is_last=is_last)
            else:
                self._last_id = stream_id
                self._open(stream_id, block, is_last=is_last)
        except StreamEnds as ends:
            self._count_reset()
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.reset(ends.reason)
            else:
                self.write(reset(stream_id, ends.reason))

    def _open(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        head = self._blocks.head(block)
        if self._is_drained or len(self._streams) >= self._bounds.streams_max:
            raise StreamEnds(Reason.REFUSED_STREAM, "no more streams are taken")
        self._empty.give(ANSWERED_BY)
        stream = self._streams[stream_id] = Stream(
            self, stream_id, head, self._initial_window, has_all=is_last, began_at=self._heard_at
        )
        self._begin(self, stream)

    def _take_trailers(self, stream_id: int, block: bytes, *, is_last: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.has_all:
            raise ConnectionEnds(Reason.STREAM_CLOSED, "a header block in a stream that has ended")
        self._blocks.trailers(block)
        if not is_last:
            raise StreamEnds(Reason.PROTOCOL_ERROR, "trailers have to end the stream")
        stream.received(b"", 0, is_last=True)

    def _take_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        self._check_known(stream_id)
        _check_size(payload, 4)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._count_empty()  # its answer, or its end, was on its way
            return
        if self._heard_at - stream.began_at < QUICK_SECONDS:
            self._count_reset()
        else:
            self._count_empty()
        stream.end()

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        _check_size(payload, 4)
        increment = int.from_bytes(payload, "big") & WINDOW_BYTES_MAX
        if increment < SMALL_WINDOW_BYTES:
            self._count_empty()
        if not increment:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a window that grows by nothing")
        if not stream_id:
            self.send_window += increment
            if self.send_window > WINDOW_BYTES_MAX:
                raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "a window grew too large")
            self.send_waiting()
            return
        self._check_known(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.add_window(increment):
            self.line_up(stream)
            self.send_waiting()
        else:
            self._count_reset()
            stream.reset(Reason.FLOW_CONTROL_ERROR)

    def _take_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags
        if not stream_id:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a priority of the connection")
        _check_size(payload, 5)
        self._judge_dependency(stream_id, payload)
        self._count_empty()

    def _judge_dependency(self, stream_id: int, payload: bytes) -> None:
        if int.from_bytes(payload[:4], "big") & STREAM_ID_MAX == stream_id:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a stream depends on itself")

    def _take_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        del flags, stream_id, payload
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "clients push nothing")

    def _check_known(self, stream_id: int) -> None:
        """Raises ConnectionEnds for a stream that has not begun."""
        if not stream_id or stream_id > self._last_id or not stream_id % 2:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a frame of a stream that has not begun")

    # --- frames of the connection ----------------------------------------------------------------------------------

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_of_connection(stream_id)
        self._count_empty()
        if flags & ACK:
            _check_size(payload, 0)
            return
        if len(payload) % 6:
            raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "settings that are not whole")
        if len(payload) > 6 * SETTINGS_MAX:
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many settings in a frame")
        self._has_settings = True
        for at in range(0, len(payload), 6):
            key = int.from_bytes(payload[at : at + 2], "big")
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            _judge_setting(key, value)
            if key == Setting.HEADER_TABLE_SIZE and value < TABLE_BYTES:
                self._updates_size = not self._has_updated_size
        self.write(frame(Kind.SETTINGS, ACK, 0))
        windows = [payload[at + 2 : at + 6] for at in range(0, len(payload), 6) if payload[at : at + 2] == b"\0\4"]
        if windows:
            self._set_initial_window(int.from_bytes(windows[-1], "big"))

    def _set_initial_window(self, window_bytes: int) -> None:
        change, self._initial_window = window_bytes - self._initial_window, window_bytes
        if not change:
            return
        for stream in self._streams.values():
            if not stream.add_window(change):
                raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "a window grew too large")
            if change > 0:
                self.line_up(stream)
        self.send_waiting()

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_of_connection(stream_id)
        _check_size(payload, 8)
        self._count_empty()
        if not flags & ACK:
            self.write(frame(Kind.PING, ACK, 0, payload))
        elif payload == _DRAIN:
            self.refuse_streams()

    def _take_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Notes nothing: the client ends the connection itself, when its streams have ended."""
        del flags, payload
        self._check_of_connection(stream_id)
        self._count_empty()

    def _check_of_connection(self, stream_id: int) -> None:
        if stream_id:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a frame of the connection in a stream")

    _TAKE: ClassVar[Mapping[int, Callable[[Any, int, int, bytes], None]]] = {
        Kind.DATA: _take_data,
        Kind.HEADERS: _take_headers,
        Kind.PRIORITY: _take_priority,
        Kind.RST_STREAM: _take_reset,
        Kind.SETTINGS: _take_settings,
        Kind.PUSH_PROMISE: _take_push,
        Kind.PING: _take_ping,
        Kind.GOAWAY: _take_goaway,
        Kind.WINDOW_UPDATE: _take_window_update,
        Kind.CONTINUATION: _take_continuation,
    }

    # --- budgets ---------------------------------------------------------------------------------------------------

    def _count_reset(self) -> None:
        if not self._resets.take(self._heard_at):
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many streams were reset")

    def _count_empty(self) -> None:
        if not self._empty.take(self._heard_at):
            raise ConnectionEnds(Reason.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def kept(self, size_bytes: int) -> None:
        """Counts what has come and is not read yet, or, negative, what is not kept any more."""
        self._kept.size_bytes += size_bytes
        self._kept_bytes += size_bytes

    # --- sending ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Sends frames, whether the client takes them or not: up to CONTROL_BYTES_MAX."""
        if self._ended_at is not None or self.transport.is_closing():
            return
        self.transport.write(data)
        if self.is_clogged and self.transport.get_write_buffer_size() > CONTROL_BYTES_MAX:
            log.debug("a client that takes nothing was dropped")
            self._ended_at = self._loop.time()
            self.transport.abort()

    def take_window(self, size_bytes: int) -> None:
        """Counts data that is sent."""
        self.send_window -= size_bytes
        self._sent_at = self._loop.time()
        self._empty.give(ANSWERED_BY)

    def as_block(self, block: bytes) -> bytes:
        """Returns a header block as it is sent next; once, if the client wants a smaller table, it begins with that."""
        if not self._updates_size:
            return block
        self._updates_size, self._has_updated_size = False, True
        return SIZE_UPDATE + block

    def line_up(self, stream: Stream) -> None:
        """Lets a stream that has something to send send it when its turn comes."""
        if stream.may_send:
            self._lined_up.setdefault(stream.stream_id, stream)

    def wait_for_taking(self, stream: Stream) -> None:
        """Ends a stream whose answer is made, if nothing of it is taken for too long."""
        self._untaken[stream.stream_id] = stream

    def send_waiting(self) -> None:
        """Sends what waits, as the windows allow: a frame of each stream in turn."""
        aside = list[Stream]()  # that need the window of the connection, which is used up
        for _ in range(SENT_AT_ONCE):
            if not self._lined_up or self.is_clogged:
                break
            _, stream = self._lined_up.popitem(last=False)
            if stream.may_send and stream.needs_window and self.send_window <= 0:
                aside.append(stream)
            elif stream.may_send:
                stream.send_some()
                self.line_up(stream)
        for stream in reversed(aside):
            self._lined_up[stream.stream_id] = stream
            self._lined_up.move_to_end(stream.stream_id, last=False)
        if self.is_clogged or not self._lined_up or aside:
            return  # whoever makes room calls this again
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_soon(self._send_more)

    def _send_more(self) -> None:
        self._is_sending = False
        self.send_waiting()

    def forget(self, stream: Stream) -> None:
        """Called once, when a stream has ended."""
        self._streams.pop(stream.stream_id, None)
        self._lined_up.pop(stream.stream_id, None)
        self._untaken.pop(stream.stream_id, None)
        if stream.has_answer:
            self._resets.give(1)  # who has calls that end as they should may reset some
        if not self._streams:
            self._idle_since = self._loop.time()
            if self._is_drained and self._ended_at is None:
                self.close(Reason.NO_ERROR)

    # --- its end ---------------------------------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        """Returns how many streams are open."""
        return len(self._streams)

    def drain(self) -> asyncio.Event:
        """Lets the client begin no more streams, without losing one that is on its way; ends when all have ended.

        (RFC 9113, section 6.8: the number of the last stream follows when the client has heard of it.) Returns what is
        set then.
        """
        if self._drain_at is None and self._ended_at is None:
            self._drain_at = self._loop.time()
            self._announce()
            self.write(goaway(STREAM_ID_MAX, Reason.NO_ERROR) + frame(Kind.PING, 0, 0, _DRAIN))
        return self._has_heard

    def refuse_streams(self) -> None:
        """Takes no more streams on a connection that is being drained, whether the client has heard of it or not."""
        if self._drain_at is None or self._is_drained or self._ended_at is not None:
            return
        self._is_drained = True
        self._has_heard.set()
        self._goaway_id = self._last_id
        if self._streams:
            self.write(goaway(self._last_id, Reason.NO_ERROR))
        else:
            self.close(Reason.NO_ERROR)

    def close(self, reason: Reason, problem: str = "") -> None:
        """Ends the connection, and all streams in it. If nothing is wrong the client gets a moment to close first."""
        if self._ended_at is not None:
            return
        if reason is not Reason.NO_ERROR:
            log.debug("a connection was ended", reason=reason.name, problem=problem)
        self.write(goaway(min(self._last_id, self._goaway_id), reason, problem))  # it must not grow
        self._end(reason)

    def _end(self, reason: Reason) -> None:
        self._ended_at = self._loop.time()
        self._coming = b""
        for stream in list(self._streams.values()):
            stream.end()
        if reason is Reason.NO_ERROR:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Sends no more, and takes what still comes: a socket that is closed before loses what is not taken of it."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, self.transport.close)

    def look(self, now: float) -> None:
        """Does what time brings: called about once a second."""
        if self._ended_at is not None:
            if now - self._ended_at > CLOSE_SECONDS_MAX:
                self.transport.abort()
            return
        self._look_at_client(now)
        self._look_at_age(now)
        for stream in list(self._untaken.values()):
            is_in_turn = stream.may_send and now - self._sent_at <= UNTAKEN_SECONDS_MAX  # others' are taken meanwhile
            if now - stream.taken_at > UNTAKEN_SECONDS_MAX and not is_in_turn:
                stream.reset(Reason.CANCEL)

    def _look_at_client(self, now: float) -> None:
        if not self._has_settings:
            if now - self._began_at > SETTINGS_SECONDS_MAX:
                self._abort("no settings came")
        elif self.is_clogged and now - self._clogged_at > CLOGGED_SECONDS_MAX:
            self._abort("a client takes nothing")
        elif self._asked_at is not None and self._heard_at < self._asked_at:
            if now - self._asked_at > PING_SECONDS_MAX:
                self._abort("a client is not there any more")
        elif now - self._heard_at > SILENT_SECONDS_MAX:
            self._asked_at = now
            self.write(frame(Kind.PING, 0, 0, _ALIVE))

    def _look_at_age(self, now: float) -> None:
        if self._ended_at is not None:
            return
        is_idle = not self._streams and now - self._idle_since > self._bounds.idle_seconds_max
        if self._drain_at is None and (is_idle or now - self._began_at > self._bounds.age_seconds_max):
            self.drain()
        elif self._drain_at is not None and now - self._drain_at > AGE_GRACE_SECONDS + UNTAKEN_SECONDS_MAX:
            self.close(Reason.NO_ERROR)
        elif self._drain_at is not None and now - self._drain_at > AGE_GRACE_SECONDS:
            self.refuse_streams()
            for stream in list(self._streams.values()):
                stream.leave()  # with a status: of a stream that just breaks off, proxies make INTERNAL
        elif self._drain_at is not None and now - self._drain_at > CLOSE_SECONDS_MAX:
            self.refuse_streams()

    def _abort(self, problem: str) -> None:
        log.debug("a connection was dropped", problem=problem)
        self._ended_at = self._loop.time()
        self.transport.abort()


def _check_size(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionEnds(Reason.FRAME_SIZE_ERROR, "a frame has a wrong size")


def _judge_setting(key: int, value: int) -> None:
    """Raises ConnectionEnds for a value that a setting can't have (RFC 9113, section 6.5.2)."""
    if key == Setting.ENABLE_PUSH and value > 1:
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
    if key == Setting.INITIAL_WINDOW_SIZE and value > WINDOW_BYTES_MAX:
        raise ConnectionEnds(Reason.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
    if key == Setting.MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 2**24:
        raise ConnectionEnds(Reason.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
