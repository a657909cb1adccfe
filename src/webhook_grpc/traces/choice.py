"""Decides by the settings what traces attempts. Nothing of OpenTelemetry is imported unless it is used."""

from __future__ import annotations

import os
from random import Random
from typing import Protocol

from webhook_grpc.engine.attempt_traces import AttemptTraces
from webhook_grpc.settings import Settings, SettingsError

from .forwarding import ForwardedTraces


class Traces(AttemptTraces, Protocol):
    """What traces attempts, until it is closed."""

    def close(self) -> None:
        """Exports what waits for it. May take as long as the collector lets it wait: not to be called on a loop."""
        ...


def choose_traces(settings: Settings, random: Random) -> Traces | None:
    """Returns what traces attempts, None for nothing.

    Raises SettingsError if the extra `otel` is not installed, or a variable of OpenTelemetry can't be used.
    """
    if settings.traces == "otlp":
        return _recorded(settings)
    return ForwardedTraces(random) if settings.traceparent_to_receivers else None


def _recorded(settings: Settings) -> Traces:
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((value for name in names if (value := os.environ.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        raise SettingsError(
            "WEBHOOK_TRACES=otlp exports by http/protobuf, mostly to port 4318 of a collector; "
            f"OTEL_EXPORTER_OTLP_PROTOCOL says {protocol}"
        )
    try:
        from .export import SpanExport  # noqa: PLC0415 - nothing is imported when traces are off
        from .recording import RecordedTraces  # noqa: PLC0415 - the same
    except ImportError as error:
        raise SettingsError(
            "WEBHOOK_TRACES=otlp needs the extra `otel`: install a clone with pip install '/path/to/clone[otel]' "
            f"({error})"
        ) from None
    try:
        export = SpanExport()
    except ValueError as error:
        raise SettingsError(f"a variable of OpenTelemetry (OTEL_…) can't be used: {error}") from None
    return RecordedTraces(export, to_receivers=settings.traceparent_to_receivers)
