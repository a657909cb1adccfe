"""What must be true of the tables after every step, whatever the model says. Numbers as in the reliability plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import groupby, pairwise
from uuid import UUID

from webhook_grpc.domain.model import DeliveryStatus

from .model.rows import Key, LogRow, State


def check(state: State, matched: Mapping[UUID, frozenset[int]], attempts_max: int) -> None:
    """`matched` says to which webhooks each acknowledged event must go."""
    log = rows_by_delivery(state)
    _seq_is_dense(state)
    _nothing_acknowledged_is_lost(state, log, matched)
    _attempts_count_upwards(log, attempts_max)
    _due_times_are_those_of_the_log(state, log, matched)


def rows_by_delivery(state: State) -> dict[Key, list[LogRow]]:
    """The log of each delivery, oldest first."""
    log: dict[Key, list[LogRow]] = {}
    for row in state.log:
        log.setdefault((row.webhook_id, row.event_id), []).append(row)
    return log


def _seq_is_dense(state: State) -> None:
    for shard, rows in groupby(state.log, key=lambda row: row.shard):
        seqs = [row.seq for row in rows]
        assert seqs == list(range(1, len(seqs) + 1)), f"the log of shard {shard}: {seqs}"


def _nothing_acknowledged_is_lost(
    state: State, log: Mapping[Key, list[LogRow]], matched: Mapping[UUID, frozenset[int]]
) -> None:
    """I1: each delivery stands in the outbox, or has ended in the log: once after each restart, and not both."""
    acknowledged = {(webhook_id, event_id) for event_id in matched for webhook_id in matched[event_id]}
    pending = Counter((row.webhook_id, row.event_id) for row in state.outbox)
    ended = {key for key, rows in log.items() if rows[-1].status is not DeliveryStatus.PENDING}
    assert not [key for key, count in pending.items() if count > 1 or key in ended]
    assert acknowledged <= pending.keys() | ended
    assert log.keys() <= pending.keys() | ended
    for key, rows in log.items():
        for before, after in pairwise(rows):
            is_over = before.status is not DeliveryStatus.PENDING
            assert is_over == is_restart(after, before), f"{key}: {before}, {after}"


def _attempts_count_upwards(log: Mapping[Key, list[LogRow]], attempts_max: int) -> None:
    """I4: the attempts of a delivery are 1, 2, 3, …, each once, and not too many. I5: none before its time."""
    for key, rows in log.items():
        attempts = [row for row in rows if row.outcome is not None]
        numbers = [row.attempt_count for row in attempts]
        assert numbers == list(range(1, len(numbers) + 1)), f"{key}: {numbers}"
        restart_count = sum(is_restart(row) for row in rows)
        assert len(numbers) <= attempts_max + restart_count, f"{key}: {numbers}"
        for before, after in pairwise(rows):
            if after.outcome is None:
                continue
            assert before.next_due_at is not None, f"{key} was tried after it had ended"
            assert after.start_time is not None
            assert after.start_time >= before.next_due_at, f"{key} was tried too early"
            assert not is_restart(before) or after.next_due_at is None, f"{key} was restarted for more than an attempt"


def is_restart(row: LogRow, before: LogRow | None = None) -> bool:
    """Whether it says that the delivery was restarted: pending, due at once, and no attempt was made."""
    is_new = row.status is DeliveryStatus.PENDING and row.outcome is None and row.next_due_at == row.at
    return is_new and (before is None or row.attempt_count == before.attempt_count)


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
