"""One call in progress, as the methods see it, and what all methods do with requests."""

from __future__ import annotations

from dataclasses import dataclass, field

from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.errors import (
    InvalidArgument,
    Unavailable,
    Violation,
)


@dataclass(slots=True)
class Call:
    """Who makes the call, and what the log says of it.

    The pipeline (server/calls.py) sets `caller`, `traceparent` (None: no valid one) and `subjects`, the ids that the
    call is about, by the names of their fields. Methods set `customer_id`.
    """

    method: str
    request_id: str
    caller: Caller = ANONYMOUS
    traceparent: str | None = None
    customer_id: int | None = None
    subjects: dict[str, str | int] = field(default_factory=dict[str, str | int])

    def customer(self, requested: int, field: str, violations: list[Violation]) -> int:
        """Returns the customer that a request is about, and notes it for the log; see Caller.customer."""
        self.customer_id = self.caller.customer(requested, field, violations)
        return self.customer_id

    def customer_or_all(self, requested: int, field: str, violations: list[Violation]) -> int | None:
        """Returns the customer that a request is about, None for all, and notes it; see Caller.customer_or_all."""
        self.customer_id = self.caller.customer_or_all(requested, field, violations)
        return self.customer_id


def server_stopping() -> Unavailable:
    """Returns the error of calls to a server that is being stopped."""
    return Unavailable("SERVER_STOPPING", "this server is being stopped; call again to reach another", 0.1)


def refuse_if(violations: list[Violation]) -> None:
    """Raises InvalidArgument with all violations, if there are any."""
    if violations:
        raise InvalidArgument(violations)
