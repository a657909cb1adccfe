"""Errors on the wire of gRPC: a status, a message, and google.rpc details in the trailing metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from webhook_grpc.api.codes import code_of
from webhook_grpc.domain import errors
from webhook_grpc.domain.error_bounds import ErrorBounds

DOMAIN: Final = "webhook-grpc"
# Clients of gRPC drop trailing metadata beyond 8 KiB at random and beyond 16 KiB always, and their callers then see
# another error. The message is percent-encoded, and sent once more among the details.
BOUNDS: Final = ErrorBounds(violations_bytes_max=3000, part_bytes_max=300, message_bytes_max=1000, escaped_bytes=3)


def message_of(error: errors.WebhookError) -> str:
    """Returns the message that travels beside the status."""
    return BOUNDS.message(error)


def details_of(error: errors.WebhookError) -> bytes:
    """Returns the google.rpc.Status that travels beside the plain status: an ErrorInfo and what its class adds."""
    info = details.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    packed = [_any(info), *map(_any, _more(error))]
    return status_pb2.Status(code=code_of(error), message=message_of(error), details=packed).SerializeToString()


def _more(error: errors.WebhookError) -> Sequence[Message]:
    match error:
        case errors.InvalidArgument():
            violations = [
                details.BadRequest.FieldViolation(field=v.field, description=v.description)
                for v in BOUNDS.violations(error)
            ]
            return [details.BadRequest(field_violations=violations)]
        case errors.FailedPrecondition(subject=subject):
            violation = details.PreconditionFailure.Violation(
                type=error.reason, subject=subject, description=message_of(error)
            )
            return [details.PreconditionFailure(violations=[violation])]
        case errors.NotFound(resource_type=kind, resource_name=name):
            return [details.ResourceInfo(resource_type=kind, resource_name=name)]
        case errors.AlreadyExists(resource_type=kind, resource_name=name):
            return [details.ResourceInfo(resource_type=kind, resource_name=name)]
        case errors.QuotaExceeded(subject=subject):
            violation = details.QuotaFailure.Violation(subject=subject, description=message_of(error))
            return [details.QuotaFailure(violations=[violation])]
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
