"""The process itself: whether it serves, its event loop, its log, its errors of the database."""

from __future__ import annotations

from collections.abc import Callable

from webhook_grpc import __version__
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.tally import DatabaseErrors, Histogram
from webhook_grpc.server.readiness import Readiness
from webhook_grpc.store.connection.failures import ERROR_CLASSES

from .families import Family, counter, counters, gauge, gauges, histogram, info


class ProcessFigures:
    """Shows how the process does."""

    def __init__(
        self, readiness: Readiness, errors: DatabaseErrors, loop_lags: Histogram, dropped_lines: Callable[[], int]
    ) -> None:
        self._readiness = readiness
        self._errors = errors
        self._loop_lags = loop_lags
        self._dropped_lines = dropped_lines

    def collect(self) -> list[Family]:
        """Returns the figures."""
        serving = {service.value: float(self._readiness.serves_here(service)) for service in Service}
        errors = {(name,): self._errors.by_class.get(name, 0) for name in ERROR_CLASSES}
        return [
            info("build", "The version of the program.", "version", __version__),
            gauge("ready", "Whether calls can be answered.", float(self._readiness.serves_here(Service.WEBHOOKS))),
            gauges("serving", "What health checks say of each service.", "service", serving),
            counters("database_errors", "Statements that failed, by class of SQLSTATE.", ("sqlstate_class",), errors),
            counter("database_disk_full", "Statements that failed for want of room.", self._errors.disk_full_count),
            histogram("loop_lag_seconds", "How late the event loop was, each second.", self._loop_lags),
            counter("log_lines_dropped", "Log lines that could not be written.", self._dropped_lines()),
        ]
