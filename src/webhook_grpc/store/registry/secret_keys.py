"""Finds out which keys seal the secrets of webhooks. A sealed secret begins with the id of its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from webhook_grpc.store.db import Database

KEYS_MAX: Final = 100  # that are read; more are never in use at once
COUNTED_MAX: Final = 10_000  # webhooks of one key

# One secret for each beginning of a sealed secret: jumps from key to key in the index, however many webhooks there are.
# Few secrets were replaced lately, so `previous` may read them all. IS TRUE as in the index, see migration 0008.
SELECT_KEYS_IN_USE: Final = """
WITH RECURSIVE sealed AS (
    (
        SELECT substr(secret, 1, 5) AS head, id, customer_id, secret FROM webhooks
        WHERE (status <> 'deleted') IS TRUE
        ORDER BY substr(secret, 1, 5), id
        LIMIT 1
    )
    UNION ALL
    SELECT next.head, next.id, next.customer_id, next.secret
    FROM sealed s
    CROSS JOIN LATERAL (
        SELECT substr(secret, 1, 5) AS head, id, customer_id, secret FROM webhooks
        WHERE (status <> 'deleted') IS TRUE AND substr(secret, 1, 5) > s.head
        ORDER BY substr(secret, 1, 5), id
        LIMIT 1
    ) next
), previous AS (
    SELECT DISTINCT ON (substr(previous_secret, 1, 5)) id, customer_id, previous_secret FROM webhooks
    WHERE previous_secret IS NOT NULL AND previous_secret_until > now() AND status <> 'deleted'
    ORDER BY substr(previous_secret, 1, 5), id
)
(SELECT id, customer_id, secret FROM sealed LIMIT %(limit)b::integer)
UNION ALL
(SELECT id, customer_id, previous_secret FROM previous LIMIT %(limit)b::integer)
"""

COUNT_WEBHOOKS_OF_KEY: Final = """
SELECT count(*) FROM (
    (
        SELECT id FROM webhooks
        WHERE (status <> 'deleted') IS TRUE AND substr(secret, 1, 5) = %(head)b::bytea
        ORDER BY substr(secret, 1, 5), id
        LIMIT %(limit)b::integer
    )
    UNION
    (
        SELECT id FROM webhooks
        WHERE previous_secret IS NOT NULL AND substr(previous_secret, 1, 5) = %(head)b::bytea
            AND previous_secret_until > now() AND status <> 'deleted'
        ORDER BY substr(previous_secret, 1, 5), id
        LIMIT %(limit)b::integer
    )
) concerned
"""


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A sealed secret and the webhook that it is sealed for."""

    webhook_id: int
    customer_id: int
    sealed: bytes


async def in_use(database: Database) -> list[SealedSecret]:
    """Returns one sealed secret for each key in use, and for each unknown form. Raises Unavailable."""
    rows = await database.rows(SELECT_KEYS_IN_USE, {"limit": KEYS_MAX})
    return [SealedSecret(webhook_id, customer_id, bytes(sealed)) for webhook_id, customer_id, sealed in rows]


async def count(database: Database, head: bytes) -> int:
    """Returns how many webhooks have a secret that begins with `head`, COUNTED_MAX at most. Raises Unavailable."""
    [(counted,)] = await database.rows(COUNT_WEBHOOKS_OF_KEY, {"head": head, "limit": COUNTED_MAX})
    return min(counted, COUNTED_MAX)
