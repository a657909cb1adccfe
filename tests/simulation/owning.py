"""Workers: which shards they have, believe to have, and lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support.store import new_worker
from webhook_grpc.domain.model import PendingDelivery
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.ownership import leases, neighbours
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.ownership.marks import ProcessMark
from webhook_grpc.store.ownership.neighbours import Neighbour

from .looking import USED_SHARDS, WHICH, Looking, pick
from .model.rows import SHARDS, Key, ShardRow
from .real import RealStore

TTL_SECONDS: Final = 90
WORKERS_MAX: Final = 3
SET_BACK_MAX: Final = timedelta(minutes=5)  # lists do not show what is due much later than now
LATER: Final = st.sampled_from([0, 0, 1, 30, TTL_SECONDS + 1, 3600])
SOME_SHARDS: Final = st.sets(st.sampled_from(USED_SHARDS), min_size=1)
HERE: Final = ProcessMark("machine", "namespaces", 1, 0)
LEND: Final = "UPDATE shards SET owner = %s WHERE shard = ANY(%s::smallint[])"


@dataclass
class Worker:
    """What a process has in memory, and what of it is not true any more. All of it is lost in a crash."""

    worker_id: UUID
    mark: ProcessMark
    shards: dict[int, OwnedShard] = field(default_factory=dict[int, OwnedShard])
    held: dict[Key, PendingDelivery] = field(default_factory=dict[Key, PendingDelivery])
    results: list[Settlement] = field(default_factory=list[Settlement])
    retiring: bool = False

    def claims(self, key: Key) -> bool:
        """Whether the delivery is held, being sent, or sent and not settled."""
        return key in self.held or any(key_of(item.delivery) == key for item in self.results)


def key_of(delivery: PendingDelivery) -> Key:
    return delivery.webhook_id, delivery.event_id


def mark_of(worker: UUID) -> ProcessMark:
    return replace(HERE, pid=1 + worker.int % 30_000)


def epochs_of(shards: Mapping[int, OwnedShard]) -> dict[int, int]:
    return {shard: owned.epoch for shard, owned in shards.items()}


class Owning(Looking):
    """Leases and shards."""

    def __init__(self, store: RealStore) -> None:
        super().__init__(store)
        self.workers: list[Worker] = []
        self.latest = self.model.now
        self.dead: list[Neighbour] = []  # crashed, with leases that may still run
        self.rest = new_worker()  # has the shards that are not used here
        self.ownerships: list[tuple[UUID, int, OwnedShard]] = []  # every one that ever was
        self.excused: Counter[tuple[Key, int]] = Counter()

    @precondition(lambda self: len(self.workers) < WORKERS_MAX)
    @rule()
    def start_worker(self) -> None:
        worker_id = new_worker()
        worker = Worker(worker_id, mark_of(worker_id))
        self._register(worker, TTL_SECONDS)
        self.workers.append(worker)

    @rule()
    def count_who_shares_the_work(self) -> None:
        live = self.run(leases.count_live(self.store.connection))
        count, lease_seconds_max = self.model.count_live()
        assert (live.count, live.lease_seconds_max) == (count, lease_seconds_max or 0.0)
        free = self.run(leases.count_free(self.store.connection))
        assert (free.count, free.ahead_count) == self.model.count_free()

    @rule(seconds=st.sampled_from([1, 30, 89, 90, 91, 3600, -2, -200]))
    def time_passes(self, seconds: int) -> None:
        """Or the clock is set back: a little, or so far that every lease ends later than it can."""
        if self.latest - self.model.now > SET_BACK_MAX and seconds < 0:
            return
        self.was_clock_set_back |= seconds < 0
        self.model.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.model.now)
        self.store.set_clock(self.model.now)

    @rule(seconds=LATER, which=WHICH, shards=SOME_SHARDS, is_heard=st.sampled_from([True, True, False]))
    def take_shards(self, seconds: int, which: int, shards: set[int], is_heard: bool) -> None:
        """The answer may be lost; then the worker does not know what it has."""
        self.time_passes(seconds)
        able = [worker for worker in self.workers if self.can_take(worker)]
        if able:
            worker = pick(able, which)
            self._take(worker if is_heard else Worker(worker.worker_id, worker.mark), shards)

    @precondition(lambda self: bool(self.workers))
    @rule(seconds=LATER, which=WHICH, retires=st.sampled_from([False, False, True]))
    def beat(self, seconds: int, which: int, retires: bool) -> None:
        self.time_passes(seconds)
        worker = pick(self.workers, which)
        worker.retiring |= retires
        self._beat(worker)

    @precondition(lambda self: bool(self.workers))
    @rule(
        which=WHICH,
        event=st.sampled_from(["crash", "stop for too long", "readopt", "give back", "leave"]),
        shards=SOME_SHARDS,
    )
    def lose_shards(self, which: int, event: str, shards: set[int]) -> None:
        """A crashed worker's lease is still running. One that stood still for too long does not know it."""
        worker = pick(self.workers, which)
        if event == "crash":
            self._crash(worker)
            self.dead.append(Neighbour(worker.worker_id, worker.mark))
        elif event == "stop for too long":
            self._expire(worker.worker_id)
        elif event == "readopt":
            self._readopt(worker, shards & worker.shards.keys())
        elif event == "give back":
            self._release(worker, shards & worker.shards.keys())
        else:
            self._release(worker, set(worker.shards))
            self.run(leases.unregister(self.store.connection, worker.worker_id))
            self.model.unregister(worker.worker_id)
            self.workers.remove(worker)

    @precondition(lambda self: bool(self.dead))
    @rule(seconds=LATER, which=WHICH)
    def end_the_lease_of_a_dead_worker(self, seconds: int, which: int) -> None:
        """By somebody who knows that it is dead. A renewal of its own that was still on its way does nothing then."""
        self.time_passes(seconds)
        dead = pick(self.dead, which)
        self.dead.remove(dead)
        known = self.run(neighbours.neighbours(self.store.connection, HERE))
        assert {found.worker: found.mark for found in known} == self.model.neighbours(HERE.machine, HERE.namespaces)
        ended = self.run(neighbours.end_leases(self.store.connection, HERE, [dead]))
        assert set(ended) == self.model.end_leases([dead.worker], HERE.machine, HERE.namespaces)
        assert self.run(leases.renew(self.store.connection, dead.worker, TTL_SECONDS)) is None
        assert not self.model.is_alive(dead.worker)

    @rule(which=WHICH, is_forged=st.booleans())
    def give_back_what_is_not_ours(self, which: int, is_forged: bool) -> None:
        """By an owner of before, or by somebody who never was one: nothing is given back."""
        if is_forged:
            shard = pick(USED_SHARDS, which)
            worker_id, owned = self.rest, OwnedShard(self.model.shards[shard].epoch, 0)
        else:
            stale = [was for was in self.ownerships if not self.model.is_owner(was[0], was[1], was[2].epoch)]
            stale.sort(key=lambda was: self.model.shards[was[1]].owner != was[0])  # at a later epoch ours: these first
            if not stale:
                return
            worker_id, shard, owned = pick(stale, which)
        self.run(leases.release(self.store.connection, worker_id, {shard: owned}))
        assert not self.model.release(worker_id, {shard: owned})

    def can_take(self, worker: Worker) -> bool:
        return self.model.is_alive(worker.worker_id) and bool(set(self.model.takeable()) & set(USED_SHARDS))

    def _register(self, worker: Worker, ttl_seconds: int) -> None:
        """Under a new id, as the process that it was before."""
        new_id, mark = worker.worker_id, worker.mark
        registered_at = self.run(leases.register(self.store.connection, new_id, ttl_seconds, mark=mark))
        assert registered_at == self.model.now
        self.model.register(new_id, ttl_seconds, mark)
        self.run(leases.forget_dead(self.store.connection))
        self.model.forget_dead()

    def _beat(self, worker: Worker) -> None:
        """As engine/ownership.py: renews the lease, or begins anew; then brings memory and table into agreement."""
        renewed = self.run(leases.renew(self.store.connection, worker.worker_id, TTL_SECONDS, retiring=worker.retiring))
        until = self.model.renew(worker.worker_id, TTL_SECONDS, retiring=worker.retiring)
        assert renewed == (None if until is None else self.model.now)
        if renewed is None:
            self._lose(worker, set(worker.shards))
            worker.worker_id = new_worker()
            self._register(worker, TTL_SECONDS)
        epochs = self.run(leases.owned_epochs(self.store.connection, worker.worker_id))
        assert epochs == self.model.owned(worker.worker_id)
        self._lose(worker, worker.shards.keys() - epochs.keys())
        self._readopt(worker, {s for s, epoch in epochs.items() if epochs_of(worker.shards).get(s) != epoch})

    def _take(self, worker: Worker, shards: Collection[int]) -> None:
        """The database picks at random. So that a run can be repeated, the others are lent to somebody meanwhile."""
        unwanted = {shard: self.model.shards[shard].owner for shard in set(self.model.takeable()) - set(shards)}
        if unwanted:
            self.store.sql(LEND, self.rest, list(unwanted))
        taken = self.run(leases.take(self.store.connection, worker.worker_id, len(SHARDS)))
        for shard, owner in unwanted.items():
            self.store.sql(LEND, owner, [shard])
        assert taken == self._owned_as(self.model.take(worker.worker_id, shards))
        for other in self.workers:
            self._excuse(item for item in other.results if item.delivery.shard in taken and other is not worker)
        self._own(worker, taken)

    def _readopt(self, worker: Worker, shards: Collection[int]) -> None:
        readopted = self.run(leases.readopt(self.store.connection, worker.worker_id, shards))
        epochs = self.model.readopt(worker.worker_id, shards)
        last_seqs = self.model.last_seqs(epochs)
        assert readopted == {shard: OwnedShard(epoch, last_seqs[shard]) for shard, epoch in epochs.items()}
        self._lose(worker, set(shards) - readopted.keys())
        self._own(worker, readopted)

    def _owned_as(self, taken: Mapping[int, ShardRow]) -> dict[int, OwnedShard]:
        """What an owner is told of shards that it took."""
        last_seqs, now = self.model.last_seqs(taken), self.model.now
        return {
            shard: OwnedShard(
                row.epoch,
                last_seqs[shard],
                None if row.abandoned_at is None else min(row.abandoned_at, now),
                taken_seq=last_seqs[shard],
            )
            for shard, row in taken.items()
        }

    def _own(self, worker: Worker, shards: Mapping[int, OwnedShard]) -> None:
        """In order, for a run can be repeated only if nothing depends on the order of the database's answers."""
        worker.shards = dict(sorted((worker.shards | dict(shards)).items()))
        self.ownerships += [(worker.worker_id, shard, replace(owned)) for shard, owned in sorted(shards.items())]

    def _release(self, worker: Worker, shards: Collection[int]) -> None:
        given = {shard: worker.shards[shard] for shard in shards}
        self.run(leases.release(self.store.connection, worker.worker_id, given))
        self.model.release(worker.worker_id, given)
        self._lose(worker, shards)

    def _crash(self, worker: Worker) -> None:
        self._lose(worker, set(worker.shards))
        self.workers.remove(worker)

    def _expire(self, worker_id: UUID) -> None:
        if worker_id in self.model.workers:
            until = self.model.now - timedelta(seconds=1)
            self.model.workers[worker_id] = self.model.workers[worker_id]._replace(lease_until=until)
            self.store.sql("UPDATE workers SET lease_until = %s WHERE worker_id = %s", until, worker_id)

    def _lose(self, worker: Worker, shards: Collection[int]) -> None:
        self._excuse(item for item in worker.results if item.delivery.shard in shards)
        worker.results = [item for item in worker.results if item.delivery.shard not in shards]
        worker.held = {key: held for key, held in worker.held.items() if held.shard not in shards}
        worker.shards = {shard: owned for shard, owned in worker.shards.items() if shard not in shards}

    def _excuse(self, lost: Iterable[Settlement]) -> None:
        """What was in flight then may be sent again."""
        self.excused.update((key_of(item.delivery), item.delivery.attempt) for item in lost)
