"""The canonical code of each error (google.rpc.Code). Each door translates codes once, into what its transport has."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from webhook_grpc.domain import errors


class Code(IntEnum):
    """The codes of google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: Final[dict[type[errors.WebhookError], Code]] = {
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.PermissionDenied: Code.PERMISSION_DENIED,
    errors.FailedPrecondition: Code.FAILED_PRECONDITION,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.Conflict: Code.ABORTED,
    errors.QuotaExceeded: Code.RESOURCE_EXHAUSTED,
    errors.Overloaded: Code.RESOURCE_EXHAUSTED,
    errors.CursorExpired: Code.OUT_OF_RANGE,
    errors.Unavailable: Code.UNAVAILABLE,
    errors.DiskFull: Code.RESOURCE_EXHAUSTED,
    errors.WatcherTooSlow: Code.ABORTED,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.InternalError: Code.INTERNAL,
}


def code_of(error: errors.WebhookError) -> Code:
    """Returns the code of an error."""
    return CODES[type(error)]
