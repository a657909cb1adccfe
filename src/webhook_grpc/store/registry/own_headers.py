"""Finds webhooks whose own headers have a value in the clear, and replaces those values by sealed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from webhook_grpc.domain.model import Webhook
from webhook_grpc.store.db import Database

from .webhooks import COLUMNS, webhook_of

WEBHOOKS_PER_BATCH: Final = 100

# Deleted ones too: their rows stay. The condition is that of the index in migration 0012.
SELECT_CLEAR_HEADERS: Final = f"""
SELECT {COLUMNS} FROM webhooks
WHERE jsonb_path_exists(headers, '$.* ? (@ != "…")')
ORDER BY id
LIMIT %(limit)s
"""

# `version` and `updated_at` stay: callers and engines see no change. Not if a call has changed the headers meanwhile.
SEAL_HEADERS: Final = """
UPDATE webhooks SET headers = %(headers)s::jsonb, sealed_headers = %(sealed_headers)b::bytea
WHERE id = %(id)s AND headers = %(before)s::jsonb AND version = %(version)s
"""


async def in_clear(database: Database) -> Sequence[Webhook]:
    """Returns webhooks that have a value in the clear, WEBHOOKS_PER_BATCH at most. Raises Unavailable."""
    rows = await database.rows(SELECT_CLEAR_HEADERS, {"limit": WEBHOOKS_PER_BATCH})
    return [webhook_of(row) for row in rows]


async def seal(database: Database, webhook: Webhook, names: Mapping[str, str], sealed: bytes) -> None:
    """Replaces the headers of a webhook that is still as `webhook`. Raises Unavailable."""
    parameters = {
        "id": webhook.webhook_id,
        "version": webhook.version,
        "before": orjson.dumps(dict(webhook.headers)).decode("utf-8"),
        "headers": orjson.dumps(dict(names)).decode("utf-8"),
        "sealed_headers": sealed,
    }
    await database.rows(SEAL_HEADERS, parameters)
