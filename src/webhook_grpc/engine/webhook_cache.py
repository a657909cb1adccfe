"""The webhooks that the engine works for, as they are in the database to within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Final

from ..domain.errors import Unavailable
from ..domain.model import Webhook
from ..store import webhooks as store
from ..store.db import Database

REFRESH_SECONDS: Final = 0.5


class WebhookCache:
    """Loads webhooks when they are first needed and follows their changes: by hints, by polling at the latest."""

    def __init__(self, database: Database, on_change: Callable[[Webhook], None]) -> None:
        self._database = database
        self._on_change = on_change
        self._webhooks: dict[int, Webhook] = {}
        self._hinted: set[int] = set()
        self._wake = asyncio.Event()
        self._missed_changes = False

    def get(self, webhook_id: int) -> Webhook | None:
        """The webhook, if it is loaded."""
        return self._webhooks.get(webhook_id)

    def hint(self, webhook_ids: Iterable[int]) -> None:
        """These webhooks were changed."""
        self._hinted.update(webhook_ids)
        self._wake.set()

    def keep_only(self, webhook_ids: Collection[int]) -> None:
        """Forgets the others."""
        for webhook_id in self._webhooks.keys() - set(webhook_ids):
            del self._webhooks[webhook_id]

    async def load(self, webhook_ids: Collection[int]) -> None:
        """Loads webhooks that are not loaded. Raises Unavailable."""
        missing = [webhook_id for webhook_id in webhook_ids if webhook_id not in self._webhooks]
        if missing:
            self._take_in(await store.by_ids(self._database, missing))

    async def run(self) -> None:
        """Follows changes until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._refresh()
            except Unavailable:
                self._missed_changes = True

    async def _refresh(self) -> None:
        hinted, self._hinted = self._hinted & self._webhooks.keys(), set()
        if self._missed_changes:
            self._take_in(await store.by_ids(self._database, list(self._webhooks)))
            self._missed_changes = False
        elif hinted:
            self._take_in(await store.by_ids(self._database, hinted))
        else:
            changed = await store.changed_lately(self._database)
            self._take_in([webhook for webhook in changed if webhook.webhook_id in self._webhooks])

    def _take_in(self, webhooks: Iterable[Webhook]) -> None:
        for webhook in webhooks:
            known = self._webhooks.get(webhook.webhook_id)
            if known is None or known.version < webhook.version:
                self._webhooks[webhook.webhook_id] = webhook
                self._on_change(webhook)
