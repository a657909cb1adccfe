"""What must be true of the tables after every step, whatever the model says. Numbers as in the reliability plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from uuid import UUID

from tests.invariants.history import Endpoint, History
from tests.invariants.shared import OF_THE_LOG, violations

from .history import log_row, pending, texts
from .model.rows import Key, LogRow, State


def check(state: State, matched: Mapping[UUID, frozenset[int]], delays_seconds: Sequence[float]) -> None:
    """`matched` says to which webhooks each acknowledged event must go."""
    history = History(
        endpoints=tuple(
            Endpoint(webhook.webhook_id, webhook.customer_id, delays_seconds=tuple(delays_seconds))
            for webhook in state.webhooks.values()
        ),
        log=tuple(map(log_row, state.log)),
        pending=tuple(map(pending, state.outbox)),
        matched=texts(matched),
    )
    found = violations(history, OF_THE_LOG)
    assert not found, found
    log: dict[Key, list[LogRow]] = {}
    for row in state.log:
        log.setdefault(row.key, []).append(row)
    for rows in log.values():
        _nothing_is_tried_too_early(rows)
    _due_times_are_those_of_the_log(state, log, matched)


def _nothing_is_tried_too_early(rows: Sequence[LogRow]) -> None:
    """I5, by the time that the log has of each attempt."""
    for before, after in pairwise(rows):
        if after.start_time is not None:
            assert before.next_due_at is not None
            assert after.start_time >= before.next_due_at, f"{before}, {after}"


def _due_times_are_those_of_the_log(
    state: State, log: Mapping[Key, list[LogRow]], matched: Mapping[UUID, frozenset[int]]
) -> None:
    """Decision 4, by which a delivery is found without an index of its own."""
    for row in state.outbox:
        rows = log.get((row.webhook_id, row.event_id))
        if rows:
            assert (row.due_at, row.attempt) == (rows[-1].next_due_at, rows[-1].attempt_count)
        elif row.event_id in state.events:
            assert (row.due_at, row.attempt) == (state.events[row.event_id].create_time, 0)
        assert row.event_id in matched
