"""What an error looks like on the wire of gRPC: its status, and google.rpc details in the trailing metadata."""

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

from webhook_grpc.api.codes import Code, code_of
from webhook_grpc.domain import errors

DOMAIN: Final = "webhook-grpc"
DETAILS_KEY: Final = "grpc-status-details-bin"
_STATUSES: Final[dict[int, grpc.StatusCode]] = {status.value[0]: status for status in grpc.StatusCode}


def grpc_status(code: Code) -> grpc.StatusCode:
    """Returns the status of gRPC for a code."""
    return _STATUSES[code]


def status_details(code: Code, message: str, reason: str, *more: Message, **metadata: str) -> bytes:
    """The google.rpc.Status that travels beside the plain status: an ErrorInfo and what else fits."""
    info = details.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    return status_pb2.Status(code=code, message=message, details=[_any(info), *map(_any, more)]).SerializeToString()


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
