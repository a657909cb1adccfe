"""Errors as problem documents (RFC 9457), and the HTTP status of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.domain.errors import InvalidArgument, Overloaded, Unavailable, WebhookError

CONTENT_TYPE: Final = "application/problem+json"

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
    "CONTENT_TYPE_UNSUPPORTED": 415,
    "METHOD_NOT_ALLOWED": 405,
    "DISK_FULL": 507,
}


def status_of(error: WebhookError) -> int:
    """Returns the HTTP status of an error."""
    return _STATUSES_OF_REASONS.get(error.reason) or _STATUSES.get(code_of(error), 500)


def problem_of(error: WebhookError, request_id: str) -> dict[str, Any]:
    """Returns the document of an error, for orjson."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": code_of(error).name,
        "reason": error.reason,
    }
    if isinstance(error, InvalidArgument):
        document["violations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    if error.metadata:
        document["metadata"] = dict(error.metadata)
    seconds = retry_seconds_of(error)
    if seconds is not None:
        document["retry_seconds"] = seconds
    return {**document, "request_id": request_id}


def headers_of(error: WebhookError) -> dict[str, str]:
    """Returns the headers that belong to an error."""
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    seconds = retry_seconds_of(error)
    if seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))  # RFC 9110: whole seconds
    if code_of(error) is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="webhook-grpc"'
    return headers


def retry_seconds_of(error: WebhookError) -> float | None:
    """Returns after how many seconds the same call may succeed, if that is known."""
    return error.retry_seconds if isinstance(error, Overloaded | Unavailable) else None
