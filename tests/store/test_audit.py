"""The audit in the database: an entry comes with its change or not at all, is listed by customer, ends by age."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import AUDIT, CUSTOMER, new_webhook
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.store import audit
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import Database
from webhook_grpc.store.registry import webhooks

NEVER_BEFORE = 2**63 - 1
OTHER = CUSTOMER + 1
REFUSED = replace(AUDIT, fields=(), result="PERMISSION_DENIED", reason="PERMISSION_MISSING", resources=())


async def test_without_its_entry_there_is_no_change(database: Database, postgres: TestPostgres) -> None:
    webhook_id = await new_webhook(database)
    current = await webhooks.get(database, CUSTOMER, webhook_id)
    postgres.rows("ALTER TABLE audit_entries ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        with pytest.raises(Unavailable):
            await webhooks.set_status(database, current, WebhookStatus.PAUSED, (WebhookStatus.ACTIVE,), audit=AUDIT)
    finally:
        postgres.rows("ALTER TABLE audit_entries DROP CONSTRAINT full_up")
    assert await webhooks.get(database, CUSTOMER, webhook_id) == current


async def test_what_the_service_does_itself_leaves_no_entry(database: Database) -> None:
    current = await webhooks.get(database, CUSTOMER, await new_webhook(database))
    before = await audit.list_page(database, None, NEVER_BEFORE, 10)
    assert before, "the creation"
    await webhooks.set_status(database, current, WebhookStatus.DISABLED, (WebhookStatus.ACTIVE,), audit=None)
    assert await audit.list_page(database, None, NEVER_BEFORE, 10) == before


async def test_entries_are_listed_newest_first_and_by_customer(database: Database) -> None:
    entries = [
        replace(REFUSED, customer_id=customer_id, request_id=f"r-{n}", resources=resources)
        for n, (customer_id, resources) in enumerate(
            ((CUSTOMER, ()), (OTHER, ("webhook:7",)), (None, ()), (CUSTOMER, ("token:1",)), (44, ()))
        )
    ]
    await audit.insert_refusals(database, entries)

    async def listed(customer_ids: frozenset[int] | None, before: int = NEVER_BEFORE, limit: int = 10) -> list[str]:
        page = await audit.list_page(database, customer_ids, before, limit)
        assert [stored.entry for stored in page] == [entries[int(s.entry.request_id[2:])] for s in page]
        return [stored.entry.request_id for stored in page]

    assert await listed(None) == ["r-4", "r-3", "r-2", "r-1", "r-0"]
    assert await listed(frozenset({CUSTOMER})) == ["r-3", "r-0"]
    assert await listed(frozenset({CUSTOMER, OTHER})) == ["r-3", "r-1", "r-0"]
    [newest] = await audit.list_page(database, frozenset({CUSTOMER, OTHER}), NEVER_BEFORE, 1)
    assert await listed(frozenset({CUSTOMER, OTHER}), before=newest.entry_id) == ["r-1", "r-0"]


async def test_entries_end_by_their_age_the_oldest_first(database: Database, postgres: TestPostgres) -> None:
    await audit.insert_refusals(database, [REFUSED] * 4)
    ids = [entry_id for (entry_id,) in postgres.rows("SELECT entry_id FROM audit_entries ORDER BY entry_id")]
    for entry_id, days in zip(ids, (41, 40, 39, 41), strict=True):
        postgres.rows(
            "UPDATE audit_entries SET created_at = now() - make_interval(days => %s, mins => 1) WHERE entry_id = %s",
            (days, entry_id),
        )
    assert await audit.delete_old(database, 40) == 3
    assert [stored.entry_id for stored in await audit.list_page(database, None, NEVER_BEFORE, 10)] == [ids[2]]
    with pytest.raises(StoreRefusal):
        await audit.delete_old(database, 29)


async def test_a_clock_that_runs_ahead_deletes_nothing(database: Database, postgres: TestPostgres) -> None:
    await audit.insert_refusals(database, [REFUSED])
    postgres.rows("UPDATE audit_entries SET created_at = now() - interval '50 days'")
    postgres.rows("UPDATE believed_time SET at = now() - interval '20 days'")
    try:
        assert await audit.delete_old(database, 40) == 0
    finally:
        postgres.rows("UPDATE believed_time SET at = now()")
    assert await audit.delete_old(database, 40) == 1
