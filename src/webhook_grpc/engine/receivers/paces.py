"""The paces of all webhooks that this process works for: loaded when they are first needed, saved a little behind."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.disabling import FailureRecord
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import Webhook, WebhookStatus
from webhook_grpc.domain.pace import Pace, PacePolicy, SavedHealth
from webhook_grpc.domain.progress import Service
from webhook_grpc.engine.shards import Shards
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import paces as store

from .keys import KeyWatch

log = structlog.get_logger(__name__)

SAVE_SECONDS: Final = 1.0
SAVE_MAX: Final = 1000  # webhooks in one statement
SAVES_MAX: Final = 10  # statements before shards are released: the lease is not renewed meanwhile
SWEEP_SECONDS: Final = 10.0
_FAILING_SECONDS_MIN: Final = 60.0  # what fails for less is not worth a row


class Paces:
    """Keeps the pace of each webhook while its shard is ours, and has a row for each that needs one."""

    def __init__(self, connection: LoopConnection, policy: PacePolicy, shards: Shards, keys: KeyWatch) -> None:
        self._connection = connection
        self._saving = connection.progress.work("save health of webhooks", Service.DELIVERY)
        self._sweeping = connection.progress.work("sweep health of webhooks")
        self._policy = policy
        self._shards = shards
        self._keys = keys
        self._paces: dict[int, Pace] = {}
        self._owned_since: dict[int, float] = {}
        self._ended: set[int] = set()
        self._has_row: set[int] = set()
        self._dirty: dict[int, None] = {}  # in order
        self._saving_now = asyncio.Lock()

    def get(self, webhook_id: int) -> Pace | None:
        """Returns the pace of a webhook, if it is loaded."""
        return self._paces.get(webhook_id)

    async def load(self, webhooks: Sequence[Webhook]) -> None:
        """Loads the paces of webhooks that have none. Raises Unavailable."""
        unknown = [webhook for webhook in webhooks if webhook.webhook_id not in self._paces]
        if not unknown:
            return
        saved = await store.load(self._connection, [webhook.webhook_id for webhook in unknown])
        recovered = await self._recovered([webhook for webhook in unknown if webhook.webhook_id in saved])
        now = time.monotonic()
        for webhook in unknown:
            if webhook.shard not in self._owned_since:
                continue  # given up while this was read
            pace = Pace(self._policy, self._owned_since[webhook.shard])
            if webhook.webhook_id in saved:
                pace.restore(saved[webhook.webhook_id], now)
                self._has_row.add(webhook.webhook_id)
                if webhook.webhook_id in recovered:
                    pace.record = FailureRecord()
                    self.changed(webhook.webhook_id)
            self._paces[webhook.webhook_id] = pace
            self.configure(webhook)

    async def _recovered(self, webhooks: Sequence[Webhook]) -> set[int]:
        """Returns the webhooks that had a success which their last owner did not live to save."""
        owned = self._shards.owned
        until = {
            webhook.webhook_id: (webhook.shard, owned[webhook.shard].taken_seq)
            for webhook in webhooks
            if webhook.shard in owned
        }
        return await store.succeeded_last(self._connection, until) if until else set()

    def configure(self, webhook: Webhook) -> None:
        """Takes over the settings of a webhook. The pace of one that was enabled again starts over, half-open."""
        pace = self._paces.get(webhook.webhook_id)
        if pace is None:
            return
        pace.configure(webhook.max_in_flight, webhook.rate_limit_per_second)
        pace.lock(self._keys.wait_seconds(webhook), time.monotonic())
        if webhook.status.has_ended:
            self._ended.add(webhook.webhook_id)
            if webhook.status is WebhookStatus.DELETED and pace.has_learnt(time.monotonic()):
                pace.forget()
                self.changed(webhook.webhook_id)
        elif webhook.webhook_id in self._ended:
            self._ended.discard(webhook.webhook_id)
            pace.resumed()
            self.changed(webhook.webhook_id)

    def breakers(self) -> Mapping[BreakerState, int]:
        """Returns how many webhooks have their breaker in each state."""
        counts = dict.fromkeys(BreakerState, 0)
        for pace in self._paces.values():
            counts[pace.breaker.state] += 1
        return counts

    def changed(self, webhook_id: int) -> None:
        """Notes that the pace of a webhook may have something new to save."""
        self._dirty[webhook_id] = None

    def gained(self, shards: Iterable[int], now: float) -> None:
        """Notes that shards are ours from now on: their rate limits begin without tokens."""
        self._owned_since.update(dict.fromkeys(shards, now))

    def forget_shards(self, shards: Iterable[int]) -> None:
        """Forgets the paces of shards that another process owns now, which has what was saved."""
        lost = set(shards)
        for shard in lost:
            self._owned_since.pop(shard, None)
        for webhook_id in [known for known in self._paces if shard_of(known) in lost]:
            self.forget(webhook_id)

    def may_forget(self, webhook_id: int, now: float) -> bool:
        """Returns whether nothing is lost if the pace is forgotten: it can be made again, and has no row to delete."""
        pace = self._paces.get(webhook_id)
        is_saved = webhook_id not in self._dirty and webhook_id not in self._has_row
        return pace is None or (is_saved and pace.is_new(now))

    async def run(self) -> None:
        """Saves until it is cancelled."""
        swept_at = time.monotonic()
        while True:
            await asyncio.sleep(SAVE_SECONDS)  # one statement saves what changed meanwhile, SAVE_MAX webhooks at most
            await self.save()
            if time.monotonic() - swept_at >= SWEEP_SECONDS:
                swept_at = time.monotonic()
                await self.sweep()

    async def save_all(self, shards: Collection[int]) -> None:
        """Saves what has changed of these shards, which are about to be another process's: SAVES_MAX statements."""
        async with self._saving_now:
            of_shards = [known for known in self._dirty if shard_of(known) in shards]
            self._dirty = {**dict.fromkeys(of_shards), **self._dirty}
            for _ in range(min(math.ceil(len(of_shards) / SAVE_MAX), SAVES_MAX)):
                if not await self._save():
                    break

    async def save(self) -> None:
        """Saves what has changed of SAVE_MAX webhooks. What can't be saved now is saved later."""
        async with self._saving_now:  # what is being saved is not in `_dirty`
            await self._save()

    async def _save(self) -> bool:
        if not self._dirty:
            return True
        batch = [known for known in list(self._dirty)[:SAVE_MAX] if known in self._paces]
        now = time.monotonic()
        health = {known: self._paces[known].save(now) for known in batch}
        failing = {known: saved for known, saved in health.items() if is_worth_saving(saved)}
        recovered = [known for known in batch if known not in failing and known in self._has_row]
        for known in list(self._dirty)[:SAVE_MAX]:
            del self._dirty[known]
        try:
            with watched(self._saving):
                await store.save(self._connection, self._shards.worker, failing, recovered)
        except BaseException as error:
            self._dirty.update(dict.fromkeys(batch))
            if not isinstance(error, Unavailable):
                raise
            return False
        self._has_row.update(failing.keys() & self._paces.keys())
        self._has_row.difference_update(recovered)
        return True

    async def sweep(self) -> None:
        """Deletes rows that say nothing any more: their holds and slow-downs are over.

        There may be no further result of the webhook, and the process that wrote the row may have ended.
        """
        with contextlib.suppress(Unavailable), watched(self._sweeping):  # the next time, then
            self._has_row.difference_update(await store.forget_over(self._connection, self._shards.worker))

    def forget(self, webhook_id: int) -> None:
        """Forgets the pace of a webhook."""
        self._paces.pop(webhook_id, None)
        self._keys.forget(webhook_id)
        self._dirty.pop(webhook_id, None)
        self._ended.discard(webhook_id)
        self._has_row.discard(webhook_id)


def is_worth_saving(health: SavedHealth) -> bool:
    """Returns whether the next owner would act differently if it knew this."""
    if health.breaker is not BreakerState.CLOSED or health.blocked_count:
        return True
    if health.hold_seconds > 0 or health.slowdown is not None:
        return True
    return health.failing_seconds is not None and health.failing_seconds >= _FAILING_SECONDS_MIN
