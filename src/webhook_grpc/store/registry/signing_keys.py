"""Stores signing keys of customers. Keys of one customer are made, rotated and deleted in turn: each under its lock.

So an erasure does not delete the key of a webhook that is being created, and two calls don't make two keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from psycopg import AsyncConnection

from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import FailedPrecondition
from webhook_grpc.domain.record import record
from webhook_grpc.domain.signing_keys import PublicSigningKey
from webhook_grpc.store import literals
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.clock import BELIEVED_NOW
from webhook_grpc.store.db import Database, Row, run

LOCK_SIGNING_KEYS: Final = f"""
SELECT pg_advisory_xact_lock(
    hashtextextended('signing keys of ' || %(customer_id)s::bigint, {literals.SCHEMA_SEED})
)
"""

SELECT_NEXT_SIGNING_KEY_ID: Final = "SELECT nextval(pg_get_serial_sequence('signing_keys', 'id'))"

SELECT_SIGNING_KEYS: Final = """
SELECT public_key, created_at, retire_at FROM signing_keys
WHERE customer_id = %(customer_id)s AND (retire_at IS NULL OR retire_at > now())
ORDER BY id DESC
LIMIT 10
"""

# Of many customers, the newest of each first. A customer has two at most that sign: see `rotate`.
SELECT_SIGNING_KEYS_OF_MANY: Final = """
SELECT public_key, created_at, retire_at, customer_id FROM signing_keys
WHERE customer_id = ANY(%(customer_ids)s::bigint[]) AND (retire_at IS NULL OR retire_at > now())
ORDER BY id DESC
"""

# Of a customer that has none.
INSERT_FIRST_SIGNING_KEY: Final = """
WITH input AS MATERIALIZED (
    SELECT %(id)s::bigint AS id, %(customer_id)s::bigint AS customer_id, %(public_key)b::bytea AS public_key,
        %(private_key)b::bytea AS private_key, now() AS at, true AS singleton,
        EXISTS (SELECT FROM signing_keys WHERE customer_id = %(customer_id)s AND retire_at IS NULL) AS is_there
)
INSERT INTO signing_keys (id, customer_id, public_key, private_key, created_at)
SELECT id, customer_id, public_key, private_key, at FROM input JOIN meta USING (singleton) WHERE NOT is_there
"""

# Replaces the newest key, which goes on signing for a time. Webhooks get a new version, so that engines read the keys.
ROTATE_SIGNING_KEY: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(id)s::bigint AS id, %(customer_id)s::bigint AS customer_id, %(public_key)b::bytea AS public_key,
        %(private_key)b::bytea AS private_key, now() AS at, true AS singleton,
        now() + %(overlap_seconds)s::double precision * interval '1 second' AS retire_at
), retired AS (
    UPDATE signing_keys k SET retire_at = input.retire_at
    FROM input
    WHERE k.customer_id = input.customer_id AND (k.retire_at IS NULL OR k.retire_at > input.retire_at)
), made AS (
    INSERT INTO signing_keys (id, customer_id, public_key, private_key, created_at)
    SELECT id, customer_id, public_key, private_key, at FROM input JOIN meta USING (singleton)
    RETURNING created_at
), signed AS (
    UPDATE webhooks w SET version = w.version + 1, updated_at = input.at
    FROM input
    WHERE w.customer_id = input.customer_id AND w.status <> 'deleted' AND w.signature_type = 'ed25519'
    RETURNING w.id
), audited AS ({leaves_entry("made")})
SELECT created_at, ARRAY(SELECT id FROM signed) FROM made
"""

# Those that sign nothing any more.
DELETE_RETIRED_SIGNING_KEYS: Final = f"DELETE FROM signing_keys WHERE retire_at <= {BELIEVED_NOW}"

# When an erasure is as good as complete. Keys that a webhook needs which was created later stay.
DELETE_SIGNING_KEYS_OF_CUSTOMER: Final = """
DELETE FROM signing_keys k
WHERE k.customer_id = %(customer_id)s AND k.created_at <= %(requested_at)s AND NOT EXISTS (
    SELECT FROM webhooks w
    WHERE w.customer_id = %(customer_id)s AND w.status <> 'deleted' AND w.signature_type = 'ed25519'
)
"""


@record
class NewSigningKey:
    """A key to store. Its id is from `next_id`, because the private key is sealed for it."""

    key_id: int
    customer_id: int
    public_key: bytes
    sealed_private_key: bytes


@record
class RotatedSigningKey:
    """The new key, and the webhooks for which it signs."""

    key: PublicSigningKey
    webhook_ids: Sequence[int]


async def next_id(database: Database) -> int:
    """Returns an id that no signing key has had. Raises Unavailable."""
    [(key_id,)] = await database.rows(SELECT_NEXT_SIGNING_KEY_ID)
    return key_id


async def of_customer(database: Database, customer_id: int) -> list[PublicSigningKey]:
    """Returns the keys of a customer that sign, the newest first. Raises Unavailable."""
    return [_public(row) for row in await database.rows(SELECT_SIGNING_KEYS, {"customer_id": customer_id})]


async def of_customers(database: Database, customer_ids: Collection[int]) -> Mapping[int, Sequence[PublicSigningKey]]:
    """Returns the same of each of these customers that has any. Raises Unavailable."""
    found = defaultdict[int, list[PublicSigningKey]](list)
    for *key, customer_id in await database.rows(SELECT_SIGNING_KEYS_OF_MANY, {"customer_ids": list(customer_ids)}):
        found[customer_id].append(_public(tuple(key)))
    return found


async def insert_first(connection: AsyncConnection[Row], new: NewSigningKey) -> None:
    """Stores the key if its customer has none, and keeps others from deleting it until the transaction ends."""
    await run(connection, LOCK_SIGNING_KEYS, {"customer_id": new.customer_id})
    await run(connection, INSERT_FIRST_SIGNING_KEY, _parameters(new))


async def rotate(
    database: Database, new: NewSigningKey, overlap_seconds: float, *, audit: AuditEntry
) -> RotatedSigningKey:
    """Replaces the newest key of a customer, or makes the first one.

    Raises FailedPrecondition (an earlier rotation still overlaps), Unavailable.
    """
    parameters = {**_parameters(new), "overlap_seconds": overlap_seconds, **entry_parameters(audit)}
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_SIGNING_KEYS, {"customer_id": new.customer_id})
        before = [_public(row) for row in await run(connection, SELECT_SIGNING_KEYS, {"customer_id": new.customer_id})]
        retiring = [key for key in before if key.retire_time is not None]
        if retiring and overlap_seconds:
            raise _overlapping(new.customer_id, retiring[0])
        [(created_at, webhook_ids)] = await run(connection, ROTATE_SIGNING_KEY, parameters)
    return RotatedSigningKey(PublicSigningKey(new.public_key, created_at, None), webhook_ids)


async def delete_of_customer(database: Database, customer_id: int, requested_at: datetime) -> None:
    """Deletes the keys that a customer had when its erasure was requested. Raises Unavailable."""
    parameters = {"customer_id": customer_id, "requested_at": requested_at}
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_SIGNING_KEYS, parameters)
        await run(connection, DELETE_SIGNING_KEYS_OF_CUSTOMER, parameters)


async def delete_retired(database: Database) -> None:
    """Deletes the keys whose overlap has ended. Raises Unavailable."""
    await database.rows(DELETE_RETIRED_SIGNING_KEYS)


def _parameters(new: NewSigningKey) -> dict[str, object]:
    return {
        "id": new.key_id,
        "customer_id": new.customer_id,
        "public_key": new.public_key,
        "private_key": new.sealed_private_key,
    }


def _public(row: Row) -> PublicSigningKey:
    public_key, created_at, retire_at = row
    return PublicSigningKey(bytes(public_key), created_at, retire_at)


def _overlapping(customer_id: int, retiring: PublicSigningKey) -> FailedPrecondition:
    end_time = retiring.retire_time.isoformat(timespec="milliseconds") if retiring.retire_time else "a moment ago"
    return FailedPrecondition(
        "SIGNING_KEY_OVERLAP",
        f"the key before signs as well for customer {customer_id}, until {end_time}; rotate after that, or with an "
        "overlap of 0 s, which ends both old keys at once",
        f"customer:{customer_id}",
    )
