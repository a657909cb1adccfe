"""Calls by method, door and code, and how long they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webhook_grpc.api.codes import Code
from webhook_grpc.api.methods import Method
from webhook_grpc.domain.tally import SECONDS, Histogram
from webhook_grpc.hub.refused_calls import RefusedCalls
from webhook_grpc.server.calls import Calls

from .families import Family, counter, counters, gauge, histograms


class CallTally:
    """Counts calls: the listener of `Calls`. Methods, doors and codes are few, so its memory is bounded."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], float] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def ended(self, method: Method[Any, Any], door: str, code: Code, seconds: float) -> None:
        """Counts a call. How long a stream was open says nothing, and is not kept."""
        key = method.name, door, code.name
        self._counts[key] = self._counts.get(key, 0) + 1
        if not method.streams:
            kept = self._seconds.get(key[:2])
            if kept is None:
                kept = self._seconds[key[:2]] = Histogram(SECONDS)
            kept.add(seconds)

    def families(self) -> list[Family]:
        """Returns the counts."""
        return [
            counters("rpcs", "Calls that ended.", ("method", "door", "code"), {**self._counts}),
            histograms("rpc_seconds", "How long calls took, without streams.", ("method", "door"), {**self._seconds}),
        ]


class CallFigures:
    """Shows the calls."""

    def __init__(
        self, tally: CallTally, calls: Calls, refused_calls: RefusedCalls, http_connections: Callable[[], int]
    ) -> None:
        self._tally = tally
        self._calls = calls
        self._refused_calls = refused_calls
        self._http_connections = http_connections

    def collect(self) -> list[Family]:
        """Returns the figures."""
        return [
            *self._tally.families(),
            counter(
                "refused_rpcs_left_out",
                "Refused calls of known callers that did not come into the audit.",
                self._refused_calls.left_out_count,
            ),
            gauge("rpcs_in_progress", "Calls in progress, without streams.", self._calls.call_count),
            gauge("rpcs_waiting", "Calls in progress that wait for their turn.", self._calls.waiting_count),
            gauge("watchers", "Streams of WatchDeliveries that are open.", self._calls.stream_count),
            gauge("http_connections", "Connections to the HTTP port.", self._http_connections()),
        ]
