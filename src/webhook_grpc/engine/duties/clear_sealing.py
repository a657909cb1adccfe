"""Seals values of own headers and queries of URLs that are stored in the clear.

Versions before migration 0012 wrote headers in the clear; versions before 0018 wrote queries in the clear.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import structlog

from webhook_grpc.domain import own_headers, url_queries
from webhook_grpc.domain.model import Webhook
from webhook_grpc.domain.sealing import ENTROPY_BYTES, Sealer, UnsealError
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import own_headers as stored_headers
from webhook_grpc.store.registry import url_queries as stored_queries
from webhook_grpc.store.schema.versions import WITH_SEALED_HEADERS, count_older, may_seal_queries

log = structlog.get_logger(__name__)

_LOOKS_ALONE_MIN: Final = 2  # during one look a process of an older version may just be restarting


class ClearSealing:
    """Seals in batches, when two looks in a row have found no process that needs the clear text."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._parts: Sequence[_Part] = (_Headers(database, sealer), _Queries(database, sealer))

    async def step(self) -> bool:
        """Seals a batch of each kind; returns whether there may be more. Raises Unavailable."""
        return any([await part.step() for part in self._parts])


class _Part(ABC):
    """One kind of what is sealed: a column."""

    waits: str  # what the log says
    stays: str
    none_left: str
    batch: int

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._looks_alone = 0
        self._sealed_count = 0

    async def step(self) -> bool:
        """Seals a batch; returns whether there may be more. Raises Unavailable."""
        webhooks = await self.in_clear()
        if not webhooks:
            self._note_end()
            return False
        if not await self.may_seal():
            self._looks_alone = 0
            log.info(self.waits)
            return False
        self._looks_alone += 1
        if self._looks_alone < _LOOKS_ALONE_MIN:
            return False
        sealed_count = sum([await self._seal(webhook) for webhook in webhooks])
        self._sealed_count += sealed_count
        return len(webhooks) == self.batch and sealed_count > 0

    def _note_end(self) -> None:
        if self._sealed_count:
            log.info(self.none_left, webhook_count=self._sealed_count)
        self._sealed_count = 0

    async def _seal(self, webhook: Webhook) -> bool:
        """Seals what one webhook has; returns False if what is sealed beside it cannot be opened."""
        try:
            await self.seal(webhook, os.urandom(ENTROPY_BYTES))
        except UnsealError as error:
            why_not = str(error)
        else:
            return True
        log.error(self.stays, webhook_id=webhook.webhook_id, error=why_not)
        return False

    @abstractmethod
    async def may_seal(self) -> bool:
        """Returns whether no process needs it in the clear. Raises Unavailable."""

    @abstractmethod
    async def in_clear(self) -> Sequence[Webhook]:
        """Returns a batch of webhooks that have such. Raises Unavailable."""

    @abstractmethod
    async def seal(self, webhook: Webhook, entropy: bytes) -> None:
        """Seals what a webhook has of it. Raises UnsealError, Unavailable."""


class _Headers(_Part):
    waits = "header values wait in the clear: a process of an older version runs"
    stays = "header values stay in the clear"
    none_left = "no header value is in the clear any more"
    batch = stored_headers.WEBHOOKS_PER_BATCH

    async def may_seal(self) -> bool:
        return not await count_older(self._database, WITH_SEALED_HEADERS)

    async def in_clear(self) -> Sequence[Webhook]:
        return await stored_headers.in_clear(self._database)

    async def seal(self, webhook: Webhook, entropy: bytes) -> None:
        values = own_headers.opened(self._sealer, webhook)
        sealed = own_headers.sealed(self._sealer, values, webhook.customer_id, webhook.webhook_id, entropy)
        await stored_headers.seal(self._database, webhook, own_headers.names_only(values), sealed)


class _Queries(_Part):
    waits = "queries of URLs wait in the clear until `webhook-grpc migrate` ends the upgrade"
    stays = "the query of a URL stays in the clear"
    none_left = "no query of a URL is in the clear any more"
    batch = stored_queries.WEBHOOKS_PER_BATCH

    async def may_seal(self) -> bool:
        return await may_seal_queries(self._database)

    async def in_clear(self) -> Sequence[Webhook]:
        return await stored_queries.in_clear(self._database)

    async def seal(self, webhook: Webhook, entropy: bytes) -> None:
        sealed = url_queries.sealed(self._sealer, webhook.url, webhook.customer_id, webhook.webhook_id, entropy)
        await stored_queries.seal(self._database, webhook, url_queries.hidden(webhook.url), sealed)
