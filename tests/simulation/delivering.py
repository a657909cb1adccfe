"""Workers: what they find, send and settle, and what they try to settle though they may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from webhook_grpc.domain.model import (
    AttemptResult,
    DeliveryStatus,
    Outcome,
    PendingDelivery,
    Trigger,
    Webhook,
    WebhookStatus,
)
from webhook_grpc.domain.retry import Decision, RetryPolicy, decide
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.outbox import due, settlement
from webhook_grpc.store.outbox.due import FetchRequest
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.registry import webhooks

from .looking import BEGINNING, FAR_AHEAD_SECONDS, USED_SHARDS, WHICH, pick
from .model.rows import OutboxRow, SettleAnswer
from .owning import LATER, Owning, Worker, key_of
from .real import RealStore

ACTIVE, PAUSED, DISABLED, DELETED = WebhookStatus
POLICY: Final = RetryPolicy((0.0, 30.0, 3600.0))
ONCE: Final = RetryPolicy(())
RECEIVERS: Final[Mapping[str, tuple[Outcome, int | None, str | None]]] = {
    "ok": (Outcome.SUCCEEDED, 200, None),
    "error": (Outcome.HTTP_ERROR, 500, None),
    "overloaded": (Outcome.HTTP_ERROR, 503, "120"),
    "timeout": (Outcome.TIMEOUT, None, None),
    "gone": (Outcome.HTTP_ERROR, 410, None),
}
ANSWERS: Final = st.lists(
    st.sampled_from(["ok", "error", "ok", "error", "overloaded", "timeout", "gone"]), min_size=1, max_size=4
)
COUNT: Final = st.integers(1, 6)


class Delivering(Owning):
    """Looking for what is due, attempts, settling."""

    def __init__(self, store: RealStore) -> None:
        super().__init__(store)
        self.started: Counter[tuple[tuple[int, UUID], int]] = Counter()
        self.batches: list[tuple[UUID, list[Settlement]]] = []  # settled before

    # --- as it should be -------------------------------------------------------------------------------------------

    @rule(seconds=LATER, which=WHICH, room=COUNT, answers=ANSWERS, until=st.sampled_from(["settled", "sent", "found"]))
    def work(self, seconds: int, which: int, room: int, answers: list[str], until: str) -> None:
        """One round of a worker, or a part of it."""
        self.time_passes(seconds)
        worker = self._able_worker(which)
        self._look_for_due(worker, room)
        if until != "found":
            self._attempt(worker, answers)
        if until == "settled" and worker.results:
            self._settle_as(worker, worker.results[:])

    @precondition(lambda self: any(worker.shards for worker in self.workers))
    @rule(which=WHICH, room=COUNT)
    def look_with_a_lease_that_may_have_run_out(self, which: int, room: int) -> None:
        """What is found may be stale when it is sent; but nothing is sent without a lease."""
        self._look_for_due(pick([worker for worker in self.workers if worker.shards], which), room)

    @rule(which=WHICH, answers=ANSWERS, skip=st.integers(0, 2), count=COUNT, is_refused=st.booleans())
    def settle(self, which: int, answers: list[str], skip: int, count: int, is_refused: bool) -> None:
        """A part of what was sent. A worker that lost a shard may not know it yet: then nothing is settled.

        Refused: the result can't be stored. As engine/settler.py does, the delivery is ended without an attempt.
        """
        worker = self._busy_worker(which, answers)
        batch = worker.results[skip % max(1, len(worker.results)) :][:count]
        if batch and is_refused:
            failed = Decision(DeliveryStatus.FAILED)
            worker.results = [item for item in worker.results if item not in batch]
            batch = [Settlement(item.delivery, failed, None) for item in batch]
            worker.results += batch
        if batch:
            self._settle_as(worker, batch)

    # --- as it may go wrong ----------------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        answers=ANSWERS,
        count=COUNT,
        arrives=st.sampled_from(["in time", "late", "never", "in time and late"]),
        is_crash=st.sampled_from([False, False, True]),
    )
    def settle_and_hear_nothing(self, which: int, answers: list[str], count: int, arrives: str, is_crash: bool) -> None:
        """The outcome is not known: the shards are moved to a new epoch, and the same batch is settled again."""
        worker = self._busy_worker(which, answers)
        batch = worker.results[:count]
        if not batch:
            return
        before = {shard: replace(owned) for shard, owned in worker.shards.items()}
        if "in time" in arrives:
            self._settle(worker.worker_id, before, batch)
        if is_crash:
            self._crash(worker)
            return
        self._readopt(worker, {item.delivery.shard for item in batch})
        if "late" in arrives:
            assert not self._settle(worker.worker_id, before, batch).ours
        batch = [item for item in batch if item.delivery.shard in worker.shards]
        if batch:
            self._settle_as(worker, batch)

    @precondition(lambda self: bool(self.batches))
    @rule(which=WHICH)
    def settle_again(self, which: int) -> None:
        """A batch that was settled already, however long ago: nothing is changed twice."""
        worker_id, batch = pick(self.batches[::-1], which)
        shards = self._truly_owned(worker_id)
        batch = [item for item in batch if item.delivery.shard in shards]
        if batch:
            assert self._settle(worker_id, shards, batch).logged == []

    @invariant()
    def nobody_who_was_owner_once_can_settle(self) -> None:
        """I10: rows as they are now, one or two of a shard that is somebody else's, or ours at a later epoch."""
        latest: dict[tuple[bool, ...], tuple[UUID, int, OwnedShard]] = {}
        for was in self.ownerships:
            worker_id, shard, owned = was
            if not self.model.is_owner(worker_id, shard, owned.epoch):
                owner, epoch, *_ = self.model.shards[shard]
                has_others = bool(self.model.owned(worker_id).keys() - {shard})
                latest[owner == worker_id, epoch == owned.epoch, has_others] = was
        for worker_id, shard, owned in latest.values():
            shards = self._truly_owned(worker_id) | {shard: owned}
            rows = sorted(row for row in self.model.pending_rows() if row.webhook_id % 64 in shards)
            lost = [row for row in rows if row.webhook_id % 64 == shard][:2]
            if lost:
                kept = [row for row in rows if row.webhook_id % 64 != shard][:2]
                batch = [
                    self._made_up(row, answer) for row, answer in zip(kept + lost, ("ok", "error") * 2, strict=False)
                ]
                assert not self._settle(worker_id, shards, batch).ours

    @precondition(lambda self: bool(self.model.pending_rows()))
    @rule(which=WHICH, attempt=st.integers(-1, 1), seconds=st.integers(-1, 1))
    def settle_what_is_not_so(self, which: int, attempt: int, seconds: int) -> None:
        """A row is changed only if it is as it was when it was sent."""
        row = pick(sorted(self.model.pending_rows()), which)
        owner = self.model.shards[row.webhook_id % 64].owner
        if owner is None:
            return
        for wrong in (
            row._replace(attempt=row.attempt + (attempt or 1)),
            row._replace(due_at=row.due_at + timedelta(seconds=seconds or 1)),
        ):
            for answer in ("ok", "error"):
                batch = [self._made_up(wrong, answer)]
                assert self._settle(owner, self._truly_owned(owner), batch).logged == []

    @precondition(lambda self: any(self._is_on(row) for row in self.model.pending_rows()))
    @rule(which=WHICH)
    def cancel_for_a_webhook_that_is_on(self, which: int) -> None:
        """As a process does that still knows it as disabled: the database knows better."""
        row = pick(sorted(row for row in self.model.pending_rows() if self._is_on(row)), which)
        owner = self.model.shards[row.webhook_id % 64].owner
        if owner is not None:
            batch = [Settlement(self._made_up(row, "ok").delivery, Decision(DeliveryStatus.CANCELLED), None)]
            assert self._settle(owner, self._truly_owned(owner), batch).logged == []

    def _is_on(self, row: OutboxRow) -> bool:
        return self.model.webhooks[row.webhook_id].status in {ACTIVE, PAUSED}

    # --- how it is done --------------------------------------------------------------------------------------------

    def _able_worker(self, which: int) -> Worker:
        """A worker that is alive and has taken whatever nobody has."""
        if not self.workers:
            self.start_worker()
        worker = pick(self.workers, which)
        if not self.model.is_alive(worker.worker_id) or not worker.shards:
            self._beat(worker)
        if self.can_take(worker):
            self._take(worker, USED_SHARDS)
        return worker

    def _busy_worker(self, which: int, answers: list[str]) -> Worker:
        """One that has results to settle, if there can be one. It may have lost its shards without knowing it."""
        busy = [worker for worker in self.workers if worker.results]
        if busy:
            return pick(busy, which)
        worker = self._able_worker(which)
        self._look_for_due(worker, 6)
        self._attempt(worker, answers)
        return worker

    def _look_for_due(self, worker: Worker, room: int) -> None:
        """I8: a webhook that is paused is left alone, and what an ended one has is fetched to be cancelled."""
        requests: list[FetchRequest] = []
        for webhook in self.run(due.discover(self.store.connection, worker.shards)):
            is_ended = webhook.status in {DISABLED, DELETED}
            if webhook.status is not PAUSED and (webhook.is_due or is_ended):
                ahead_seconds = FAR_AHEAD_SECONDS if is_ended else 0.0
                shard = webhook.webhook_id % 64
                requests.append(FetchRequest(shard, webhook.webhook_id, room, BEGINNING, ahead_seconds))
        rows = self.run(due.fetch(self.store.connection, requests))
        rows += self.run(due.fetch_replays(self.store.connection, [(r.shard, r.webhook_id, room) for r in requests]))
        deliveries = self.run(due.with_bodies(self.store.connection, rows))
        for delivery in sorted(deliveries, key=lambda delivery: delivery.webhook_id):
            event = self.model.events[delivery.event_id]
            is_kept = delivery.event_id in self.model.kept
            stored = (event.body, event.traceparent) if is_kept else (b"", None)
            assert (delivery.body, delivery.traceparent) == stored
            if not worker.claims(key_of(delivery)):
                worker.held[key_of(delivery)] = delivery

    def _attempt(self, worker: Worker, answers: list[str]) -> None:
        """As engine/dispatcher.py: whatever is held and may be started now. Nothing may without a lease."""
        held = list(worker.held.values()) if self.model.is_alive(worker.worker_id) else []
        for number, delivery in enumerate(held):
            [webhook] = self.run(webhooks.by_ids(self.store.connection, [delivery.webhook_id]))
            if webhook.status is PAUSED or (webhook.status is ACTIVE and delivery.due_at > self.model.now):
                continue
            del worker.held[key_of(delivery)]
            worker.results.append(self._attempted(delivery, webhook, pick(answers, number)))

    def _attempted(self, delivery: PendingDelivery, webhook: Webhook, answer: str) -> Settlement:
        if webhook.status is not ACTIVE:
            return Settlement(delivery, Decision(DeliveryStatus.CANCELLED), None)
        if not delivery.body:
            return Settlement(delivery, Decision(DeliveryStatus.EXPIRED), None)
        settled = self._sent(delivery, answer)
        if settled.decision.disables_webhook:
            change = webhooks.set_status(
                self.store.database, webhook, DISABLED, (ACTIVE, PAUSED), audit=None, version=webhook.version
            )
            assert self.error_of(change) is None
            self.model.set_webhook_status(webhook.webhook_id, DISABLED, (ACTIVE, PAUSED), version=webhook.version)
        return settled

    def _sent(self, delivery: PendingDelivery, answer: str) -> Settlement:
        """I3: nothing is sent twice, but for what was in flight when its worker crashed or lost the shard."""
        assert self.model.webhooks[delivery.webhook_id].status is ACTIVE, "I8: it was ended or paused before"
        name = key_of(delivery), delivery.attempt
        self.started[name] += 1
        assert self.started[name] <= 1 + self.excused[name], f"{name} was sent twice"
        result = self._result(answer)
        policy = POLICY if delivery.trigger is Trigger.SCHEDULED else ONCE
        return Settlement(
            delivery, decide(result, delivery.attempt + 1, policy, now=self.model.now, jitter=0.5), result
        )

    def _result(self, answer: str) -> AttemptResult:
        outcome, status, retry_after = RECEIVERS[answer]
        return AttemptResult(
            outcome, self.model.now, 5, response_status=status, response_body=b"said", retry_after=retry_after
        )

    def _settle_as(self, worker: Worker, batch: list[Settlement]) -> None:
        answer = self._settle(worker.worker_id, worker.shards, batch)
        if answer.ours:
            for shard, last_seq in answer.last_seqs.items():
                worker.shards[shard].last_seq = last_seq
            worker.results = [item for item in worker.results if item not in batch]
            self.batches.append((worker.worker_id, batch))

    def _settle(self, worker_id: UUID, shards: Mapping[int, OwnedShard], batch: Sequence[Settlement]) -> SettleAnswer:
        expected = self.model.settle(worker_id, shards, batch)
        answer = self.run(settlement.settle(self.store.connection, worker_id, shards, batch))
        assert (answer.ours, answer.last_seqs) == (expected.ours, expected.last_seqs)
        assert answer.changed_count == len(expected.logged)
        if expected.logged:
            self.look_at_delivery(batch[0].delivery.webhook_id, batch[0].delivery.event_id, page_size=1)
        return expected

    def _truly_owned(self, worker_id: UUID) -> dict[int, OwnedShard]:
        owned = self.model.owned(worker_id)
        return {shard: OwnedShard(epoch, len(self.model.log[shard])) for shard, epoch in owned.items()}

    def _made_up(self, row: OutboxRow, answer: str) -> Settlement:
        """A result that nobody got, for a row as it is."""
        event = self.model.events[row.event_id]
        delivery = PendingDelivery(
            row.webhook_id, row.event_id, row.due_at, row.customer_id, row.attempt, event.event_type,
            event.create_time, event.body, row.danger, trigger=Trigger(row.trigger or Trigger.SCHEDULED),
            replay_id=row.replay_id,
        )  # fmt: skip
        result = self._result(answer)
        return Settlement(
            delivery, decide(result, max(1, row.attempt + 1), POLICY, now=self.model.now, jitter=0.5), result
        )
