"""Keeps the shards of this process: renews the lease, takes shards and releases them.

The database decides who owns what; the process may only be more cautious. It stops sending when 0.8 of its lease has
passed without a renewal, by its own monotonic clock.

When the database's clock steps, every lease looks as if it had run out, or as if there were none. So a process that
notices a step takes no shards for two beats, in which every process alive renews. Shards that then belong to nobody for
two beats of the slowest process are taken whatever the share is: a row that counts as a process but takes nothing must
not leave them without an owner.

A database that comes back older than it was (a standby that had not received everything, a backup) has shorter logs
than this process has seen. Then this process gives the log another name, so that watchers learn
that their cursors are not valid any more, and it reads everything about its shards again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Final, Protocol
from uuid import UUID

import structlog

from webhook_grpc.domain import shard_release
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.progress import LEASE, SHARDS, Cause, Service
from webhook_grpc.domain.record import record
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.connection.failures import cause_of, watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.ownership import leases as store
from webhook_grpc.store.ownership.leases import Free, Live, OwnedShard

from .shards import Shards

log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE: Final = 4
_FENCE: Final = 0.8
_PAUSE_SECONDS_MIN: Final = 0.05
_HURRIED_SECONDS: Final = 0.1
_BEATS_WAITED: Final = 2  # time for other processes to renew: before taking more than the share, and after a clock step
_BEATS_TO_TAKE: Final = 2 * _BEATS_WAITED  # of one process, until what belongs to nobody has surely been taken
_BEATS_KEPT: Final = 16  # how long shards beyond the share are kept, unless the number of live processes changes


class ShardListener(Protocol):
    """Hears what happens to the shards of this process, and decides when one can be released.

    Every method is called under the lock of `Ownership`: none may call back into it.
    """

    def gained(self, shards: set[int]) -> None:
        """Begins work for these shards: they are ours now."""
        ...

    def leaving(self, shards: set[int]) -> None:
        """Starts nothing new for these shards: they are released as soon as they are idle."""
        ...

    def lost(self, shards: set[int]) -> None:
        """Forgets these shards: another process owns them now, or will."""
        ...

    def is_idle(self, shard: int) -> bool:
        """Returns whether the shard can be released: nothing that was started for it is unsettled."""
        ...

    def is_stuck(self, shard: int, now: float) -> bool:
        """Returns whether the shard is not idle, and may not be soon: an attempt has taken long."""
        ...

    async def before_release(self, shards: Collection[int]) -> None:
        """Saves what the next owner of these shards needs to know."""
        ...


class Ownership:
    """Renews the lease of this process and changes its `Shards`."""

    def __init__(
        self,
        connection: LoopConnection,
        shards: Shards,
        listener: ShardListener,
        clock: DatabaseClock,
        random: Random,
        lease_seconds: float,
        secret_key_ids: Sequence[int] = (),
    ) -> None:
        progress = connection.progress
        self._connection = connection
        self.shards = shards
        self._listener = listener
        self._clock = clock
        self._random = random
        self._lease_seconds = lease_seconds
        self._secret_key_ids = secret_key_ids
        self.renewing = progress.work("lease", Service.WEBHOOKS, Service.DELIVERY, words=LEASE)
        self._having_owners = progress.work(
            "shards",
            Service.DELIVERY,
            words=SHARDS,
            patience_seconds=max(progress.stalled_seconds, _BEATS_TO_TAKE * lease_seconds / RENEWALS_PER_LEASE),
            is_said_at_once=False,  # between two owners there is none for a moment
        )
        self._lock = asyncio.Lock()
        self._registered = False
        self._renewed_at = 0.0
        self._retiring = False
        self._patient_until = 0.0  # the clock has stepped: the others are alive, and have not renewed yet
        self._free_since: float | None = None  # since when there are shards that nobody takes
        self._surplus = _Surplus()
        self._reached: dict[int, int] = {}  # how far each log that was ever ours was seen to reach
        self._compared_count = 0  # how many connections had been opened when they were compared last
        self._hurried = asyncio.Event()
        self._hurried_until = 0.0
        self._lacks_shards = False  # it has less than its share

    async def run(self) -> None:
        """Renews the lease, takes and releases shards until the task is cancelled."""
        while True:
            began_at = time.monotonic()
            self._hurried.clear()  # before the beat: what is known only while it runs needs another one
            with contextlib.suppress(Unavailable):  # the next beat tries again
                await self.beat()
            # Counted from the beginning, so that slow statements make no beat late; and not in step with the others'.
            interval_seconds = self._lease_seconds / RENEWALS_PER_LEASE * self._random.uniform(0.85, 1.0)
            is_waiting = self._lacks_shards or bool(self.shards.leaving)
            if is_waiting and began_at < self._hurried_until:
                interval_seconds = min(interval_seconds, _HURRIED_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_PAUSE_SECONDS_MIN, began_at + interval_seconds - time.monotonic())):
                    await self._hurried.wait()

    def hurry(self) -> None:
        """Begins the next beat now: another process is known to have died, or to have come.

        For the time of one beat, while this process has less than its share, further beats follow quickly: other
        processes may be about to release shards. The same holds after shards of this process began to leave.
        """
        self._hurried_until = time.monotonic() + self._lease_seconds / RENEWALS_PER_LEASE
        self._hurried.set()

    def clock_stepped(self) -> None:
        """Waits for the others to renew, after a step of the database's clock.

        A shard that was abandoned "later than now" was abandoned before now.
        """
        self._patient_until = time.monotonic() + _BEATS_WAITED * self._lease_seconds / RENEWALS_PER_LEASE
        now = self._clock.now()
        for owned in self.shards.owned.values():
            if owned.abandoned_at is not None:
                owned.abandoned_at = min(owned.abandoned_at, now)

    async def beat(self) -> None:
        """Renews the lease and brings memory and database into agreement. Raises Unavailable."""
        async with self._lock:
            with watched(self.renewing):
                send_until = await self._renew()
                await self._compare_after_reconnecting()
                await self._reconcile()
                # Only now: a renewal that was held up may succeed after others have taken the shards.
                self.shards.send_until = send_until
                await self._balance()

    def guard(self, connection: LoopConnection) -> None:
        """Lets nothing be written to logs that have become shorter, by a connection that is opened later."""
        store.refuse_shorter_logs(connection, self._reached)

    async def readopt(self, shards: Collection[int]) -> None:
        """Moves the shards of a statement of unknown outcome to a new epoch.

        At the new epoch the old statement can do nothing any more; how far the logs reach is read again. Raises
        Unavailable.
        """
        async with self._lock:
            await self._readopt(set(shards) & self.shards.owned.keys())

    def log_reached(self, fenced_by: Mapping[int, OwnedShard], last_seqs: Mapping[int, int]) -> None:
        """Notes how far the log of each shard reaches, after a statement that was fenced by these.

        A shard that was lost and gained meanwhile is another `OwnedShard`, of which the statement says nothing.
        """
        for shard, last_seq in last_seqs.items():
            fenced_by[shard].last_seq = max(fenced_by[shard].last_seq, last_seq)
            self._reached[shard] = max(self._reached.get(shard, 0), last_seq)

    async def retire(self) -> None:
        """Takes no more shards, and releases each as soon as it is idle. The loop must still run."""
        self._retiring = True
        try:
            await self.beat()
        except Unavailable:
            log.warning("shards not given back yet; the next beat tries again")

    async def leave(self) -> None:
        """Releases every shard, so that the others need not wait for the lease to run out."""
        async with self._lock:
            self.shards.send_until = 0.0
            try:
                await self._listener.before_release(self.shards.owned)
                await store.release(self._connection, self.shards.worker, self.shards.owned)
                await store.unregister(self._connection, self.shards.worker)
            except Unavailable as error:
                cause = cause_of(error)
                log.warning(
                    "could not release shards; the others take them when the lease runs out",
                    sqlstate=cause.sqlstate,
                    text=cause.text,
                )
            self._lose(set(self.shards.owned))

    async def _renew(self) -> float:
        """Renews the lease, or registers again, and returns until when requests may be sent."""
        asked_at = time.monotonic()
        if self._registered:
            database_time = await store.renew(
                self._connection, self.shards.worker, self._lease_seconds, retiring=self._retiring
            )
            if database_time is not None:
                self._clock.observe(database_time, asked_at, time.monotonic())
                self._renewed_at = asked_at
                return asked_at + _FENCE * self._lease_seconds
            renewed_seconds_ago = round(time.monotonic() - self._renewed_at, 3)
            log.warning("lease ran out", worker=str(self.shards.worker), renewed_seconds_ago=renewed_seconds_ago)
            self._lose(set(self.shards.owned))
            self._registered = False
        # A new one for each try: the last one may have been entered, and the answer lost.
        worker = self.shards.worker = self._new_id()
        asked_at = time.monotonic()
        database_time = await store.register(
            self._connection, worker, self._lease_seconds, self._secret_key_ids, self.shards.mark
        )
        self._clock.observe(database_time, asked_at, time.monotonic())
        self._registered = True
        self._renewed_at = asked_at
        await store.forget_dead(self._connection)
        return asked_at + _FENCE * self._lease_seconds

    def _new_id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    async def _reconcile(self) -> None:
        epochs = await store.owned_epochs(self._connection, self.shards.worker)
        self._lose(self.shards.owned.keys() - epochs.keys())
        known = self.shards.epochs()
        astray = {shard for shard, epoch in epochs.items() if known.get(shard) != epoch}
        if astray:
            await self._readopt(astray)

    async def _balance(self) -> None:
        live = await store.count_live(self._connection)
        self.shards.live_count = live.count
        now = time.monotonic()
        share = 0 if self._retiring else math.ceil(SHARD_COUNT / max(1, live.count)) + self._surplus.of(live.count, now)
        staying = self.shards.owned.keys() - self.shards.leaving
        if len(staying) > share:
            self._begin_leaving(self._chosen(staying, len(staying) - share, now))
        await self._release_idle()
        if self._retiring or now < self._patient_until:
            return
        is_below_share = len(self.shards.owned) < share
        if is_below_share:
            await self._take(share - len(self.shards.owned))
        self._lacks_shards = len(self.shards.owned) < share
        free = await store.count_free(self._connection)
        self._note_free(free)
        if not is_below_share:
            await self._take_what_nobody_takes(free, live, now)

    def _note_free(self, free: Free) -> None:
        self.shards.free_count = free.count
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
            worker=str(self.shards.worker),
            count=free.count,
            lease_too_far_ahead_count=free.ahead_count,
            live_count=live.count,
        )
        count = await self._take(free.count)
        self._surplus = _Surplus(count, live.count, now + _BEATS_KEPT * beat_seconds)

    async def _take(self, count: int) -> int:
        taken = await store.take(self._connection, self.shards.worker, count)
        self._gain(taken)
        await self._compare_logs(_ends(taken), self._reached)
        return len(taken)

    async def _compare_after_reconnecting(self) -> None:
        """Compares all logs that were ever ours when the connection is another one: a failover ends connections."""
        opened_count = self._connection.opened_count
        if opened_count != self._compared_count:
            reached = dict(self._reached)  # before it is read: results are written meanwhile
            await self._compare_logs(await store.log_ends(self._connection, reached), reached)
            self._compared_count = opened_count

    async def _compare_logs(self, found: Mapping[int, int], reached: Mapping[int, int]) -> None:
        """Compares how far logs reach with how far they were seen to reach. Raises Unavailable.

        If one is shorter, the shards are given up in memory only: the next beat finds that this process owns them,
        and reads everything about them again.
        """
        if _missing(found, reached):
            self._compared_count = -1  # until it is done: if it fails, the next beat compares all again
            found = await self._found_on_a_primary(found)
        count = _missing(found, reached)
        if count:
            await store.rename_log(self._connection, self._new_id())
            log.warning("the database has lost what was committed: watchers start again", changes=count)
            self._reached.clear()
            self._lose(set(self.shards.owned))
            self.hurry()
        for shard, last_seq in found.items():
            self._reached[shard] = max(self._reached.get(shard, 0), last_seq)

    async def _found_on_a_primary(self, shards: Collection[int]) -> dict[int, int]:
        """Reads again how far logs reach. Raises Unavailable if a standby, which may be behind, was asked."""
        opened_count = self._connection.opened_count
        is_standby, found = await store.is_standby(self._connection), await store.log_ends(self._connection, shards)
        if is_standby or self._connection.opened_count != opened_count:
            raise Unavailable("STORAGE_UNAVAILABLE", "the database was a standby, or is another one now")
        return found

    def _chosen(self, staying: set[int], count: int, now: float) -> set[int]:
        idle = {shard for shard in staying if self._listener.is_idle(shard)}
        stuck = {shard for shard in staying - idle if self._listener.is_stuck(shard, now)}
        return shard_release.to_release(count, idle, staying - idle - stuck, stuck)

    def _begin_leaving(self, shards: set[int]) -> None:
        self._hurried_until = time.monotonic() + self._lease_seconds / RENEWALS_PER_LEASE
        self.shards.leaving |= shards
        self._listener.leaving(shards)

    async def _release_idle(self) -> None:
        idle = {shard: self.shards.owned[shard] for shard in self.shards.leaving if self._listener.is_idle(shard)}
        if idle:
            await self._listener.before_release(idle)
            await store.release(self._connection, self.shards.worker, idle)
            self._lose(set(idle))

    async def _readopt(self, shards: set[int]) -> None:
        readopted = await store.readopt(self._connection, self.shards.worker, shards) if shards else {}
        new = readopted.keys() - self.shards.owned.keys()
        for shard, owned in readopted.items():
            known = self.shards.owned.get(shard)  # None: it was taken by a statement whose answer was lost
            owned.abandoned_at = self._clock.now() if known is None else known.abandoned_at
            owned.taken_seq = owned.last_seq if known is None else known.taken_seq
        self._lose(shards - readopted.keys())
        self.shards.owned.update(readopted)
        if new:
            self._gain({shard: readopted[shard] for shard in new})
        await self._compare_logs(_ends(readopted), self._reached)

    def _gain(self, shards: dict[int, OwnedShard]) -> None:
        if shards:
            self.shards.owned.update(shards)
            self._log("shards gained", len(shards))
            self._listener.gained(set(shards))

    def _lose(self, shards: set[int]) -> None:
        lost = shards & self.shards.owned.keys()
        if lost:
            for shard in lost:
                del self.shards.owned[shard]
            self.shards.leaving -= lost
            self._log("shards given up", len(lost))
            self._listener.lost(lost)

    def _log(self, what: str, count: int) -> None:
        log.info(what, worker=str(self.shards.worker), count=count, owned=len(self.shards.owned))


def _missing(found: Mapping[int, int], reached: Mapping[int, int]) -> int:
    """Returns how many changes these logs have less than they were seen to have."""
    return sum(max(0, reached.get(shard, 0) - last_seq) for shard, last_seq in found.items())


def _ends(shards: Mapping[int, OwnedShard]) -> dict[int, int]:
    return {shard: owned.last_seq for shard, owned in shards.items()}


@record
class _Surplus:
    """Shards that were taken beyond the share: kept for a while, or until the number of live processes changes."""

    count: int = 0
    live_count: int = 0
    until: float = 0.0

    def of(self, live_count: int, now: float) -> int:
        """Returns how many shards more than its share the process may keep."""
        return self.count if live_count == self.live_count and now < self.until else 0
