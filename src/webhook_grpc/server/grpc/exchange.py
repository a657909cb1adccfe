"""Calls of gRPC: raw bytes in, raw bytes out, and the status of an error.

Methods are registered as ones that read their requests themselves, as raw bytes. So nothing of a request is parsed
before its caller is known, nor is more of it received than the first 64 KiB. (A stack of interceptors would not see the
request, and those of grpc.aio break streams.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc.api.messages import wire
from webhook_grpc.api.messages.sharing import Form, SharedDeliveries, joined, write_in_steps
from webhook_grpc.api.methods import Method
from webhook_grpc.domain.errors import WebhookError, field_invalid
from webhook_grpc.server.calls import REQUEST_ID_KEY, Calls

from .beginnings import Beginnings
from .credentials import certificate_names
from .status import DETAILS_KEY, details_of, grpc_status, message_of

Request = TypeVar("Request", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
_EOF: Final = cast("Any", grpc.aio).EOF  # its types lack it


def rpc_handler(method: Method[Any, Any], calls: Calls, read_seconds_max: float, beginnings: Beginnings) -> Any:
    """Returns the handler of a method that gRPC calls. `read_seconds_max`: for a request to come whole."""

    async def unary(_: object, context: Context) -> bytes:
        exchange = _UnaryExchange(context, read_seconds_max)
        error = await calls.serve(method, exchange)
        if error is not None:
            await exchange.abort(error)
        # gRPC calls this when the client has taken everything, or has left
        cast("Any", context).add_done_callback(calls.unread.hold(exchange.whose, len(exchange.response)))
        return exchange.response

    async def stream(_: object, context: Context) -> None:
        exchange = _StreamExchange(context, read_seconds_max)
        error = await calls.serve(method, exchange)
        if exchange.last_bytes:  # perhaps still on its way; the status comes behind it
            cast("Any", context).add_done_callback(calls.unread.hold(exchange.whose, exchange.last_bytes))
        if error is not None:
            await exchange.abort(error)

    if method.streams:
        return cast("Any", grpc).stream_stream_rpc_method_handler(beginnings.in_turn(stream))
    return cast("Any", grpc).stream_unary_rpc_method_handler(beginnings.in_turn(unary))


class _Exchange:
    """What calls of one response and of many have in common."""

    door = "grpc"
    whose: Hashable = None

    def __init__(self, context: Context, read_seconds_max: float) -> None:
        self._context = context
        self._read_seconds_max = read_seconds_max
        self._headers: dict[str, list[str | bytes]] = {}
        for key, value in context.invocation_metadata() or ():
            self._headers.setdefault(key, []).append(value)
        self._request_id = ""

    @property
    def source_address(self) -> str:
        return address_of(self._context.peer())

    def header(self, name: str) -> Sequence[str | bytes]:
        return self._headers.get(name, ())

    def certificate_names(self) -> Collection[str]:
        return certificate_names(self._context)

    def begin(self, request_id: str) -> None:
        self._request_id = request_id
        self._context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        try:
            async with asyncio.timeout(self._read_seconds_max):
                raw: Any = await self._context.read()
        except TimeoutError:
            message = f"the request did not come within {self._read_seconds_max:g} s"
            raise field_invalid("", message, "BODY_TOO_SLOW") from None
        if raw is _EOF:
            raise field_invalid("", "the call has no request")
        if len(raw) > bytes_max:
            message = f"the request has {len(raw)} bytes; this method takes at most {bytes_max}"
            raise field_invalid("", message, "BODY_TOO_LARGE", limit=str(bytes_max))
        try:
            return await wire.parse(raw, request_type)
        except DecodeError:
            raise field_invalid("", "the request is not a valid protobuf message of its type") from None

    async def abort(self, error: WebhookError) -> NoReturn:
        """Ends the call with the status of an error."""
        trailing = ((REQUEST_ID_KEY, self._request_id), (DETAILS_KEY, details_of(error)))
        try:
            await self._context.abort(grpc_status(error), message_of(error), trailing)
        except grpc.aio.InternalError:  # the client has left meanwhile
            raise asyncio.CancelledError from None


def address_of(peer: str) -> str:
    """Returns the IP address in what gRPC says of a peer: `ipv4:192.0.2.1:4711`, `ipv6:%5B2001:db8::1%5D:4711`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


class _UnaryExchange(_Exchange):
    """A call of one response, which gRPC sends when the handler returns it."""

    response: bytes

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        assert not shared, "a method of one response shares nothing"
        self.response = response.SerializeToString()


class _StreamExchange(_Exchange):
    """A call of many responses. `last_bytes`: of the last one, 0 before there is any."""

    last_bytes = 0

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        await write_in_steps(shared, ENTRIES)
        raw = joined(shared, ENTRIES) + response.SerializeToString()
        try:
            if not self.last_bytes:  # apart: gRPC can't send a status while both together are on their way
                await self._context.send_initial_metadata(())
            self.last_bytes = len(raw)
            await self._context.write(raw)
        except grpc.aio.InternalError:  # the client has left while the message was on its way
            raise asyncio.CancelledError from None


def _entry(delivery: delivery_pb2.Delivery) -> bytes:
    """Returns a delivery as it stands in a message: messages that are written one after the other are one message."""
    return wire.field(service_pb2.WatchDeliveriesResponse.DELIVERIES_FIELD_NUMBER, delivery.SerializeToString())


ENTRIES: Final = Form(_entry, b"")
