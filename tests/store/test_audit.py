"""The audit in the database: an entry comes with its change or not at all, is listed by customer, ends by age."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.support.postgres import TestPostgres
from tests.support.replays import spec as replay_spec
from tests.support.store import AUDIT, CUSTOMER, new_event_id, new_webhook
from webhook_grpc.domain.access import Role
from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from webhook_grpc.domain.model import EventTypeSpec, WebhookSpec, WebhookStatus
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.domain.tokens import TokenQuota, TokenSpec, hash_of
from webhook_grpc.engine.duties.clear_sealing import ClearSealing
from webhook_grpc.engine.duties.janitor import Janitor
from webhook_grpc.store import audit
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import Database
from webhook_grpc.store.outbox import commands
from webhook_grpc.store.registry import event_types, secrets, tokens, webhooks
from webhook_grpc.store.replays import rows as replays

NEVER_BEFORE = 2**63 - 1
OTHER = CUSTOMER + 1
SPEC = WebhookSpec(name="test", url="https://example.com/", events=("*",))
TYPE = EventTypeSpec("An order was paid.", None, archived=False)
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


async def repeat_a_creation(database: Database) -> None:
    webhook_id = await webhooks.next_id(database)
    new = webhooks.NewWebhook(webhook_id, CUSTOMER, SPEC, b"sealed", "hint", False, "once", (1,))
    for _ in range(2):
        await webhooks.create(database, new, 1000, audit=AUDIT)


async def make_too_many(database: Database) -> None:
    webhook_id = await webhooks.next_id(database)
    new = webhooks.NewWebhook(webhook_id, CUSTOMER, SPEC, b"sealed", "hint", False, None, ())
    with pytest.raises(QuotaExceeded):
        await webhooks.create(database, new, 0, audit=AUDIT)
    with pytest.raises(QuotaExceeded):
        await tokens.create(database, TokenSpec(Role.VIEWER, None), hash_of(b"x"), TokenQuota(0, 0), audit=AUDIT)
    with pytest.raises(QuotaExceeded):
        await event_types.create(database, "order.paid", TYPE, 0, audit=AUDIT)
    with pytest.raises(QuotaExceeded):
        await replays.create(database, replay_spec(), None, None, 0, audit=AUDIT)


async def change_what_has_changed_since(database: Database) -> None:
    webhook_id = await new_webhook(database)
    current = replace(await webhooks.get(database, CUSTOMER, webhook_id), version=7)
    with pytest.raises(Conflict):
        await webhooks.update(database, current, SPEC, audit=AUDIT)
    with pytest.raises(FailedPrecondition):
        await webhooks.set_status(database, current, WebhookStatus.PAUSED, (WebhookStatus.DISABLED,), audit=AUDIT)
    with pytest.raises(FailedPrecondition):
        await webhooks.resume(database, current, audit=AUDIT)
    found = await event_types.get(database, "job.completed")
    with pytest.raises(Conflict):
        await event_types.update(database, replace(found, version=7), TYPE, audit=AUDIT)


async def make_what_is_there(database: Database) -> None:
    with pytest.raises(AlreadyExists):
        await event_types.create(database, "job.completed", TYPE, 100, audit=AUDIT)


async def end_what_is_not_there(database: Database) -> None:
    with pytest.raises(NotFound):
        await tokens.delete(database, None, 2**62, audit=AUDIT)
    with pytest.raises(NotFound):
        await replays.cancel(database, CUSTOMER, 2**62, audit=AUDIT)


async def repeat_a_command(database: Database) -> None:
    for _ in range(2):
        await commands.insert_once(
            database, Kind.RETRY, CUSTOMER, 1, new_event_id(), request_id="once", fingerprint=1, audit=AUDIT
        )


async def rotate_while_the_old_secret_signs(database: Database) -> None:
    webhook_id = await new_webhook(database)
    for request_id, problem in (("one", None), ("one", None), ("two", FailedPrecondition)):
        rotation = secrets.Rotation(CUSTOMER, webhook_id, b"sealed", "hint", False, 3600, request_id, 1)
        with pytest.raises(problem) if problem else contextlib.nullcontext():
            await secrets.rotate(database, rotation, audit=AUDIT)


async def repeat_a_replay(database: Database) -> None:
    for _ in range(2):
        await replays.create(database, replay_spec(), "once", 1, 10, audit=AUDIT)


Act = Callable[[Database], Awaitable[None]]
CHANGES: dict[Act, int] = {  # how many of what each asks for is a change
    repeat_a_creation: 1,
    make_too_many: 0,
    change_what_has_changed_since: 1,
    make_what_is_there: 0,
    end_what_is_not_there: 0,
    repeat_a_command: 1,
    rotate_while_the_old_secret_signs: 2,
    repeat_a_replay: 1,
}


@pytest.mark.parametrize("act", CHANGES, ids=lambda act: act.__name__)
async def test_what_changes_nothing_leaves_no_entry(database: Database, postgres: TestPostgres, act: Act) -> None:
    """Below the API, which mostly finds out before: of two calls at the same time it lets both go on."""
    await act(database)
    assert postgres.rows("SELECT count(*) FROM audit_entries") == [(CHANGES[act],)]


async def test_the_janitor_deletes_what_is_older_than_it_is_kept(database: Database, postgres: TestPostgres) -> None:
    await audit.insert_refusals(database, [REFUSED] * 2)
    postgres.rows(
        "UPDATE audit_entries SET created_at = now() - interval '41 days'"
        " WHERE entry_id = (SELECT max(entry_id) FROM audit_entries)"
    )
    policy = RetentionPolicy(events_days=3, attempts_days=3, idempotency_keys_hours=24, audit_days=40)
    sealing = ClearSealing(database, Sealer([bytes(32)]))
    janitor = Janitor(database, policy, lambda: True, lambda _: None, sealing)
    [step] = [step for step in janitor.steps if step.name == "delete audit entries"]
    await step.run()
    assert postgres.rows("SELECT count(*) FROM audit_entries") == [(1,)]


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
