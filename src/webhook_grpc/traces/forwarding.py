"""Sends producers' traces on to receivers without recording anything."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Self

from webhook_grpc.domain.model import AttemptResult, PendingDelivery
from webhook_grpc.domain.record import record
from webhook_grpc.domain.trace_context import Traceparent


@record
class ForwardedSpan:
    """An attempt that has a name in the producer's trace, and is recorded nowhere."""

    traceparent: str | None

    def note(self, result: AttemptResult) -> None:
        """Records nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class ForwardedTraces:
    """Gives each attempt an id of its own in the trace of the event's producer. Events without a trace have none."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def attempt(self, delivery: PendingDelivery) -> ForwardedSpan:
        """Returns the span of the next attempt of a delivery."""
        producer = Traceparent.parse(delivery.traceparent) if delivery.traceparent is not None else None
        if producer is None:
            return ForwardedSpan(None)
        span_id = self._random.getrandbits(64) or 1  # 0 is not valid
        return ForwardedSpan(str(replace(producer, span_id=span_id)))

    def close(self) -> None:
        """Does nothing: nothing waits."""
