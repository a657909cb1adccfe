"""What an error looks like on the wire: one table from our exceptions to gRPC statuses and google.rpc details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from ..domain import errors

DOMAIN: Final = "webhook-grpc"
DETAILS_KEY: Final = "grpc-status-details-bin"

CODES: Final[dict[type[errors.WebhookError], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CursorExpired: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DiskFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.WatcherTooSlow: grpc.StatusCode.ABORTED,
}


def code_of(error: errors.WebhookError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return CODES[type(error)]


def status_details(code: grpc.StatusCode, message: str, reason: str, *more: Message, **metadata: str) -> bytes:
    """The google.rpc.Status that travels beside the plain status: an ErrorInfo and what else fits."""
    info = details.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=message, details=[_any(info), *map(_any, more)]).SerializeToString()


def details_of(error: errors.WebhookError) -> bytes:
    """The details of an error of ours."""
    return status_details(code_of(error), error.message, error.reason, *_more(error), **error.metadata)


def _more(error: errors.WebhookError) -> Sequence[Message]:
    match error:
        case errors.InvalidArgument(violations=violations):
            return [
                details.BadRequest(
                    field_violations=[
                        details.BadRequest.FieldViolation(field=v.field, description=v.description) for v in violations
                    ]
                )
            ]
        case errors.FailedPrecondition(subject=subject):
            violation = details.PreconditionFailure.Violation(
                type=error.reason, subject=subject, description=error.message
            )
            return [details.PreconditionFailure(violations=[violation])]
        case errors.NotFound(resource_type=kind, resource_name=name):
            return [details.ResourceInfo(resource_type=kind, resource_name=name)]
        case errors.AlreadyExists(resource_type=kind, resource_name=name):
            return [details.ResourceInfo(resource_type=kind, resource_name=name)]
        case errors.QuotaExceeded(subject=subject):
            return [
                details.QuotaFailure(
                    violations=[details.QuotaFailure.Violation(subject=subject, description=error.message)]
                )
            ]
        case errors.Overloaded(retry_seconds=seconds) | errors.Unavailable(retry_seconds=seconds):
            return [details.RetryInfo(retry_delay=_duration(seconds))]
        case _:
            return []


def _duration(seconds: float) -> Duration:
    whole = math.floor(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def _any(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
