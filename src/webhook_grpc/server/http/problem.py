"""Errors as problem documents (RFC 9457), and the HTTP status of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from http import HTTPStatus
from typing import Any, Final, Self

import orjson
from aiohttp import web

from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.domain.error_bounds import ErrorBounds
from webhook_grpc.domain.errors import InvalidArgument, Overloaded, Unavailable, Violation, WebhookError
from webhook_grpc.domain.record import record
from webhook_grpc.server import header_names

CONTENT_TYPE: Final = "application/problem+json"
_CHALLENGE: Final = {header_names.WWW_AUTHENTICATE: 'Bearer realm="webhook-grpc"'}
BOUNDS: Final = ErrorBounds(
    violations_bytes_max=32 * 1024, part_bytes_max=2000, message_bytes_max=8000, escaped_bytes=1
)

_STATUSES: Final[Mapping[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 410,  # a cursor from before what is kept
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
# Where HTTP has a status of its own for a reason.
_STATUSES_OF_REASONS: Final[Mapping[str, int]] = {
    "ETAG_MISMATCH": 412,
    "BODY_TOO_LARGE": 413,
    "BODY_TOO_SLOW": 408,
    "CONTENT_ENCODING_UNSUPPORTED": 415,
    "CONTENT_TYPE_UNSUPPORTED": 415,
    "DISK_FULL": 507,
}
# Of requests that reach no method. REQUEST_REFUSED has the status that aiohttp gives.
OWN_REASONS: Final[Mapping[str, tuple[int, Code]]] = {
    "PATH_UNKNOWN": (404, Code.NOT_FOUND),
    "METHOD_NOT_ALLOWED": (405, Code.UNIMPLEMENTED),
    "REQUEST_REFUSED": (400, Code.INVALID_ARGUMENT),
    "REQUEST_MALFORMED": (400, Code.INVALID_ARGUMENT),
    "EXPECTATION_UNKNOWN": (417, Code.INVALID_ARGUMENT),
}


def status_of(code: Code, reason: str) -> int:
    """Returns the HTTP status of errors with this code and this reason."""
    return _STATUSES_OF_REASONS.get(reason) or _STATUSES.get(code, 500)


@record
class Problem:
    """Why a request is refused, as HTTP says it."""

    status: int
    detail: str
    code: Code
    reason: str
    violations: tuple[Violation, ...] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_seconds: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, error: WebhookError) -> Self:
        """Returns the problem that an error is."""
        code = code_of(error)
        return cls(
            status=status_of(code, error.reason),
            detail=BOUNDS.message(error),
            code=code,
            reason=error.reason,
            violations=BOUNDS.violations(error) if isinstance(error, InvalidArgument) else None,
            metadata=error.metadata,
            retry_seconds=error.retry_seconds if isinstance(error, Overloaded | Unavailable) else None,
            headers=_CHALLENGE if code is Code.UNAUTHENTICATED else {},
        )

    @classmethod
    def of_http(
        cls, reason: str, detail: str, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> Self:
        """Returns the problem of a request that reaches no method."""
        usual, code = OWN_REASONS[reason]
        return cls(usual if status is None else status, detail, code, reason, headers=headers or {})

    def document(self, request_id: str) -> dict[str, Any]:
        """Returns the members of the document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code.name,
            "reason": self.reason,
            "request_id": request_id,
        }
        if self.violations is not None:
            document["violations"] = [{"field": v.field, "description": v.description} for v in self.violations]
        if self.metadata:
            document["metadata"] = dict(self.metadata)
        if self.retry_seconds is not None:
            document["retry_seconds"] = self.retry_seconds
        return document

    def response(self, request_id: str) -> web.Response:
        """Returns the answer."""
        headers = {"Cache-Control": "no-store", header_names.REQUEST_ID: request_id, **self.headers}
        if self.retry_seconds is not None:
            headers[header_names.RETRY_AFTER] = str(max(1, math.ceil(self.retry_seconds)))  # RFC 9110: whole seconds
        body = orjson.dumps(self.document(request_id), option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(status=self.status, body=body, content_type=CONTENT_TYPE, headers=headers)


def problem_of_refusal(refused: web.HTTPException) -> Problem:
    """Returns the problem that aiohttp has with a request which reaches no method."""
    match refused:
        case web.HTTPNotFound():
            detail = "there is nothing at this path; /api/openapi.json lists all that there is"
            return Problem.of_http("PATH_UNKNOWN", detail)
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refused.allowed_methods))
            detail = f"this path takes {allowed}"
            return Problem.of_http("METHOD_NOT_ALLOWED", detail, headers={"Allow": allowed})
        case _:
            return Problem.of_http("REQUEST_REFUSED", refused.reason, refused.status)
