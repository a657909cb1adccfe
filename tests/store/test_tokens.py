"""Tokens in the table: made, found, listed, deleted; and when they were used."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import AUDIT
from webhook_grpc.domain.access import Role
from webhook_grpc.domain.errors import NotFound, QuotaExceeded
from webhook_grpc.domain.tokens import StoredToken, TokenQuota, TokenSpec, hash_of
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import tokens

CUSTOMER, OTHER = 42, 43
NEVER_BEFORE = 2**63 - 1


async def new_token(database: Database, *customer_ids: int, role: Role = Role.VIEWER) -> StoredToken:
    spec = TokenSpec(role, frozenset(customer_ids) or None, "of a test")
    return await tokens.create(database, spec, hash_of(b"secret"), TokenQuota(100, 100), audit=AUDIT)


async def test_a_token_is_found_as_it_was_made(database: Database) -> None:
    made = await new_token(database, CUSTOMER, OTHER, role=Role.PUBLISHER)
    everybodys = await new_token(database)

    assert made.spec == TokenSpec(Role.PUBLISHER, frozenset({CUSTOMER, OTHER}), "of a test")
    assert made.sha256 == hash_of(b"secret")
    assert made.last_use_time is None
    found = await tokens.by_ids(database, [made.token_id, everybodys.token_id, 2**62])
    assert found == {made.token_id: made, everybodys.token_id: everybodys}


async def test_there_are_never_more_tokens_than_there_may_be(database: Database) -> None:
    spec = TokenSpec(Role.VIEWER, None)
    made = await asyncio.gather(
        *(tokens.create(database, spec, hash_of(b"secret"), TokenQuota(2, 2), audit=AUDIT) for _ in range(4)),
        return_exceptions=True,
    )
    refused = [error for error in made if isinstance(error, QuotaExceeded)]
    assert [error.reason for error in refused] == ["TOKEN_QUOTA"] * 2


async def test_a_customer_takes_no_tokens_from_the_others(database: Database) -> None:
    """Its own admins could fill the table, and nobody could make another one."""

    async def make(maker: frozenset[int] | None, *customer_ids: int) -> StoredToken:
        quota = TokenQuota(all_max=10, customer_max=2, customer_ids=maker)
        spec = TokenSpec(Role.VIEWER, frozenset(customer_ids) or None)
        return await tokens.create(database, spec, hash_of(b"secret"), quota, audit=AUDIT)

    own = frozenset({CUSTOMER})
    for _ in range(2):
        await make(own, CUSTOMER)
    with pytest.raises(QuotaExceeded, match="and 2 of your customers alone") as refused:
        await make(own, CUSTOMER)
    assert refused.value.reason == "TOKEN_QUOTA"
    await make(frozenset({OTHER}), OTHER)
    await make(None, CUSTOMER)  # an operator is bound to nobody


async def test_whoever_is_bound_to_customers_sees_and_deletes_only_their_tokens(database: Database) -> None:
    own, both, other = [
        (await new_token(database, *customers)).token_id for customers in ((CUSTOMER,), (CUSTOMER, OTHER), (OTHER,))
    ]
    everybodys = (await new_token(database)).token_id

    async def seen(*customer_ids: int) -> list[int]:
        page = await tokens.list_page(database, frozenset(customer_ids) or None, NEVER_BEFORE, 10)
        return [token.token_id for token in page]

    assert await seen() == [everybodys, other, both, own]
    assert await seen(CUSTOMER) == [own]
    assert await seen(CUSTOMER, OTHER) == [other, both, own]
    for hidden in (both, other, everybodys):
        with pytest.raises(NotFound):
            await tokens.delete(database, frozenset({CUSTOMER}), hidden, audit=AUDIT)
    await tokens.delete(database, frozenset({CUSTOMER}), own, audit=AUDIT)
    await tokens.delete(database, None, everybodys, audit=AUDIT)
    assert await seen() == [other, both]


async def test_an_id_is_never_given_again(database: Database) -> None:
    first = await new_token(database)
    await tokens.delete(database, None, first.token_id, audit=AUDIT)
    assert (await new_token(database)).token_id > first.token_id


async def test_a_use_is_stored_once_a_minute(database: Database, postgres: TestPostgres) -> None:
    used, unused = await new_token(database), await new_token(database)
    await tokens.store_uses(database, [used.token_id, 2**62])
    first = (await tokens.by_ids(database, [used.token_id]))[used.token_id].last_use_time
    assert first is not None

    await tokens.store_uses(database, [used.token_id])
    assert (await tokens.by_ids(database, [used.token_id]))[used.token_id].last_use_time == first
    postgres.rows("UPDATE tokens SET last_used_at = last_used_at - interval '61 s' WHERE last_used_at IS NOT NULL")
    await tokens.store_uses(database, [used.token_id])

    found = await tokens.by_ids(database, [used.token_id, unused.token_id])
    again = found[used.token_id].last_use_time
    assert again is not None
    assert again >= first
    assert found[unused.token_id].last_use_time is None


async def test_a_use_does_not_wait_for_a_row_that_somebody_else_is_writing(database: Database) -> None:
    held, free = await new_token(database), await new_token(database)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("UPDATE tokens SET description = '' WHERE token_id = %s", (held.token_id,))
        await tokens.store_uses(database, [held.token_id, free.token_id])
    found = await tokens.by_ids(database, [held.token_id, free.token_id])
    assert found[held.token_id].last_use_time is None
    assert found[free.token_id].last_use_time is not None
