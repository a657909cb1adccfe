"""I15: what clients ask for beside the load, and what may come of it: retries, cancellations, a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .history import History, LogRow
from .violation import Violation

_CLOCK_SECONDS = 0.05
_ARRIVAL_SECONDS = 1.0  # see resends.py


def is_done_once(history: History) -> Iterator[Violation]:
    """What was asked for is done, once; what nobody asked for is not. A restart is followed by one attempt at most."""
    asked = Counter((ask.kind, ask.webhook_id, ask.event_id) for ask in history.asked)
    rows = [row for row in history.log if row.is_restart]
    anyhow = {(row.webhook_id, row.event_id) for row in rows}  # a retry of what is being replayed changes nothing
    retries = Counter((row.webhook_id, row.event_id) for row in rows if row.trigger == "manual")
    for (webhook_id, event_id), count in retries.items():
        if count > asked["retry", webhook_id, event_id]:
            yield Violation("I15", f"{event_id} to webhook {webhook_id} was retried {count} times, unasked")
    for ask in history.asked:
        if ask.kind == "retry" and ask.status is not None and (ask.webhook_id, ask.event_id) not in anyhow:
            yield Violation("I15", f"{ask} was answered, and the log knows of no retry")
        if ask.status == "cancelled" and not _cancelled(history, ask.webhook_id, ask.event_id):
            yield Violation("I15", f"{ask} was answered, and the log knows of no cancellation")
    for row in history.log:
        if row.trigger == "replay" and not history.replays:
            yield Violation("I15", f"{row} is of a replay, and there was none")
        if row.trigger != "scheduled" and row.status == "pending" and not row.is_restart:
            yield Violation("I15", f"{row} is to be tried again, though it was restarted for one attempt")


def cancelled_is_left_alone(history: History) -> Iterator[Violation]:
    """Nothing is sent once its cancellation is in the log, unless it was retried or replayed later."""
    last = {(row.webhook_id, row.event_id): row for row in history.log}
    asked = {(ask.webhook_id, ask.event_id) for ask in history.asked if ask.kind == "cancel"}
    for request in history.requests:
        row = last.get((request.webhook_id, request.event_id))
        if row is None or row.status != "cancelled" or (row.webhook_id, row.event_id) not in asked:
            continue
        if request.arrived_at > row.created_at + history.slowness * _ARRIVAL_SECONDS:
            late = request.arrived_at - row.created_at
            yield Violation("I15", f"{row} was cancelled, and sent {late:.2f} s later")


def may_be_cancelled(history: History, row: LogRow) -> bool:
    """Whether somebody had asked for it."""
    return any(
        ask.kind == "cancel"
        and (ask.webhook_id, ask.event_id) == (row.webhook_id, row.event_id)
        and ask.asked_at <= row.created_at + _CLOCK_SECONDS
        for ask in history.asked
    )


def restarted(history: History) -> set[tuple[int, str, int]]:
    """The attempts that were not the schedule's, by webhook, event and number."""
    return {(row.webhook_id, row.event_id, row.attempt_count + 1) for row in history.log if row.is_restart}


def _cancelled(history: History, webhook_id: int, event_id: str) -> bool:
    rows = (row for row in history.log if (row.webhook_id, row.event_id) == (webhook_id, event_id))
    return any(row.status == "cancelled" for row in rows)
