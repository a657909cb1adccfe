"""Streams over HTTP: server-sent events (the WHATWG's EventSource), or a JSON object a line, as the caller accepts.

The `id` of an event is the cursor, so a browser's EventSource resumes by itself without a gap. A message without
anything in it is a comment, which moves the cursor. What ends a stream is an event named `problem`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar, cast

import orjson
from aiohttp import web
from google.protobuf.message import Message

from webhook_grpc.api.messages.sharing import Form, SharedDeliveries, joined, write_in_steps
from webhook_grpc.domain.errors import WebhookError, field_invalid
from webhook_grpc.server import header_names
from webhook_grpc.server.http.json.writing import LEFT_OUT_BY_STREAMS, NOTHING, plain

from .connection import Connection
from .exchange import BodyReading, Exchange
from .problem import Problem
from .routes import Route

Request = TypeVar("Request", bound=Message)

SSE_TYPE: Final = "text/event-stream"
NDJSON_TYPE: Final = "application/x-ndjson"
END_SECONDS_MAX: Final = 1.0  # for the last message of a stream to be taken
_LINE_TYPES: Final = ("application/x-ndjson", "application/jsonl", "application/json")


class StreamExchange(Exchange):
    """A call with many answers."""

    def __init__(self, request: web.Request, route: Route, bodies: BodyReading) -> None:
        super().__init__(request, route, bodies)
        accept = request.headers.get("Accept", "")
        self._form = form_of(NOTHING if request.query.get(BODIES) == "true" else LEFT_OUT_BY_STREAMS)
        self._is_lines = SSE_TYPE not in accept and any(kind in accept for kind in _LINE_TYPES)
        self._stream: web.StreamResponse | None = None

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        """Returns the request; Last-Event-ID, which a browser sends when it reconnects, is the cursor."""
        if self._request.query.get(BODIES, "false") not in {"true", "false"}:
            raise field_invalid(BODIES, "must be true or false")
        message = await super().read(request_type, bytes_max)
        last = self._request.headers.get("Last-Event-ID", "")
        if last:  # the URL still says where the stream was to begin
            for name in _BEGINNINGS:
                message.ClearField(name)
            cast("Any", message).cursor = _cursor(last)
        return message

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        """Sends a message at once; returns when the caller has taken most of what was sent before."""
        stream = self._stream or await self._begin()
        await write_in_steps(shared, self._form)
        await stream.write(self._line(response, shared) if self._is_lines else self._event(response, shared))

    async def end(self, error: WebhookError | None) -> web.StreamResponse:
        """Ends the answer. An error that comes when it has begun is its last message."""
        if self._stream is None:
            return self.problem(error) if error is not None else await self._begin()
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                if error is not None:
                    await self._stream.write(self._last(Problem.of(error).document(self.request_id)))
                await self._stream.write_eof()
        except TimeoutError:  # the caller has stopped reading
            if self._request.transport is not None:
                self._request.transport.abort()
        cast("Connection", self._request.protocol).is_watched = False  # what follows is answered as on any other
        return self._stream

    async def _begin(self) -> web.StreamResponse:
        headers = {
            "Content-Type": NDJSON_TYPE if self._is_lines else SSE_TYPE,
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would collect the stream
            header_names.REQUEST_ID: self.request_id,
        }
        self._stream = web.StreamResponse(headers=headers)
        cast("Connection", self._request.protocol).is_watched = True
        await self._stream.prepare(self._request)
        return self._stream

    def _query(self) -> Iterable[tuple[str, str]]:
        return [(name, text) for name, text in super()._query() if name != BODIES]

    def _line(self, response: Message, shared: Sequence[SharedDeliveries]) -> bytes:
        return orjson.dumps(self._shown(response, shared), option=orjson.OPT_APPEND_NEWLINE)

    def _event(self, response: Message, shared: Sequence[SharedDeliveries]) -> bytes:
        """Returns an event; a comment if there is nothing in it: an event without data only moves the cursor."""
        cursor: bytes = cast("Any", response).cursor
        head = f"id: {_text(cursor)}\n".encode() if cursor else b""
        if not shared and not cast("Any", response).snapshot_complete:
            return b": heartbeat\n" + head + b"\n"
        return head + b"data: " + orjson.dumps(self._shown(response, shared)) + b"\n\n"

    def _shown(self, response: Message, shared: Sequence[SharedDeliveries]) -> dict[str, Any]:
        cursor: bytes = cast("Any", response).cursor
        shown = shown_with(response, joined(shared, self._form))
        return {**shown, "cursor": _text(cursor)} if cursor else shown

    def _last(self, problem: dict[str, Any]) -> bytes:
        if self._is_lines:
            return orjson.dumps({"problem": problem}, option=orjson.OPT_APPEND_NEWLINE)
        return b"event: problem\ndata: " + orjson.dumps(problem) + b"\n\n"


BODIES: Final = "bodies"  # a query parameter of streams: whether what receivers answered is in them

_BEGINNINGS: Final = ("snapshot", "start_time")


def shown_with(response: Message, deliveries: bytes) -> dict[str, Any]:
    """Returns a message without deliveries as a dict that orjson can write, with those that are written already."""
    return {**plain(response), "deliveries": orjson.Fragment(b"[" + deliveries + b"]")}


@functools.cache
def form_of(left_out: frozenset[str]) -> Form:
    """Returns the form of deliveries in which these fields are left out."""
    return Form(lambda delivery: orjson.dumps(plain(delivery, left_out)), b",")


def _text(cursor: bytes) -> str:
    return base64.urlsafe_b64encode(cursor).decode("ascii").rstrip("=")


def _cursor(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise field_invalid("cursor", "must be the id of an event of this stream", "CURSOR_INVALID") from None
