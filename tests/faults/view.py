"""I16: the view `webhook_logs`, which other teams read: one row for each attempt, with what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.invariants.history import History
from tests.invariants.violation import Violation


def shows_each_attempt(history: History) -> Iterator[Violation]:
    """One row for each attempt of the log, nothing else; its payload is what was published, counts begin with 0."""
    if history.shown is None:
        return
    attempts = {(row.shard, row.seq): row for row in history.log if row.outcome is not None}
    request_ids = {publish.event_id: publish.request_id for publish in history.publishes if publish.event_id}
    shown = Counter((row.shard, row.seq) for row in history.shown)
    if shown != Counter(attempts.keys()):
        wrong = sorted(shown.keys() ^ attempts.keys())
        yield Violation("I16", f"webhook_logs and the attempts of the log differ: {wrong[:3]}", max(1, len(wrong)))
    for row in history.shown:
        attempt = attempts.get((row.shard, row.seq))
        if attempt is None:
            continue
        expected = attempt.webhook_id, attempt.attempt_count - 1, attempt.response_status, "job.completed"
        if (row.webhook_id, row.retry_count, row.response_status, row.event_type) != expected:
            yield Violation("I16", f"webhook_logs shows {row} for {attempt}")
        if row.request_id is None or request_ids.get(attempt.event_id, row.request_id) != row.request_id:
            yield Violation("I16", f"webhook_logs shows another payload: {row} for {attempt}")
    sent = Counter((request.webhook_id, request.attempt - 1) for request in history.requests if request.status)
    answered = Counter((row.webhook_id, row.retry_count) for row in history.shown if row.response_status is not None)
    if more := answered - sent:
        yield Violation("I16", f"webhook_logs shows answers that no receiver gave: {dict(more)}", more.total())
