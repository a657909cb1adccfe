"""What happens around every call, in one place that can be read from top to bottom.

request id → admission → authentication → permission → parsing → deadline → handler → status and details → one log line.

Handlers are registered with raw bytes, so that nothing of a request is parsed before its caller is known. (A stack of
interceptors would not see the request, and grpc.aio's break streams.)
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from webhook_grpc.api.call import Call, server_stopping
from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.domain.access import Permission
from webhook_grpc.domain.errors import (
    NotFound,
    Overloaded,
    WebhookError,
    field_invalid,
)
from webhook_grpc.domain.retention import RetentionPolicy, with_age
from webhook_grpc.server.grpc.status import DETAILS_KEY, details_of, grpc_status, status_details
from webhook_grpc.store.clock import DatabaseClock

from .auth import Authenticator
from .subjects import subjects_of

rpc_log = structlog.get_logger("webhook_grpc.rpc")

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID_KEY: Final = "x-request-id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of what is served at once, and of how long a call may take."""

    calls_max: int
    streams_max: int
    call_seconds_max: float


class Calls:
    """Wraps handlers; counts what is in progress."""

    def __init__(
        self, authenticator: Authenticator, clock: DatabaseClock, limits: CallLimits, retention: RetentionPolicy
    ) -> None:
        self._authenticator = authenticator
        self._clock = clock
        self._limits = limits
        self._retention = retention
        self._calls = 0
        self._streams = 0
        self.stopping = False

    def unary(
        self,
        method: str,
        permission: Permission,
        request_type: type[Request],
        handler: Callable[[Request, Call], Awaitable[Message]],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Registers a handler of one request and one response."""

        async def handle(raw: bytes, context: Context) -> bytes:
            async def body(call: Call) -> bytes:
                self._admit(self._calls, self._limits.calls_max, "RATE_LIMITED", "calls")
                self._calls += 1
                try:
                    request = self._request(raw, context, call, permission, request_type)
                    async with asyncio.timeout(self._limits.call_seconds_max):
                        response = await handler(request, call)
                    call.subjects |= subjects_of(response)
                    return response.SerializeToString()
                finally:
                    self._calls -= 1

            return await self._run(method, context, body)

        return grpc.unary_unary_rpc_method_handler(handle, None, None)

    def stream(
        self,
        method: str,
        permission: Permission,
        request_type: type[Request],
        handler: Callable[[Request, Call, Callable[[Message], Awaitable[None]]], Awaitable[None]],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Registers a handler of one request and a stream of responses, which it writes itself.

        A coroutine rather than a generator: a generator hides how long a write blocks.
        """

        async def handle(raw: bytes, context: Context) -> None:
            async def write(message: Message) -> None:
                await context.write(message.SerializeToString())

            async def body(call: Call) -> None:
                self._admit(self._streams, self._limits.streams_max, "TOO_MANY_STREAMS", "streams")
                self._streams += 1
                try:
                    await handler(self._request(raw, context, call, permission, request_type), call, write)
                finally:
                    self._streams -= 1

            await self._run(method, context, body)

        return grpc.unary_stream_rpc_method_handler(handle, None, None)

    def _admit(self, in_progress: int, limit: int, reason: str, what: str) -> None:
        if self.stopping:
            raise server_stopping()
        if in_progress >= limit:
            raise Overloaded(reason, f"this server is serving {limit} {what} already; retry later", 1.0)

    def _request(
        self, raw: bytes, context: Context, call: Call, permission: Permission, request_type: type[Request]
    ) -> Request:
        metadata = context.invocation_metadata() or ()
        authorization = [value for key, value in metadata if key == "authorization"]
        call.caller = self._authenticator.authenticate(authorization, self._clock.now())
        call.caller.must_have(permission)
        try:
            request = request_type.FromString(raw)
        except DecodeError:
            raise field_invalid("", "the request is not a valid protobuf message of its type") from None
        call.subjects |= subjects_of(request)
        return request

    async def _run(self, method: str, context: Context, body: Callable[[Call], Awaitable[Any]]) -> Any:
        """Runs a handler and turns whatever it raises into a status."""
        call = Call(method, _request_id(context))
        started_at = time.monotonic()
        code, reason = Code.OK, ""
        try:
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
            return await body(call)
        except WebhookError as error:
            if isinstance(error, NotFound):
                error = with_age(error, self._retention, self._clock.now())
            code, reason = code_of(error), error.reason
            await _abort(context, call, code, error.message, details_of(error))
        except TimeoutError:
            code, reason = Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"
            message = "the call took longer than the server allows"
            await _abort(context, call, code, message, status_details(code, message, reason))
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception:  # noqa: BLE001 - whatever it is, its text must not reach the caller (grpc.aio would send it)
            code, reason = Code.INTERNAL, "INTERNAL"
            rpc_log.exception("unhandled", method=method, request_id=call.request_id)
            message = f"internal error; give this request id to the operator: {call.request_id}"
            await _abort(context, call, code, message, status_details(code, message, reason))
        finally:
            _log_call(call, code, reason, time.monotonic() - started_at)


async def _abort(context: Context, call: Call, code: Code, message: str, details: bytes) -> None:
    trailing = ((REQUEST_ID_KEY, call.request_id), (DETAILS_KEY, details))
    await context.abort(grpc_status(code), message, trailing)


def _request_id(context: Context) -> str:
    """The caller's own request id if it sent a usable one, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid4().hex


def _log_call(call: Call, code: Code, reason: str, seconds: float) -> None:
    """The one line that a call leaves in the log."""
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
