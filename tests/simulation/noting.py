"""Workers: what they note of receivers, and of deliveries that may kill whoever sends them, for whoever comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.model import Danger
from webhook_grpc.domain.pace import SavedHealth
from webhook_grpc.domain.throttle import Slowdown
from webhook_grpc.store.outbox import expiry, paces, poison_marks
from webhook_grpc.store.outbox.due import FoundRow
from webhook_grpc.store.ownership import poison_suspects
from webhook_grpc.store.ownership.leases import OwnedShard

from .commanding import Commanding
from .looking import USED_SHARDS, WHICH, outbox_row_of, pick

SECONDS: Final = st.sampled_from([0.0, 0.5, 60.0, 7200.0])
HEALTH: Final = st.builds(
    SavedHealth,
    breaker=st.sampled_from(BreakerState),
    probe_in_seconds=SECONDS,
    probe_count=st.integers(0, 2),
    failing_seconds=st.none() | SECONDS,
    failure_count=st.integers(0, 2),
    blocked_count=st.integers(0, 1),
    blocked_seconds=st.none() | SECONDS,
    hold_seconds=SECONDS,
    slowdown=st.none() | st.builds(Slowdown, SECONDS, st.just(0.5), st.just(2.0)),
)


class Noting(Commanding):
    """Health, danger and what is sent alone."""

    # --- health ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.model.webhooks))
    @rule(which=st.none() | WHICH, webhook=WHICH, saved=HEALTH, is_well=st.sampled_from([False, False, True]))
    def save_health(self, which: int | None, webhook: int, saved: SavedHealth, is_well: bool) -> None:
        """By the owner (None), or by any worker: of others' webhooks nothing is changed."""
        webhook_id = pick(list(self.model.webhooks), webhook)
        worker_id = self._owner_of(webhook_id) if which is None else self._some_worker(which)
        health, well = ({}, [webhook_id]) if is_well else ({webhook_id: saved}, [])
        self.run(paces.save(self.store.connection, worker_id, health, well))
        self.model.save_health(worker_id, health)
        self.model.delete_health(worker_id, well)

    @precondition(lambda self: bool(self.model.health))
    @rule(which=WHICH)
    def forget_health_that_says_nothing(self, which: int) -> None:
        worker_id = self._some_worker(which)
        forgotten = self.run(paces.forget_over(self.store.connection, worker_id))
        assert forgotten == self.model.delete_expired_health(worker_id)

    @invariant()
    def health_is_loaded_as_it_was_saved(self) -> None:
        """And so is who has succeeded since: perhaps only among rows before the last ones."""
        if not self.model.health:
            return
        webhook_ids = list(self.model.webhooks)
        assert self.run(paces.load(self.store.connection, webhook_ids)) == self.model.load_health(webhook_ids)
        for reach, back in ((paces.LAST_ROWS, 0), (2, 1)):
            until = {
                webhook_id: (webhook_id % 64, len(self.model.log[webhook_id % 64]) - back) for webhook_id in webhook_ids
            }
            assert self._succeeded_last(until, reach) == self.model.succeeded_last(until, reach)

    def _succeeded_last(self, until: Mapping[int, tuple[int, int]], reach: int) -> set[int]:
        parameters = {
            "webhook_id": list(until),
            "shard": [shard for shard, _ in until.values()],
            "until": [seq for _, seq in until.values()],
            "reach": reach,
        }
        return {row[0] for row in self.run(self.store.connection.rows(paces.SELECT_SUCCEEDED_LAST, parameters))}

    # --- danger ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.model.pending_rows()) and bool(self.ownerships))
    @rule(which=WHICH, owner=st.none() | WHICH, mark=st.sampled_from(Danger), attempt=st.sampled_from([0, 0, 1]))
    def mark(self, which: int, owner: int | None, mark: Danger, attempt: int) -> None:
        """By the owner (None), or by an owner of before; rows as they are, and as they are not."""
        row = pick(sorted(self.model.pending_rows()), which)
        worker_id = self._owner_of(row.webhook_id)
        shards: dict[int, OwnedShard] = self._truly_owned(worker_id)
        if owner is not None:
            worker_id, shard, owned = pick(self.ownerships[::-1], owner)
            shards = self._truly_owned(worker_id) | {shard: owned}
        if row.webhook_id % 64 not in shards:
            return
        deliveries = [self._made_up(row._replace(attempt=row.attempt + attempt), "ok").delivery]
        marked = self.run(poison_marks.set_danger(self.store.connection, worker_id, shards, deliveries, mark))
        assert marked == self.model.set_danger(worker_id, shards, deliveries, mark)

    @precondition(lambda self: bool(self.model.pending_rows()))
    @rule(which=WHICH, worker=WHICH)
    def send_alone(self, which: int, worker: int) -> None:
        """Who dies then has left its name."""
        delivery = self._made_up(pick(sorted(self.model.pending_rows()), which), "ok").delivery
        key, worker_id = (delivery.webhook_id, delivery.event_id), self._some_worker(worker)
        assert self.run(poison_suspects.deaths(self.store.connection, delivery)) == self.model.deaths(key)
        self.run(poison_suspects.isolate(self.store.connection, worker_id, delivery))
        self.model.isolate(worker_id, key)

    @precondition(lambda self: bool(self.model.pending_rows()))
    @rule(which=WHICH, worker=WHICH)
    def outlive_what_was_sent_alone(self, which: int, worker: int) -> None:
        """Only the name of this delivery is cleared, and only in the rows of this process."""
        delivery = self._made_up(pick(sorted(self.model.pending_rows()), which), "ok").delivery
        worker_id = self._some_worker(worker)
        row = self.model.workers.get(worker_id)
        mark = None if row is None else row.mark
        self.run(poison_suspects.clear(self.store.connection, worker_id, mark, delivery))
        self.model.clear_isolated(worker_id, mark, (delivery.webhook_id, delivery.event_id))

    # --- age -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: bool(self.model.events))
    @rule(which=WHICH, limit=st.integers(1, 3), shard=st.sampled_from(USED_SHARDS))
    def look_for_what_is_overdue(self, which: int, limit: int, shard: int) -> None:
        """In portions."""
        bound = pick([*sorted(self.model.events), UUID(int=2**128 - 1)], which)
        assert self.run(expiry.overdue_exist(self.store.connection, bound)) == self.model.overdue_exist(bound)
        after: FoundRow | None = None
        while True:
            rows = self.run(expiry.overdue(self.store.connection, shard, bound, after, limit))
            last = None if after is None else outbox_row_of(after)
            assert list(map(outbox_row_of, rows)) == self.model.overdue(shard, bound, last, limit)
            if not rows:
                return
            after = rows[-1]

    def _owner_of(self, webhook_id: int) -> UUID:
        return self.model.shards[webhook_id % 64].owner or self.rest

    def _some_worker(self, which: int) -> UUID:
        return pick([self.rest, *(worker.worker_id for worker in self.workers)], which)
