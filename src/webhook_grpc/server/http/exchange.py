"""One call over HTTP: headers, path, query and JSON in, JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

import orjson
from aiohttp import web
from google.protobuf.message import Message

from webhook_grpc.domain.errors import InvalidArgument, Violation, WebhookError, field_invalid
from webhook_grpc.server.calls import REQUEST_ID_KEY

from .problem import headers_of, problem_of, status_of
from .reading import NotJson, read_json, read_parameters
from .routes import Route
from .writing import json_of

Request = TypeVar("Request", bound=Message)

BODY_BYTES_MAX: Final = 5 * 1024 * 1024  # as gRPC's bound of a message
JSON_TYPE: Final = "application/json"
_BOM: Final = "\ufeff"


class Exchange:
    """What calls of one answer and of many have in common."""

    def __init__(self, request: web.Request, route: Route, read_seconds_max: float) -> None:
        self._read_seconds_max = read_seconds_max
        self._request = request
        self._route = route
        self.request_id = ""

    def header(self, name: str) -> Sequence[str | bytes]:
        """Returns the values of a header."""
        return self._request.headers.getall(name, [])

    def begin(self, request_id: str) -> None:
        """Keeps the id: every answer carries it."""
        self.request_id = request_id

    async def read(self, request_type: type[Request]) -> Request:
        """Returns the request that the path, the query, the headers and the body make together.

        Raises InvalidArgument with everything that is wrong.
        """
        message, violations = request_type(), list[Violation]()
        names = await self._read_body(message, violations)
        read_parameters(self._path_parameters(), message, violations)
        read_parameters(self._request.query.items(), message, violations)
        self._read_headers(message)
        self._complete_mask(message, names)
        if violations:
            raise InvalidArgument(violations)
        return message

    def problem(self, error: WebhookError) -> web.Response:
        """Returns the answer of a call that failed."""
        return web.Response(
            status=status_of(error),
            body=orjson.dumps(problem_of(error, self.request_id)),
            headers={**headers_of(error), REQUEST_ID_KEY: self.request_id},
        )

    def _path_parameters(self) -> list[tuple[str, str]]:
        return [(self._route.field_of(name), text) for name, text in self._request.match_info.items()]

    async def _read_body(self, message: Message, violations: list[Violation]) -> Sequence[str]:
        if not self._route.body or not self._request.can_read_body:
            return ()
        if self._request.content_type not in {JSON_TYPE, "application/octet-stream"}:  # the latter: none was given
            raise InvalidArgument([Violation("content-type", f"must be {JSON_TYPE}")], "CONTENT_TYPE_UNSUPPORTED")
        try:
            async with asyncio.timeout(self._read_seconds_max):
                text = (await self._request.read()).decode("utf-8").removeprefix(_BOM)
        except TimeoutError:
            raise field_invalid("body", f"did not come within {self._read_seconds_max:g} s", "BODY_TOO_SLOW") from None
        except web.HTTPRequestEntityTooLarge:
            problem = Violation("body", f"must have at most {BODY_BYTES_MAX} bytes")
            raise InvalidArgument([problem], "BODY_TOO_LARGE") from None
        except UnicodeDecodeError:
            raise field_invalid("body", "is not UTF-8") from None
        whole = self._route.body == "*"
        try:
            read = read_json(
                text, message if whole else getattr(message, self._route.body), "" if whole else self._route.body
            )
        except NotJson as error:
            raise field_invalid("body", str(error)) from None
        if not whole:
            getattr(message, self._route.body).SetInParent()
        violations += read.violations
        return sorted(read.names)

    def _read_headers(self, message: Message) -> None:
        """Sets what HTTP has headers for, if nothing else has set it: Idempotency-Key, If-Match."""
        fields = message.DESCRIPTOR.fields_by_name
        key = self._request.headers.get("Idempotency-Key", "").strip('"')
        if key and "request_id" in fields and not _get(message, "request_id"):
            cast("Any", message).request_id = key
        etag = self._request.headers.get("If-Match", "").removeprefix("W/").strip('"')
        holder = _with_etag(message, self._route.body)
        if etag and etag != "*" and holder is not None and not _get(holder, "etag"):
            holder.etag = etag

    def _complete_mask(self, message: Message, names: Sequence[str]) -> None:
        """Without a mask, PATCH changes the members that the body has."""
        if self._route.verb == "PATCH" and not _get(message, "update_mask").paths:
            _get(message, "update_mask").paths.extend(names)


def _with_etag(message: Message, body: str) -> Any:
    holder: Any = getattr(message, body) if body not in {"", "*"} else message
    return holder if "etag" in holder.DESCRIPTOR.fields_by_name else None


def _get(message: Any, name: str) -> Any:
    return getattr(message, name)


class UnaryExchange(Exchange):
    """A call with one answer."""

    response: Message

    async def write(self, response: Message) -> None:
        """Keeps the answer until the call has ended well."""
        self.response = response

    def answer(self) -> web.Response:
        """Returns the answer: 201 for what was created, 204 where there is nothing to say."""
        headers = {REQUEST_ID_KEY: self.request_id, "Cache-Control": "no-store"}
        if not self.response.DESCRIPTOR.fields:
            return web.Response(status=204, headers=headers)
        if "etag" in self.response.DESCRIPTOR.fields_by_name:
            headers["ETag"] = f'"{_get(self.response, "etag")}"'
        status = 201 if self._route.method.startswith("Create") else 200
        return web.Response(status=status, body=json_of(self.response), content_type=JSON_TYPE, headers=headers)
