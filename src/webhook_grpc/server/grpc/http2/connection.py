"""One connection of HTTP/2, server side (RFC 9113): its bytes, and the frames that concern all of it.

What a connection can cost is bounded: the frames that are looked at in one turn of the loop (read_scheduling.py), the
streams that are open at a time (streams.py), resets and frames that bring nothing (budgets.py), the bytes of a header
block (header_blocks.py), what nobody takes (sending.py), and how long it may be silent, idle or old (lifetime.py).
Whoever goes beyond gets GOAWAY and is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, cast

import structlog

from .bounds import Bounds, Kept
from .budgets import Budgets
from .frames import (
    ACK,
    STREAM_ID_MAX,
    ConnectionEnds,
    Kind,
    Reason,
    Setting,
    check_size,
    frame,
    goaway,
    read_settings,
    settings,
)
from .incoming import Incoming, NotHttp2
from .lifetime import Due, Lifetime, Step
from .read_scheduling import Reading
from .sending import Sending
from .stream import Stream
from .streams import Streams

FRAMES_AT_ONCE: Final = 200  # that are looked at in one turn of the event loop
LIST_BYTES_ADVISED: Final = 16 * 1024  # of header fields: announced to clients
TABLE_BYTES: Final = 4096  # of the table of header fields, before anybody says otherwise
LINGER_SECONDS: Final = 1.0  # for the client to close first: what it sends to a closed socket can cost it the answer
_ALIVE: Final = b"are-you?"
_DRAIN: Final = b"draining"

log = structlog.get_logger("webhook_grpc.grpc")


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
        turn_away: Callable[[bytes, str, float], bytes],
    ) -> None:
        """`made` and `lost` are called once each; `made` with a transport.

        `turn_away` returns the answer to a client that speaks something else: of what it said, its address, and when.
        """
        self._bounds = bounds
        self._reading = reading
        self._begin = begin
        self._made = made
        self._lost = lost
        self._turn_away_with = turn_away
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.transport = cast("asyncio.Transport", None)
        self.lifetime = Lifetime(now, bounds.idle_seconds_max, bounds.age_seconds_max)
        self._budgets = Budgets(now)
        self.sending = Sending(self.lifetime, self._budgets)
        self._streams = Streams(
            bounds, kept, self.sending, self.lifetime, self._budgets, self._begin_stream, self._note_unused
        )
        self._incoming = Incoming()
        self._is_lined_up = False  # for its turn to be read
        self._has_announced = False
        self._has_heard = asyncio.Event()  # set when the client knows that no more streams are taken, or has left
        self._goaway_id = STREAM_ID_MAX

    @property
    def stream_count(self) -> int:
        """Returns how many streams are open."""
        return self._streams.count

    # --- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins. Nothing is sent before the client has said what it speaks: in TLS, too, some do not announce it."""
        self.transport = cast("asyncio.Transport", transport)
        self.lifetime.begin(self._loop.time())  # a handshake of TLS may have taken some seconds
        self.sending.begin(self.transport)
        self._made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all streams."""
        del exc
        self._has_heard.set()
        self._note_end()
        self._lost(self)

    def pause_writing(self) -> None:
        """Called when more waits to be taken than a connection may hold."""
        self.sending.pause()

    def resume_writing(self) -> None:
        """Called when most of it is taken."""
        self.sending.resume()

    def data_received(self, data: bytes) -> None:
        """Takes in what has come."""
        self.lifetime.hear(self._loop.time())
        self._incoming.add(data)
        if not self._is_lined_up:
            self.look_at_frames()

    def look_at_frames(self) -> None:
        """Looks at the frames that have come whole; for those that are too many, the connection lines up again."""
        was_lined_up, self._is_lined_up = self._is_lined_up, False
        if self.lifetime.ended_at is None:
            try:
                self._is_lined_up = self._take_frames(has_turn=was_lined_up)
            except NotHttp2 as ends:
                self._turn_away(ends)
            except ConnectionEnds as ends:
                self.close(ends.reason, str(ends))
            except Exception:  # a mistake of ours: the other connections are read on
                log.exception("a connection could not be read")
                self.close(Reason.INTERNAL_ERROR)
        if self.lifetime.ended_at is not None:
            self._incoming.clear()
            self._is_lined_up = False
        if self._is_lined_up:
            self._reading.line_up(self)
        if was_lined_up is not self._is_lined_up and not self.transport.is_closing():
            (self.transport.pause_reading if self._is_lined_up else self.transport.resume_reading)()

    def _take_frames(self, *, has_turn: bool) -> bool:
        """Takes the frames that have come. Returns whether there are more than may be taken at once.

        `has_turn`: it has waited, so it takes one at least.
        """
        incoming = self._incoming
        if not incoming.has_begun():
            return False
        self._announce()
        taken_count, has_time = 0, self._reading.has_time() or has_turn
        while has_time and taken_count < FRAMES_AT_ONCE and self.lifetime.ended_at is None:
            found = incoming.next()
            if found is None:
                break
            self._take_frame(*found)
            taken_count, has_time = taken_count + 1, self._reading.has_time()
        incoming.drop_taken()
        if taken_count and not self._streams.is_in_block:
            self.lifetime.hear_whole()
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
        self.sending.write(settings(announced) + self._streams.open_window())

    def _turn_away(self, ends: NotHttp2) -> None:
        """Ends the connection of a client that speaks something else, with words that it understands."""
        peer: Any = self.transport.get_extra_info("peername")
        answer = self._turn_away_with(ends.coming, str(peer[0]) if peer else "", self.lifetime.heard_at)
        if not answer:
            self.close(ends.reason, str(ends))
            return
        self.sending.write(answer)
        self._note_end()
        self._linger()

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._streams.is_in_block and kind != Kind.CONTINUATION:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a header block goes on behind another frame")
        if not self.lifetime.has_settings and kind != Kind.SETTINGS:
            raise ConnectionEnds(Reason.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
        if (take := Streams.TAKE.get(kind)) is not None:
            take(self._streams, flags, stream_id, payload)
        elif (take := self._TAKE.get(kind)) is not None:
            if stream_id:
                raise ConnectionEnds(Reason.PROTOCOL_ERROR, "a frame of the connection in a stream")
            take(self, flags, payload)
        else:
            self._count_empty()  # a kind that is not known is ignored

    # --- frames of the connection ----------------------------------------------------------------------------------

    def _take_settings(self, flags: int, payload: bytes) -> None:
        self._count_empty()
        if flags & ACK:
            check_size(payload, 0)
            return
        found = read_settings(payload)
        self.lifetime.has_settings = True
        if any(key == Setting.HEADER_TABLE_SIZE and value < TABLE_BYTES for key, value in found):
            self.sending.shrink_table()
        self.sending.write(frame(Kind.SETTINGS, ACK, 0))
        windows = [value for key, value in found if key == Setting.INITIAL_WINDOW_SIZE]
        if windows:
            self._streams.set_initial_window(windows[-1])

    def _take_ping(self, flags: int, payload: bytes) -> None:
        check_size(payload, 8)
        self._count_empty()
        if not flags & ACK:
            self.sending.write(frame(Kind.PING, ACK, 0, payload))
        elif payload == _DRAIN:
            self.refuse_streams()

    def _take_goaway(self, flags: int, payload: bytes) -> None:
        """Notes nothing: the client ends the connection itself, when its streams have ended."""
        del flags, payload
        self._count_empty()

    _TAKE: ClassVar[Mapping[int, Callable[[Any, int, bytes], None]]] = {
        Kind.SETTINGS: _take_settings,
        Kind.PING: _take_ping,
        Kind.GOAWAY: _take_goaway,
    }

    def _count_empty(self) -> None:
        self._budgets.count_empty(self.lifetime.heard_at)

    # --- its streams -----------------------------------------------------------------------------------------------

    def _begin_stream(self, stream: Stream) -> None:
        self._begin(self, stream)

    def _note_unused(self) -> None:
        """Notes that the last stream has ended."""
        self.lifetime.become_idle(self._loop.time())
        if self.lifetime.is_drained and self.lifetime.ended_at is None:
            self.close(Reason.NO_ERROR)

    # --- its end ---------------------------------------------------------------------------------------------------

    def drain(self) -> asyncio.Event:
        """Lets the client begin no more streams, without losing one that is on its way; ends when all have ended.

        (RFC 9113, section 6.8: the number of the last stream follows when the client has heard of it.) Returns what is
        set then.
        """
        if self.lifetime.drain(self._loop.time()):
            self._announce()
            self.sending.write(goaway(STREAM_ID_MAX, Reason.NO_ERROR) + frame(Kind.PING, 0, 0, _DRAIN))
        return self._has_heard

    def refuse_streams(self) -> None:
        """Takes no more streams on a connection that is being drained, whether the client has heard of it or not."""
        if self.lifetime.ended_at is not None or not self.lifetime.refuse():
            return
        self._has_heard.set()
        self._goaway_id = self._streams.last_id
        if self._streams.count:
            self.sending.write(goaway(self._goaway_id, Reason.NO_ERROR))
        else:
            self.close(Reason.NO_ERROR)

    def close(self, reason: Reason, problem: str = "") -> None:
        """Ends the connection, and all streams in it. If nothing is wrong the client gets a moment to close first."""
        if self.lifetime.ended_at is not None:
            return
        if reason is not Reason.NO_ERROR:
            log.debug("a connection was ended", reason=reason.name, problem=problem)
        self.sending.write(goaway(min(self._streams.last_id, self._goaway_id), reason, problem))  # it must not grow
        self._note_end()
        if reason is Reason.NO_ERROR:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Sends no more, and takes what still comes: a socket that is closed before loses what is not taken of it."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            with suppress(OSError):  # the client has just left
                self.transport.write_eof()
        self._loop.call_later(LINGER_SECONDS, self.transport.close)

    def look(self, now: float) -> None:
        """Does what time brings: called about once a second."""
        for due in self.lifetime.due(now, has_streams=bool(self._streams.count)):
            self._do(due)
        if self.lifetime.ended_at is None:
            for stream in self.sending.untaken(now):
                stream.reset(Reason.CANCEL)

    def _do(self, due: Due) -> None:
        match due.step:
            case Step.ASK:
                self.sending.write(frame(Kind.PING, 0, 0, _ALIVE))
            case Step.DRAIN:
                self.drain()
            case Step.REFUSE:
                self.refuse_streams()
            case Step.LEAVE:
                self.refuse_streams()
                self._streams.leave_all()
            case Step.CLOSE:
                self.close(Reason.NO_ERROR)
            case Step.DROP:
                self._drop(due.problem)

    def _drop(self, problem: str) -> None:
        log.debug("a connection was dropped", problem=problem)
        self.lifetime.end(self._loop.time())
        self.transport.abort()

    def _note_end(self) -> None:
        self.lifetime.end(self._loop.time())
        self._incoming.clear()
        self._streams.end_all()
