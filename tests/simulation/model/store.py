"""The two statements of an owner that write the log: results are settled, commands are carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from webhook_grpc.domain.command import Command, Kind, TestEvent
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import AttemptResult, Danger, DeliveryStatus, Trigger
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.ownership.leases import OwnedShard

from .leases import Leases
from .outbox import Outbox
from .registry import Registry
from .rows import (
    TAKING,
    CommandKey,
    CommandRow,
    EventRow,
    ExecuteAnswer,
    Key,
    LogRow,
    OutboxRow,
    SettleAnswer,
    Standing,
)


class StoreModel(Registry, Leases, Outbox):
    """The store. What an owner knows of a shard says where its log goes on, as in the statements themselves."""

    # --- settling --------------------------------------------------------------------------------------------------

    def settle(self, worker: UUID, owned: Mapping[int, OwnedShard], batch: Sequence[Settlement]) -> SettleAnswer:
        """All of the batch that is still as it was sent; nothing, if a single shard is not the worker's any more."""
        if not self.own_all(worker, owned, {item.shard for item in batch}):
            return SettleAnswer(False, [])
        logged = _Logged(owned)
        for item in batch:
            row = self.as_it_was(item.delivery)
            if row is not None and (not _is_bare_cancellation(item) or self.webhooks[row.webhook_id].status.has_ended):
                logged.rows.append(self._settle_one(item, row, logged.next_seq(item.shard)))
        self.append(logged.rows)
        return SettleAnswer(True, logged.rows)

    def _settle_one(self, item: Settlement, row: OutboxRow, seq: int) -> LogRow:
        result, retry_in, delivery = item.result, item.decision.retry_in_seconds, item.delivery
        attempt_count = row.attempt + (result is not None)
        next_due_at = None if retry_in is None else self.now + timedelta(seconds=retry_in)
        if next_due_at is None:
            self.delete(row.key)
        else:
            self.put(row._replace(due_at=next_due_at, attempt=attempt_count, danger=_danger_after(item)))
        return LogRow(
            item.shard, seq, self.now, row.customer_id, row.webhook_id, row.event_id, delivery.event_type,
            self.events[row.event_id].create_time, item.decision.status, attempt_count, next_due_at,
            *_attempt_columns(result), delivery.trigger.value, delivery.replay_id,
        )  # fmt: skip

    # --- commands --------------------------------------------------------------------------------------------------

    def ask(self, kind: Kind, customer_id: int, key: Key, replay_id: int | None = None) -> None:
        """Asking twice is asking once."""
        self.commands.setdefault((*key, kind), CommandRow(*key, kind, customer_id, replay_id, self.now))

    def ask_for_test(self, event: TestEvent) -> None:
        """Stores the event of a test with the command."""
        self.store_event(event.event_id, EventRow(event.customer_id, event.event_type, self.now, event.body))
        self.matched[event.event_id] = frozenset()
        self.ask(Kind.TEST, event.customer_id, (event.webhook_id, event.event_id))

    def waiting(self, shards: Collection[int], limit: int) -> list[CommandRow]:
        """What waits; of tests only the next one of each webhook."""
        mine = sorted(row for row in self.commands.values() if shard_of(row.webhook_id) in shards)
        others = sorted((row for row in mine if row.kind is not Kind.TEST), key=lambda row: shard_of(row.webhook_id))
        tests = {row.webhook_id: row for row in reversed(mine) if row.kind is Kind.TEST}
        return others[:limit] + sorted(tests.values(), key=lambda row: row.created_at)[:limit]

    def execute(self, worker: UUID, owned: Mapping[int, OwnedShard], batch: Sequence[Command]) -> ExecuteAnswer:
        """All of the batch that still waits, by where each delivery stood before; nothing if a shard is not ours."""
        if not self.own_all(worker, owned, {command.shard for command in batch}):
            return ExecuteAnswer(False, [])
        taken = [
            (command, asked, self.standing((command.webhook_id, command.event_id)))
            for command in batch
            if (asked := self.commands.pop(_name(command), None)) is not None
        ]
        logged, restarted = _Logged(owned), set[Key]()
        for command, asked, standing in taken:
            row = self._execute_one(command, asked, standing, restarted)
            if row is not None:
                logged.rows.append(row._replace(seq=logged.next_seq(command.shard)))
            elif command.kind is Kind.REPLAY and asked.replay_id is not None:
                self.skipped[asked.replay_id] += 1
        self.append(logged.rows)
        return ExecuteAnswer(True, logged.rows)

    def _execute_one(
        self, command: Command, asked: CommandRow, standing: Standing | None, restarted: set[Key]
    ) -> LogRow | None:
        """The row of the log, whose number is not known yet; None if there is nothing to do."""
        if command.event_id not in self.kept:
            return None
        key, attempt_count = (command.webhook_id, command.event_id), standing.attempt_count if standing else 0
        is_pending = standing is not None and standing.status is DeliveryStatus.PENDING  # before the whole batch
        if command.kind is Kind.TEST:
            if standing is not None or command.status is None:
                return None
            result = command.result
            return self._executed(command, asked, command.status, int(result is not None), "test", None, result)
        if command.kind is Kind.CANCEL:
            pending = self.row(key) if is_pending else None
            if pending is None or asked.replay_id not in {None, pending.replay_id}:
                return None
            self.delete(key)
            trigger = pending.trigger or Trigger.SCHEDULED.value
            return self._executed(command, asked, DeliveryStatus.CANCELLED, attempt_count, trigger, pending.replay_id)
        if is_pending or key in restarted or self.webhooks[key[0]].status not in TAKING:
            return None
        restarted.add(key)
        trigger = "manual" if command.kind is Kind.RETRY else "replay"
        self.put(
            OutboxRow(key[0], self.now, key[1], attempt_count, asked.customer_id, Danger.NONE, trigger, asked.replay_id)
        )
        row = self._executed(command, asked, DeliveryStatus.PENDING, attempt_count, trigger, asked.replay_id)
        return row._replace(next_due_at=self.now)

    def _executed(
        self,
        command: Command,
        asked: CommandRow,
        status: DeliveryStatus,
        attempt_count: int,
        trigger: str,
        replay_id: int | None,
        result: AttemptResult | None = None,
    ) -> LogRow:
        event = self.events[command.event_id]
        return LogRow(
            command.shard, 0, self.now, asked.customer_id, command.webhook_id, command.event_id, event.event_type,
            event.create_time, status, attempt_count, None, *_attempt_columns(result), trigger, replay_id,
        )  # fmt: skip


class _Logged:
    """Rows for the log, numbered in each shard from where its owner says that the log ends."""

    def __init__(self, owned: Mapping[int, OwnedShard]) -> None:
        self._owned = owned
        self._counts = Counter[int]()
        self.rows: list[LogRow] = []

    def next_seq(self, shard: int) -> int:
        self._counts[shard] += 1
        return self._owned[shard].last_seq + self._counts[shard]


def _is_bare_cancellation(item: Settlement) -> bool:
    """Whether it cancels without an attempt: done only while the webhook is disabled or deleted."""
    return (
        item.decision.status is DeliveryStatus.CANCELLED
        and item.result is None
        and item.decision.retry_in_seconds is None
    )


def _danger_after(item: Settlement) -> Danger:
    if item.result is None:
        return item.delivery.danger
    return Danger.SUSPECT if item.is_interrupted else Danger.NONE


def _attempt_columns(result: AttemptResult | None) -> tuple[str | None, datetime | None, str | None, int | None]:
    """Outcome, start, reason and status of the answer."""
    if result is None:
        return None, None, None, None
    return result.outcome.value, result.start_time, result.reason.name.lower(), result.response_status


def _name(command: Command) -> CommandKey:
    return command.webhook_id, command.event_id, command.kind
