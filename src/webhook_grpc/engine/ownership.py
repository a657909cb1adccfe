"""Which shards this process may send and settle for, and until when.

A claim on a delivery is then an entry in a dict: no claim is written to the database for each one, and because a
webhook has one owner, its limits are exact. The database decides who owns what; the process may only be more cautious.
It stops sending when 0.8 of its lease has passed without a renewal, by its own monotonic clock.

When the database's clock steps, every lease looks as if it had run out, or as if it were none. So whoever notices a
step takes no shards for two beats, in which everybody alive renews. What then belongs to nobody for two beats of the
slowest process is taken whatever the share is: a row that counts as a process but takes nothing must not let it lie.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.progress import LEASE, SHARDS, Cause, Service
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import DatabaseOptions, LoopConnection
from webhook_grpc.store.outbox import ownership as store
from webhook_grpc.store.outbox.ownership import Free, Live, OwnedShard

log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE: Final = 4
_FENCE: Final = 0.8
_PAUSE_SECONDS_MIN: Final = 0.05
_BEATS_WAITED: Final = 2  # for the others, before more than the share is taken, and after the clock has stepped
_BEATS_TO_TAKE: Final = 2 * _BEATS_WAITED  # of one process, until what belongs to nobody has surely been taken
_BEATS_KEPT: Final = 16  # for which what was taken beyond the share is kept, while as many processes live as before


class Ownership:
    """The shards of this process."""

    def __init__(
        self, options: DatabaseOptions, clock: DatabaseClock, lease_seconds: float, secret_key_ids: Sequence[int] = ()
    ) -> None:
        self._connection = LoopConnection(options, "ownership")
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._secret_key_ids = secret_key_ids
        self.renewing = options.progress.work("lease", Service.WEBHOOKS, Service.DELIVERY, words=LEASE)
        self._having_owners = options.progress.work(
            "shards",
            Service.DELIVERY,
            words=SHARDS,
            patience_seconds=max(options.progress.stalled_seconds, _BEATS_TO_TAKE * lease_seconds / RENEWALS_PER_LEASE),
            is_said_at_once=False,  # between two owners there is none for a moment
        )
        self._lock = asyncio.Lock()
        self._registered = False
        self._fence = 0.0
        self._leaving: set[int] = set()
        self._retiring = False
        self._patient_until = 0.0  # the clock has stepped: the others are alive, and have not renewed yet
        self._free_since: float | None = None  # since when there are shards that nobody takes
        self._surplus = _Surplus()
        self.worker: UUID = uuid4()
        self.owned: dict[int, OwnedShard] = {}
        self.live_count = 1
        self.on_gained: Callable[[set[int]], None] = _ignore
        self.on_lost: Callable[[set[int]], None] = _ignore
        self.on_leaving: Callable[[set[int]], None] = _ignore
        self.before_release: Callable[[], Awaitable[None]] = _nothing
        self.on_counted: Callable[[int], None] = _ignore
        self.is_idle: Callable[[int], bool] = bool  # replaced by the dispatcher before the first beat

    @property
    def may_send(self) -> bool:
        """Whether the lease is fresh enough to start attempts."""
        return time.monotonic() < self._fence

    @property
    def sendable(self) -> frozenset[int]:
        """The shards for which attempts may be started."""
        return frozenset(self.owned.keys() - self._leaving) if self.may_send else frozenset()

    def epochs(self) -> dict[int, int]:
        """The epoch of each shard of ours. A shard whose epoch changed may have been somebody else's in between."""
        return {shard: owned.epoch for shard, owned in self.owned.items()}

    async def run(self) -> None:
        """Renews the lease, takes and gives shards until it is cancelled."""
        while True:
            began_at = time.monotonic()
            with contextlib.suppress(Unavailable):  # the next beat tries again
                await self.beat()
            # Counted from the beginning, so that slow statements make no beat late; and not in step with the others'.
            interval_seconds = self._lease_seconds / RENEWALS_PER_LEASE * random.uniform(0.85, 1.0)
            await asyncio.sleep(max(_PAUSE_SECONDS_MIN, began_at + interval_seconds - time.monotonic()))

    def clock_stepped(self) -> None:
        """The database's clock has stepped. What was abandoned "later than now" was abandoned before now."""
        self._patient_until = time.monotonic() + _BEATS_WAITED * self._lease_seconds / RENEWALS_PER_LEASE
        now = self._clock.now()
        for owned in self.owned.values():
            if owned.abandoned_at is not None:
                owned.abandoned_at = min(owned.abandoned_at, now)

    async def beat(self) -> None:
        """Renews the lease and brings memory and database into agreement. Raises Unavailable."""
        async with self._lock:
            with watched(self.renewing):
                await self._renew()
                await self._reconcile()
                await self._balance()

    async def readopt(self, shards: Collection[int]) -> None:
        """After a statement of unknown outcome: moves its shards to a new epoch.

        There the statement can do nothing any more; how far the logs reach is learnt afresh. Raises Unavailable.
        """
        async with self._lock:
            await self._readopt(set(shards) & self.owned.keys())

    def log_reached(self, owned: Mapping[int, OwnedShard], last_seqs: Mapping[int, int]) -> None:
        """Notes how far the log of each shard reaches, after a statement that was fenced by these.

        A shard that was lost and gained meanwhile is another `OwnedShard`, which the statement says nothing about.
        """
        for shard, last_seq in last_seqs.items():
            owned[shard].last_seq = max(owned[shard].last_seq, last_seq)

    async def retire(self) -> None:
        """Takes no more shards, and gives each back as soon as it is idle. The loop must still run."""
        self._retiring = True
        try:
            await self.beat()
        except Unavailable:
            log.warning("shards not given back yet; the next beat tries again")

    async def leave(self) -> None:
        """Gives everything back, so that the others need not wait for the lease to run out."""
        async with self._lock:
            self._fence = 0.0
            try:
                await self.before_release()
                await store.release(self._connection, self.worker, self.owned)
                await store.unregister(self._connection, self.worker)
            except Unavailable as error:
                cause = cause_of(error)
                log.warning(
                    "could not release shards; the others take them when the lease runs out",
                    sqlstate=cause.sqlstate,
                    text=cause.text,
                )
            self._lose(set(self.owned))
        await self._connection.close()

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        if self._registered:
            database_time = await store.renew(
                self._connection, self.worker, self._lease_seconds, retiring=self._retiring
            )
            if database_time is not None:
                self._clock.observe(database_time, asked_at, time.monotonic())
                self._fence = asked_at + _FENCE * self._lease_seconds
                return
            log.warning("lease ran out", worker=str(self.worker))
            self._lose(set(self.owned))
            self._registered = False
        self.worker = uuid4()  # a new one for each try: the last may have been entered, and its answer lost
        asked_at = time.monotonic()
        database_time = await store.register(self._connection, self.worker, self._lease_seconds, self._secret_key_ids)
        self._clock.observe(database_time, asked_at, time.monotonic())
        self._registered = True
        self._fence = asked_at + _FENCE * self._lease_seconds
        await store.forget_dead(self._connection)

    async def _reconcile(self) -> None:
        epochs = await store.owned_epochs(self._connection, self.worker)
        self._lose(self.owned.keys() - epochs.keys())
        known = self.epochs()
        astray = {shard for shard, epoch in epochs.items() if known.get(shard) != epoch}
        if astray:
            await self._readopt(astray)

    async def _balance(self) -> None:
        live = await store.count_live(self._connection)
        self.live_count = live.count
        self.on_counted(self.live_count)
        now = time.monotonic()
        share = 0 if self._retiring else math.ceil(SHARD_COUNT / max(1, live.count)) + self._surplus.of(live.count, now)
        staying = self.owned.keys() - self._leaving
        if len(staying) > share:  # idle ones first: a busy one stands still until its last request has ended
            by_idleness = sorted(staying, key=lambda shard: (not self.is_idle(shard), shard))
            self._begin_leaving(set(by_idleness[: len(staying) - share]))
        await self._release_idle()
        if self._retiring or now < self._patient_until:
            return
        is_below_share = len(self.owned) < share
        if is_below_share:
            self._gain(await store.take(self._connection, self.worker, share - len(self.owned)))
        free = await store.count_free(self._connection)
        self._note_free(free)
        if not is_below_share:
            await self._take_what_nobody_takes(free, live, now)

    def _note_free(self, free: Free) -> None:
        if free.count:
            self._having_owners.fail(Cause(f"{free.count} shards belong to nobody", kind="free"))
        else:
            self._having_owners.succeed()

    async def _take_what_nobody_takes(self, free: Free, live: Live, now: float) -> None:
        """Takes shards beyond the share once they have belonged to nobody for two beats of the slowest process."""
        if not free.count:
            self._free_since = None
            return
        if self._free_since is None:
            self._free_since = now
        beat_seconds = max(live.lease_seconds_max, self._lease_seconds) / RENEWALS_PER_LEASE
        if now - self._free_since < _BEATS_WAITED * beat_seconds:
            return
        self._free_since = None
        log.warning(
            "shards belong to nobody and nobody takes them: taken beyond the share of this process",
            worker=str(self.worker),
            count=free.count,
            lease_too_far_ahead_count=free.ahead_count,
            live_count=live.count,
        )
        taken = await store.take(self._connection, self.worker, free.count)
        self._surplus = _Surplus(len(taken), live.count, now + _BEATS_KEPT * beat_seconds)
        self._gain(taken)

    def _begin_leaving(self, shards: set[int]) -> None:
        self._leaving |= shards
        self.on_leaving(shards)

    async def _release_idle(self) -> None:
        idle = {shard: self.owned[shard] for shard in self._leaving if self.is_idle(shard)}
        if idle:
            await self.before_release()
            await store.release(self._connection, self.worker, idle)
            self._lose(set(idle))

    async def _readopt(self, shards: set[int]) -> None:
        readopted = await store.readopt(self._connection, self.worker, shards) if shards else {}
        new = readopted.keys() - self.owned.keys()
        for shard, owned in readopted.items():
            known = self.owned.get(shard)  # one that is new here was taken by a statement whose answer was lost
            owned.abandoned_at = self._clock.now() if known is None else known.abandoned_at
            owned.taken_seq = owned.last_seq if known is None else known.taken_seq
        self._lose(shards - readopted.keys())
        self.owned.update(readopted)
        if new:
            self._gain({shard: readopted[shard] for shard in new})

    def _gain(self, shards: dict[int, OwnedShard]) -> None:
        if shards:
            self.owned.update(shards)
            log.info("shards gained", worker=str(self.worker), count=len(shards), owned=len(self.owned))
            self.on_gained(set(shards))

    def _lose(self, shards: set[int]) -> None:
        lost = shards & self.owned.keys()
        if lost:
            for shard in lost:
                del self.owned[shard]
            self._leaving -= lost
            log.info("shards given up", worker=str(self.worker), count=len(lost), owned=len(self.owned))
            self.on_lost(lost)


@dataclass(frozen=True, slots=True)
class _Surplus:
    """Shards that were taken beyond the share: kept for a while, or until another number of processes lives."""

    count: int = 0
    live_count: int = 0
    until: float = 0.0

    def of(self, live_count: int, now: float) -> int:
        """How many shards more than its share the process may keep."""
        return self.count if live_count == self.live_count and now < self.until else 0


def _ignore(_: object) -> None:
    pass


async def _nothing() -> None:
    pass
