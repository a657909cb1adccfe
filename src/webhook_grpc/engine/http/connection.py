"""One connection to a receiver: where it leads, one request at a time, and whose bytes are believed."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import cast

from webhook_grpc.domain.egress import EgressPolicy, why_address_blocked

from .answer import RAW_BYTES_MAX, Answer, AnswerReader
from .faults import BlockedDestination, Disconnected, NotHttp, NotSendable


class Connection(asyncio.Protocol):
    """A connection to an address that may be called.

    It is never closed politely: a receiver that reads nothing would keep it open. One whose request failed, was given
    up or was answered with too many bytes is of no use any more: the next bytes on it may belong to that request.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        body_bytes_max: int,
        body_seconds_max: float,
        ended: Callable[[Connection], None],
    ) -> None:
        """`ended` is called once, when the connection is no more. `body_seconds_max`: for the body, after its head."""
        self._policy = policy
        self._reader = AnswerReader(body_bytes_max)
        self._body_seconds_max = body_seconds_max
        self._ended = ended
        self._wire: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None  # the wire, or TLS on it
        self._answered: asyncio.Future[None] | None = None  # of the request that is under way
        self._timer: asyncio.TimerHandle | None = None
        self._early = b""  # what arrived before the first request
        self._arrival: asyncio.Future[None] | None = None  # of more of it, or of the end
        self._refused: OSError | None = None
        self._lost_by: BaseException | None = None
        self._is_lost = False
        self.made_at = time.monotonic()
        self.request_count = 0
        self.answered_at = 0.0
        """When the head of the latest answer was read."""

    # --- its beginning and its end ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Looks at where the connection really leads, before anything is written to it."""
        self._wire = self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:  # the receiver has reset the connection already
            self._refuse(Disconnected())
        elif why_address_blocked(peer[0], self._policy) is not None:
            self._refuse(BlockedDestination())

    def _refuse(self, error: OSError) -> None:
        self._refused = error
        self.abort()

    def raise_if_refused(self) -> None:
        """Raises OSError if the connection leads to where it should not, or nowhere."""
        if self._refused is not None:
            raise self._refused

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Speaks TLS from here on, with a receiver that proves to be the host. Raises OSError, ssl.SSLError too."""
        if self._is_lost:
            raise self._lost_by or Disconnected()
        if self._early:
            raise ssl.SSLError("the receiver spoke before it was greeted")
        assert self._transport is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, server_hostname=host
            )
        except ssl.SSLError:  # some are ValueErrors too
            raise
        except ValueError as error:
            raise NotSendable("the host name fits no certificate") from error

    async def read_head(self, request: bytes, bytes_max: int) -> bytes:
        """Sends a request to the proxy, not to the receiver; returns the head of the proxy's answer. Raises OSError."""
        assert self._transport is not None
        self._transport.write(request)
        while not (end := self._early.find(b"\r\n\r\n") + 4) > 3:
            if self._is_lost or len(self._early) > bytes_max:
                raise self._lost_by or Disconnected()
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        head, self._early = self._early[:end], self._early[end:]
        return head

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent, as far as the connection knows."""
        assert self._transport is not None
        return not self._is_lost and not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has arrived since the latest request."""
        return self._reader.raw_bytes == 0

    def abort(self) -> None:
        """Ends the connection, and drops what is unsent."""
        self._is_lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called when the connection is no more."""
        self._is_lost = True
        self._lost_by = exc
        self._end_answer()
        self._arrived()
        self._ended(self)

    def eof_received(self) -> None:
        """Called when the receiver sends no more."""
        self._end_answer()
        self.abort()
        self._arrived()

    # --- one request -----------------------------------------------------------------------------------------------

    async def exchange(self, request: bytes, seconds_max: float) -> Answer:
        """Sends a request and returns its answer.

        Raises TimeoutError when there is no status line in so many seconds, NotHttp, or OSError (ssl.SSLError,
        Disconnected) if the connection ends before there is one.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        answered = self._answered = loop.create_future()
        self._timer = loop.call_later(seconds_max, self._be_late)
        self._reader.start()
        self.request_count += 1
        early, self._early = self._early, b""
        try:
            if self.is_open:
                self._transport.write(request)
            if early:
                self.data_received(early)
            if self._is_lost:
                self._end_answer()
            await answered
        except BaseException:
            self.abort()
            raise
        finally:
            self._answered = None
            self._timer.cancel()
        return self._reader.answer()

    def data_received(self, data: bytes) -> None:
        """Takes what has arrived. What no request waits for ends the connection, unless it precedes the first one."""
        if self._answered is None and self.request_count == 0 and len(self._early) <= RAW_BYTES_MAX:
            self._early += data
            self._arrived()
        elif self._answered is None or self._answered.done():
            self.abort()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        had_head = self._reader.head_is_read
        try:
            self._reader.feed(data)
        except NotHttp as error:
            self._fail(error)
            return
        if self._reader.head_is_read and not had_head:
            self._answer_begins()
        if self._reader.is_ended:
            self._finish()

    def _answer_begins(self) -> None:
        """Starts the deadline of the body, which is not the deadline of the head."""
        self.answered_at = time.monotonic()
        if not self._reader.is_ended:
            assert self._timer is not None
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(self._body_seconds_max, self._be_late)

    def _finish(self) -> None:
        """Ends the wait with the answer: its status is known."""
        assert self._answered is not None
        if not self._reader.head_is_read:
            self.answered_at = time.monotonic()
        if not self._reader.is_reusable or self._has_unsent:
            self.abort()
        self._answered.set_result(None)

    @property
    def _has_unsent(self) -> bool:
        """Whether a part of the request waits for the receiver to read what precedes it."""
        assert self._transport is not None
        assert self._wire is not None
        return self._transport.get_write_buffer_size() > 0 or self._wire.get_write_buffer_size() > 0

    def _fail(self, error: BaseException) -> None:
        assert self._answered is not None
        self._answered.set_exception(error)

    def _be_late(self) -> None:
        self._end_answer(TimeoutError())

    def _end_answer(self, error: BaseException | None = None) -> None:
        """Ends the wait for the answer. What was read counts as the answer if it holds a status."""
        if self._answered is None or self._answered.done():
            return
        if self._reader.status is None:
            self._fail(error or self._lost_by or Disconnected())
        else:
            self._reader.cut_off()
            self._finish()
