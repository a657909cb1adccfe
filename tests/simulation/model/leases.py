"""Workers, their leases, and who owns which shard."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.ownership.marks import ProcessMark

from .rows import Key, ShardRow, WorkerRow
from .tables import Tables

_DAY: Final = timedelta(days=1)
_BACK: Final = timedelta(minutes=10)


class Leases(Tables):
    """The statements of `store/ownership/leases.py`, `neighbours.py` and `poison_suspects.py` beside it."""

    def register(self, worker: UUID, ttl_seconds: float, mark: ProcessMark | None = None) -> datetime:
        """Returns when the lease ends."""
        self.workers[worker] = WorkerRow(self.now + timedelta(seconds=ttl_seconds), ttl_seconds, mark=mark)
        return self.workers[worker].lease_until

    def forget_dead(self) -> None:
        """Of those whose lease ran out long ago, or ends much later than it can."""
        self.workers = {
            worker: row
            for worker, row in self.workers.items()
            if self.now - _DAY <= row.lease_until <= self.now + 2 * _lease(row) + _DAY
        }

    def renew(self, worker: UUID, ttl_seconds: float, *, retiring: bool = False) -> datetime | None:
        """None: a lease that ran out is never renewed. One that ends too late is, by its own worker."""
        row = self.workers.get(worker)
        if row is None or row.lease_until <= self.now:
            return None
        until = self.now + timedelta(seconds=ttl_seconds)
        self.workers[worker] = row._replace(lease_until=until, retiring=retiring)
        return until

    def unregister(self, worker: UUID) -> None:
        self.workers.pop(worker, None)

    def is_alive(self, worker: UUID | None) -> bool:
        """Whether its lease is still running, and does not end later than it can."""
        row = self.workers.get(worker) if worker is not None else None
        return row is not None and self.now < row.lease_until <= self.now + 2 * _lease(row)

    def count_live(self) -> tuple[int, float | None]:
        """How many share the work, and the longest of their leases."""
        live = [row for worker, row in self.workers.items() if self.is_alive(worker) and not row.retiring]
        return len(live), max((row.lease_seconds for row in live), default=None)

    def count_free(self) -> tuple[int, int]:
        """How many shards belong to nobody alive, and how many of them because a lease ends too late."""
        owners = [owner for shard in self.takeable() if (owner := self.shards[shard].owner) in self.workers]
        ahead = [owner for owner in owners if owner is not None and self.workers[owner].lease_until > self.now]
        return len(self.takeable()), len(ahead)

    def takeable(self) -> list[int]:
        """The shards that belong to nobody alive."""
        alive = {worker for worker in self.workers if self.is_alive(worker)}
        return [number for number, shard in enumerate(self.shards) if shard.owner not in alive]

    def owned(self, worker: UUID) -> dict[int, int]:
        """The shards of a worker and their epochs."""
        return {number: shard.epoch for number, shard in enumerate(self.shards) if shard.owner == worker}

    def take(self, worker: UUID, shards: Iterable[int]) -> dict[int, ShardRow]:
        """Takes those of these that are free. An owner's new epoch is higher than any before."""
        taken = set(shards) & set(self.takeable())
        for number in taken:
            was = self.shards[number]
            abandoned_at = was.abandoned_at if was.owner is None else self.now
            self.shards[number] = ShardRow(worker, was.epoch + 1, was.last_seq, abandoned_at)
        return {number: self.shards[number] for number in sorted(taken)}

    def readopt(self, worker: UUID, shards: Collection[int]) -> dict[int, int]:
        """The next epoch of what is the worker's already; the rest is missing."""
        readopted = self.owned(worker).keys() & set(shards)
        for number in readopted:
            self.shards[number] = self.shards[number]._replace(epoch=self.shards[number].epoch + 1)
        return {number: self.shards[number].epoch for number in sorted(readopted)}

    def last_seqs(self, shards: Iterable[int]) -> dict[int, int]:
        """How far the log of each shard reaches."""
        return {
            number: max([self.shards[number].last_seq, *(row.seq for row in self.log[number][-1:])])
            for number in shards
        }

    def release(self, worker: UUID, owned: Mapping[int, OwnedShard]) -> list[int]:
        """Returns those that were still the worker's."""
        released = [number for number, shard in owned.items() if self.is_owner(worker, number, shard.epoch)]
        for number in released:
            last_seq = max(self.shards[number].last_seq, owned[number].last_seq)
            self.shards[number] = self.shards[number]._replace(owner=None, last_seq=last_seq)
        return released

    # --- of the same machine ---------------------------------------------------------------------------------------

    def neighbours(self, machine: str, namespaces: str) -> dict[UUID, ProcessMark]:
        """The workers whose numbers mean the same there, and whose lease has not run out."""
        return {
            worker: row.mark
            for worker, row in self.workers.items()
            if row.mark
            and (row.mark.machine, row.mark.namespaces) == (machine, namespaces)
            and row.lease_until > self.now
        }

    def end_leases(self, workers: Collection[UUID], machine: str, namespaces: str) -> set[UUID]:
        """Of these, those that are neighbours; returns them. None of them is ever renewed."""
        ended = self.neighbours(machine, namespaces).keys() & set(workers)
        for worker in ended:
            self.workers[worker] = self.workers[worker]._replace(lease_until=self.now - _BACK)
        return ended

    # --- what a worker sends alone ---------------------------------------------------------------------------------

    def isolate(self, worker: UUID, key: Key) -> None:
        if worker in self.workers:
            self.workers[worker] = self.workers[worker]._replace(isolated=key)

    def clear_isolated(self, worker: UUID, mark: ProcessMark | None, key: Key) -> None:
        """Under every id that the process of a worker has had."""
        for known, row in self.workers.items():
            if row.isolated == key and (known == worker or (mark is not None and row.mark == mark)):
                self.workers[known] = row._replace(isolated=None)

    def deaths(self, key: Key) -> int:
        """How many processes died whose last delivery sent alone was this one: one that has a lease has not."""
        processes = {known: row.mark or known for known, row in self.workers.items()}
        living = {processes[known] for known, row in self.workers.items() if row.lease_until >= self.now}
        named = {processes[known] for known, row in self.workers.items() if row.isolated == key}
        return len(named - living)


def _lease(row: WorkerRow) -> timedelta:
    return timedelta(seconds=row.lease_seconds)
