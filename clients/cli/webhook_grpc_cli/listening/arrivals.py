"""Requests as lines: what came in, whether it is genuine, what was answered."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from webhook_grpc_cli.output.escaping import escaped
from webhook_grpc_cli.output.kind import ANY, Column, Kind
from webhook_grpc_cli.output.look import Look, latency_text
from webhook_grpc_cli.output.printing import NOTHING
from webhook_grpc_cli.values import RawJson
from webhook_grpc_cli.verifying.findings import Clock, Finding, findings, is_right
from webhook_grpc_cli.verifying.requests import Received

from .receiver import Answer, Arrival

INDENT: Final = " " * 14
_SEEN_MAX: Final = 10_000
_WORDS_MAX: Final = 60  # of a failed answer, on the request's own line
_MARKS: Final = {"right": "✓", "missing": "·"}
_VALUES: Final = (
    "time", "event_type", "event_id", "delivery_id", "attempt", "bytes", "signatures", "status", "latency", "problem",
    "seen_before",
)  # fmt: skip
ARRIVAL: Final = Kind(
    "event_id",
    [Column(name, name) for name in _VALUES],
    more={**dict.fromkeys((*_VALUES, "data"), ""), "signatures": ANY},
)


class Tally:
    """Counts what came in, and remembers the last 10,000 events. Any thread may add."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self.requests = self.events = self.failures = 0
        """Only `add` changes the counts."""

    def add(self, event_id: str, *, is_failure: bool) -> bool:
        """Counts a request. Returns whether its event has come before."""
        with self._lock:
            self.requests += 1
            self.failures += is_failure
            was_seen = event_id in self._events
            self._events[event_id] = None
            self._events.move_to_end(event_id)
            self.events += not was_seen
            if len(self._events) > _SEEN_MAX:
                self._events.popitem(last=False)
            return was_seen

    def text(self) -> str:
        """Returns the counts in words."""
        return ", ".join(
            f"{count} {word}" + ("" if count == 1 else "s")
            for count, word in ((self.requests, "request"), (self.events, "event"), (self.failures, "failure"))
        )


@dataclass(frozen=True, slots=True)
class Handled:
    """A request, what is known of its signatures (nothing without a secret), and how it was answered."""

    arrival: Arrival
    signatures: Sequence[Finding]
    answer: Answer
    seconds: float
    was_seen: bool = False

    @property
    def is_failure(self) -> bool:
        """Returns whether the service counts the answer as a failure, or a signature is wrong."""
        return not 200 <= self.answer.status < 300 or (bool(self.signatures) and not is_right(self.signatures))


def judged(arrival: Arrival, secrets: Sequence[str]) -> Sequence[Finding]:
    """Returns what is known of both signatures; nothing without a secret."""
    if not secrets:
        return ()
    return findings(Received(arrival.headers, arrival.body), secrets, Clock(arrival.at))


def lines(handled: Handled, look: Look) -> list[str]:
    """Returns the lines that a person reads. Nothing in them drives a terminal."""
    headers = handled.arrival.headers
    marks = [_MARKS.get(finding.state, "✕") for finding in handled.signatures]
    size = f"{len(handled.arrival.body):,} B"
    parts = [
        look.clock(datetime.fromtimestamp(handled.arrival.at, UTC)),
        f"{headers.get('x-webhook-event', NOTHING):<13}",
        headers.get("webhook-id", NOTHING),
        f"attempt {headers.get('x-webhook-attempt', NOTHING)}",
        f"{size:>5}",
        f"signatures {' '.join(marks)} " if marks else "signatures not checked",
        f"→ {handled.answer.status}{latency_text(handled.seconds):>8}",
    ]
    note = "seen before" if handled.was_seen else _failure_words(handled.answer)
    texts = ["  ".join(map(escaped, parts)) + (f"   {escaped(note)}" if note else "")]
    texts += [f"{INDENT}{escaped(text)}" for text in _data_lines(handled.arrival.body, look.width - len(INDENT))]
    causes = dict.fromkeys(cause for finding in handled.signatures for cause in finding.causes)
    return [look.mark(text) for text in (*texts, *(f"{INDENT}{cause}" for cause in causes))]


def _failure_words(answer: Answer) -> str:
    if answer.status < 300 or answer.problem:
        return answer.problem
    words = answer.body.decode("utf-8", "replace").strip().partition("\n")[0]
    return words if len(words) <= _WORDS_MAX else f"{words[: _WORDS_MAX - 1]}…"


def _data_lines(body: bytes, width: int) -> list[str]:
    """Returns an event's data: as it was written if that fits into a line, else with a line for each value."""
    text = data_text(body)
    if len(text) <= width and "\n" not in text:
        return [text]
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).splitlines()
    except (ValueError, RecursionError):
        return text.splitlines()


def data_text(body: bytes) -> str:
    """Returns the source text of an event's data; of another body, all of it."""
    text = body.decode("utf-8", "replace")
    _, found, data = text.partition(',"data":')
    return data.removesuffix("}") if found and text.startswith('{"event":') else text


def as_json(handled: Handled) -> dict[str, Any]:
    """Returns the same for programs. `data` is the source text that came, if that is JSON."""
    headers = handled.arrival.headers
    data = data_text(handled.arrival.body)
    try:
        json.loads(data)
        shown: Any = RawJson(data)
    except (ValueError, RecursionError):
        shown = data
    return {
        "time": datetime.fromtimestamp(handled.arrival.at, UTC).isoformat(timespec="milliseconds"),
        "event_type": headers.get("x-webhook-event", ""),
        "event_id": headers.get("webhook-id", ""),
        "delivery_id": headers.get("x-webhook-delivery", ""),
        "attempt": headers.get("x-webhook-attempt", ""),
        "bytes": len(handled.arrival.body),
        "signatures": {finding.header: finding.state for finding in handled.signatures},
        "status": handled.answer.status,
        "latency": f"{handled.seconds:.3f}s",
        "problem": handled.answer.problem,
        "seen_before": handled.was_seen,
        "data": shown,
    }
