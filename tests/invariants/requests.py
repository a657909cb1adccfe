"""I2, I5, I6: what requests must agree with: the log, the schedule, the rate."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .asked import restarted_at
from .history import History, LogRow, Request
from .violation import Violation

_ROUNDING = 1e-3  # of a request


def succeeded_was_received(history: History) -> Iterator[Violation]:
    """I2: what the log calls succeeded was answered 2xx by the receiver before that was written, on that attempt."""
    for row in not_received(history):
        name = f"{row.event_id} to webhook {row.webhook_id}"
        yield Violation("I2", f"{name} succeeded on attempt {row.attempt_count}, but no 2xx was given before")


def not_received(history: History) -> Iterator[LogRow]:
    """The rows that say "succeeded" and were answered otherwise, or later, or not at all."""
    answered: dict[tuple[int, str, int], float] = {}
    for request in history.requests:
        if 200 <= request.status <= 299:
            key = (request.webhook_id, request.event_id, request.attempt)
            answered[key] = min(request.ended_at, answered.get(key, request.ended_at))
    for row in history.log:
        at = answered.get((*row.delivery, row.attempt_count), math.inf)
        if row.status == "succeeded" and at > row.created_at + history.clock_seconds:
            yield row


def not_too_early(history: History) -> Iterator[Violation]:
    """I5: no attempt comes before the log says that it is due, nor before the Retry-After that the log knows of.

    An answer that was lost in a crash binds nobody: its attempt is made again, or counted without it. What was sent
    before the database came back older has nothing to do with what the log has from after that.
    """
    forgetting = [fault for fault in history.faults if fault.may_forget]
    rows = {(row.webhook_id, row.event_id, row.attempt_count): row for row in history.log if row.outcome is not None}
    answers = {(request.webhook_id, request.event_id, request.attempt): request for request in history.requests}
    restarted = restarted_at(history)
    delays = {endpoint.webhook_id: endpoint.delays_seconds for endpoint in history.endpoints}
    for request in history.requests:
        before = (request.webhook_id, request.event_id, request.attempt - 1)
        row, answer = rows.get(before), answers.get(before)
        is_restarted = (request.webhook_id, request.event_id, request.attempt) in restarted
        if row is None or row.next_due_at is None or is_restarted:
            continue
        if any(request.arrived_at <= one.ended_at and row.created_at >= one.started_at for one in forgetting):
            continue
        early_seconds = row.next_due_at - request.arrived_at
        if early_seconds > history.clock_seconds:
            yield _too_early(request, early_seconds, "it was due")
        if answer is None or answer.retry_after is None or row.response_status != answer.status:
            continue
        left = delays[request.webhook_id][request.attempt - 2 :]
        asked_seconds = min(answer.retry_after, max(left[0], sum(left)))  # bounded by what is left of the schedule
        early_seconds = answer.ended_at + asked_seconds - request.arrived_at
        if early_seconds > history.clock_seconds:
            yield _too_early(request, early_seconds, "Retry-After allows")


def rate_is_limited(history: History) -> Iterator[Violation]:
    """I6: in no window of any length do more requests start than by its rate, and a burst of one second.

    However often the webhook changes its owner: one that was killed is followed by one that begins without a burst. A
    request that was late on its way seems to start later than it did, and the window that it opens is shorter.
    """
    for endpoint in history.endpoints:
        if endpoint.rate_limit is None:
            continue
        rate = history.rate_tolerance * endpoint.rate_limit
        starts = sorted(
            request.arrived_at if request.decided_at is None else request.decided_at
            for request in history.requests
            if request.webhook_id == endpoint.webhook_id and not request.is_test
        )
        begin, least = 0, math.inf
        for number, at in enumerate(starts):  # the window that ends here and has most beyond its rate
            beyond = number - rate * at
            if beyond < least:
                begin, least = number, beyond
            count, seconds = number - begin + 1, at - starts[begin]
            if count > rate * (seconds + history.late_seconds) + endpoint.rate_limit + _ROUNDING:
                yield Violation(
                    "I6",
                    f"webhook {endpoint.webhook_id} got {count} requests in {seconds:.2f} s, with {rate:g} a second",
                )
                break


def _too_early(request: Request, early_seconds: float, than: str) -> Violation:
    delivery = f"{request.event_id} to webhook {request.webhook_id}"
    return Violation("I5", f"attempt {request.attempt} of {delivery} came {early_seconds:.3f} s earlier than {than}")
