"""Errors of calls, by what a caller can do about them: correct the request, show other credentials, or call again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from webhook.v1 import service_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"
_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Problem:
    """What the service reports about a call that failed.

    `reason` is a fixed word such as EVENT_TYPE_UNKNOWN, empty if the service has not answered. `violations` are pairs
    of a field's path and what is wrong with it. `retry_seconds` is how long to wait before the next try. `request_id`
    stands in the service's log.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    violations: Sequence[tuple[str, str]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_seconds: float | None = None
    request_id: str = ""


class WebhookError(Exception):
    """A call that failed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.reason or problem.code.name}: {problem.message}")
        self.problem = problem

    @property
    def code(self) -> grpc.StatusCode:
        """Returns the status of gRPC."""
        return self.problem.code

    @property
    def reason(self) -> str:
        """Returns the service's word for what went wrong."""
        return self.problem.reason

    @property
    def message(self) -> str:
        """Returns a sentence for people."""
        return self.problem.message

    @property
    def violations(self) -> Sequence[tuple[str, str]]:
        """Returns the fields at fault, and what is wrong with each."""
        return self.problem.violations


class Refused(WebhookError):
    """The service refuses the request, and would refuse it again."""


class InvalidArgument(Refused):
    """Fields are missing, malformed or out of range: see `violations`."""


class NotFound(Refused):
    """There is no such thing, or no longer."""


class AlreadyExists(Refused):
    """The name is taken, or the `request_id` was used for something else (REQUEST_ID_REUSED)."""


class FailedPrecondition(Refused):
    """The state does not allow it: an event type that is unknown, a webhook that is paused already."""


class Aborted(Refused):
    """The resource was changed meanwhile (ETAG_MISMATCH): read it again."""


class QuotaExceeded(Refused):
    """The customer has as many as it may have."""


class Unauthorized(WebhookError):
    """The token is missing, wrong or expired, or may not do this."""


class Unavailable(WebhookError):
    """The service gave no judgement in time. The call may have taken effect: repeat it with the same `request_id`."""


class CursorExpired(WebhookError):
    """The log does not reach back to the cursor, or is another one since a restore: this watcher has lost changes."""

    @property
    def oldest_time(self) -> str:
        """Returns the time of the oldest change that can be had (RFC 3339), empty if it is not known."""
        return self.problem.metadata.get("oldest_time", "")


_BY_CODE: Final[dict[grpc.StatusCode, type[WebhookError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: Refused,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Unauthorized,
    grpc.StatusCode.PERMISSION_DENIED: Unauthorized,
}
_BY_REASON: Final[dict[str, type[WebhookError]]] = {
    "CURSOR_EXPIRED": CursorExpired,
    "CURSOR_OF_OTHER_LOG": CursorExpired,
    "WATCHER_TOO_SLOW": Unavailable,
    "WEBHOOK_QUOTA": QuotaExceeded,
}


def made(problem: Problem) -> WebhookError:
    """Returns the error for a problem. What says nothing of the request itself is Unavailable."""
    kind = _BY_REASON.get(problem.reason) or _BY_CODE.get(problem.code, Unavailable)
    return kind(problem)


def error_of(error: grpc.RpcError) -> WebhookError:
    """Returns the error for a call that gRPC reports as failed."""
    call = cast("Any", error)
    metadata: dict[str, Any] = dict(call.trailing_metadata() or ())
    problem = Problem(call.code(), call.details() or "", request_id=metadata.get(_REQUEST_ID_KEY, ""))
    try:
        status = status_pb2.Status.FromString(metadata.get(_DETAILS_KEY, b""))
    except DecodeError:  # a proxy's, perhaps
        return made(problem)
    return made(_with_details(problem, status))


def error_of_result(result: service_pb2.BatchPublishError) -> WebhookError:
    """Returns the error for one event of a batch."""
    violations = tuple((violation.field, violation.description) for violation in result.field_violations)
    code = _CODES.get(result.code, grpc.StatusCode.UNKNOWN)
    return made(Problem(code, result.message, result.reason, violations))


def _with_details(problem: Problem, status: status_pb2.Status) -> Problem:
    info, request, retry = details.ErrorInfo(), details.BadRequest(), details.RetryInfo()
    seconds = None
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(request)
        if packed.Unpack(retry):
            seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    violations = tuple((violation.field, violation.description) for violation in request.field_violations)
    return Problem(
        problem.code, problem.message, info.reason, violations, dict(info.metadata), seconds, problem.request_id
    )
