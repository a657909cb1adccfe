"""What the log may never say, and what must have happened when nothing is pending any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from tests.invariants.shared import violations
from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import FailureReason
from webhook_grpc.store.schema.partitions import first_id

from .course import Course
from .database.stored import EPOCH
from .history import history_of
from .model.rows import Key, LogRow

_TEST_AGE_MAX: Final = timedelta(seconds=60)
_CRASHES_MAX: Final = 60  # of a run with poison: it must be found out


class LogChecks:
    """Each row is checked against the requests that were made; at the end, all of them together."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._profile = course.profile
        self._stored = course.stored
        self._model = course.stored.model

    def check_row(self, row: LogRow) -> None:
        """Called when the row is written."""
        if self._is_by_command(row):
            self._check_command(row)
        name = f"{row.webhook_id} {row.event_id} attempt {row.attempt_count}"
        attempts = self._course.sent[row.webhook_id, row.event_id]
        visible = [s for s in attempts if s.attempt == row.attempt_count and s.outcome is not None]
        is_interrupted = row.reason == FailureReason.INTERRUPTED.name.lower()
        if row.outcome is not None and not is_interrupted and not any(s.status == row.response_status for s in visible):
            self._course.violated(f"{name}: an attempt was counted that was not made: {row}")
        if is_interrupted and self._profile.is_calm:
            self._course.violated(f"{name} was interrupted by nothing")
        if row.status == "failed" and row.trigger == "scheduled" and row.event_id not in self._stored.refused:
            schedules = [len(self._course.delays_of(w)) + 1 for _, w in self._course.history[row.webhook_id]]
            if row.attempt_count < min(schedules):
                self._course.violated(f"{name} failed too early: {row}")
        if row.status == "expired":
            self._check_expired(name, row)

    def _check_expired(self, name: str, row: LogRow) -> None:
        if not self._is_old(row):
            self._course.violated(f"{name} expired")
        if self._is_being_sent(row):
            self._course.violated(f"{name} expired while it was being sent")

    def _check_command(self, row: LogRow) -> None:
        """What is being sent is not cancelled."""
        name = f"{row.webhook_id} {row.event_id}"
        if row.status == "cancelled" and row.trigger != "test" and self._is_being_sent(row):
            self._course.violated(f"{name} cancelled while it was being sent")

    def _is_by_command(self, row: LogRow) -> bool:
        return (row.shard, row.seq) in self._stored.by_command

    def _is_being_sent(self, row: LogRow) -> bool:
        tenure = self._stored.tenures[row.shard]
        attempts = self._course.sent[row.webhook_id, row.event_id]
        return any(sent.ended_at is None and sent.tenure == tenure and not sent.process.fate.dead for sent in attempts)

    def _is_old(self, row: LogRow) -> bool:
        """Whether its event is not kept any more, or nobody waits for a test any more."""
        is_late_test = row.trigger == "test" and row.at - row.event_create_time > _TEST_AGE_MAX
        return is_late_test or row.event_id < first_id(EPOCH)

    def check_end(self) -> None:
        """What is promised held; every delivery ended as its receiver deserved; nothing is left behind in memory."""
        for violation in violations(history_of(self._course)):
            self._course.violated(str(violation))
        by_delivery: dict[Key, list[LogRow]] = defaultdict(list)
        for row in (row for rows in self._model.log for row in rows):
            by_delivery[row.key].append(row)
        for (webhook_id, event_id), rows in by_delivery.items():
            name, last = f"{webhook_id} {event_id}", rows[-1]
            if event_id in self._course.tests:
                continue
            self._check_attempts_logged(name, rows)
            self._check_fate(name, webhook_id, event_id, last)
        self._check_tests(by_delivery)
        self._check_leaks()
        if self._course.poison and self._course.crash_count > _CRASHES_MAX:
            self._course.violated(f"{self._course.crash_count} crashes")

    def _check_attempts_logged(self, name: str, rows: Sequence[LogRow]) -> None:
        """Whatever else was done to a delivery: an attempt that was made is in the log, unless its shard was lost."""
        key = rows[0].webhook_id, rows[0].event_id
        if key[1] in self._stored.refused:
            return
        counted = {row.attempt_count for row in rows if row.outcome is not None}
        tenure = self._stored.tenures[shard_of(key[0])]
        for sent in self._course.sent[key]:
            is_lost = sent.outcome is None or (sent.tenure != tenure and not self._profile.is_calm)
            if sent.attempt not in counted and not is_lost:
                self._course.violated(f"{name}: attempt {sent.attempt} was made, and is not in the log: {sent.outcome}")

    def _check_fate(self, name: str, webhook_id: int, event_id: UUID, last: LogRow) -> None:
        was_off = any(webhook.status.has_ended for _, webhook in self._course.history[webhook_id])
        is_by_command, is_poison = self._is_by_command(last), event_id in self._course.poison
        if is_poison and last.status != "failed" and not was_off and not is_by_command:
            self._course.violated(f"{name} is poison, and {last.status}")
        is_well = self._course.receivers[webhook_id].behaviour in {"well", "slow", "limited"} and not was_off
        is_odd = is_poison or event_id in self._stored.refused or last.status == "expired" or is_by_command
        # whoever is in flight whenever a process dies, or freezes for as long, can't be told from what kills it
        cut = len(self._course.sent[webhook_id, event_id])
        may_be_interrupted = last.reason == FailureReason.INTERRUPTED.name.lower() and cut >= last.attempt_count - 1
        if is_well and not is_odd and not may_be_interrupted and last.status != "succeeded":
            self._course.violated(f"{name} of a receiver that is well {last.status}: {last}")

    def _check_tests(self, by_delivery: Mapping[tuple[int, UUID], Sequence[LogRow]]) -> None:
        """Each has its answer: one row, of its attempt if there was one and its process lived."""
        for _, (webhook_id, event_id, kind) in self._stored.asks:
            if kind is not Kind.TEST:
                continue
            rows = by_delivery.get((webhook_id, event_id), ())
            if len(rows) != 1 or rows[0].trigger != "test" or rows[0].status == "pending":
                self._course.violated(f"the test {webhook_id} {event_id}: {rows}")
            else:
                self._check_attempts_logged(f"the test {webhook_id} {event_id}", rows)

    def _check_leaks(self) -> None:
        for process in self._course.processes:
            if not process.is_serving:
                continue
            lanes, dispatcher = vars(process.engine.lanes), vars(process.engine.dispatcher)
            left = {
                name: lanes[name]
                for name in ("in_flight", "_hosts", "_customers", "_turns", "_held_bytes", "_strays")
                if lanes[name]
            }
            left |= {"attempts": dispatcher["_tasks"]} if dispatcher["_tasks"] else {}
            left |= {"disabling": True} if vars(dispatcher["_attempts"])["_disabling"] else {}
            left |= {"barred": lanes["_barred"]} if lanes["_barred"] else {}
            commands = vars(process.engine.commands)
            left |= {name: commands[name] for name in ("_taken", "_testing") if commands[name]}
            left |= {"busy": lanes["_busy_shards"]} if any(lanes["_busy_shards"].values()) else {}
            left |= {"unsettled": True} if vars(process.engine)["_unsettled"].results.unanswered_count else {}
            left |= {"marked": True} if vars(vars(process.engine)["_poison"])["_written"] else {}
            if left:
                self._course.violated(f"{process.name} keeps {left}")
