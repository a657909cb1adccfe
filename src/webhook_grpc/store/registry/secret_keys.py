"""Finds out which keys seal what is sealed: it begins with the id of its key."""

from __future__ import annotations

from typing import Final, LiteralString

from webhook_grpc.domain.record import record
from webhook_grpc.domain.sealing import Purpose
from webhook_grpc.store.db import Database

KEYS_MAX: Final = 100  # that are read; more are never in use at once
COUNTED_MAX: Final = 10_000  # webhooks of one key


def _one_of_each_key(
    name: LiteralString, column: LiteralString, table: LiteralString, condition: LiteralString
) -> LiteralString:
    """Returns a CTE with one row for each beginning of a sealed column: jumps from key to key in its index."""
    return f"""{name} AS (
    (
        SELECT substr({column}, 1, 5) AS head, id, customer_id, {column} FROM {table}
        WHERE {condition}
        ORDER BY substr({column}, 1, 5), id
        LIMIT 1
    )
    UNION ALL
    SELECT next.head, next.id, next.customer_id, next.{column}
    FROM {name} before
    CROSS JOIN LATERAL (
        SELECT substr({column}, 1, 5) AS head, id, customer_id, {column} FROM {table}
        WHERE {condition} AND substr({column}, 1, 5) > before.head
        ORDER BY substr({column}, 1, 5), id
        LIMIT 1
    ) next
)"""


# One secret for each key, however many webhooks there are. Few secrets were replaced lately, so `previous` may read all
# of them. IS TRUE as in the indexes, see 0008, 0012 and 0018.
SELECT_KEYS_IN_USE: Final = f"""
WITH RECURSIVE {_one_of_each_key("sealed", "secret", "webhooks", "(status <> 'deleted') IS TRUE")},
{
    _one_of_each_key(
        "headers", "sealed_headers", "webhooks", "(sealed_headers IS NOT NULL AND status <> 'deleted') IS TRUE"
    )
},
{_one_of_each_key("queries", "sealed_query", "webhooks", "(sealed_query IS NOT NULL AND status <> 'deleted') IS TRUE")},
{_one_of_each_key("signing", "private_key", "signing_keys", "true")},
previous AS (
    SELECT DISTINCT ON (substr(previous_secret, 1, 5)) id, customer_id, previous_secret FROM webhooks
    WHERE previous_secret IS NOT NULL AND previous_secret_until > now() AND status <> 'deleted'
    ORDER BY substr(previous_secret, 1, 5), id
)
(SELECT id, customer_id, secret, 'SIGNING' FROM sealed LIMIT %(limit)b::integer)
UNION ALL
(SELECT id, customer_id, previous_secret, 'SIGNING' FROM previous LIMIT %(limit)b::integer)
UNION ALL
(SELECT id, customer_id, sealed_headers, 'HEADERS' FROM headers LIMIT %(limit)b::integer)
UNION ALL
(SELECT id, customer_id, sealed_query, 'QUERY' FROM queries LIMIT %(limit)b::integer)
UNION ALL
(SELECT id, customer_id, private_key, 'SIGNING_KEY' FROM signing LIMIT %(limit)b::integer)
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
    UNION
    (
        SELECT id FROM webhooks
        WHERE (sealed_headers IS NOT NULL AND status <> 'deleted') IS TRUE
            AND substr(sealed_headers, 1, 5) = %(head)b::bytea
        ORDER BY substr(sealed_headers, 1, 5), id
        LIMIT %(limit)b::integer
    )
    UNION
    (
        SELECT id FROM webhooks
        WHERE (sealed_query IS NOT NULL AND status <> 'deleted') IS TRUE
            AND substr(sealed_query, 1, 5) = %(head)b::bytea
        ORDER BY substr(sealed_query, 1, 5), id
        LIMIT %(limit)b::integer
    )
    UNION
    (
        SELECT w.id FROM signing_keys k JOIN webhooks w ON w.customer_id = k.customer_id
        WHERE substr(k.private_key, 1, 5) = %(head)b::bytea AND w.status <> 'deleted' AND w.signature_type = 'ed25519'
        LIMIT %(limit)b::integer
    )
) concerned
"""


@record
class SealedSecret:
    """Something sealed, and what it is sealed for: `bound_id` is the id of the webhook, or of the signing key."""

    bound_id: int
    customer_id: int
    sealed: bytes
    purpose: Purpose


async def in_use(database: Database) -> list[SealedSecret]:
    """Returns one sealed secret for each key in use, and for each unknown form. Raises Unavailable."""
    rows = await database.rows(SELECT_KEYS_IN_USE, {"limit": KEYS_MAX})
    return [
        SealedSecret(bound_id, customer_id, bytes(sealed), Purpose[purpose])
        for bound_id, customer_id, sealed, purpose in rows
    ]


async def count(database: Database, head: bytes) -> int:
    """Returns how many webhooks have something that is sealed so, COUNTED_MAX at most. Raises Unavailable."""
    [(counted,)] = await database.rows(COUNT_WEBHOOKS_OF_KEY, {"head": head, "limit": COUNTED_MAX})
    return min(counted, COUNTED_MAX)
