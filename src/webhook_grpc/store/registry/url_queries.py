"""Finds webhooks whose URL has a query in the clear, and replaces the query by a sealed one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from webhook_grpc.domain.model import Webhook
from webhook_grpc.store.db import Database

from .webhooks import COLUMNS, webhook_of

WEBHOOKS_PER_BATCH: Final = 100

# Deleted ones too: their rows stay. The condition is that of the index in migration 0018.
SELECT_CLEAR_QUERIES: Final = f"""
SELECT {COLUMNS} FROM webhooks
WHERE strpos(url, '?') BETWEEN 1 AND length(url) - 1 AND right(url, 2) <> '?…'
ORDER BY id
LIMIT %(limit)s
"""

# `version` and `updated_at` stay: callers and engines see no change. Not if a call has changed the URL meanwhile.
SEAL_QUERY: Final = """
UPDATE webhooks SET url = %(url)s, sealed_query = %(sealed_query)b::bytea
WHERE id = %(id)s AND url = %(before)s AND version = %(version)s
"""


async def in_clear(database: Database) -> Sequence[Webhook]:
    """Returns webhooks that have a query in the clear, WEBHOOKS_PER_BATCH at most. Raises Unavailable."""
    return [webhook_of(row) for row in await database.rows(SELECT_CLEAR_QUERIES, {"limit": WEBHOOKS_PER_BATCH})]


async def seal(database: Database, webhook: Webhook, url: str, sealed: bytes) -> None:
    """Replaces the URL of a webhook that is still as `webhook`. Raises Unavailable."""
    parameters = {
        "id": webhook.webhook_id,
        "version": webhook.version,
        "before": webhook.url,
        "url": url,
        "sealed_query": sealed,
    }
    await database.rows(SEAL_QUERY, parameters)
