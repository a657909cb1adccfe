"""Finds what is sealed with one key, and replaces it by the same sealed with another.

`version` and `updated_at` of a webhook stay: callers and engines see no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, LiteralString

from webhook_grpc.domain.sealing import Purpose
from webhook_grpc.store import literals
from webhook_grpc.store.db import Database

from .secret_keys import SealedSecret

SECRETS_PER_BATCH: Final = 200
PROCESSES_MAX: Final = 10_000

# By the indexes of 0008, 0012 and 0018, whose conditions these repeat. What signs no more is deleted within an hour.
SELECT_SECRETS_OF_KEY: Final = """
SELECT id, customer_id, secret FROM webhooks
WHERE (status <> 'deleted') IS TRUE AND substr(secret, 1, 5) = %(head)b::bytea AND id > %(after)s
ORDER BY substr(secret, 1, 5), id
LIMIT %(limit)s
"""

SELECT_PREVIOUS_SECRETS_OF_KEY: Final = """
SELECT id, customer_id, previous_secret FROM webhooks
WHERE previous_secret IS NOT NULL AND substr(previous_secret, 1, 5) = %(head)b::bytea AND id > %(after)s
    AND previous_secret_until > now() AND status <> 'deleted'
ORDER BY substr(previous_secret, 1, 5), id
LIMIT %(limit)s
"""

SELECT_HEADERS_OF_KEY: Final = """
SELECT id, customer_id, sealed_headers FROM webhooks
WHERE (sealed_headers IS NOT NULL AND status <> 'deleted') IS TRUE
    AND substr(sealed_headers, 1, 5) = %(head)b::bytea AND id > %(after)s
ORDER BY substr(sealed_headers, 1, 5), id
LIMIT %(limit)s
"""

SELECT_QUERIES_OF_KEY: Final = """
SELECT id, customer_id, sealed_query FROM webhooks
WHERE (sealed_query IS NOT NULL AND status <> 'deleted') IS TRUE
    AND substr(sealed_query, 1, 5) = %(head)b::bytea AND id > %(after)s
ORDER BY substr(sealed_query, 1, 5), id
LIMIT %(limit)s
"""

SELECT_SIGNING_KEYS_OF_KEY: Final = """
SELECT id, customer_id, private_key FROM signing_keys
WHERE substr(private_key, 1, 5) = %(head)b::bytea AND id > %(after)s
ORDER BY substr(private_key, 1, 5), id
LIMIT %(limit)s
"""

# One row a statement: locks are short, and there is no order of rows that could deadlock with other writers. Nothing
# else has the bytes of `before`, because each sealing has random ones: a row that a call has changed meanwhile stays.
RESEAL_CURRENT: Final = """
UPDATE webhooks SET secret = %(sealed)b::bytea WHERE id = %(id)s AND secret = %(before)b::bytea RETURNING id
"""

RESEAL_PREVIOUS: Final = """
UPDATE webhooks SET previous_secret = %(sealed)b::bytea
WHERE id = %(id)s AND previous_secret = %(before)b::bytea
RETURNING id
"""

RESEAL_SIGNING_KEYS: Final = """
UPDATE signing_keys SET private_key = %(sealed)b::bytea
WHERE id = %(id)s AND private_key = %(before)b::bytea
RETURNING id
"""

RESEAL_HEADERS: Final = """
UPDATE webhooks SET sealed_headers = %(sealed)b::bytea
WHERE id = %(id)s AND sealed_headers = %(before)b::bytea
RETURNING id
"""

RESEAL_QUERIES: Final = """
UPDATE webhooks SET sealed_query = %(sealed)b::bytea
WHERE id = %(id)s AND sealed_query = %(before)b::bytea
RETURNING id
"""

COUNT_SECRETS_OF_KEY: Final = """
SELECT
    (
        SELECT count(*) FROM webhooks
        WHERE (status <> 'deleted') IS TRUE AND substr(secret, 1, 5) = %(head)b::bytea
    ),
    (
        SELECT count(*) FROM webhooks
        WHERE previous_secret IS NOT NULL AND substr(previous_secret, 1, 5) = %(head)b::bytea
            AND previous_secret_until > now() AND status <> 'deleted'
    ),
    (
        SELECT count(*) FROM webhooks
        WHERE (sealed_headers IS NOT NULL AND status <> 'deleted') IS TRUE
            AND substr(sealed_headers, 1, 5) = %(head)b::bytea
    ),
    (SELECT count(*) FROM signing_keys WHERE substr(private_key, 1, 5) = %(head)b::bytea),
    (
        SELECT count(*) FROM webhooks
        WHERE (sealed_query IS NOT NULL AND status <> 'deleted') IS TRUE
            AND substr(sealed_query, 1, 5) = %(head)b::bytea
    )
"""

# Those that drain deliver, too.
SELECT_KEYS_OF_PROCESSES: Final = f"""
SELECT secret_key_ids FROM workers
WHERE lease_until > now() AND lease_until < now() + {literals.LEASE_MAX_TWICE}
LIMIT %(limit)s
"""


class Kind(Enum):
    """What is sealed: a column each."""

    SECRETS = "secrets"
    PREVIOUS_SECRETS = "previous secrets"
    HEADERS = "header values"
    SIGNING_KEYS = "signing keys"
    QUERIES = "queries of URLs"


_SELECT: Final[Mapping[Kind, LiteralString]] = {
    Kind.SECRETS: SELECT_SECRETS_OF_KEY,
    Kind.PREVIOUS_SECRETS: SELECT_PREVIOUS_SECRETS_OF_KEY,
    Kind.HEADERS: SELECT_HEADERS_OF_KEY,
    Kind.SIGNING_KEYS: SELECT_SIGNING_KEYS_OF_KEY,
    Kind.QUERIES: SELECT_QUERIES_OF_KEY,
}
_RESEAL: Final[Mapping[Kind, LiteralString]] = {
    Kind.SECRETS: RESEAL_CURRENT,
    Kind.PREVIOUS_SECRETS: RESEAL_PREVIOUS,
    Kind.HEADERS: RESEAL_HEADERS,
    Kind.SIGNING_KEYS: RESEAL_SIGNING_KEYS,
    Kind.QUERIES: RESEAL_QUERIES,
}
_PURPOSE: Final[Mapping[Kind, Purpose]] = {
    Kind.SECRETS: Purpose.SIGNING,
    Kind.PREVIOUS_SECRETS: Purpose.SIGNING,
    Kind.HEADERS: Purpose.HEADERS,
    Kind.SIGNING_KEYS: Purpose.SIGNING_KEY,
    Kind.QUERIES: Purpose.QUERY,
}


async def sealed_with_key(database: Database, kind: Kind, head: bytes, after: int) -> Sequence[SealedSecret]:
    """Returns what begins with `head` and is sealed for ids above `after`, in their order. Raises Unavailable.

    SECRETS_PER_BATCH at most.
    """
    parameters = {"head": head, "after": after, "limit": SECRETS_PER_BATCH}
    purpose = _PURPOSE[kind]
    rows = await database.rows(_SELECT[kind], parameters)
    return [SealedSecret(bound_id, customer_id, bytes(sealed), purpose) for bound_id, customer_id, sealed in rows]


async def replace(database: Database, kind: Kind, before: SealedSecret, sealed: bytes) -> bool:
    """Replaces what is still as `before`; returns False if it is not. Raises Unavailable."""
    parameters = {"id": before.bound_id, "before": before.sealed, "sealed": sealed}
    return bool(await database.rows(_RESEAL[kind], parameters))


async def count(database: Database, head: bytes) -> Mapping[Kind, int]:
    """Returns how much of each kind begins with `head`. Raises Unavailable."""
    [counts] = await database.rows(COUNT_SECRETS_OF_KEY, {"head": head})
    return dict(zip(Kind, counts, strict=True))


async def keys_of_processes(database: Database) -> Sequence[Sequence[int] | None]:
    """Returns the ids of the keys of each process that runs, first the one that seals. Raises Unavailable.

    None: of a version that does not say. PROCESSES_MAX at most.
    """
    rows = await database.rows(SELECT_KEYS_OF_PROCESSES, {"limit": PROCESSES_MAX})
    return [key_ids for (key_ids,) in rows]
