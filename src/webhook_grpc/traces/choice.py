"""Decides by the settings what traces attempts. Nothing of OpenTelemetry is imported unless it is used."""

from __future__ import annotations

import os
from random import Random
from typing import Final, Protocol

from webhook_grpc.engine.attempt_traces import AttemptTraces
from webhook_grpc.settings import Settings, SettingsError

from .forwarding import ForwardedTraces

_PROTOCOL: Final = "http/protobuf"
_PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


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
    name = next((name for name in _PROTOCOL_VARIABLES if os.environ.get(name)), None)
    if name is not None and os.environ[name] != _PROTOCOL:
        raise SettingsError(
            f"WEBHOOK_TRACES=otlp exports by {_PROTOCOL}, to port 4318 of most collectors; {name} says something else"
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
