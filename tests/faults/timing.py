"""I6, I7: not too much at once, and others not too late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace

from tests.invariants.history import Endpoint, Fault, History, Request
from tests.invariants.resends import waited_for_in_vain
from tests.invariants.violation import Violation

# An unanswered request ends for the sender at once, for the receiver when it notices.
_NOTICE_SECONDS = 0.25
_LATENESS_SECONDS_MAX = 2.0


def in_flight_is_limited(history: History) -> Iterator[Violation]:
    """I6: never more requests at once to a webhook than its limit.

    One owner keeps it exactly, by counting; a shard that is handed over is handed over idle; and a killed process
    leaves no open request behind, while its successor waits for the lease. Only a process that lost its lease alive (it
    was stopped, or cut from the database for longer than the lease) may have its last requests open, for as long as one
    may take, while the new owner counts from zero: then, and only then, a limit more for each such fault. A request
    that timed out has ended, also if the receiver begins with it later.
    """
    by_webhook: dict[int, list[Request]] = defaultdict(list)
    left_at = waited_for_in_vain(history)
    for request in history.requests:
        until = left_at.get((request.webhook_id, request.event_id, request.attempt), request.ended_at)
        by_webhook[request.webhook_id].append(replace(request, ended_at=min(request.ended_at, until)))
    overlapping = [fault for fault in history.faults if fault.may_overlap]
    for endpoint in history.endpoints:
        excess = _excess(by_webhook[endpoint.webhook_id], endpoint, overlapping, history)
        if excess is not None:
            at, count, allowed = excess
            yield Violation(
                "I6", f"webhook {endpoint.webhook_id} had {count} requests at once at {at:.3f}, {allowed} are allowed"
            )


def others_are_prompt(history: History) -> Iterator[Violation]:
    """I7: the first attempts to webhooks that the fault does not concern are not late."""
    prompt = [endpoint.webhook_id for endpoint in history.endpoints if endpoint.prompt]
    late = lateness(history, prompt)
    if late > _late_seconds_max(history):
        yield Violation("I7", f"first attempts to webhooks that nothing ails are {late:.2f} s late (99 of 100)")


def watchers_are_prompt(history: History) -> Iterator[Violation]:
    """I7: a watcher whom the fault does not concern is told soon, whatever another one does."""
    logged_at = {(row.webhook_id, row.event_id, row.attempt_count, row.status): row.created_at for row in history.log}
    for watcher in history.watchers:
        late = [
            change.at - logged_at.get((change.webhook_id, change.event_id, change.attempt_count, change.status), 0.0)
            for change in watcher.told
        ]
        if watcher.prompt and _percentile_99(late) > _late_seconds_max(history):
            yield Violation("I7", f"watcher {watcher.name} was told {_percentile_99(late):.2f} s late (99 of 100)")


def _late_seconds_max(history: History) -> float:
    return history.slowness * _LATENESS_SECONDS_MAX + history.stalled_seconds


def lateness(history: History, webhook_ids: Collection[int]) -> float:
    """The 99th percentile of the time from an event's creation to its first request, in seconds."""
    created_at = {(row.webhook_id, row.event_id): row.event_created_at for row in history.log}
    first: dict[tuple[int, str], float] = {}
    for request in history.requests:
        delivery = (request.webhook_id, request.event_id)
        if request.webhook_id in webhook_ids and delivery in created_at:
            first[delivery] = min(request.arrived_at, first.get(delivery, request.arrived_at))
    return _percentile_99([at - created_at[delivery] for delivery, at in first.items()])


def _percentile_99(values: list[float]) -> float:
    return max(0.0, sorted(values)[int(len(values) * 0.99)]) if values else 0.0


def _excess(
    requests: list[Request], endpoint: Endpoint, overlapping: list[Fault], history: History
) -> tuple[float, int, int] | None:
    """The first moment at which too many requests were open: when, how many, how many may be."""
    changes: list[tuple[float, int]] = []
    for request in requests:
        ended_at = request.ended_at if request.status else request.ended_at - history.slowness * _NOTICE_SECONDS
        changes += [(request.arrived_at, 1), (max(request.arrived_at, ended_at), -1)]
    count = 0
    for at, change in sorted(changes):  # at the same moment ends come first
        count += change
        owners = 1 + sum(
            fault.started_at <= at <= fault.ended_at + history.attempt_seconds_max for fault in overlapping
        )
        if count > endpoint.in_flight_max * owners:
            return at, count, endpoint.in_flight_max * owners
    return None
