"""What faults of ours cost deliveries that have nothing to do with them: little, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.invariants.history import History
from tests.invariants.violation import Violation

_LOST_MAX = 1

Delivery = tuple[int, str]  # webhook id, event id


def lost_attempts(history: History) -> Mapping[Delivery, int]:
    """Returns how many attempts each delivery has lost because processes died while it was sent.

    Without the poison, of which they died.
    """
    guilty = {
        (history.poison.webhook_id, publish.event_id)
        for publish in history.publishes
        if history.poison is not None and publish.request_id == history.poison.request_id
    }
    return Counter(
        (row.webhook_id, row.event_id)
        for row in history.log
        if row.reason == "interrupted" and (row.webhook_id, row.event_id) not in guilty
    )


def loses_one_attempt_at_most(history: History) -> Iterator[Violation]:
    """I17: however often processes die, a delivery that killed none of them loses at most one attempt to that."""
    for (webhook_id, event_id), count in lost_attempts(history).items():
        if count > _LOST_MAX:
            yield Violation("I17", f"{event_id} to webhook {webhook_id} has lost {count} attempts to careful mode")


def faults_of_ours_cost_no_attempt(history: History) -> Iterator[Violation]:
    """I18: while a fault of ours lasts that says nothing of receivers, no attempt is logged as failed because of it."""
    for fault in history.faults:
        for row in history.log:
            is_meanwhile = fault.started_at <= row.created_at < fault.ended_at
            if is_meanwhile and fault.rules_out and row.reason == fault.rules_out:
                what = f"attempt {row.attempt_count} of {row.event_id} to webhook {row.webhook_id}"
                yield Violation("I18", f"{what} counts as failed ({row.reason}) during {fault.kind}")
