"""Stores tokens. A token that is revoked is deleted; its id is never given again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from webhook_grpc.domain.access import Role
from webhook_grpc.domain.audit import AuditEntry
from webhook_grpc.domain.errors import NotFound, QuotaExceeded
from webhook_grpc.domain.tokens import StoredToken, TokenQuota, TokenSpec
from webhook_grpc.store import literals
from webhook_grpc.store.audit import entry_parameters, leaves_entry
from webhook_grpc.store.db import Database, Queries, Row, run

USES_SECONDS_MIN: Final = 60  # between two times that a use of a token is stored

_COLUMNS: Final = "token_id, sha256, role, customer_ids, description, expires_at, created_at, last_used_at"

LOCK_TOKENS: Final = f"SELECT pg_advisory_xact_lock(hashtextextended('tokens', {literals.SCHEMA_SEED}))"

# Returns no row: there are as many tokens as there may be, in all or of these customers alone (NULL: without a bound).
INSERT_TOKEN: Final = f"""
WITH input AS MATERIALIZED (
    SELECT %(sha256)b::bytea AS sha256, %(role)s::text AS role, %(customer_ids)s::bigint[] AS customer_ids,
        %(description)s::text AS description, %(expires_at)s::timestamptz AS expires_at, now() AS at,
        true AS singleton, (SELECT count(*) FROM tokens) AS token_count,
        (SELECT count(*) FROM tokens WHERE customer_ids <@ %(own_customer_ids)s::bigint[]) AS own_count
), created AS (
    INSERT INTO tokens (sha256, role, customer_ids, description, expires_at, created_at)
    SELECT sha256, role, customer_ids, description, expires_at, at FROM input JOIN meta USING (singleton)
    WHERE token_count < %(tokens_max)s::integer
        AND (%(own_customer_ids)s::bigint[] IS NULL OR own_count < %(own_max)s::integer)
    RETURNING {_COLUMNS}
), audited AS ({leaves_entry("created", "ARRAY['token:' || token_id]")})
SELECT {_COLUMNS} FROM created
"""

SELECT_TOKENS_BY_ID: Final = f"SELECT {_COLUMNS} FROM tokens WHERE token_id = ANY(%(token_ids)s::bigint[])"

# `customer_ids`: of whoever asks, NULL if these are all; a token for anybody else is not shown.
SELECT_TOKENS: Final = f"""
SELECT {_COLUMNS} FROM tokens
WHERE token_id < %(before)s AND (%(customer_ids)s::bigint[] IS NULL OR customer_ids <@ %(customer_ids)s::bigint[])
ORDER BY token_id DESC
LIMIT %(limit)s
"""

DELETE_TOKEN: Final = f"""
WITH input AS MATERIALIZED (
    SELECT now() AS at, true AS singleton
), deleted AS (
    DELETE FROM tokens
    WHERE token_id = %(token_id)s
        AND (%(customer_ids)s::bigint[] IS NULL OR customer_ids <@ %(customer_ids)s::bigint[])
    RETURNING token_id
), audited AS ({leaves_entry("deleted")})
SELECT token_id FROM deleted
"""

# A row that somebody else is writing waits for the next time: two processes never wait for each other.
UPDATE_TOKEN_USES: Final = """
WITH input AS MATERIALIZED (
    SELECT now() AS at
), used AS MATERIALIZED (
    SELECT t.token_id FROM tokens t CROSS JOIN input
    WHERE t.token_id = ANY(%(token_ids)s::bigint[])
        AND (t.last_used_at IS NULL OR t.last_used_at <= input.at - make_interval(secs => %(seconds)s))
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE tokens t SET last_used_at = input.at FROM used, input WHERE t.token_id = used.token_id
"""  # noqa: S105 - a statement


async def create(
    database: Database, spec: TokenSpec, sha256: bytes, quota: TokenQuota, *, audit: AuditEntry
) -> StoredToken:
    """Stores a new token. Raises QuotaExceeded, Unavailable."""
    parameters = {
        "sha256": sha256,
        "role": spec.role.value,
        "customer_ids": _customers(spec.customer_ids),
        "description": spec.description,
        "expires_at": spec.expire_time,
        "tokens_max": quota.all_max,
        "own_customer_ids": _customers(quota.customer_ids),
        "own_max": quota.own_max,
        **entry_parameters(audit),
    }
    # One call at a time, so that calls can't exceed the quota together; see webhooks.py.
    async with database.connection() as connection, connection.transaction():
        await run(connection, LOCK_TOKENS, None)
        rows = await run(connection, INSERT_TOKEN, parameters)
    if not rows:
        own = "" if quota.customer_ids is None else f", and {quota.own_max} of your customers alone"
        raise QuotaExceeded(
            "TOKEN_QUOTA", f"there may be at most {quota.all_max} tokens{own}; revoke some first", "tokens"
        )
    return _token(rows[0])


async def by_ids(database: Queries, token_ids: Collection[int]) -> dict[int, StoredToken]:
    """Returns those of the tokens that exist, by their ids. Raises Unavailable."""
    rows = await database.rows(SELECT_TOKENS_BY_ID, {"token_ids": list(token_ids)})
    return {row[0]: _token(row) for row in rows}


async def list_page(
    database: Queries, customer_ids: frozenset[int] | None, before: int, limit: int
) -> list[StoredToken]:
    """Returns the next tokens with ids below `before`, newest first, that are for no other customers.

    Raises Unavailable.
    """
    parameters = {"customer_ids": _customers(customer_ids), "before": before, "limit": limit}
    return [_token(row) for row in await database.rows(SELECT_TOKENS, parameters)]


async def delete(database: Queries, customer_ids: frozenset[int] | None, token_id: int, *, audit: AuditEntry) -> None:
    """Deletes a token that is for no other customers. Raises NotFound, Unavailable."""
    parameters = {"customer_ids": _customers(customer_ids), "token_id": token_id, **entry_parameters(audit)}
    if not await database.rows(DELETE_TOKEN, parameters):
        raise NotFound("token", str(token_id))


async def store_uses(database: Queries, token_ids: Collection[int]) -> None:
    """Stores that tokens were used now, each at most once in USES_SECONDS_MIN. Raises Unavailable."""
    await database.rows(UPDATE_TOKEN_USES, {"token_ids": list(token_ids), "seconds": USES_SECONDS_MIN})


def _customers(customer_ids: frozenset[int] | None) -> list[int] | None:
    return None if customer_ids is None else sorted(customer_ids)


def _token(row: Row) -> StoredToken:
    token_id, sha256, role, customer_ids, description, expires_at, created_at, last_used_at = row
    customers = None if customer_ids is None else frozenset(customer_ids)
    spec = TokenSpec(Role(role), customers, description, expires_at)
    return StoredToken(token_id, sha256, spec, created_at, last_used_at)
