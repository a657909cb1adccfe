"""Housekeeping: makes partitions ahead of time, and deletes what is older than it is kept.

The process that owns shard 0 does it. For a moment there may be two such processes, or none: every step finds by itself
what is to be done, does a bounded part of it, and can be interrupted anywhere.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import HOUSEKEEPING, Work
from webhook_grpc.domain.record import record
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.store import audit
from webhook_grpc.store.clock import look_at_clock
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry.secrets import forget_previous
from webhook_grpc.store.registry.signing_keys import delete_retired
from webhook_grpc.store.schema.partitions import TABLES, ensure_partitions
from webhook_grpc.store.upkeep import erasure, retention, statistics
from webhook_grpc.store.upkeep.bloat import vacuum_outbox
from webhook_grpc.store.upkeep.erasure import ErasureProgress

from .clear_sealing import ClearSealing

log = structlog.get_logger(__name__)

LEADER_SHARD: Final = 0
_TICK_SECONDS: Final = 1.0
_BATCH_PAUSE_SECONDS: Final = 0.05  # between two batches of the same, for everybody else
_RETRY_SECONDS: Final = 60.0

_MAKE_SECONDS: Final = 3600.0
_DROP_SECONDS: Final = 600.0
_KEYS_SECONDS: Final = 60.0
_SMALL_SECONDS: Final = 3600.0
_SEAL_SECONDS: Final = 300.0
_VACUUM_SECONDS: Final = 120.0
_ERASE_SECONDS: Final = 2.0
_LOOK_AT_CLOCK_SECONDS: Final = 60.0
_ANALYSE_SECONDS: Final = 3600.0


@record
class Step:
    """Something that is done every so many seconds. `run` returns whether there is more to be done at once."""

    name: str
    interval_seconds: float
    run: Callable[[], Awaitable[bool]]


class Janitor:
    """Does its steps in turn while this process is the leader."""

    def __init__(
        self,
        database: Database,
        policy: RetentionPolicy,
        is_leader: Callable[[], bool],
        webhook_changed: Callable[[int], None],
        clear_sealing: ClearSealing,
    ) -> None:
        self._database = database
        self._policy = policy
        self._is_leader = is_leader
        self._webhook_changed = webhook_changed
        self.steps: Sequence[Step] = (
            Step("look at the clock", _LOOK_AT_CLOCK_SECONDS, self.look_at_clock),
            Step("make partitions", _MAKE_SECONDS, self.make_partitions),
            Step("drop partitions", _DROP_SECONDS, self.drop_partitions),
            Step("delete idempotency keys", _KEYS_SECONDS, self.delete_keys),
            Step("delete replays", _SMALL_SECONDS, self.delete_replays),
            Step("delete tombstones", _SMALL_SECONDS, self.delete_tombstones),
            Step("delete audit entries", _SMALL_SECONDS, self.delete_audit_entries),
            Step("forget secrets", _SMALL_SECONDS, self.forget_secrets),
            Step("seal what is in the clear", _SEAL_SECONDS, clear_sealing.step),
            Step("purge webhooks", _SMALL_SECONDS, self.purge_webhooks),
            Step("vacuum the outbox", _VACUUM_SECONDS, self.vacuum_outbox),
            Step("erase customers", _ERASE_SECONDS, self.erase_customers),
            Step("analyse small tables", _ANALYSE_SECONDS, self.analyse_small_tables),
        )
        self._works: dict[str, Work] = {}
        self._due_at: dict[str, float] = {}
        self._erased_last = 0
        self._looked_at_clock_at: float | None = None

    async def run(self) -> None:
        """Does what is due until the task is cancelled."""
        while True:
            pause_seconds = _TICK_SECONDS
            for step in self.steps:
                if self._is_leader() and time.monotonic() >= self._due_at.get(step.name, 0.0):
                    pause_seconds = min(pause_seconds, await self._do(step))
            await asyncio.sleep(pause_seconds)

    def clock_stepped(self) -> None:
        """Looks again, after a step of the database's clock: there may be no partition for the day that it shows."""
        for step in (self.steps[0], self.steps[1]):
            self._due_at.pop(step.name, None)

    async def _do(self, step: Step) -> float:
        """Does a step and notes when it is due again. Returns in how many seconds that is."""
        self._due_at[step.name] = math.inf
        try:
            with watched(self._work_of(step), is_timed=False):
                has_more = await step.run()
            seconds = _BATCH_PAUSE_SECONDS if has_more else step.interval_seconds
        except Unavailable:
            seconds = min(step.interval_seconds, _RETRY_SECONDS)
        except Exception:  # a bug here must stop neither the other steps nor the process
            log.exception("housekeeping failed", step=step.name)
            seconds = max(step.interval_seconds, _RETRY_SECONDS)
        if step.name in self._due_at:  # else the clock has stepped meanwhile: what was done is of the time before
            self._due_at[step.name] = time.monotonic() + seconds
        return seconds

    def _work_of(self, step: Step) -> Work:
        work = self._works.get(step.name)
        if work is None:
            work = self._works[step.name] = self._database.options.progress.work(step.name, words=HOUSEKEEPING)
        return work

    # --- the steps -------------------------------------------------------------------------------------------------

    async def look_at_clock(self) -> bool:
        """Advances the time up to which the database's clock is believed. Steps that delete by age use that time."""
        now = time.monotonic()
        is_first_look = self._looked_at_clock_at is None
        ran_seconds = 0.0 if self._looked_at_clock_at is None else now - self._looked_at_clock_at
        self._looked_at_clock_at = now
        before, after = await look_at_clock(self._database, min(ran_seconds, 2 * _LOOK_AT_CLOCK_SECONDS))
        if after.is_doubted and (is_first_look or not before.is_doubted):
            log.warning(
                "the database's clock is not believed: nothing expires or is dropped by it for a day, unless it steps"
                " back; right if the service was off until now",
                believed_time=after.at.isoformat(),
            )
        elif before.is_doubted and not after.is_doubted:
            log.info("the database's clock is believed again", believed_time=after.at.isoformat())
        return False

    async def make_partitions(self) -> bool:
        """Makes the partitions of the next days."""
        made = await ensure_partitions(self._database)
        if made:
            log.info("partitions made", names=made)
        return False

    async def drop_partitions(self) -> bool:
        """Drops the partitions that are older than they are kept: events first.

        The log of a day stays until its events are dropped: without it they would look undelivered, and be replayed.
        """
        has_more = False
        for table in TABLES:
            result = await retention.drop_partitions(self._database, table, self._policy.days_of(table))
            has_more |= result.has_more
            if result.dropped:
                log.info("partitions dropped", names=result.dropped)
            if result.in_use:
                log.warning("partitions not dropped: somebody reads them; tried again later", names=result.in_use)
            if result.undelivered:
                log.warning("partitions not dropped: deliveries have not ended", names=result.undelivered)
            if result.in_use or result.has_more:
                break
        return has_more

    async def delete_keys(self) -> bool:
        """Deletes idempotency keys that are older than they are kept."""
        count = await retention.delete_keys(self._database, self._policy.idempotency_keys_hours)
        return _log_deleted("idempotency keys deleted", count, retention.KEYS_PER_BATCH)

    async def delete_replays(self) -> bool:
        """Deletes replays that ended so long ago that the log has nothing of them any more."""
        count = await retention.delete_replays(self._database, self._policy.attempts_days)
        return _log_deleted("replays deleted", count, retention.ROWS_PER_BATCH)

    async def delete_tombstones(self) -> bool:
        """Deletes the notes that customers were erased, when no backup can bring them back."""
        count = await retention.delete_erasures(self._database)
        return _log_deleted("tombstones of customers deleted", count, retention.ROWS_PER_BATCH)

    async def delete_audit_entries(self) -> bool:
        """Deletes entries of the audit that are older than they are kept."""
        count = await audit.delete_old(self._database, self._policy.audit_days)
        return _log_deleted("audit entries deleted", count, audit.ENTRIES_PER_BATCH)

    async def forget_secrets(self) -> bool:
        """Deletes secrets and signing keys that no longer sign."""
        await forget_previous(self._database)
        await delete_retired(self._database)
        return False

    async def purge_webhooks(self) -> bool:
        """Deletes what is left of webhooks that were deleted and have no history any more."""
        count = await retention.purge_webhooks(self._database, self._policy.attempts_days)
        return _log_deleted("deleted webhooks purged", count, retention.ROWS_PER_BATCH)

    async def vacuum_outbox(self) -> bool:
        """Vacuums the outbox where autovacuum does not."""
        dead_rows = await vacuum_outbox(self._database)
        if dead_rows:
            log.warning("outbox vacuumed: autovacuum is off or behind", dead_rows=dead_rows)
        return False

    async def analyse_small_tables(self) -> bool:
        """Analyses tables that change too little to be analysed by autovacuum, so that Postgres knows their size."""
        refused = await statistics.analyse_small_tables(self._database)
        if refused:
            log.warning("tables not analysed: their owner has to grant it, or to do it", tables=refused)
        return False

    async def erase_customers(self) -> bool:
        """Erases a little more of each customer that is being erased, so that none waits for another.

        If that fails for one, the next try begins behind it: one that fails again and again must not stop the others.
        """
        has_more = False
        waiting = await erasure.running(self._database)
        begin = next((n for n, one in enumerate(waiting, 1) if one.customer_id == self._erased_last), 0)
        for running in (*waiting[begin:], *waiting[:begin]):
            self._erased_last = running.customer_id
            advance = await erasure.advance(self._database, running)
            for webhook_id in advance.deleted_webhook_ids:
                self._webhook_changed(webhook_id)
            has_more |= advance.progress is ErasureProgress.MORE
            if advance.progress is ErasureProgress.COMPLETE:
                log.info("customer erased", customer_id=running.customer_id)
        return has_more


def _log_deleted(message: str, count: int, batch: int) -> bool:
    """Returns whether there may be more, because the batch was full."""
    if count:
        log.info(message, count=count)
    return count >= batch
