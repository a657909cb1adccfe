"""Every way in which the service refuses a request, as one exception tree.

An error carries a `reason` (upper snake case, stable, for programs), a message that says what to do (for people), and
metadata. `api/codes.py` names the canonical code of each class. How much of an error fits into an answer is a matter of
the door that sends it: `error_bounds.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from .record import record


@record
class Violation:
    """One field that is wrong: its dotted path and what is wrong with it."""

    field: str
    description: str


class WebhookError(Exception):
    """The request was refused."""

    def __init__(self, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata: Mapping[str, str] = metadata or {}

    @property
    def message(self) -> str:
        """What is wrong and what to do about it, for people."""
        return str(self)


class InvalidArgument(WebhookError):
    """The request is malformed. The error lists everything that is wrong with it, however much that is."""

    def __init__(
        self,
        violations: Sequence[Violation],
        reason: str = "FIELD_INVALID",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason, "", metadata)
        self.violations = tuple(violations)

    def __str__(self) -> str:
        """Returns one sentence of all violations; made when it is needed, because there may be very many."""
        return sentence_of(self.violations)


class Unauthenticated(WebhookError):
    """The caller did not prove who it is."""


class PermissionDenied(WebhookError):
    """The caller may not do this, whether or not the object exists."""


class FailedPrecondition(WebhookError):
    """The state of the named object does not allow it."""

    def __init__(self, reason: str, message: str, subject: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(reason, message, metadata)
        self.subject = subject


class NotFound(WebhookError):
    """The object does not exist, or belongs to another customer. `made_at`: the time in its id, if the id has one."""

    def __init__(self, resource_type: str, resource_name: str, made_at: datetime | None = None, hint: str = "") -> None:
        super().__init__(f"{resource_type.upper()}_NOT_FOUND", f"{resource_type} {resource_name} does not exist{hint}")
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.made_at = made_at


class AlreadyExists(WebhookError):
    """The name or the request id is taken."""

    def __init__(self, reason: str, message: str, resource_type: str, resource_name: str) -> None:
        super().__init__(reason, message)
        self.resource_type = resource_type
        self.resource_name = resource_name


class Conflict(WebhookError):
    """Somebody else changed the object first; read it again."""


class QuotaExceeded(WebhookError):
    """A quota of the customer is used up; waiting does not help."""

    def __init__(self, reason: str, message: str, subject: str) -> None:
        super().__init__(reason, message)
        self.subject = subject


class Overloaded(WebhookError):
    """Too much at once; the same call may succeed after `retry_seconds`."""

    def __init__(self, reason: str, message: str, retry_seconds: float) -> None:
        super().__init__(reason, message)
        self.retry_seconds = retry_seconds


class CursorExpired(WebhookError):
    """The log no longer reaches back to the cursor."""


class Unavailable(WebhookError):
    """The service cannot answer now; the same call may succeed after `retry_seconds`."""

    def __init__(self, reason: str, message: str, retry_seconds: float = 1.0) -> None:
        super().__init__(reason, message)
        self.retry_seconds = retry_seconds


class DiskFull(Unavailable):
    """The database's disk is full: calls succeed again when the operator has made room."""

    def __init__(self) -> None:
        super().__init__("DISK_FULL", "the database's disk is full: nothing can be stored until there is room", 10.0)


class WatcherTooSlow(WebhookError):
    """The reader of a stream did not keep up; it may resume from its cursor."""


class DeadlineExceeded(WebhookError):
    """The call took longer than the server allows."""

    def __init__(self) -> None:
        super().__init__("DEADLINE_EXCEEDED", "the call took longer than the server allows")


class InternalError(WebhookError):
    """The service has a bug. What happened stands in the log, under the id of the call."""

    def __init__(self, request_id: str) -> None:
        super().__init__("INTERNAL", f"internal error; give this request id to the operator: {request_id}")


def sentence_of(violations: Iterable[Violation]) -> str:
    """Returns the text that lists violations."""
    return "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations)


def field_invalid(field: str, description: str, reason: str = "FIELD_INVALID", **metadata: str) -> InvalidArgument:
    """Returns the InvalidArgument of a single field."""
    return InvalidArgument([Violation(field, description)], reason, metadata)
