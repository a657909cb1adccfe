"""Records a span for each attempt, linked to the span of the event's producer.

A link, and not the producer's trace itself: a delivery may be tried for days, and replayed after weeks. See
docs/decisions/0040-traces.md.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from webhook_grpc.domain.ids import delivery_id_text
from webhook_grpc.domain.model import AttemptResult, Outcome, PendingDelivery
from webhook_grpc.domain.trace_context import Traceparent

from .export import SpanExport

_NO_PARENT: Final = Context()


class RecordedSpan:
    """An attempt that is recorded, if the sampler wants it."""

    def __init__(self, span: Span, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent
        """Never changes."""

    def note(self, result: AttemptResult) -> None:
        """Records how the attempt ended; of the reasons only those that customers may read."""
        span = self._span
        span.set_attribute("outcome", result.outcome.value)
        if result.response_status is not None:
            span.set_attribute("http.response.status_code", result.response_status)
        if result.outcome is not Outcome.SUCCEEDED:
            span.set_attribute("error.type", str(result.response_status or result.outcome.value))
            span.set_status(Status(StatusCode.ERROR, result.reason.value))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the span. Of an exception only its class is recorded: its text may hold anything."""
        if kind is not None:
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, "The attempt was not made, or was cut off."))
        self._span.end()


class RecordedTraces:
    """Records attempts as spans of kind CLIENT, each the root of a trace."""

    def __init__(self, export: SpanExport, *, to_receivers: bool) -> None:
        """`to_receivers`: whether a receiver gets the `traceparent` of the attempt's span."""
        self._export = export
        self._tracer = export.tracer
        self._to_receivers = to_receivers

    def attempt(self, delivery: PendingDelivery) -> RecordedSpan:
        """Returns the span of the next attempt of a delivery. It has begun."""
        span = self._tracer.start_span(
            "webhook attempt",
            context=_NO_PARENT,
            kind=SpanKind.CLIENT,
            attributes=_attributes(delivery),
            links=_links(delivery.traceparent),
        )
        return RecordedSpan(span, _traceparent_of(span) if self._to_receivers else None)

    def close(self) -> None:
        """Exports what waits for it, as long as the collector takes."""
        self._export.close()


def _attributes(delivery: PendingDelivery) -> dict[str, AttributeValue]:
    """Returns what is known before the attempt, in the words of the log. Never a URL, which may hold a secret."""
    return {
        "customer_id": delivery.customer_id,
        "webhook_id": delivery.webhook_id,
        "delivery_id": delivery_id_text(delivery.event_id, delivery.webhook_id),
        "event_type": delivery.event_type,
        "attempt_number": delivery.attempt + 1,
        "trigger": delivery.trigger.value,
        "http.request.method": "POST",
    }


def _links(traceparent: str | None) -> list[Link]:
    producer = Traceparent.parse(traceparent) if traceparent is not None else None
    if producer is None:
        return []
    flags = TraceFlags(producer.flags)
    return [Link(SpanContext(producer.trace_id, producer.span_id, is_remote=True, trace_flags=flags))]


def _traceparent_of(span: Span) -> str | None:
    context = span.get_span_context()
    if not context.is_valid:  # OTEL_SDK_DISABLED
        return None
    return str(Traceparent(context.trace_id, context.span_id, context.trace_flags))
