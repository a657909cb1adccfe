"""One call over HTTP: headers, path, query and JSON in, JSON out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, Final, TypeVar

from aiohttp import web
from google.protobuf.message import Message
from webhook.v1.service_pb2 import BatchPublishError

from webhook_grpc.api.messages.sharing import SharedDeliveries
from webhook_grpc.domain.errors import InvalidArgument, Violation, WebhookError, field_invalid
from webhook_grpc.domain.record import record
from webhook_grpc.server import header_names
from webhook_grpc.server.http.json.reading import (
    NotJson,
    ReadJson,
    read_json,
    read_parameters,
)
from webhook_grpc.server.http.json.writing import json_in_steps

from .credentials import certificate_names
from .problem import Problem
from .routes import Route

Request = TypeVar("Request", bound=Message)

BODY_BYTES_MAX: Final = 5 * 1024 * 1024  # as gRPC's bound of a message
LARGE_CHARACTERS: Final = 32 * 1024  # of a body; to read these takes a millisecond at most
JSON_TYPE: Final = "application/json"
_BOM: Final = "\ufeff"
_DATA_TEXT: Final = re.compile(r"\b(event\.)data_json\b")  # `data` is read into this field


@record
class BodyReading:
    """How bodies are read, by all calls of a server: large ones in a thread, one at a time, beside the loop."""

    seconds_max: float
    large: asyncio.Lock

    async def read(self, text: str, message: Message, path: str) -> ReadJson:
        """Fills a message from JSON. Raises NotJson."""
        if len(text) < LARGE_CHARACTERS:
            return read_json(text, message, path)
        async with self.large:
            return await asyncio.to_thread(read_json, text, message, path)


class Exchange:
    """What calls of one answer and of many have in common."""

    door = "http"
    whose: Hashable = None

    def __init__(self, request: web.Request, route: Route, bodies: BodyReading) -> None:
        self._bodies = bodies
        self._request = request
        self._route = route
        self._has_data = False  # as JSON; written by _read_body
        self.request_id = ""

    @property
    def source_address(self) -> str:
        """Returns the IP address that the request comes from."""
        return self._request.remote or ""

    def header(self, name: str) -> Sequence[str | bytes]:
        """Returns the values of a header."""
        return self._request.headers.getall(name, [])

    def certificate_names(self) -> Collection[str]:
        """Returns the names in the certificate of the connection."""
        return certificate_names(self._request)

    def begin(self, request_id: str) -> None:
        """Keeps the id: every answer carries it."""
        self.request_id = request_id

    async def read(self, request_type: type[Request], bytes_max: int) -> Request:
        """Returns the request that the path, the query, the headers and the body make together.

        Raises InvalidArgument with everything that is wrong.
        """
        message, violations = request_type(), list[Violation]()
        names = await self._read_body(message, bytes_max, violations)
        read_parameters(self._path_parameters(), message, violations)
        read_parameters(self._query(), message, violations)
        self._read_headers(message, violations)
        self._complete_mask(message, names)
        if violations:
            raise InvalidArgument(violations)
        return message

    def problem(self, error: WebhookError) -> web.Response:
        """Returns the answer of a call that failed."""
        return Problem.of(self._as_sent(error)).response(self.request_id)

    def _as_sent(self, error: WebhookError) -> WebhookError:
        """Names fields as the caller does: where the body is a webhook, `name` is the `webhook.name` of the request."""
        if not isinstance(error, InvalidArgument):
            return error
        violations = [Violation(self._sent_name(v.field), v.description) for v in error.violations]
        return InvalidArgument(violations, error.reason, error.metadata)

    def _query(self) -> Iterable[tuple[str, str]]:
        return self._request.query.items()

    def _sent_name(self, field: str) -> str:
        name = field if self._route.body == "*" else field.removeprefix(f"{self._route.body}.")
        return _DATA_TEXT.sub(r"\1data", name) if self._has_data else name

    def _path_parameters(self) -> list[tuple[str, str]]:
        return [(self._route.field_of(name), text) for name, text in self._request.match_info.items()]

    async def _read_body(self, message: Message, bytes_max: int, violations: list[Violation]) -> Sequence[str]:
        """Fills the message from the body, and returns the names of the body's members."""
        if not self._route.body:
            return ()
        text = await self._text(bytes_max)
        if not text:
            return ()
        whole = self._route.body == "*"
        path = "" if whole else self._route.body
        target: Message = message if whole else getattr(message, path)
        try:
            read = await self._bodies.read(text, target, path)
        except NotJson as error:
            raise field_invalid("body", str(error)) from None
        target.SetInParent()
        violations += read.violations
        self._has_data = read.has_raw and not read.violations
        return sorted(read.names)

    async def _text(self, bytes_max: int) -> str:
        """Returns the body, empty if there is none. What is known to be too large is not received."""
        if self._request.content_type != JSON_TYPE and self._request.can_read_body:
            raise field_invalid("content-type", f"must be {JSON_TYPE}", "CONTENT_TYPE_UNSUPPORTED")
        if self._request.headers.get("Content-Encoding", "identity") != "identity":  # a few bytes could be gigabytes
            raise field_invalid("content-encoding", "must not be compressed", "CONTENT_ENCODING_UNSUPPORTED")
        if (self._request.content_length or 0) > bytes_max:
            raise _too_large(bytes_max)
        try:
            async with asyncio.timeout(self._bodies.seconds_max):
                raw = await self._request.read()
            if len(raw) > bytes_max:
                raise _too_large(bytes_max)
            return raw.decode("utf-8").removeprefix(_BOM)
        except TimeoutError:
            seconds = self._bodies.seconds_max
            raise field_invalid("body", f"did not come within {seconds:g} s", "BODY_TOO_SLOW") from None
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(bytes_max) from None
        except UnicodeDecodeError:
            raise field_invalid("body", "is not UTF-8") from None

    def _read_headers(self, message: Message, violations: list[Violation]) -> None:
        """Sets what HTTP has headers for: Idempotency-Key, If-Match."""
        key = self._own_header("Idempotency-Key", violations)
        if key and self._route.verb != "GET" and "request_id" in message.DESCRIPTOR.fields_by_name:  # there, a filter
            _set_or_compare(message, "request_id", key, "idempotency-key", violations)
        etag = self._own_header("If-Match", violations)
        holder = _with_etag(message, self._route.body)
        if etag and etag != "*" and holder is not None:
            _set_or_compare(holder, "etag", etag, "if-match", violations)

    def _own_header(self, name: str, violations: list[Violation]) -> str:
        """Returns the value of a header without quotes and the sign of a weak etag."""
        value = self._request.headers.get(name, "").removeprefix("W/").strip('"')
        if not value.isascii():  # aiohttp shows bytes that are not UTF-8 as lone surrogates, which no message can hold
            violations.append(Violation(name.lower(), "must be ASCII"))
            return ""
        return value

    def _complete_mask(self, message: Message, names: Sequence[str]) -> None:
        """Sets the mask of a PATCH without one: the call changes the members that the body has."""
        if self._route.verb == "PATCH" and not _get(message, "update_mask").paths:
            _get(message, "update_mask").paths.extend(names)


def _too_large(bytes_max: int) -> InvalidArgument:
    return field_invalid("body", f"must have at most {bytes_max} bytes", "BODY_TOO_LARGE", limit=str(bytes_max))


def _set_or_compare(message: Any, name: str, value: str, header: str, violations: list[Violation]) -> None:
    if getattr(message, name) not in {"", value}:
        violations.append(Violation(header, f"differs from `{name}` in the body"))
    setattr(message, name, value)


def _with_etag(message: Message, body: str) -> Any:
    holder: Any = getattr(message, body) if body not in {"", "*"} else message
    return holder if "etag" in holder.DESCRIPTOR.fields_by_name else None


def _get(message: Any, name: str) -> Any:
    return getattr(message, name)


class UnaryExchange(Exchange):
    """A call with one answer."""

    response: Message
    _body: bytes

    async def write(self, response: Message, shared: Sequence[SharedDeliveries] = ()) -> None:
        """Keeps the answer until the call has ended well. Errors in it name fields as the caller does."""
        assert not shared, "a method of one response shares nothing"
        if self._has_data and "results" in response.DESCRIPTOR.fields_by_name:
            for result in _get(response, "results"):
                if result.HasField("error"):
                    self._name_as_sent(result.error)
        self.response = response
        if response.DESCRIPTOR.fields:  # made here, where the call holds its places: it may be long
            self._body = await json_in_steps(response)

    def _name_as_sent(self, error: BatchPublishError) -> None:
        error.message = self._sent_name(error.message)
        for violation in error.field_violations:
            violation.field = self._sent_name(violation.field)

    def answer(self) -> web.Response:
        """Returns the answer: 201 for what was created, 204 where there is nothing to say."""
        headers = {header_names.REQUEST_ID: self.request_id, "Cache-Control": "no-store"}
        if not self.response.DESCRIPTOR.fields:
            return web.Response(status=204, headers=headers)
        if "etag" in self.response.DESCRIPTOR.fields_by_name:
            headers["ETag"] = f'"{_get(self.response, "etag")}"'
        status = 201 if self._route.method.startswith("Create") else 200
        return web.Response(status=status, body=self._body, content_type=JSON_TYPE, headers=headers)
