"""Callers ask for retries, cancellations, replays and tests; the owners of the shards carry them out, or try to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support.store import AUDIT
from webhook_grpc.domain.command import Command, Kind, TestEvent
from webhook_grpc.domain.model import DeliveryStatus, WebhookStatus
from webhook_grpc.store.outbox import commands, execution
from webhook_grpc.store.ownership.leases import OwnedShard

from .delivering import ANSWERS, COUNT, RECEIVERS, Delivering
from .looking import WHICH, pick
from .model.rows import ExecuteAnswer
from .owning import Worker
from .real import RealStore

# As a replay does it in its own statement.
ASK_FOR_REPLAY: Final = """
INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, replay_id, created_at)
VALUES (%(shard)s, %(webhook_id)s, %(event_id)s, %(command)s, %(customer_id)s, %(replay_id)s, now())
ON CONFLICT DO NOTHING
"""
COMMANDS_MAX: Final = 100
REPLAYS: Final = (1, 2)
INSERT_REPLAY: Final = """
INSERT INTO replays (
    replay_id, customer_id, webhook_ids, event_types, statuses, include_undelivered, start_time, end_time
)
VALUES (%s, 1, '{}', '{}', '{}', false, now(), now())
"""


class Commanding(Delivering):
    """Commands, from asking to what becomes of them."""

    def __init__(self, store: RealStore) -> None:
        super().__init__(store)
        for replay_id in REPLAYS:
            self.store.sql(INSERT_REPLAY, replay_id)
        self.executions: list[tuple[UUID, list[Command]]] = []
        self.test_count = 0

    @precondition(lambda self: bool(self.model.matched))
    @rule(
        which=WHICH,
        webhook=WHICH,
        kind=st.sampled_from([Kind.RETRY, Kind.CANCEL, Kind.REPLAY, Kind.REPLAY]),
        replay_id=st.none() | st.sampled_from(REPLAYS),
    )
    def ask(self, which: int, webhook: int, kind: Kind, replay_id: int | None) -> None:
        """However the delivery stands, and though the webhook may never have got the event."""
        event_id = pick(list(self.model.events), which)
        customer_id = self.model.events[event_id].customer_id
        own = [webhook_id for webhook_id, row in self.model.webhooks.items() if row.customer_id == customer_id]
        if not own or event_id.int >> 76 & 0xF != 7:
            return
        webhook_id = pick(own, webhook)
        replay_id = None if kind is Kind.RETRY else 1 if kind is Kind.REPLAY and replay_id is None else replay_id
        if replay_id is None:
            self.run(commands.insert(self.store.database, kind, customer_id, webhook_id, event_id, audit=AUDIT))
        else:
            row = {"shard": webhook_id % 64, "webhook_id": webhook_id, "event_id": event_id, "command": kind.value}
            row |= {"customer_id": customer_id, "replay_id": replay_id}
            self.run(self.store.database.rows(ASK_FOR_REPLAY, row))
        self.model.ask(kind, customer_id, (webhook_id, event_id), replay_id)

    @precondition(lambda self: bool(self.model.webhooks))
    @rule(which=WHICH)
    def ask_for_a_test(self, which: int) -> None:
        webhook_id = pick(list(self.model.webhooks), which)
        webhook = self.model.webhooks[webhook_id]
        if webhook.status is WebhookStatus.DELETED:
            return
        self.test_count += 1
        millis = int(self.model.now.timestamp() * 1000)
        event_id = UUID(int=millis << 80 | 7 << 76 | 2 << 62 | self.test_count)
        event = TestEvent(event_id, webhook.customer_id, webhook_id, "job.completed", b"{}", 0)
        self.run(commands.insert_test(self.store.database, event, audit=AUDIT))
        self.model.ask_for_test(event)

    @rule(which=WHICH, count=COUNT, answers=ANSWERS)
    def carry_out(self, which: int, count: int, answers: list[str]) -> None:
        """What waits. A cancellation of what is being sent goes on waiting."""
        worker = self._able_worker(which)
        batch = self._ready(worker, answers)[:count]
        if batch:
            self._execute_as(worker, batch)

    @rule(
        which=WHICH,
        count=COUNT,
        answers=ANSWERS,
        arrives=st.sampled_from(["in time", "late", "never", "in time and late"]),
    )
    def carry_out_and_hear_nothing(self, which: int, count: int, answers: list[str], arrives: str) -> None:
        """As with results: at a new epoch, the same once more. Nothing is done twice."""
        worker = self._able_worker(which)
        batch = self._ready(worker, answers)[:count]
        if not batch:
            return
        before = {shard: replace(owned) for shard, owned in worker.shards.items()}
        if "in time" in arrives:
            self._execute(worker.worker_id, before, batch)
        self._readopt(worker, {command.shard for command in batch})
        if "late" in arrives:
            assert not self._execute(worker.worker_id, before, batch).ours
        batch = [command for command in batch if command.shard in worker.shards]
        if batch:
            answer = self._execute_as(worker, batch)
            assert "in time" not in arrives or not answer.logged

    @precondition(lambda self: bool(self.executions) and bool(self.ownerships))
    @rule(which=WHICH)
    def carry_out_what_is_not_ours(self, which: int) -> None:
        """By whoever was owner once: nothing happens, and the commands wait."""
        worker_id, shard, owned = pick(self.ownerships[::-1], which)
        waiting = [
            Command(row.kind, row.webhook_id, row.event_id, 0, 0.0) for row in self.model.waiting({shard}, COMMANDS_MAX)
        ]
        if waiting and not self.model.is_owner(worker_id, shard, owned.epoch):
            batch = [replace(c, status=DeliveryStatus.FAILED) if c.kind is Kind.TEST else c for c in waiting]
            assert not self._execute(worker_id, self._truly_owned(worker_id) | {shard: owned}, batch).ours

    def _ready(self, worker: Worker, answers: Sequence[str]) -> list[Command]:
        """As engine/duties/commands.py: what is being cancelled is not held any more."""
        found = self.run(commands.waiting(self.store.connection, set(worker.shards), COMMANDS_MAX))
        expected = self.model.waiting(worker.shards, COMMANDS_MAX)
        assert sorted((c.webhook_id, c.event_id, c.kind, c.customer_id, c.age_seconds) for c in found) == sorted(
            (*row[:4], (self.model.now - row.created_at).total_seconds()) for row in expected
        )
        sending = {(item.delivery.webhook_id, item.delivery.event_id) for item in worker.results}
        ready: list[Command] = []
        for number, command in enumerate(found):
            key = command.webhook_id, command.event_id
            if command.kind is Kind.TEST:
                ready.append(self._tested(command, pick(answers, number)))
            elif command.kind is Kind.CANCEL:
                if key not in sending:
                    ready.append(command)
                    worker.held.pop(key, None)
            elif self.model.events[command.event_id].create_time != self.model.now:  # no clock stands still for so long
                ready.append(command)
        return ready

    def _tested(self, command: Command, answer: str) -> Command:
        if self.model.webhooks[command.webhook_id].status is WebhookStatus.DELETED:
            return replace(command, status=DeliveryStatus.CANCELLED)
        is_ok = RECEIVERS[answer][1] == 200
        status = DeliveryStatus.SUCCEEDED if is_ok else DeliveryStatus.FAILED
        return replace(command, status=status, result=self._result(answer))

    def _execute_as(self, worker: Worker, batch: list[Command]) -> ExecuteAnswer:
        answer = self._execute(worker.worker_id, worker.shards, batch)
        if answer.ours:
            for row in answer.logged:
                worker.shards[row.shard].last_seq = max(worker.shards[row.shard].last_seq, row.seq)
            self.executions.append((worker.worker_id, batch))
        return answer

    def _execute(self, worker_id: UUID, shards: Mapping[int, OwnedShard], batch: Sequence[Command]) -> ExecuteAnswer:
        expected = self.model.execute(worker_id, shards, batch)
        answer = self.run(execution.execute(self.store.connection, worker_id, shards, batch))
        changes = [(done.shard, done.seq, done.webhook_id, done.event_id, done.status) for done in answer.executed]
        logged = [(row.shard, row.seq, row.webhook_id, row.event_id, row.status) for row in expected.logged]
        assert (answer.ours, sorted(changes)) == (expected.ours, sorted(logged))
        for row in expected.logged:
            self.look_at_delivery(row.webhook_id, row.event_id, page_size=1)
            if row.status is DeliveryStatus.PENDING:  # an attempt that could not be stored is made again by its number
                name = row.key, row.attempt_count
                self.excused[name] += self.started[name]
        return expected
