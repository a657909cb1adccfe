"""What is sent on one connection: streams take turns, as far as its window goes and as the client takes it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, cast

import structlog

from .budgets import SMALL_DATA_BYTES, Budgets
from .frames import WINDOW_BYTES, WINDOW_BYTES_MAX
from .lifetime import Lifetime, is_given_up
from .stream import TAKEN_BYTES_MIN, Stream

SENT_AT_ONCE: Final = 64  # frames that are sent in one turn of the event loop
BUFFERED_BYTES_MAX: Final = 64 * 1024  # that the client has not taken, before sending waits
CONTROL_BYTES_MAX: Final = 256 * 1024  # the same, of what does not wait: answers to pings and settings
SIZE_UPDATE: Final = b"\x20"  # to 0: the table for what we send, which we do not use (RFC 7541, section 4.2)

log = structlog.get_logger("webhook_grpc.grpc")


class Sending:
    """The bytes that go to one client. Once the connection is ended nothing more is written."""

    def __init__(self, lifetime: Lifetime, budgets: Budgets) -> None:
        self._lifetime = lifetime
        self._budgets = budgets
        self._loop = asyncio.get_running_loop()
        self.transport = cast("asyncio.Transport", None)
        self.window = WINDOW_BYTES
        """How many bytes of data may be sent in all streams."""
        self.is_clogged = False
        """Whether the send buffer is full: the client takes less than is sent."""
        self.sent_at = 0.0
        """When TAKEN_BYTES_MIN were sent last, by the clock of the loop."""
        self._sent_bytes = 0  # since then
        self._lined_up: OrderedDict[int, Stream] = OrderedDict()  # that have something to send, the next one first
        self._untaken: dict[int, Stream] = {}  # whose answers are made, and wait to be taken
        self._is_going_on = False  # in the next turn of the loop
        self._updates_size = self._has_updated_size = False  # of the table for what is sent

    def begin(self, transport: asyncio.Transport) -> None:
        """Takes the transport, before anything else."""
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFERED_BYTES_MAX)

    def write(self, data: bytes) -> None:
        """Sends frames, whether the client takes them or not: up to CONTROL_BYTES_MAX."""
        if self._lifetime.ended_at is not None or self.transport.is_closing():
            return
        self.transport.write(data)
        if self.is_clogged and self.transport.get_write_buffer_size() > CONTROL_BYTES_MAX:
            log.debug("a client that takes nothing was dropped")
            self._lifetime.end(self._loop.time())
            self.transport.abort()

    # --- the client takes more, or less ----------------------------------------------------------------------------

    def pause(self) -> None:
        """Stops sending: more waits to be taken than a connection may hold."""
        self.is_clogged = True
        self._lifetime.clog(self._loop.time())

    def resume(self) -> None:
        """Goes on: most of it is taken."""
        self.is_clogged = False
        self._lifetime.unclog()
        self.send_waiting()

    def add_window(self, increment: int) -> bool:
        """Lets so much more be sent in all streams. Returns whether a window may be so large."""
        self.window += increment
        return self.window <= WINDOW_BYTES_MAX

    def shrink_table(self) -> None:
        """Notes that the client wants a smaller table of header fields: the next block says that none is used."""
        self._updates_size = not self._has_updated_size

    # --- for streams -----------------------------------------------------------------------------------------------

    def as_block(self, block: bytes) -> bytes:
        """Returns a header block as it is sent next; once, if the client wants a smaller table, it begins with that."""
        if not self._updates_size:
            return block
        self._updates_size, self._has_updated_size = False, True
        return SIZE_UPDATE + block

    def take_window(self, size_bytes: int, *, is_cut: bool = False) -> None:
        """Counts data that is sent. `is_cut`: by a window, so that more waits; the client pays for crumbs."""
        self.window -= size_bytes
        self._sent_bytes += size_bytes
        if self._sent_bytes >= TAKEN_BYTES_MIN:
            self.sent_at, self._sent_bytes = self._loop.time(), 0
        if not is_cut or size_bytes >= SMALL_DATA_BYTES:
            self._budgets.allow_answers()

    def line_up(self, stream: Stream) -> None:
        """Lets a stream that has something to send send it when its turn comes."""
        if stream.may_send:
            self._lined_up.setdefault(stream.stream_id, stream)

    def wait_for_taking(self, stream: Stream) -> None:
        """Remembers a stream whose answer is made, so that it is ended if nothing of it is taken for too long."""
        self._untaken[stream.stream_id] = stream

    def untaken(self, now: float) -> list[Stream]:
        """Returns the streams of whose answers nothing was taken for too long."""
        waiting = self._untaken.values()
        return [one for one in waiting if is_given_up(now, one.taken_at, self.sent_at, may_send=one.may_send)]

    def forget(self, stream: Stream) -> None:
        """Forgets a stream that has ended."""
        self._lined_up.pop(stream.stream_id, None)
        self._untaken.pop(stream.stream_id, None)

    def send_waiting(self) -> None:
        """Sends what waits, as the windows allow: a frame of each stream in turn."""
        aside = list[Stream]()  # that need the window of the connection, which is used up
        for _ in range(SENT_AT_ONCE):
            if not self._lined_up or self.is_clogged:
                break
            _, stream = self._lined_up.popitem(last=False)
            if stream.may_send and stream.needs_window and self.window <= 0:
                aside.append(stream)
            elif stream.may_send:
                stream.send_some()
                self.line_up(stream)
        for stream in reversed(aside):
            self._lined_up[stream.stream_id] = stream
            self._lined_up.move_to_end(stream.stream_id, last=False)
        if self.is_clogged or not self._lined_up or aside:
            return  # whoever makes room calls this again
        if not self._is_going_on:
            self._is_going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_going_on = False
        self.send_waiting()
