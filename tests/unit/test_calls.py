"""The pipeline around every call, with a door made for these tests: JSON in, JSON out, and no transport at all.

That this door needs nothing but METHODS and `Calls.serve` shows that another one can be added without touching either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from structlog.testing import capture_logs
from webhook.v1 import service_pb2 as pb
from webhook.v1.webhook_pb2 import Webhook

from tests.support import slowness
from tests.support.tokens import SEALER, NoTokens
from webhook_grpc.api.call import Call
from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.api.messages.sharing import SharedDeliveries
from webhook_grpc.api.methods import METHODS, Method, Methods, Stream, Unary
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import FailedPrecondition, NotFound, PermissionDenied, WebhookError, field_invalid
from webhook_grpc.domain.fair_shares import RateLimits, ShareLimits
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.metrics.calls import CallTally
from webhook_grpc.server.admission import TurnLimits
from webhook_grpc.server.auth import Authenticator, no_certificate
from webhook_grpc.server.calls import CallLimits, CallListener, Calls
from webhook_grpc.settings import Token
from webhook_grpc.store.clock import DatabaseClock

Request = TypeVar("Request", bound=Message)
Answer = Callable[[Any, Call], Awaitable[Message]]
WEBHOOK_ID = 7
BODY = {"customer_id": 42, "webhook_id": WEBHOOK_ID}
READER = "Bearer reader"


class Noted:
    """Takes refused calls."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


class JsonExchange:
    """A call of a door that speaks JSON. `steps`: what the pipeline asked of the door, in order."""

    def __init__(self, body: dict[str, Any] | None = None, **headers: str | bytes) -> None:
        self.body = BODY if body is None else body
        self.headers: dict[str, str | bytes] = {"authorization": READER}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.steps: list[str] = []
        self.request_id = ""
        self.written: list[dict[str, Any]] = []

    door = "json"
    whose: Hashable = None
    source_address = "192.0.2.1"
    certificate_names = staticmethod(no_certificate)

    def header(self, name: str) -> Sequence[str | bytes]:
        self.steps.append(name)
        return [self.headers[name]] if name in self.headers else []

    def begin(self, request_id: str) -> None:
        self.steps.append("begin")
        self.request_id = request_id

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        del bytes_max
        self.steps.append("read")
        try:
            return json_format.ParseDict(self.body, request_type())
        except json_format.ParseError as error:
            raise field_invalid("", str(error)) from None

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        self.steps.append("write")
        self.written.append(json_format.MessageToDict(response, preserving_proto_field_name=True))


def calls(
    calls_max: int = 10,
    streams_max: int = 10,
    call_seconds_max: float = 60.0,
    methods: object = None,
    listener: CallListener | None = None,
    refusals: Noted | None = None,
    tokens: Sequence[Token] = (),
    clock: DatabaseClock | None = None,
    calls_at_once: int = 10,
    waiting_bytes_max: int = 1000,
    reads_at_once: int = 10,
) -> Calls:
    """The pipeline, with a token that may do everything, one that may read and one that may publish."""
    tokens = tokens or [
        Token(name="operator", sha256=token_hash("operator"), permissions=("read", "publish", "manage", "admin")),
        Token(name="reader", sha256=token_hash("reader"), permissions=("read",)),
        Token(name="publisher", sha256=token_hash("publisher"), permissions=("publish",)),
    ]
    return Calls(
        cast("Methods", methods),
        Authenticator(tokens, NoTokens(), SEALER, anonymous_allowed=False),
        Noted() if refusals is None else refusals,
        DatabaseClock() if clock is None else clock,
        CallLimits(
            ShareLimits(calls_max, calls_max, calls_max),
            ShareLimits(streams_max, streams_max, streams_max),
            call_seconds_max,
            TurnLimits(calls_at_once, 10, waiting_bytes_max, slowness.scaled(10.0)),
            reads_at_once=reads_at_once,
            unsent_bytes_max=1_000_000,
            unread_bytes_max=1_000_000,
            unread_total_bytes_max=1_000_000,
            rates=RateLimits(0, 0),
        ),
        RetentionPolicy(events_days=3, attempts_days=3, idempotency_keys_hours=24, audit_days=400),
        CallTally() if listener is None else listener,
    )


def method(answer: Answer) -> Method[Any, Any]:
    """A method that these tests carry out themselves."""
    return Unary("GetWebhook", "read", pb.GetWebhookRequest, Webhook, lambda _: answer)


async def named(request: pb.GetWebhookRequest, call: Call) -> Webhook:
    """Answers with a webhook of the id that was asked for."""
    call.customer_id = request.customer_id
    return Webhook(webhook_id=request.webhook_id, name="a name")


def refusing(error: Exception) -> Answer:
    """Raises the error."""

    async def answer(_: object, __: Call) -> Message:
        raise error

    return answer


class Held:
    """A method that has begun and does not end before it is released."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()

    async def answer(self, _: object, __: Call) -> Webhook:
        self.begun.set()
        await self.released.wait()
        return Webhook()

    async def stream(self, _: object, call: Call, write: Callable[[Any], Awaitable[None]]) -> None:
        await write(await self.answer(None, call))


async def reason_of(serving: Awaitable[WebhookError | None]) -> str:
    """Why a call is refused, empty if it is not."""
    error = await serving
    return error.reason if error else ""


# --- a call that succeeds --------------------------------------------------------------------------------------------


async def test_a_call_goes_through_the_steps_in_their_order() -> None:
    exchange = JsonExchange()

    assert await calls().serve(method(named), exchange) is None

    assert exchange.steps == ["x-request-id", "begin", "authorization", "traceparent", "read", "write"]
    assert exchange.written == [{"webhook_id": str(WEBHOOK_ID), "name": "a name"}]


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
async def test_every_method_of_the_table_is_served_by_a_door_that_names_none(row: Method[Any, Any]) -> None:
    class Group:
        """Stands in for a group of methods: whatever function the row names, it is the one below."""

        def __getattr__(self, _: str) -> Any:
            return carry_out

    class Groups:
        """Stands in for Methods."""

        def __getattr__(self, _: str) -> Any:
            return Group()

    async def carry_out(request: Any, _: Call, write: Callable[[Any], Awaitable[None]] | None = None) -> Any:
        assert isinstance(request, row.request_type)
        return await write(row.response_type()) if write else row.response_type()

    pipeline = calls(methods=Groups())
    exchange = JsonExchange({}, authorization="Bearer operator")

    assert await pipeline.serve(row, exchange) is None

    assert exchange.written == [{}]


async def test_a_stream_writes_each_response_when_it_has_it() -> None:
    async def twice(request: pb.GetWebhookRequest, _: Call, write: Callable[[Webhook], Awaitable[None]]) -> None:
        await write(Webhook(webhook_id=request.webhook_id))
        assert len(exchange.written) == 1
        await write(Webhook(name="second"))

    exchange = JsonExchange()
    stream = Stream("Watch", "read", pb.GetWebhookRequest, Webhook, lambda _: twice)

    assert await calls().serve(stream, exchange) is None

    assert exchange.written == [{"webhook_id": str(WEBHOOK_ID)}, {"name": "second"}]


@pytest.mark.parametrize(
    ("sent", "is_used"),
    [("my-id.1_A", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), (b"bytes", False)],
)
async def test_a_usable_request_id_of_the_caller_is_kept(sent: str | bytes, *, is_used: bool) -> None:
    exchange = JsonExchange(x_request_id=sent)
    await calls().serve(method(named), exchange)
    assert (exchange.request_id == sent) is is_used
    assert len(exchange.request_id) == (len(sent) if is_used else 32)


@pytest.mark.parametrize(
    ("permission", "error", "noted"),
    [
        ("manage", None, ("PERMISSION_DENIED", "PERMISSION_MISSING", ())),
        ("read", PermissionDenied("CUSTOMER_NOT_ALLOWED", "no"), ("PERMISSION_DENIED", "CUSTOMER_NOT_ALLOWED", True)),
        ("read", NotFound("webhook", "7"), None),
        ("read", field_invalid("name", "no"), None),
    ],
)
async def test_a_refused_call_of_a_known_caller_is_noted(permission: Any, error: Exception | None, noted: Any) -> None:
    refusals = Noted()
    row = Unary("GetWebhook", permission, pb.GetWebhookRequest, Webhook, lambda _: refusing(error or AssertionError()))
    await calls(refusals=refusals).serve(row, JsonExchange(x_request_id="my-id"))

    if noted is None:
        assert refusals.entries == []
        return
    result, reason, has_parsed = noted
    resources = (f"webhook:{WEBHOOK_ID}",) if has_parsed else ()
    assert refusals.entries == [
        AuditEntry("GetWebhook", "reader", None, "192.0.2.1", "my-id", None, resources, (), result, reason)
    ]


async def test_a_change_of_what_the_caller_does_not_have_is_noted_and_an_unknown_caller_is_not() -> None:
    refusals = Noted()
    absent = refusing(NotFound("webhook", "7"))
    row = Unary("DeleteWebhook", "manage", pb.GetWebhookRequest, Webhook, lambda _: absent)
    pipeline = calls(refusals=refusals)
    for authorization in ("Bearer operator", "Bearer nobody"):
        await pipeline.serve(row, JsonExchange(authorization=authorization))

    assert [(entry.caller, entry.result, entry.reason) for entry in refusals.entries] == [
        ("operator", "NOT_FOUND", "WEBHOOK_NOT_FOUND")
    ]


async def test_a_call_leaves_one_line_in_the_log() -> None:
    with capture_logs() as lines:
        await calls().serve(method(named), JsonExchange(x_request_id="my-id"))

    [line] = lines
    assert line.pop("duration_ms") >= 0
    assert line == {
        "log_level": "info",
        "event": "rpc",
        "method": "GetWebhook",
        "code": "OK",
        "reason": "",
        "caller": "reader",
        "customer_id": 42,
        "request_id": "my-id",
        "webhook_id": WEBHOOK_ID,
    }


# --- a call that is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "reason"), [("Bearer unknown", "TOKEN_INVALID"), ("Bearer publisher", "PERMISSION_MISSING")]
)
async def test_the_request_of_a_caller_that_may_not_call_is_never_read(authorization: str, reason: str) -> None:
    exchange = JsonExchange(authorization=authorization)

    assert await reason_of(calls().serve(method(named), exchange)) == reason

    assert exchange.steps == ["x-request-id", "begin", "authorization"]


async def test_what_the_door_cannot_parse_is_an_error_like_any_other() -> None:
    error = await calls().serve(method(named), JsonExchange({"webhook_id": "seven"}))
    assert error is not None
    assert code_of(error).name == "INVALID_ARGUMENT"
    assert "webhook_id" in error.message


async def test_an_error_of_ours_is_returned_as_it_is_and_logged_with_its_code_and_reason() -> None:
    refused = FailedPrecondition("WEBHOOK_STATUS", "it is paused", "webhook:7")
    exchange = JsonExchange()

    with capture_logs() as lines:
        assert await calls().serve(method(refusing(refused)), exchange) is refused

    assert exchange.written == []
    assert [(line["code"], line["reason"]) for line in lines] == [("FAILED_PRECONDITION", "WEBHOOK_STATUS")]


async def test_an_object_that_may_have_been_dropped_is_not_found_with_its_age() -> None:
    made_at = DatabaseClock().now() - timedelta(days=5)
    error = await calls().serve(method(refusing(NotFound("event", "evt_1", made_at))), JsonExchange())
    assert error is not None
    assert "its id is 5 days old, they are kept for 3" in error.message


@pytest.mark.parametrize("place", ["handler", "write"])
async def test_the_text_of_an_unknown_error_stays_in_the_log(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = RuntimeError("secret dsn")
    exchange = JsonExchange(x_request_id="my-id")

    async def fail(_: Message, __: Sequence[SharedDeliveries]) -> None:
        raise unknown

    if place == "write":
        monkeypatch.setattr(exchange, "write", fail)

    with capture_logs() as lines:
        error = await calls().serve(method(refusing(unknown) if place == "handler" else named), exchange)

    assert error is not None
    assert error.message == "internal error; give this request id to the operator: my-id"
    unhandled, line = lines
    assert unhandled["exc_info"] is unknown
    assert (unhandled["event"], unhandled["request_id"]) == ("unhandled", "my-id")
    assert (line["code"], line["reason"]) == ("INTERNAL", "INTERNAL")


class Endings:
    """What the listener of calls hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def ended(self, method: Method[Any, Any], door: str, code: Code, seconds: float) -> None:
        assert seconds >= 0
        self.heard.append((method.name, door, code.name))


async def test_the_listener_hears_of_each_call_once_with_its_door_and_code() -> None:
    endings = Endings()
    pipeline = calls(listener=endings)
    await pipeline.serve(method(named), JsonExchange())
    await pipeline.serve(method(refusing(RuntimeError("a bug"))), JsonExchange())
    await pipeline.serve(method(named), JsonExchange(authorization="Bearer nobody"))
    assert endings.heard == [("GetWebhook", "json", code) for code in ("OK", "INTERNAL", "UNAUTHENTICATED")]


async def test_a_call_that_takes_too_long_ends_with_deadline_exceeded() -> None:
    error = await calls(call_seconds_max=0.01).serve(method(Held().answer), JsonExchange())
    assert error is not None
    assert (code_of(error).name, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


async def test_a_cancelled_call_stays_cancelled_and_is_logged() -> None:
    held = Held()
    with capture_logs() as lines:
        task = asyncio.create_task(calls().serve(method(held.answer), JsonExchange()))
        await soon(held.begun.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(line["event"], line["code"], line["reason"]) for line in lines] == [("rpc", "CANCELLED", "")]


# --- how many at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["released", "cancelled"])
async def test_a_call_beyond_the_limit_is_refused_before_its_caller_is_known(ending: str) -> None:
    pipeline, held = calls(calls_max=1), Held()
    first = asyncio.create_task(pipeline.serve(method(held.answer), JsonExchange()))
    await soon(held.begun.wait())
    second = JsonExchange(authorization="Bearer unknown")

    assert await reason_of(pipeline.serve(method(named), second)) == "RATE_LIMITED"
    assert second.steps == ["x-request-id", "begin"]

    if ending == "released":
        held.released.set()
    else:
        first.cancel()
    await asyncio.wait([first])
    assert await reason_of(pipeline.serve(method(named), JsonExchange())) == ""


@pytest.mark.parametrize("stands_still", [False, True])
async def test_a_stream_ends_with_the_token_of_its_caller(
    monkeypatch: pytest.MonkeyPatch, *, stands_still: bool
) -> None:
    """Though the clock of the database, as it is known here, has fallen behind meanwhile: that is no revocation."""
    clock = DatabaseClock()
    now = clock.now()
    if stands_still:
        monkeypatch.setattr(clock, "now", lambda: now)
    token = Token(name="short", sha256=token_hash("short"), expires=clock.now() + timedelta(seconds=0.05))
    pipeline, held = calls(tokens=[token], clock=clock), Held()
    stream = Stream("Watch", "read", pb.GetWebhookRequest, Webhook, lambda _: held.stream)

    assert await reason_of(pipeline.serve(stream, JsonExchange(authorization="Bearer short"))) == "TOKEN_EXPIRED"
    assert held.begun.is_set(), "it was open before"


async def test_calls_of_one_kind_wait_for_their_turn_and_those_that_publish_do_not_wait_for_others() -> None:
    pipeline, held = calls(calls_at_once=1), Held()
    first = asyncio.create_task(pipeline.serve(method(held.answer), JsonExchange()))
    await soon(held.begun.wait())
    second = asyncio.create_task(pipeline.serve(method(named), JsonExchange()))
    await asyncio.sleep(0)  # now it waits
    publishing = Unary("PublishEvent", "publish", pb.GetWebhookRequest, Webhook, lambda _: named)

    assert await reason_of(pipeline.serve(publishing, JsonExchange(authorization="Bearer publisher"))) == ""
    assert (pipeline.call_count, pipeline.waiting_count) == (2, 1)

    held.released.set()
    assert [await first, await second] == [None, None]
    assert (pipeline.call_count, pipeline.waiting_count) == (0, 0)


async def test_who_reads_waits_in_turn_by_customer_while_those_who_change_something_go_on() -> None:
    """The database has few connections: without turns a customer with a hundred slow lists is before everybody else."""
    pipeline, held, order = calls(reads_at_once=1, calls_max=100, waiting_bytes_max=10_000), Held(), list[int]()

    async def noted(request: pb.GetWebhookRequest, call: Call) -> Webhook:
        order.append(request.customer_id)
        return await named(request, call)

    def read(customer_id: int) -> asyncio.Task[Any]:
        return asyncio.create_task(pipeline.serve(method(noted), JsonExchange({**BODY, "customer_id": customer_id})))

    first = asyncio.create_task(pipeline.serve(method(held.answer), JsonExchange()))
    await soon(held.begun.wait())
    crowd = [read(1) for _ in range(9)]
    await asyncio.sleep(0)
    other = read(2)
    await asyncio.sleep(0)  # now they wait
    change = Unary("PauseWebhook", "manage", pb.GetWebhookRequest, Webhook, lambda _: named)
    assert await reason_of(pipeline.serve(change, JsonExchange(authorization="Bearer operator"))) == ""

    held.released.set()
    assert await asyncio.gather(first, *crowd, other) == [None] * 11
    assert order[:2] == [1, 2]


async def test_a_call_that_waits_counts_with_the_bytes_of_its_request() -> None:
    size_bytes = json_format.ParseDict(BODY, pb.GetWebhookRequest()).ByteSize()
    pipeline, held = calls(calls_at_once=1, waiting_bytes_max=size_bytes), Held()
    first = asyncio.create_task(pipeline.serve(method(held.answer), JsonExchange()))
    await soon(held.begun.wait())
    second = asyncio.create_task(pipeline.serve(method(named), JsonExchange()))
    await asyncio.sleep(0)  # now it waits
    assert await reason_of(pipeline.serve(method(named), JsonExchange())) == "RATE_LIMITED"
    held.released.set()
    assert [await first, await second] == [None, None]


async def test_streams_have_places_of_their_own_and_no_deadline() -> None:
    pipeline, held = calls(calls_max=1, streams_max=1, call_seconds_max=0.001), Held()
    stream = Stream("Watch", "read", pb.GetWebhookRequest, Webhook, lambda _: held.stream)
    first = asyncio.create_task(pipeline.serve(stream, JsonExchange()))
    await soon(held.begun.wait())

    assert await reason_of(pipeline.serve(stream, JsonExchange())) == "TOO_MANY_STREAMS"
    assert await reason_of(pipeline.serve(method(Held().answer), JsonExchange())) == "DEADLINE_EXCEEDED"

    held.released.set()
    assert await first is None


async def test_a_pipeline_that_is_stopped_refuses_new_calls_and_lets_the_others_end() -> None:
    pipeline, held = calls(), Held()
    first = asyncio.create_task(pipeline.serve(method(held.answer), JsonExchange()))
    await soon(held.begun.wait())

    pipeline.stop()

    assert await reason_of(pipeline.serve(method(named), JsonExchange())) == "SERVER_STOPPING"
    held.released.set()
    assert await first is None


async def soon(wait: Awaitable[object]) -> None:
    """Waits, but not for ever."""
    async with slowness.timeout(10):
        await wait
