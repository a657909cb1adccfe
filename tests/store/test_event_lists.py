"""Lists of events: complete, newest first, filtered, bounded in bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.full import in_full
from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER, new_event, publish
from webhook_grpc.domain.filters import EventFilter
from webhook_grpc.domain.matching import matches
from webhook_grpc.domain.model import Event
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists import events as event_lists
from webhook_grpc.store.lists import pages
from webhook_grpc.store.lists.events import list_events
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.log import lookup

TYPES = ("job.completed", "job.failed", "alert.triggered")


@pytest.fixture
async def events(database: Database, connection: LoopConnection, postgres: TestPostgres) -> list[Event]:
    """Sixty events of two customers, newest first. Their ids differ a little from when they were stored."""
    chance = random.Random(3)
    for number in range(60):
        event = new_event(
            customer_id=CUSTOMER + number % 2, event_type=chance.choice(TYPES), attributes={"n": str(number)}
        )
        await publish(connection, event)
        postgres.rows(
            "UPDATE events SET created_at = created_at + %s::interval WHERE event_id = %s",
            (timedelta(seconds=chance.randint(-500, 500)), event.event_id),
        )
    ids = postgres.rows("SELECT event_id FROM events ORDER BY event_id DESC")
    return [await lookup.get_event(database, None, event_id) for (event_id,) in ids]


async def listed(database: Database, wanted: EventFilter, page_size: int = 1000) -> Sequence[Event]:
    before: UUID | None = event_lists.EVENTS_START
    found: list[Event] = []
    while before is not None:
        page = await list_events(database, wanted, before, PageBounds(page_size, 10**9))
        assert len(page.items) <= page_size
        assert page.keys == [event.event_id for event in page.items]
        found += page.items
        before = page.next_key
    return found


async def test_every_event_is_listed_once_newest_first(database: Database, events: list[Event]) -> None:
    of_customer = [event for event in events if event.customer_id == CUSTOMER]
    for page_size in (1, 7, 59, 60, 1000):
        assert await listed(database, EventFilter(None), page_size) == events, page_size
        assert await listed(database, EventFilter(CUSTOMER), page_size) == of_customer, page_size
        assert await listed(database, EventFilter(999), page_size) == [], page_size


async def test_all_filters_hold(database: Database, events: list[Event]) -> None:
    chance = random.Random(9)
    times = sorted(event.create_time for event in events)
    for _ in range(in_full(80, short=20)):
        start, end = sorted(chance.sample(times, 2))
        wanted = EventFilter(
            customer_id=chance.choice([None, CUSTOMER]),
            event_types=chance.sample(["job.*", "*", "job.failed", "never.*"], chance.choice([0, 1, 2])),
            start_time=chance.choice([None, start]),
            end_time=chance.choice([None, end]),
        )
        expected = [
            event
            for event in events
            if wanted.customer_id in {None, event.customer_id}
            and (not wanted.event_types or matches(event.event_type, wanted.event_types))
            and (wanted.start_time is None or event.create_time >= wanted.start_time)
            and (wanted.end_time is None or event.create_time < wanted.end_time)
        ]
        assert await listed(database, wanted, chance.randint(1, 70)) == expected, wanted


async def test_a_page_holds_no_more_bytes_than_it_may(database: Database, connection: LoopConnection) -> None:
    large = [new_event(data=b'"' + b"x" * 200_000 + b'"') for _ in range(5)]
    for event in large:
        await publish(connection, event)
    sizes: list[int] = []
    before: UUID | None = event_lists.EVENTS_START
    while before is not None:
        page = await list_events(database, EventFilter(CUSTOMER), before, PageBounds(1000, 500_000))
        sizes.append(len(page.items))
        before = page.next_key
    assert sizes == [2, 2, 1]


async def test_a_rare_type_ends_a_page_early_instead_of_reading_everything(
    database: Database, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ROWS_READ_MAX", 10)
    monkeypatch.setattr(pages, "STEP_ROWS_MAX", 5)
    wanted = EventFilter(None, ("never.seen",))
    page = await list_events(database, wanted, event_lists.EVENTS_START, PageBounds(3, 10**6))

    assert page.items == []
    assert page.next_key is not None
    assert await listed(database, wanted) == []
    rare = EventFilter(None, ("alert.*",))
    assert await listed(database, rare) == [event for event in events if event.event_type == "alert.triggered"]
