"""I15: what clients ask for, and what may come of it: retries, cancellations, replays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from .history import History, LogRow
from .violation import Violation

_CLOCK_SECONDS = 0.05


def is_done_once(history: History) -> Iterator[Violation]:
    """I15: what was asked for is done, once; what nobody asked for is not."""
    asked = Counter((ask.kind, ask.webhook_id, ask.event_id) for ask in history.asked)
    rows = [row for row in history.log if row.is_restart]
    anyhow = {row.delivery for row in rows}  # a retry of what is being replayed changes nothing
    for (trigger, delivery), count in Counter((row.trigger, row.delivery) for row in rows).items():
        kind = "retry" if trigger == "manual" else trigger
        if count > asked[kind, *delivery] and not (kind == "replay" and history.replays):
            yield Violation("I15", f"{delivery} was restarted {count} times by {kind}, unasked")
    for ask in history.asked:
        if ask.kind == "retry" and ask.status is not None and (ask.webhook_id, ask.event_id) not in anyhow:
            yield Violation("I15", f"{ask} was answered, and the log knows of no retry")
        if ask.status == "cancelled" and not _cancelled(history, ask.webhook_id, ask.event_id):
            yield Violation("I15", f"{ask} was answered, and the log knows of no cancellation")


def cancelled_is_left_alone(history: History) -> Iterator[Violation]:
    """I15: nothing is sent once its cancellation is in the log, unless it was retried or replayed later.

    A process that has lost the shard may not know it.
    """
    last = {row.delivery: row for row in history.log}
    asked = {(ask.webhook_id, ask.event_id) for ask in history.asked if ask.kind == "cancel"}
    for request in history.requests:
        row = last.get((request.webhook_id, request.event_id))
        if row is None or row.status != "cancelled" or row.delivery not in asked or request.is_stale:
            continue
        if request.arrived_at > row.created_at + history.slowness * history.arrival_seconds:
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


def restarted_at(history: History) -> Mapping[tuple[int, str, int], float]:
    """When each attempt that is not the schedule's was asked for last, by webhook, event and number."""
    return {(*row.delivery, row.attempt_count + 1): row.created_at for row in history.log if row.is_restart}


def _cancelled(history: History, webhook_id: int, event_id: str) -> bool:
    rows = (row for row in history.log if (row.webhook_id, row.event_id) == (webhook_id, event_id))
    return any(row.status == "cancelled" for row in rows)
