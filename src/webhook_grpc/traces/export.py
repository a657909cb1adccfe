"""Exports spans by OTLP over HTTP, as the variables OTEL_* say: in a thread, from a bounded queue.

A collector that is away or slow delays nothing: what finds the queue full is dropped. The log says once that exporting
fails, and once that it works again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from typing import Any, Final

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, Tracer, TraceState, set_span_in_context
from opentelemetry.util.types import Attributes

from webhook_grpc import __version__

log = structlog.get_logger(__name__)

_LIBRARY: Final = "opentelemetry"
_VALUE: Final = re.compile(r"%[-0-9.]*[a-z]")  # where a value stands in the text of a line of the log


class SpanExport:
    """OpenTelemetry's part of a process: makes the tracer, and exports in the background until it is closed."""

    def __init__(self) -> None:
        """Raises ValueError if a variable OTEL_* can't be used."""
        session = _WatchedSession()
        watch = ExportWatch(session)
        _LibraryLog(watch).install()
        self._provider = _provider(WatchedExporter(OTLPSpanExporter(session=session), watch))
        self.tracer: Tracer = self._provider.get_tracer("webhook_grpc", __version__)
        """Never changes."""

    def close(self) -> None:
        """Exports what waits for it, and ends the thread. May take half a minute with a collector that is away."""
        self._provider.shutdown()


class LinkSampler(Sampler):
    """Lets the sampler of OTEL_TRACES_SAMPLER decide as if the linked span were the parent.

    So what the producer has decided holds by default, and all attempts of an event are recorded or none.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(  # noqa: D102 - OpenTelemetry's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        for link in links or ():
            parent_context, trace_id = set_span_in_context(NonRecordingSpan(link.context)), link.context.trace_id
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:  # noqa: D102 - OpenTelemetry's
        return f"LinkSampler({self._sampler.get_description()})"


class WatchedExporter(SpanExporter):
    """Exports through another exporter, and says when that begins and ends to fail."""

    def __init__(self, exporter: SpanExporter, watch: ExportWatch) -> None:
        self._exporter = exporter
        self._watch = watch

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: D102 - OpenTelemetry's
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._watch.succeeded()
        else:
            self._watch.failed(len(spans))
        return result

    def shutdown(self) -> None:  # noqa: D102 - OpenTelemetry's
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: D102 - OpenTelemetry's
        return self._exporter.force_flush(timeout_millis)


class _WatchedSession(requests.Session):
    """Notes how the last request ended, in words without an address or a header. Used by the thread that exports."""

    last_end = ""

    def request(self, *arguments: Any, **named: Any) -> requests.Response:
        """Sends a request as the exporter wants it."""
        try:
            response = super().request(*arguments, **named)
        except Exception as error:
            self.last_end = type(error).__qualname__
            raise
        self.last_end = f"HTTP {response.status_code}"
        return response


class ExportWatch:
    """Says once when exporting begins to fail, and once when it works again. Written by the thread that exports."""

    def __init__(self, session: _WatchedSession) -> None:
        self._session = session
        self._failing_since: float | None = None
        self._failed_spans = 0

    @property
    def is_failing(self) -> bool:
        """Whether the last export failed."""
        return self._failing_since is not None

    def failed(self, span_count: int) -> None:
        """Counts spans that could not be exported."""
        self._failed_spans += span_count
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            log.warning("spans are not exported", cause=self._session.last_end)

    def succeeded(self) -> None:
        """Notes that spans were exported."""
        if self._failing_since is None:
            return
        seconds = round(time.monotonic() - self._failing_since, 1)
        log.info("spans are exported again", after_seconds=seconds, failed_spans=self._failed_spans)
        self._failing_since, self._failed_spans = None, 0


class _LibraryLog(logging.Handler):
    """Brings what OpenTelemetry has to say into the log: variables that it can't use, a queue that is full.

    Not what it says of exports, and nothing of a full queue while these fail: `ExportWatch` says that once. And without
    the values: one line has the header in it that should have carried a collector's key.
    """

    def __init__(self, watch: ExportWatch) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def install(self) -> None:
        """Takes what OpenTelemetry logs from now on, in place of the one before.

        It stays to the end of the process: without any handler, Python would write to stderr what a thread still says.
        """
        logger = logging.getLogger(_LIBRARY)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        for before in [handler for handler in logger.handlers if isinstance(handler, _LibraryLog)]:
            logger.removeHandler(before)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if not self._watch.is_failing and record.name != OTLPSpanExporter.__module__:
            log.warning("opentelemetry", text=_VALUE.sub("…", str(record.msg)))


def _provider(exporter: SpanExporter) -> TracerProvider:
    """Returns what makes tracers. Its thread runs until it is shut down."""
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.sampler = LinkSampler(provider.sampler)  # in place of the one that OTEL_TRACES_SAMPLER names
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _resource() -> Resource:
    """Returns what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and ours where they say nothing."""
    ours = Resource({SERVICE_NAME: "webhook-grpc", SERVICE_VERSION: __version__})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())
