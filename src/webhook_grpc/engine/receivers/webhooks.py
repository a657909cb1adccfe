"""The webhooks that the engine works for, at most a second older than in the database while it answers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Protocol

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.progress import Service
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.registry import webhooks as store

REFRESH_SECONDS: Final = 0.5
STALE_SECONDS: Final = 2.0


class WebhookListener(Protocol):
    """Hears of changes of webhooks."""

    def webhook_changed(self, webhook: Webhook) -> None:
        """Called with a webhook that is loaded and has changed, as it is now."""
        ...


class WebhookCache:
    """Loads webhooks when they are first needed and follows their changes: by hints, by polling at the latest."""

    def __init__(self, connection: LoopConnection) -> None:
        self._connection = connection
        self._following = connection.progress.work("follow webhooks", Service.DELIVERY)
        self._webhooks: dict[int, Webhook] = {}
        self._hinted: set[int] = set()
        self._wake = asyncio.Event()
        self._followed_at = time.monotonic()
        self._step_count = 0  # steps of the database's clock

    def __len__(self) -> int:
        return len(self._webhooks)

    def __iter__(self) -> Iterator[int]:
        return iter(self._webhooks)

    def get(self, webhook_id: int) -> Webhook | None:
        """Returns the webhook, if it is loaded."""
        return self._webhooks.get(webhook_id)

    @property
    def is_current(self) -> bool:
        """Whether changes have been followed lately: else requests may go where none may go any more."""
        return time.monotonic() - self._followed_at < STALE_SECONDS

    def hint(self, webhook_ids: Iterable[int]) -> None:
        """Follows the change of these webhooks now."""
        self._hinted.update(webhook_ids)
        self._wake.set()

    def clock_stepped(self) -> None:
        """Reads everything again: by the database's clock, which has stepped, what changed lately is not known."""
        self._followed_at = -math.inf
        self._step_count += 1
        self._wake.set()

    def forget(self, webhook_id: int) -> None:
        """Forgets a webhook."""
        self._webhooks.pop(webhook_id, None)

    async def load(self, webhook_ids: Collection[int]) -> None:
        """Loads webhooks that are not loaded. Raises Unavailable."""
        missing = [webhook_id for webhook_id in webhook_ids if webhook_id not in self._webhooks]
        if missing:
            self._take_in(await store.by_ids(self._connection, missing), new=True)

    async def run(self, listener: WebhookListener) -> None:
        """Follows changes until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(Unavailable), watched(self._following):  # then the next time looks back further
                await self._follow(listener)

    async def _follow(self, listener: WebhookListener) -> None:
        hinted, self._hinted = self._hinted & self._webhooks.keys(), set()
        if hinted:
            self._notify(listener, await store.by_ids(self._connection, hinted))
        started_at, step_count = time.monotonic(), self._step_count
        if started_at - self._followed_at > store.LOOK_BACK_SECONDS:
            self._notify(listener, await store.by_ids(self._connection, list(self._webhooks)))
        else:
            versions = await store.changed_lately(self._connection)
            if stale := [webhook_id for webhook_id, version in versions.items() if self._is_stale(webhook_id, version)]:
                self._notify(listener, await store.by_ids(self._connection, stale))
        if step_count == self._step_count:  # else what was read is of the time before, and all is read again
            self._followed_at = started_at

    def _is_stale(self, webhook_id: int, version: int) -> bool:
        """Returns whether a webhook is loaded in a version before this one: few of those that changed lately are."""
        known = self._webhooks.get(webhook_id)
        return known is not None and known.version < version

    def _notify(self, listener: WebhookListener, webhooks: Iterable[Webhook]) -> None:
        for webhook in self._take_in(webhooks):
            listener.webhook_changed(webhook)

    def _take_in(self, webhooks: Iterable[Webhook], *, new: bool = False) -> list[Webhook]:
        """Keeps these webhooks; returns those that are newer than the known version, or new."""
        changed: list[Webhook] = []
        for webhook in webhooks:
            known = self._webhooks.get(webhook.webhook_id)
            if new if known is None else known.version < webhook.version:
                self._webhooks[webhook.webhook_id] = webhook
                changed.append(webhook)
        return changed
