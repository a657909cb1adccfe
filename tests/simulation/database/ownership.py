"""Who owns which shard: workers, their leases, and how shards are taken, adopted again and released."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from webhook_grpc.store.ownership import leases, neighbours, poison_suspects
from webhook_grpc.store.ownership.marks import ProcessMark

from .statements import Params, Row, Statement, fence_of, reads, writes
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Ownership:
    """The statements of `store.ownership`, `neighbours` and `suspects`. Which free shards are taken is chance."""

    stored: Stored
    random: random.Random

    def statements(self) -> dict[str, Statement]:
        return {
            leases.INSERT_WORKER: writes(self._register),
            leases.DELETE_DEAD_WORKERS: writes(self._forget_dead),
            leases.RENEW_LEASE: writes(self._renew),
            leases.COUNT_LIVE_WORKERS: reads(lambda _: [self.stored.model.count_live()]),
            leases.COUNT_FREE_SHARDS: reads(lambda _: [self.stored.model.count_free()]),
            leases.SELECT_OWNED_SHARDS: reads(lambda params: [*self.stored.model.owned(params["worker"]).items()]),
            leases.TAKE_SHARDS: writes(self._take),
            leases.READOPT_SHARDS: writes(self._readopt),
            leases.SELECT_IS_STANDBY: reads(lambda _: [(False,)]),
            leases.SELECT_LAST_SEQS: reads(lambda params: [*self.stored.model.last_seqs(params["shards"]).items()]),
            leases.RELEASE_SHARDS: writes(self._release),
            leases.DELETE_WORKER: writes(self._unregister),
            neighbours.SELECT_NEIGHBOURS: reads(self._neighbours),
            neighbours.END_LEASES: writes(self._end_leases),
            poison_suspects.SET_ISOLATED_DELIVERY: writes(self._isolate),
            poison_suspects.CLEAR_ISOLATED_DELIVERY: writes(self._clear_isolated),
            poison_suspects.COUNT_DEATHS: reads(self._deaths),
        }

    def _register(self, params: Params) -> list[Row]:
        return [(self.stored.model.register(params["worker"], params["ttl"], _mark_of(params)),)]

    def _neighbours(self, params: Params) -> list[Row]:
        found = self.stored.model.neighbours(params["machine"], params["namespaces"])
        return [(worker, mark.pid, mark.started_ticks) for worker, mark in found.items()]

    def _end_leases(self, params: Params) -> list[Row]:
        ended = self.stored.model.end_leases(params["workers"], params["machine"], params["namespaces"])
        self.stored.note("leases ended", len(ended))
        return [(worker,) for worker in sorted(ended)]

    def _forget_dead(self, _: Params) -> list[Row]:
        self.stored.model.forget_dead()
        return []

    def _renew(self, params: Params) -> list[Row]:
        until: datetime | None = self.stored.model.renew(params["worker"], params["ttl"], retiring=params["retiring"])
        return [] if until is None else [(until,)]

    def _take(self, params: Params) -> list[Row]:
        model = self.stored.model
        free = model.takeable()
        self.random.shuffle(free)
        chosen = free[: params["count"]]
        owners = {number: model.shards[number].owner for number in chosen}
        taken = model.take(params["worker"], chosen)
        for number, shard in taken.items():
            self.stored.tenures[number] += 1
            self.stored.note("taken", number, shard.epoch, owners[number] is not None)
        return [(number, shard.epoch, shard.abandoned_at, model.now) for number, shard in taken.items()]

    def _readopt(self, params: Params) -> list[Row]:
        return [*self.stored.model.readopt(params["worker"], params["shards"]).items()]

    def _release(self, params: Params) -> list[Row]:
        worker, owned = fence_of(params)
        for number in self.stored.model.release(worker, owned):
            self.stored.note("released", number, owned[number].epoch)
        return []

    def _isolate(self, params: Params) -> list[Row]:
        self.stored.model.isolate(params["worker"], (params["webhook_id"], params["event_id"]))
        return []

    def _clear_isolated(self, params: Params) -> list[Row]:
        key = params["webhook_id"], params["event_id"]
        self.stored.model.clear_isolated(params["worker"], _mark_of(params), key)
        return []

    def _deaths(self, params: Params) -> list[Row]:
        return [(self.stored.model.deaths((params["webhook_id"], params["event_id"])),)]

    def _unregister(self, params: Params) -> list[Row]:
        self.stored.model.unregister(params["worker"])
        return []


def _mark_of(params: Params) -> ProcessMark | None:
    pid = params["pid"]
    return pid and ProcessMark(params["machine"], params["namespaces"], pid, params["started_ticks"])
