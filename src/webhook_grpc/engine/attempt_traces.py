"""What the engine says about attempts to whatever traces them (`traces/`)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from webhook_grpc.domain.model import AttemptResult, PendingDelivery


class AttemptSpan(Protocol):
    """One attempt, from the beginning of a `with` to its end. One that ends by an exception has no result."""

    @property
    def traceparent(self) -> str | None:
        """The header of this name that the receiver gets, None for none."""
        ...

    def note(self, result: AttemptResult) -> None:
        """Takes what came of the attempt."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class AttemptTraces(Protocol):
    """Makes a span for each attempt. Never waits, and never fails."""

    def attempt(self, delivery: PendingDelivery) -> AttemptSpan:
        """Returns the span of the next attempt of a delivery."""
        ...
