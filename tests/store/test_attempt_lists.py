"""Lists of attempts: complete, newest first, filtered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.store.scene import set_scene
from tests.support.full import in_full
from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER
from webhook_grpc.domain.filters import AttemptFilter
from webhook_grpc.domain.matching import matches
from webhook_grpc.domain.model import Attempt, Delivery, DeliveryStatus, Outcome
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists import attempts as attempt_lists
from webhook_grpc.store.lists import merged, pages
from webhook_grpc.store.lists.attempts import AttemptKey, list_attempts
from webhook_grpc.store.lists.pages import PageBounds

pytestmark = pytest.mark.xdist_group("scene")  # which one process makes
EVERYTHING = AttemptFilter(None)


@pytest.fixture
async def deliveries(database: Database, connection: LoopConnection, postgres: TestPostgres) -> list[Delivery]:
    """A scene whose attempts have many times, some of them the same."""
    found = await set_scene(database, connection)
    postgres.rows("UPDATE events SET created_at = created_at - interval '31 hours'")
    postgres.rows(
        """
        UPDATE attempts SET created_at = created_at - (seq / 2 % 20) * interval '90 minutes',
            event_created_at = event_created_at - interval '31 hours'
        """
    )
    return found


async def listed(
    database: Database, wanted: AttemptFilter, page_size: int = 1000
) -> tuple[Sequence[AttemptKey], Sequence[Attempt]]:
    """All attempts of a list, in pages."""
    before: AttemptKey | None = attempt_lists.ATTEMPTS_START
    keys: list[AttemptKey] = []
    found: list[Attempt] = []
    while before is not None:
        page = await list_attempts(database, wanted, before, PageBounds(page_size, 10**9))
        assert len(page.items) <= page_size
        assert all(key < before for key in page.keys)
        keys += page.keys
        found += page.items
        before = page.next_key
    return keys, found


def logged(postgres: TestPostgres) -> list[dict[str, Any]]:
    """What the log says, newest first."""
    names = ("customer_id", "webhook_id", "event_id", "event_type", "status", "outcome", "created_at", "seq")
    rows = postgres.rows(
        """
        SELECT customer_id, webhook_id, event_id, event_type, status, outcome, created_at, seq FROM attempts
        WHERE outcome IS NOT NULL ORDER BY created_at DESC, webhook_id DESC, seq DESC
        """
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def admits(wanted: AttemptFilter, row: dict[str, Any]) -> bool:
    return (
        wanted.customer_id in {None, row["customer_id"]}
        and (not wanted.webhook_ids or row["webhook_id"] in wanted.webhook_ids)
        and (not wanted.event_types or matches(row["event_type"], wanted.event_types))
        and (not wanted.statuses or row["status"] in wanted.statuses)
        and (not wanted.outcomes or row["outcome"] in wanted.outcomes)
        and wanted.event_id in {None, row["event_id"]}
        and (wanted.start_time is None or row["created_at"] >= wanted.start_time)
        and (wanted.end_time is None or row["created_at"] < wanted.end_time)
    )


def keys_of(rows: Sequence[dict[str, Any]]) -> list[AttemptKey]:
    return [AttemptKey(row["created_at"], row["webhook_id"], row["seq"]) for row in rows]


@pytest.mark.slow
async def test_every_attempt_is_listed_once_newest_first(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres
) -> None:
    rows = logged(postgres)
    for page_size in (1, 7, 1000):
        keys, found = await listed(database, EVERYTHING, page_size)
        assert keys == keys_of(rows), page_size
        assert len(keys) == sum(delivery.attempt_count for delivery in deliveries)
        assert [(a.webhook_id, a.event_id, a.outcome, a.delivery_status) for a in found] == [
            (row["webhook_id"], row["event_id"], row["outcome"], row["status"]) for row in rows
        ]


@pytest.mark.slow(3)
async def test_all_filters_hold(database: Database, deliveries: list[Delivery], postgres: TestPostgres) -> None:
    chance = random.Random(5)
    rows = logged(postgres)
    times = sorted({row["created_at"] for row in rows})
    webhook_ids = sorted({row["webhook_id"] for row in rows})
    found_some = 0
    for _ in range(in_full(150, short=20)):
        start, end = sorted(chance.sample(times, 2))
        wanted = AttemptFilter(
            customer_id=chance.choice([None, CUSTOMER, CUSTOMER + 1]),
            webhook_ids=chance.sample(webhook_ids, chance.choice([0, 0, 1, 3])),
            event_types=chance.sample(["job.*", "*", "job.completed", "never.*"], chance.choice([0, 0, 2])),
            statuses=chance.sample(list(DeliveryStatus), chance.choice([0, 0, 2])),
            outcomes=chance.sample(list(Outcome), chance.choice([0, 0, 4])),
            event_id=chance.choice([None, None, None, chance.choice(deliveries).event_id]),
            start_time=chance.choice([None, start]),
            end_time=chance.choice([None, end]),
        )
        expected = keys_of([row for row in rows if admits(wanted, row)])
        found_some += bool(expected)
        assert (await listed(database, wanted))[0] == expected, wanted
        assert (await listed(database, wanted, chance.randint(1, 5)))[0] == expected, wanted
    assert found_some > in_full(20, short=5)


async def test_the_attempts_of_one_delivery_end_with_its_last(database: Database, deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        wanted = AttemptFilter(None, (delivery.webhook_id,), event_id=delivery.event_id)
        attempts = (await listed(database, wanted, 1))[1]
        assert sorted(attempt.attempt_number for attempt in attempts) == list(range(1, delivery.attempt_count + 1))
        if delivery.last_attempt:
            assert delivery.last_attempt in attempts


async def test_attempts_outlive_their_event(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    deliveries = await set_scene(database, connection)
    rows = logged(postgres)
    postgres.rows("DELETE FROM events")

    for delivery in deliveries[:20]:
        of_event = keys_of([row for row in rows if row["event_id"] == delivery.event_id])
        for customer_id in (None, delivery.customer_id):
            keys, found = await listed(database, AttemptFilter(customer_id, event_id=delivery.event_id))
            assert keys == of_event
            assert all(attempt.request_bytes is None for attempt in found)
        assert (await listed(database, AttemptFilter(999, event_id=delivery.event_id)))[0] == []


@pytest.mark.slow
async def test_a_list_merged_from_short_lists_of_each_webhook_is_complete(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "_ROWS_PER_WEBHOOK_MAX", 2)
    monkeypatch.setattr(merged, "_ROWS_PER_WEBHOOK_OF_ALL_MIN", 1)
    rows = logged(postgres)
    for wanted in (EVERYTHING, AttemptFilter(CUSTOMER), AttemptFilter(None, outcomes=(Outcome.SUCCEEDED,))):
        expected = keys_of([row for row in rows if admits(wanted, row)])
        for page_size in (1, 10, 1000):
            assert (await listed(database, wanted, page_size))[0] == expected


async def test_a_rare_outcome_ends_a_page_early_instead_of_reading_everything(
    database: Database, deliveries: list[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ROWS_READ_MAX", 10)
    monkeypatch.setattr(pages, "STEP_ROWS_MAX", 5)
    wanted = AttemptFilter(CUSTOMER, outcomes=(Outcome.TLS_ERROR,))
    page = await list_attempts(database, wanted, attempt_lists.ATTEMPTS_START, PageBounds(3, 10**6))

    assert page.items == []
    assert page.next_key is not None
    assert (await listed(database, wanted))[0] == []


async def test_a_window_holds_its_start_and_not_its_end(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres
) -> None:
    times: list[datetime] = sorted({row["created_at"] for row in logged(postgres)})
    at = times[len(times) // 2]
    moment = timedelta(microseconds=1)

    only = (await listed(database, AttemptFilter(None, start_time=at, end_time=at + moment)))[0]
    assert only
    assert {key.end_time for key in only} == {at}
    before = replace(EVERYTHING, start_time=at - moment, end_time=at)
    assert at not in {key.end_time for key in (await listed(database, before))[0]}
