"""What the engine knows of the receivers that it works for: one object for the webhooks and their paces."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from random import Random
from typing import Final

import structlog

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import AttemptResult, DisableReason, Webhook
from webhook_grpc.domain.retry import parse_retry_after
from webhook_grpc.store.clock import DatabaseClock

from .paces import Paces
from .receiver import Receiver
from .webhooks import WebhookCache, WebhookListener

log = structlog.get_logger(__name__)

RECEIVERS_MAX: Final = 10_000


class Receivers:
    """Gives a receiver, once its webhook and its pace are loaded, or nothing."""

    def __init__(self, webhooks: WebhookCache, paces: Paces, clock: DatabaseClock, random: Random) -> None:
        self._webhooks = webhooks
        self._paces = paces
        self._clock = clock
        self._random = random

    def get(self, webhook_id: int) -> Receiver | None:
        """Returns the receiver, if it is loaded."""
        webhook, pace = self._webhooks.get(webhook_id), self._paces.get(webhook_id)
        return None if webhook is None or pace is None else Receiver(webhook, pace)

    def is_loaded(self, webhook_id: int) -> bool:
        """Returns whether the webhook of a receiver is loaded, if not its pace."""
        return self._webhooks.get(webhook_id) is not None

    @property
    def is_current(self) -> bool:
        """Whether changes of webhooks have been followed lately: else requests may go where none may go any more."""
        return self._webhooks.is_current

    def breakers(self) -> Mapping[BreakerState, int]:
        """Returns how many webhooks that are loaded have their breaker in each state."""
        return self._paces.breakers()

    # --- what is loaded --------------------------------------------------------------------------------------------

    async def load(self, webhook_ids: Collection[int]) -> list[Receiver]:
        """Loads what is missing of these receivers and returns them. Raises Unavailable."""
        await self._webhooks.load(webhook_ids)
        await self._paces.load([webhook for known in webhook_ids if (webhook := self._webhooks.get(known)) is not None])
        # A webhook may have changed while its pace was loaded.
        webhooks = [webhook for known in webhook_ids if (webhook := self._webhooks.get(known)) is not None]
        return [receiver for webhook in webhooks if (receiver := self.configure(webhook)) is not None]

    def configure(self, webhook: Webhook) -> Receiver | None:
        """Brings the pace of a webhook up to date with its settings. Returns the receiver, if it is loaded."""
        self._paces.configure(webhook)
        return self.get(webhook.webhook_id)

    def gained(self, shards: Iterable[int]) -> None:
        """Begins the rate limits of these shards without tokens: another process may have used them up."""
        self._paces.gained(shards, time.monotonic())

    def forget_shards(self, shards: Iterable[int]) -> None:
        """Forgets the receivers of shards that another process owns now, which has what was saved."""
        lost = set(shards)
        self._paces.forget_shards(lost)
        for webhook_id in [known for known in self._webhooks if shard_of(known) in lost]:
            self._webhooks.forget(webhook_id)

    def forget_unused(self, used: Collection[int], now: float) -> None:
        """Keeps to the bound by forgetting receivers that are not used, the longest known first.

        One whose pace has something to remember, or a row that has to be deleted first, is kept.
        """
        surplus = len(self._webhooks) - RECEIVERS_MAX
        if surplus > 0:
            unused = [known for known in self._webhooks if known not in used and self._paces.may_forget(known, now)]
            for webhook_id in unused[:surplus]:
                self._paces.forget(webhook_id)
                self._webhooks.forget(webhook_id)

    # --- what their answers teach ----------------------------------------------------------------------------------

    def learn(self, receiver: Receiver, result: AttemptResult, started_at: float) -> DisableReason | None:
        """Reports the result of an attempt to the receiver's pace. Returns a reason to disable the webhook, if any."""
        pace, webhook_id = receiver.pace, receiver.webhook.webhook_id
        state_before, memory_before = pace.breaker.state, pace.memory()
        reason = pace.ended(
            result,
            None if result.retry_after is None else parse_retry_after(result.retry_after, self._clock.now()),
            started_at=started_at,
            now=time.monotonic(),
            jitter=self._random.random(),
        )
        if pace.breaker.state is not state_before:
            say = log.info if pace.breaker.state is BreakerState.CLOSED else log.warning
            say("breaker changed", webhook_id=webhook_id, state=pace.breaker.state.value)
        if pace.memory() != memory_before:
            self._paces.changed(webhook_id)
        return reason

    # --- beside the sending ----------------------------------------------------------------------------------------

    def hint(self, webhook_ids: Iterable[int]) -> None:
        """Follows the change of these webhooks now."""
        self._webhooks.hint(webhook_ids)

    def clock_stepped(self) -> None:
        """Reads all webhooks again: by the database's clock, which has stepped, what changed lately is not known."""
        self._webhooks.clock_stepped()

    async def follow(self, listener: WebhookListener) -> None:
        """Follows the changes of webhooks until it is cancelled. The listener hears of each."""
        await self._webhooks.run(listener)

    async def save(self, shards: Collection[int]) -> None:
        """Saves what paces have learnt, for the next owner of these shards."""
        await self._paces.save_all(shards)

    async def save_and_sweep(self) -> None:
        """Saves what paces have learnt, a little behind, until it is cancelled."""
        await self._paces.run()
