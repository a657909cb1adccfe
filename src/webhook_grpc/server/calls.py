"""What happens around every call, whatever the door; in one place that can be read from top to bottom.

request id → admission → authentication → permission → limits → deadline → parsing → its turn → handler → canonical
error → one log line.

A door makes an `Exchange` of each call that it gets, and sends the error that `serve` returns. Nothing of a request is
parsed before its caller is known.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import structlog
import uuid_utils
from google.protobuf.message import Message

from webhook_grpc.api.call import Call, server_stopping
from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.api.messages.sharing import SharedDeliveries, Write
from webhook_grpc.api.methods import Method, Methods
from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import (
    DeadlineExceeded,
    InternalError,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    WebhookError,
)
from webhook_grpc.domain.fair_shares import RateLimits, ShareLimits
from webhook_grpc.domain.record import record
from webhook_grpc.domain.retention import RetentionPolicy, with_age
from webhook_grpc.domain.trace_context import read_traceparent
from webhook_grpc.store.clock import DatabaseClock

from . import header_names
from .admission import TurnLimits, Turns
from .auth import Authenticator, CertificateNames, no_certificate, token_expired, token_invalid
from .call_limits import (
    RETRY_SECONDS,
    UNKNOWN_MAX,
    CallRates,
    ComingRequests,
    Place,
    Shares,
    UnreadAnswers,
    UnsentBytes,
)
from .log_subjects import customer_of, resources_of, subjects_of
from .unauthenticated_turns import Strangers

rpc_log = structlog.get_logger("webhook_grpc.rpc")

Request = TypeVar("Request", bound=Message)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Exchange(Protocol):
    """One call as its door sees it: what the caller sends, and the way back to the caller."""

    whose: Hashable
    """Whose share of the unread answers its own takes (`Calls.unread`); known before `write`."""

    @property
    def door(self) -> str:
        """Returns the name of the door, for what counts calls: one word."""
        ...

    @property
    def source_address(self) -> str:
        """Returns the IP address that the call comes from: of the last proxy, where there is one."""
        ...

    def header(self, name: str) -> Sequence[str | bytes]:
        """Returns the values that the caller sends under a name in lower case: HTTP headers, metadata of gRPC."""
        ...

    def certificate_names(self) -> Collection[str]:
        """Returns the names in the certificate that the client's connection has shown and the door has verified."""
        ...

    def begin(self, request_id: str) -> None:
        """Takes the id of the call, before anything else happens. Whatever the door sends carries it."""
        ...

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        """Returns the request; the door bounds the time. Raises InvalidArgument if it is too large or can't be parsed.

        However large it is, the loop is held for some milliseconds at a time.
        """
        ...

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        """Takes a response: the door sends it at once if the method streams, and after the call if it has only one.

        `shared` are the deliveries of a streamed one: other watchers get the same.
        """
        ...


class CallListener(Protocol):
    """Hears of every call when it has ended."""

    def ended(self, method: Method[Any, Any], door: str, code: Code, seconds: float) -> None:
        """Called once for each call. Must neither wait nor raise."""
        ...


class Refusals(Protocol):
    """Hears of calls that the audit is about though they changed nothing (hub/refused_calls.py)."""

    def note(self, entry: AuditEntry) -> None:
        """Called once for each call of a known caller that was refused. Must neither wait nor raise."""
        ...


@record
class CallLimits:
    """Bounds of what is served at once, and of how long a call may take. All doors share them."""

    calls: ShareLimits
    streams: ShareLimits
    call_seconds_max: float
    turns: TurnLimits
    reads_at_once: int
    unsent_bytes_max: int
    unread_bytes_max: int
    unread_total_bytes_max: int
    rates: RateLimits


class Calls:
    """Serves the calls of all doors, and bounds how many are in progress."""

    def __init__(
        self,
        methods: Methods,
        authenticator: Authenticator,
        refusals: Refusals,
        clock: DatabaseClock,
        limits: CallLimits,
        retention: RetentionPolicy,
        listener: CallListener,
    ) -> None:
        self._methods = methods
        self._refusals = refusals
        self._listener = listener
        self._authenticator = authenticator
        self._clock = clock
        self._call_seconds_max = limits.call_seconds_max
        self._retention = retention
        self._calls = Shares(limits.calls, "RATE_LIMITED", "calls")
        self._streams = Shares(limits.streams, "TOO_MANY_STREAMS", "streams", UNKNOWN_MAX)
        self._publishing = Turns(limits.turns)  # apart, so that no event waits for those who read and manage
        self._others = Turns(limits.turns)
        # Those that read wait here, in turn by customer, and not for a connection of the pool, first come, first served
        self._reading = Turns(replace(limits.turns, at_once=min(limits.turns.at_once, limits.reads_at_once)))
        self._rates = CallRates(limits.rates)
        self._coming = ComingRequests()
        self._unsent = UnsentBytes(limits.unsent_bytes_max)
        self.strangers = Strangers()
        self.unread = UnreadAnswers(
            limits.unread_bytes_max, limits.unread_total_bytes_max
        )  # the doors know for how long
        self._stopping = False

    def stop(self) -> None:
        """Refuses all calls that come from now on."""
        self._stopping = True

    @property
    def call_count(self) -> int:
        """How many calls of one answer are in progress."""
        return self._calls.in_progress

    @property
    def waiting_count(self) -> int:
        """How many of these wait for their turn."""
        return sum(turns.waiting_count for turns in (self._publishing, self._reading, self._others))

    @property
    def stream_count(self) -> int:
        """How many streams are in progress."""
        return self._streams.in_progress

    async def caller_of(self, authorization: Sequence[str | bytes], names: CertificateNames = no_certificate) -> Caller:
        """Returns the caller with these values of the `authorization` header, or these names in its certificate.

        Raises Unauthenticated, Unavailable.
        """
        return await self._authenticator.authenticate(authorization, self._clock.now(), names)

    async def known_caller(
        self, authorization: Sequence[str | bytes], names: CertificateNames = no_certificate
    ) -> Caller | None:
        """Returns the caller with this token or certificate, whatever it may do; None if nobody is found now."""
        try:
            return await self.caller_of(authorization, names)
        except (Unauthenticated, Unavailable):
            return None

    async def serve(self, method: Method[Any, Any], exchange: Exchange) -> WebhookError | None:
        """Serves one call. Returns None if its responses are written, else the error that the door has to send."""
        call = Call(method.name, _request_id(exchange))
        started_at = time.monotonic()
        code, error = Code.OK, None
        try:
            exchange.begin(call.request_id)
            await self._serve(method, exchange, call)
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception as raised:  # noqa: BLE001 - whatever it is: only an error of ours may reach the caller
            error = self._canonical(raised, call).with_traceback(None)  # which holds this frame, which holds the error
            code = code_of(error)
            if isinstance(error, PermissionDenied) or (isinstance(error, NotFound) and method.changes):
                self._note(exchange, call, error)
        finally:
            if call.refused_part is not None:  # also of a call whose client has left
                self._note(exchange, call, call.refused_part)
            seconds = time.monotonic() - started_at
            self._listener.ended(method, exchange.door, code, seconds)
            _log_call(call, code, error.reason if error else "", seconds)
        if isinstance(error, Unauthenticated) and not call.caller.has_token:
            await self.strangers.wait(exchange.source_address)
        return error

    async def _serve(self, method: Method[Any, Any], exchange: Exchange, call: Call) -> None:
        if self._stopping:
            raise server_stopping()
        with (self._streams if method.streams else self._calls).place() as place:
            authorization = exchange.header(header_names.AUTHORIZATION)
            call.caller = caller = await self.caller_of(authorization, exchange.certificate_names)
            caller.must_have(method.permission)
            if method.changes:
                call.source_address = exchange.source_address
            self._rates.take_of_token(caller)
            place.take_of_caller(caller)
            call.traceparent = read_traceparent(exchange.header(header_names.TRACEPARENT))
            deadline = asyncio.timeout(self._seconds_of(method, caller))
            ends = _Ends(deadline)
            try:
                async with deadline:
                    async with self._coming.place(caller):
                        request = await exchange.read(method.request_type, method.request_bytes_max)
                    call.subjects |= subjects_of(request)
                    customer_id = customer_of(request, caller)
                    self._rates.take_of_customer(customer_id)
                    place.take_of_customer(customer_id)
                    # The tokens of a caller for several customers share one line if the request names no customer
                    whose = caller.line_of(customer_id)
                    # Apart for those who publish: no event is refused because somebody does not read lists
                    exchange.whose = (whose, "publish") if method.permission == "publish" else whose
                    write = self._writer(method, exchange, call)
                    if method.streams:
                        self.unread.check(exchange.whose)
                        await self._run_until_ended(method, request, call, write, ends, place)
                    else:
                        await self._run_in_turn(method, request, call, write, whose, exchange.whose)
            except TimeoutError:
                if method.streams and deadline.expired():
                    raise ends.error(caller) from None
                raise

    async def _run_until_ended(
        self, method: Method[Any, Any], request: Message, call: Call, write: Write, ends: _Ends, place: Place
    ) -> None:
        """Runs a stream until its client leaves, its token is revoked, or a customer without any needs its place."""
        place.let_end(partial(ends.end, _needed_by_another))
        with self._authenticator.holding(call.caller, partial(ends.end, token_invalid)):
            await method.run(self._methods, request, call, write)

    async def _run_in_turn(
        self,
        method: Method[Any, Any],
        request: Message,
        call: Call,
        write: Write,
        whose: Hashable,
        unread_by: Hashable,
    ) -> None:
        turns = self._turns_of(method)
        if not turns.take():
            await turns.wait(whose, request.ByteSize())
        try:
            self.unread.check(unread_by)  # only now: more answers than run at once can't become unread unseen
            await method.run(self._methods, request, call, write)
        finally:
            turns.leave()

    def _turns_of(self, method: Method[Any, Any]) -> Turns:
        if method.permission == "publish":
            return self._publishing
        return self._reading if method.permission == "read" else self._others

    def _seconds_of(self, method: Method[Any, Any], caller: Caller) -> float | None:
        """Returns how long a call may take, None for as long as it likes: a stream ends with its caller's token."""
        if not method.streams:
            return self._call_seconds_max
        if caller.token_expire_time is None:
            return None
        return (caller.token_expire_time - self._clock.now()).total_seconds()

    def _writer(self, method: Method[Any, Any], exchange: Exchange, call: Call) -> Write:
        async def write(response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
            call.subjects |= subjects_of(response)
            await exchange.write(response, shared)

        async def write_one_of_many(response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
            size_bytes = response.ByteSize() + sum(part.size_bytes for part in shared)  # each watcher gets a copy
            async with self._unsent.held(call.customer_id, size_bytes):
                await write(response, shared)

        return write_one_of_many if method.streams else write

    def _note(self, exchange: Exchange, call: Call, error: PermissionDenied | NotFound) -> None:
        """Reports what a known caller may not do, and changes of what it does not have: perhaps another customer's."""
        if not call.caller.has_token:
            return
        call.source_address = exchange.source_address
        entry = call.audit(*resources_of(call.subjects))
        self._refusals.note(replace(entry, result=code_of(error).name, reason=error.reason))

    def _canonical(self, raised: Exception, call: Call) -> WebhookError:
        """Returns the error that the caller gets for what was raised. The text of an unknown one stays in the log."""
        match raised:
            case NotFound():
                return with_age(raised, self._retention, self._clock.now())
            case WebhookError():
                return raised
            case TimeoutError():
                return DeadlineExceeded()
            case _:
                rpc_log.error("unhandled", method=call.method, request_id=call.request_id, exc_info=raised)
                return InternalError(call.request_id)


class _Ends:
    """Why the server ends a stream: the first cause that was given; without one, the caller's token has expired.

    The clock is not compared again: the database's clock may be a little behind when the deadline comes.
    """

    __slots__ = ("_deadline", "_why")

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self._deadline = deadline
        self._why: Callable[[], WebhookError] | None = None

    def end(self, why: Callable[[], WebhookError]) -> None:
        """Ends the stream now, unless it is about to end anyway."""
        if not self._deadline.expired():
            self._why = self._why or why
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def error(self, caller: Caller) -> WebhookError:
        """Returns why the stream of this caller has ended."""
        return token_expired(caller.name) if self._why is None else self._why()


def _needed_by_another() -> Overloaded:
    text = "this server's streams are all taken, most of them by this customer, and another one had none; "
    return Overloaded("TOO_MANY_STREAMS", text + "close some, and resume with the cursor", RETRY_SECONDS)


def _request_id(exchange: Exchange) -> str:
    """Returns the first usable id that the caller sent, else a new one."""
    for value in exchange.header(header_names.REQUEST_ID):
        if isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid_utils.uuid4().hex


def _log_call(call: Call, code: Code, reason: str, seconds: float) -> None:
    """Writes the one line that a call leaves in the log."""
    rpc_log.info(
        "rpc",
        method=call.method,
        code=code.name,
        reason=reason,
        duration_ms=round(seconds * 1000, 1),
        caller=call.caller.name,
        customer_id=call.customer_id,
        request_id=call.request_id,
        **call.subjects,
    )
