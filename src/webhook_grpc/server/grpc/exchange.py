"""Calls of gRPC: raw bytes in, raw bytes out, and the status of an error.

Handlers read their requests themselves, as raw bytes. So nothing of a request is parsed before its caller is known, nor
is more of it received than the first 64 KiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Final, NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc.api.codes import code_of
from webhook_grpc.api.messages import wire
from webhook_grpc.api.messages.sharing import Form, SharedDeliveries, joined, write_in_steps
from webhook_grpc.api.methods import Method
from webhook_grpc.domain.errors import WebhookError, field_invalid
from webhook_grpc.server import header_names
from webhook_grpc.server.calls import Calls

from .call import Call, Handler
from .error_details import details_of, message_of

Request = TypeVar("Request", bound=Message)


def handler_of(method: Method[Any, Any], calls: Calls, read_seconds_max: float) -> Handler:
    """Returns what serves the calls of a method. `read_seconds_max`: for a request to come whole."""

    async def unary(call: Call) -> bytes:
        exchange = _UnaryExchange(call, read_seconds_max)
        error = await calls.serve(method, exchange)
        if error is not None:
            exchange.abort(error)
        call.add_done_callback(calls.unread.hold(exchange.whose, len(exchange.response)))
        return exchange.response

    async def stream(call: Call) -> None:
        exchange = _StreamExchange(call, read_seconds_max)
        error = await calls.serve(method, exchange)
        if exchange.last_bytes:  # perhaps still on its way; the status comes behind it
            call.add_done_callback(calls.unread.hold(exchange.whose, exchange.last_bytes))
        if error is not None:
            exchange.abort(error)

    return stream if method.streams else unary


class _Exchange:
    """What calls of one response and of many have in common."""

    door = "grpc"
    whose: Hashable = None

    def __init__(self, call: Call, read_seconds_max: float) -> None:
        self._call = call
        self._read_seconds_max = read_seconds_max
        self._headers: dict[str, list[str | bytes]] = {}
        for key, value in call.metadata:
            self._headers.setdefault(key, []).append(value)
        self._request_id = ""

    @property
    def source_address(self) -> str:
        return self._call.peer.address

    def header(self, name: str) -> Sequence[str | bytes]:
        return self._headers.get(name, ())

    def certificate_names(self) -> Collection[str]:
        return self._call.peer.names

    def begin(self, request_id: str) -> None:
        self._request_id = request_id
        self._call.set_trailing_metadata(((header_names.REQUEST_ID, request_id),))

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        try:
            async with asyncio.timeout(self._read_seconds_max):
                raw = await self._call.read()
        except TimeoutError:
            message = f"the request did not come within {self._read_seconds_max:g} s"
            raise field_invalid("", message, "BODY_TOO_SLOW") from None
        if raw is None:
            raise field_invalid("", "the call has no request")
        if len(raw) > bytes_max:
            message = f"the request has {len(raw)} bytes; this method takes at most {bytes_max}"
            raise field_invalid("", message, "BODY_TOO_LARGE", limit=str(bytes_max))
        try:
            return await wire.parse(raw, request_type)
        except DecodeError:
            raise field_invalid("", "the request is not a valid protobuf message of its type") from None

    def abort(self, error: WebhookError) -> NoReturn:
        """Ends the call with the status of an error."""
        trailing = ((header_names.REQUEST_ID, self._request_id), (header_names.STATUS_DETAILS, details_of(error)))
        self._call.abort(code_of(error), message_of(error), trailing)


class _UnaryExchange(_Exchange):
    """A call of one response, which is sent when the handler returns it."""

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
        self.last_bytes = len(raw)
        await self._call.write(raw)


def _entry(delivery: delivery_pb2.Delivery) -> bytes:
    """Returns a delivery as it stands in a message: messages that are written one after the other are one message."""
    return wire.field(service_pb2.WatchDeliveriesResponse.DELIVERIES_FIELD_NUMBER, delivery.SerializeToString())


ENTRIES: Final = Form(_entry, b"")
