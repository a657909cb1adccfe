"""Every way in which the service says no, as one exception tree.

An error carries a `reason` (upper snake case, stable, for programs), a message that says what to do (for people), and
metadata. The gRPC status of each class stands in one table, `server/grpc/status.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault: its dotted path and what is wrong with it."""

    field: str
    description: str


class WebhookError(Exception):
    """The request was refused."""

    def __init__(self, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = metadata or {}


VIOLATIONS_BYTES_MAX: Final = 3000
MESSAGE_BYTES_MAX: Final = 1000  # percent-encoded, as gRPC sends it
PART_BYTES_MAX: Final = 300


class InvalidArgument(WebhookError):
    """The request is malformed; it lists everything that is wrong with it.

    So much of it, at least, as fits into an answer: gRPC clients drop trailing metadata beyond 8 KiB at random and
    beyond 16 KiB always, and the caller would be told something else altogether.
    """

    def __init__(
        self,
        violations: Sequence[Violation],
        reason: str = "FIELD_INVALID",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.violations = _bounded(violations)
        text = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in self.violations)
        super().__init__(reason, _cut(text, MESSAGE_BYTES_MAX, bytes_each=3), metadata)


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
    """The object does not exist, or belongs to another customer. `made_at`: when its id was made, if the id says so."""

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
    """The database has no room left to store anything; somebody has to make room."""

    def __init__(self) -> None:
        super().__init__("DISK_FULL", "the database's disk is full: nothing can be stored until there is room", 10.0)


class WatcherTooSlow(WebhookError):
    """The reader of a stream did not keep up; it may resume from its cursor."""


def _bounded(violations: Sequence[Violation]) -> tuple[Violation, ...]:
    kept: list[Violation] = []
    room = VIOLATIONS_BYTES_MAX
    for violation in violations:
        cut = Violation(_cut(violation.field, PART_BYTES_MAX), _cut(violation.description, PART_BYTES_MAX))
        room -= _size_bytes(cut.field) + _size_bytes(cut.description)
        if kept and room < 0:
            return (*kept, Violation("", f"and {len(violations) - len(kept)} more"))
        kept.append(cut)
    return tuple(kept)


def _cut(text: str, bytes_max: int, bytes_each: int = 1) -> str:
    """As much of the text as fits. `bytes_each`: what a byte that is not printable ASCII becomes on its way."""
    if _size_bytes(text, bytes_each) <= bytes_max:
        return text
    room, end = bytes_max - _size_bytes("…", bytes_each), 0
    while (room := room - _size_bytes(text[end], bytes_each)) >= 0:
        end += 1
    return text[:end] + "…"


def _size_bytes(text: str, bytes_each: int = 1) -> int:
    if text.isascii() and text.isprintable():
        return len(text)
    encoded = text.encode("utf-8", "replace")
    return len(encoded) + (bytes_each - 1) * sum(not 0x20 <= byte < 0x7F for byte in encoded)


def field_invalid(field: str, description: str, reason: str = "FIELD_INVALID", **metadata: str) -> InvalidArgument:
    """InvalidArgument for a single field."""
    return InvalidArgument([Violation(field, description)], reason, metadata)
