"""I5, I6, I7: nothing too early, not too much at once, and others not too late."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator

from . import asked
from .history import Endpoint, Fault, History, Request
from .violation import Violation

_CLOCK_SECONDS = 0.05  # between the receiver's reading of the clock and the database's
# An unanswered request ends for the sender at once, for the receiver when it notices.
_NOTICE_SECONDS = 0.25
_LATENESS_SECONDS_MAX = 2.0
_LATE_SECONDS = 0.1  # from where a process counts a request to where its receiver reads the clock
_RATE_TOLERANCE = 1.05


def not_too_early(history: History) -> Iterator[Violation]:
    """I5: no attempt comes before the log says that it is due, nor before the Retry-After that the log knows of.

    An answer that was lost in a crash binds nobody: its attempt is made again, or counted without it.
    """
    rows = {(row.webhook_id, row.event_id, row.attempt_count): row for row in history.log if row.outcome is not None}
    answers = {(request.webhook_id, request.event_id, request.attempt): request for request in history.requests}
    restarted = asked.restarted(history)
    delays = {endpoint.webhook_id: endpoint.delays_seconds for endpoint in history.endpoints}
    for request in history.requests:
        before = (request.webhook_id, request.event_id, request.attempt - 1)
        row, answer = rows.get(before), answers.get(before)
        is_restarted = (request.webhook_id, request.event_id, request.attempt) in restarted
        if row is None or row.next_due_at is None or is_restarted:
            continue
        early_seconds = row.next_due_at - request.arrived_at
        if early_seconds > _CLOCK_SECONDS:
            yield _too_early(request, early_seconds, "it was due")
        if answer is None or answer.retry_after is None or row.response_status != answer.status:
            continue
        left = delays[request.webhook_id][request.attempt - 2 :]
        asked_seconds = min(answer.retry_after, max(left[0], sum(left)))  # bounded by what is left of the schedule
        early_seconds = answer.ended_at + asked_seconds - request.arrived_at
        if early_seconds > _CLOCK_SECONDS:
            yield _too_early(request, early_seconds, "Retry-After allows")


def in_flight_is_limited(history: History) -> Iterator[Violation]:
    """I6: never more requests at once to a webhook than its limit.

    One owner keeps it exactly, by counting; a shard that is handed over is handed over idle; and a killed process
    leaves no open request behind, while its successor waits for the lease. Only a process that lost its lease alive (it
    was stopped, or cut from the database for longer than the lease) may have its last requests open, for as long as one
    may take, while the new owner counts from zero: then, and only then, a limit more for each such fault.
    """
    by_webhook: dict[int, list[Request]] = defaultdict(list)
    for request in history.requests:
        by_webhook[request.webhook_id].append(request)
    overlapping = [fault for fault in history.faults if fault.may_overlap]
    for endpoint in history.endpoints:
        excess = _excess(by_webhook[endpoint.webhook_id], endpoint, overlapping, history)
        if excess is not None:
            at, count, allowed = excess
            yield Violation(
                "I6", f"webhook {endpoint.webhook_id} had {count} requests at once at {at:.3f}, {allowed} are allowed"
            )


def rate_is_limited(history: History) -> Iterator[Violation]:
    """I6: in no window of any length do more requests start than 1.05 times its rate, and a burst of one second.

    However often the webhook changes its owner: one that was killed is followed by one that begins without a burst.
    A request that was late on its way seems to start later than it did, and the window that it opens is shorter.
    """
    late_seconds = _LATE_SECONDS * history.slowness
    for endpoint in history.endpoints:
        if endpoint.rate_limit is None:
            continue
        rate = _RATE_TOLERANCE * endpoint.rate_limit
        starts = sorted(request.arrived_at for request in history.requests if request.webhook_id == endpoint.webhook_id)
        begin, least = 0, math.inf
        for number, at in enumerate(starts):  # the window that ends here and has most beyond its rate
            beyond = number - rate * at
            if beyond < least:
                begin, least = number, beyond
            count, seconds = number - begin + 1, at - starts[begin]
            if count > rate * (seconds + late_seconds) + endpoint.rate_limit:
                yield Violation(
                    "I6",
                    f"webhook {endpoint.webhook_id} got {count} requests in {seconds:.2f} s, with {rate:g} a second",
                )
                break


def others_are_prompt(history: History) -> Iterator[Violation]:
    """I7: the first attempts to webhooks that the fault does not concern are not late."""
    prompt = [endpoint.webhook_id for endpoint in history.endpoints if endpoint.prompt]
    late = lateness(history, prompt)
    if late > history.slowness * _LATENESS_SECONDS_MAX:
        yield Violation("I7", f"first attempts to webhooks that nothing ails are {late:.2f} s late (99 of 100)")


def watchers_are_prompt(history: History) -> Iterator[Violation]:
    """I7: a watcher whom the fault does not concern is told soon, whatever another one does."""
    logged_at = {(row.webhook_id, row.event_id, row.attempt_count, row.status): row.created_at for row in history.log}
    for watcher in history.watchers:
        late = [
            change.at - logged_at.get((change.webhook_id, change.event_id, change.attempt_count, change.status), 0.0)
            for change in watcher.told
        ]
        if watcher.prompt and _percentile_99(late) > history.slowness * _LATENESS_SECONDS_MAX:
            yield Violation("I7", f"watcher {watcher.name} was told {_percentile_99(late):.2f} s late (99 of 100)")


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


def _too_early(request: Request, early_seconds: float, than: str) -> Violation:
    delivery = f"{request.event_id} to webhook {request.webhook_id}"
    return Violation("I5", f"attempt {request.attempt} of {delivery} came {early_seconds:.3f} s earlier than {than}")
