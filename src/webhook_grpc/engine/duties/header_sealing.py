"""Seals values of webhooks' own headers that are in the clear: those that versions before migration 0012 wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import structlog

from webhook_grpc.domain import own_headers
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer, UnsealError
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import own_headers as store
from webhook_grpc.store.schema.versions import WITH_SEALED_HEADERS, count_older

log = structlog.get_logger(__name__)

_LOOKS_ALONE_MIN: Final = 2  # one could fall into the moment in which a process of an older version is restarted


class HeaderSealing:
    """Seals in batches, when two looks in a row have found no process of an older version, which sends no values."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._looks_alone = 0
        self._sealed_count = 0

    async def step(self) -> bool:
        """Seals a batch; returns whether there may be more. Raises Unavailable."""
        webhooks = await store.in_clear(self._database)
        if not webhooks:
            self._note_end()
            return False
        if await count_older(self._database, WITH_SEALED_HEADERS):
            self._looks_alone = 0
            log.info("header values wait in the clear: a process of an older version runs")
            return False
        self._looks_alone += 1
        if self._looks_alone < _LOOKS_ALONE_MIN:
            return False
        sealed_count = sum([await self._seal(webhook) for webhook in webhooks])
        self._sealed_count += sealed_count
        return len(webhooks) == store.WEBHOOKS_PER_BATCH and sealed_count > 0

    def _note_end(self) -> None:
        if self._sealed_count:
            log.info("no header value is in the clear any more", webhook_count=self._sealed_count)
        self._sealed_count = 0

    async def _seal(self, webhook: Webhook) -> bool:
        """Seals the values of one webhook; returns False if those beside them that are sealed cannot be opened."""
        try:
            values = own_headers.opened(self._sealer, webhook)
        except UnsealError as error:
            why_not = str(error)
        else:
            await self._replace(webhook, values)
            return True
        log.error("header values stay in the clear", webhook_id=webhook.webhook_id, error=why_not)
        return False

    async def _replace(self, webhook: Webhook, values: Mapping[str, str]) -> None:
        entropy = os.urandom(ENTROPY_BYTES)
        sealed = own_headers.sealed(self._sealer, values, webhook.customer_id, webhook.webhook_id, entropy)
        await store.seal(self._database, webhook, own_headers.names_only(values), sealed)
