"""The webhooks that the engine works for, as they are in the database to within a second while it answers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.progress import Service
from webhook_grpc.store.connection.failures import watched
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.registry import webhooks as store

REFRESH_SECONDS: Final = 0.5
STALE_SECONDS: Final = 2.0
WEBHOOKS_MAX: Final = 10_000


class WebhookCache:
    """Loads webhooks when they are first needed and follows their changes: by hints, by polling at the latest."""

    def __init__(self, connection: LoopConnection, on_change: Callable[[Webhook], None]) -> None:
        self._connection = connection
        self._following = connection.progress.work("follow webhooks", Service.DELIVERY)
        self._on_change = on_change
        self._webhooks: dict[int, Webhook] = {}
        self._hinted: set[int] = set()
        self._wake = asyncio.Event()
        self._followed_at = time.monotonic()

    def get(self, webhook_id: int) -> Webhook | None:
        """The webhook, if it is loaded."""
        return self._webhooks.get(webhook_id)

    @property
    def is_current(self) -> bool:
        """Whether changes have been followed lately: else something may be sent to what is a webhook no more."""
        return time.monotonic() - self._followed_at < STALE_SECONDS

    def hint(self, webhook_ids: Iterable[int]) -> None:
        """These webhooks were changed."""
        self._hinted.update(webhook_ids)
        self._wake.set()

    def clock_stepped(self) -> None:
        """The database's clock has stepped: what was changed lately no longer looks so. Reads everything again."""
        self._followed_at = -math.inf
        self._wake.set()

    def forget_unused(self, used: Collection[int]) -> None:
        """Keeps to its bound by forgetting those that are not used, the longest known first."""
        surplus = len(self._webhooks) - WEBHOOKS_MAX
        if surplus > 0:
            for webhook_id in [known for known in self._webhooks if known not in used][:surplus]:
                del self._webhooks[webhook_id]

    async def load(self, webhook_ids: Collection[int]) -> None:
        """Loads webhooks that are not loaded. Raises Unavailable."""
        missing = [webhook_id for webhook_id in webhook_ids if webhook_id not in self._webhooks]
        if missing:
            self._take_in(await store.by_ids(self._connection, missing), new=True)

    async def run(self) -> None:
        """Follows changes until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(Unavailable), watched(self._following):  # then the next time looks back further
                await self._follow()

    async def _follow(self) -> None:
        hinted, self._hinted = self._hinted & self._webhooks.keys(), set()
        if hinted:
            self._take_in(await store.by_ids(self._connection, hinted))
        started_at = time.monotonic()
        if started_at - self._followed_at > store.LOOK_BACK_SECONDS:
            self._take_in(await store.by_ids(self._connection, list(self._webhooks)))
        else:
            self._take_in(await store.changed_lately(self._connection))
        self._followed_at = started_at

    def _take_in(self, webhooks: Iterable[Webhook], *, new: bool = False) -> None:
        for webhook in webhooks:
            known = self._webhooks.get(webhook.webhook_id)
            if new if known is None else known.version < webhook.version:
                self._webhooks[webhook.webhook_id] = webhook
                self._on_change(webhook)
