"""One call in progress, as the methods see it, and what all methods do with requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import Message

from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import (
    InvalidArgument,
    PermissionDenied,
    Unavailable,
    Violation,
)


@dataclass(slots=True)
class Call:
    """Who makes the call, and what the log says of it.

    The pipeline (server/calls.py) sets `caller`, `traceparent` (None: no valid one) and `subjects`, the ids that the
    call is about, by the names of their fields. Methods set `customer_id`. `source_address` is for the audit: where the
    call comes from; the pipeline sets it for methods that change something. `refused_part` is for the audit, too: the
    first part of the call that its caller may not do, where the others are done (a batch).
    """

    method: str
    request_id: str
    caller: Caller = ANONYMOUS
    traceparent: str | None = None
    customer_id: int | None = None
    source_address: str = ""
    refused_part: PermissionDenied | None = None
    subjects: dict[str, str | int] = field(default_factory=dict[str, str | int])

    def customer(self, requested: int, field: str, violations: list[Violation]) -> int:
        """Returns the customer that a request is about, and notes it for the log; see Caller.customer."""
        self.customer_id = self.caller.customer(requested, field, violations)
        return self.customer_id

    def customer_or_all(self, requested: int, field: str, violations: list[Violation]) -> int | None:
        """Returns the customer that a request is about, None for all, and notes it; see Caller.customer_or_all."""
        self.customer_id = self.caller.customer_or_all(requested, field, violations)
        return self.customer_id

    def audit(self, *resources: str, fields: Iterable[str] = ()) -> AuditEntry:
        """Returns the entry of a change that the call makes to these resources, like `webhook:14`."""
        return AuditEntry(
            self.method,
            self.caller.name,
            self.caller.token_id,
            self.source_address,
            self.request_id,
            self.customer_id or self.caller.customer_id,
            resources,
            tuple(sorted(fields)),
        )


def server_stopping() -> Unavailable:
    """Returns the error of calls to a server that is being stopped."""
    return Unavailable("SERVER_STOPPING", "this server is being stopped; call again to reach another", 0.1)


def refuse_if(violations: list[Violation]) -> None:
    """Raises InvalidArgument with all violations, if there are any."""
    if violations:
        raise InvalidArgument(violations)


def set_fields(resource: Message) -> list[str]:
    """Returns the names of the fields that are set in a resource."""
    return [field.name for field, _ in resource.ListFields()]
