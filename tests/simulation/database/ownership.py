"""Who owns which shard: workers, their leases, and how shards are taken, adopted again and released."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from webhook_grpc.store.outbox import ownership, suspects

from .tables import Params, Row, Statement, Tables, Worker, reads, writes


@dataclass(frozen=True, slots=True)
class Ownership:
    """The statements of `store.ownership`. Which free shards are taken is chance."""

    tables: Tables
    random: random.Random

    def statements(self) -> dict[str, Statement]:
        return {
            ownership.INSERT_WORKER: writes(self._register),
            ownership.DELETE_DEAD_WORKERS: writes(self._forget_dead),
            ownership.RENEW_LEASE: writes(self._renew),
            ownership.COUNT_LIVE_WORKERS: reads(self._count_live),
            ownership.COUNT_FREE_SHARDS: reads(self._count_free),
            ownership.SELECT_OWNED_SHARDS: reads(self._owned),
            ownership.TAKE_SHARDS: writes(self._take),
            ownership.READOPT_SHARDS: writes(self._readopt),
            ownership.SELECT_LAST_SEQS: reads(self._last_seqs),
            ownership.RELEASE_SHARDS: writes(self._release),
            ownership.DELETE_WORKER: writes(self._unregister),
            suspects.SET_ISOLATED_DELIVERY: writes(self._isolate),
            suspects.COUNT_DEATHS: reads(self._deaths),
        }

    def _is_live(self, owner: UUID | None) -> bool:
        worker = self.tables.workers.get(owner) if owner is not None else None
        return worker is not None and worker.is_valid(self.tables.now())

    def _register(self, params: Params, now: datetime) -> list[Row]:
        worker = self.tables.workers[params["worker"]] = Worker(now + timedelta(seconds=params["ttl"]), params["ttl"])
        return [(worker.lease_until,)]

    def _forget_dead(self, _: Params, now: datetime) -> list[Row]:
        for worker_id in [i for i, w in self.tables.workers.items() if w.is_long_dead(now)]:
            del self.tables.workers[worker_id]
        return []

    def _renew(self, params: Params, now: datetime) -> list[Row]:
        worker = self.tables.workers.get(params["worker"])
        if worker is None or worker.lease_until <= now:
            return []
        worker.lease_until = now + timedelta(seconds=params["ttl"])
        worker.retiring = params["retiring"]
        return [(worker.lease_until,)]

    def _count_live(self, _: Params, now: datetime) -> list[Row]:
        live = [worker for worker in self.tables.workers.values() if worker.is_valid(now) and not worker.retiring]
        return [(len(live), max((worker.lease_seconds for worker in live), default=None))]

    def _count_free(self, _: Params, now: datetime) -> list[Row]:
        free = [shard.owner for shard in self.tables.shards if not self._is_live(shard.owner)]
        workers = [self.tables.workers.get(owner) for owner in free if owner is not None]
        return [(len(free), sum(worker is not None and worker.lease_until > now for worker in workers))]

    def _owned(self, params: Params, _: datetime) -> list[Row]:
        return [
            (number, shard.epoch) for number, shard in enumerate(self.tables.shards) if shard.owner == params["worker"]
        ]

    def _take(self, params: Params, _: datetime) -> list[Row]:
        free = [number for number, shard in enumerate(self.tables.shards) if not self._is_live(shard.owner)]
        self.random.shuffle(free)
        rows: list[Row] = []
        for number in free[: params["count"]]:
            shard = self.tables.shard(number)
            was_abandoned = shard.owner is not None
            if was_abandoned:
                shard.abandoned_at = self.tables.now()
            shard.owner = params["worker"]
            shard.epoch += 1
            shard.tenure += 1
            self.tables.note("taken", number, shard.epoch, was_abandoned)
            rows.append((number, shard.epoch, shard.abandoned_at, self.tables.now()))
        return rows

    def _readopt(self, params: Params, _: datetime) -> list[Row]:
        rows: list[Row] = []
        for number in params["shards"]:
            shard = self.tables.shard(number)
            if shard.owner == params["worker"]:
                shard.epoch += 1
                rows.append((number, shard.epoch))
        return rows

    def _last_seqs(self, params: Params, _: datetime) -> list[Row]:
        return [
            (
                number,
                max(
                    self.tables.shard(number).last_seq,
                    max((row.seq for row in self.tables.log_of(number)[-1:]), default=0),
                ),
            )
            for number in params["shards"]
        ]

    def _release(self, params: Params, _: datetime) -> list[Row]:
        for number, epoch, last_seq in zip(params["shards"], params["epochs"], params["last_seqs"], strict=True):
            shard = self.tables.shard(number)
            if shard.epoch == epoch and shard.owner == params["worker"]:
                shard.owner = None
                shard.last_seq = max(shard.last_seq, last_seq)
                self.tables.note("released", number, epoch)
        return []

    def _isolate(self, params: Params, _: datetime) -> list[Row]:
        if (worker := self.tables.workers.get(params["worker"])) is not None:
            worker.isolated = params["webhook_id"], params["event_id"]
        return []

    def _deaths(self, params: Params, now: datetime) -> list[Row]:
        named = params["webhook_id"], params["event_id"]
        return [(sum(w.isolated == named and w.lease_until < now for w in self.tables.workers.values()),)]

    def _unregister(self, params: Params, _: datetime) -> list[Row]:
        self.tables.workers.pop(params["worker"], None)
        return []
