"""Lists of deliveries: complete, in order, filtered as the domain says, wherever a delivery stands."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest

from tests.store.scene import ALL, Owner, is_logged, listed, set_scene
from tests.support.full import in_full
from tests.support.postgres import TestPostgres
from tests.support.store import CUSTOMER, new_event, new_webhook, pending, publish
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import Delivery, DeliveryStatus
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists import deliveries as delivery_lists
from webhook_grpc.store.lists import merged, pages
from webhook_grpc.store.lists.deliveries import DeliveryKey, list_deliveries
from webhook_grpc.store.lists.pages import PageBounds

pytestmark = pytest.mark.xdist_group("scene")  # which one process makes
EVERYTHING = DeliveryFilter(None)
ENDED = (DeliveryStatus.FAILED, DeliveryStatus.CANCELLED, DeliveryStatus.EXPIRED)


@pytest.fixture
async def deliveries(database: Database, connection: LoopConnection) -> list[Delivery]:
    return await set_scene(database, connection)


def key(delivery: Delivery) -> DeliveryKey:
    return DeliveryKey(delivery.create_time, delivery.event_id, delivery.webhook_id)


async def test_each_delivery_is_listed_once_newest_first(deliveries: list[Delivery]) -> None:
    keys = [key(delivery) for delivery in deliveries]
    assert keys == sorted(set(keys), reverse=True)
    assert Counter(delivery.status for delivery in deliveries) == {
        DeliveryStatus.PENDING: 36,
        DeliveryStatus.SUCCEEDED: 27,
        DeliveryStatus.FAILED: 18,
        DeliveryStatus.CANCELLED: 9,
    }
    assert {delivery.attempt_count for delivery in deliveries} == {0, 1, 2}


@pytest.mark.slow
async def test_pages_join_without_gap_or_overlap(database: Database, deliveries: list[Delivery]) -> None:
    for page_size in (1, 7, 89, 90):
        assert await listed(database, EVERYTHING, page_size) == deliveries, page_size


@pytest.mark.slow(3)
@pytest.mark.parametrize("many_retries", [False, True])
async def test_the_filters_of_sql_and_of_the_stream_agree(
    database: Database, deliveries: list[Delivery], monkeypatch: pytest.MonkeyPatch, many_retries: bool
) -> None:
    """With many retries what is pending is found through the log instead of the outbox."""
    if many_retries:
        monkeypatch.setattr(delivery_lists, "RETRIES_SORTED_MAX", 1)
    chance = random.Random(11)
    webhook_ids = sorted({delivery.webhook_id for delivery in deliveries})
    times = sorted({delivery.create_time for delivery in deliveries})
    for _ in range(in_full(150, short=12)):
        start, end = sorted(chance.sample(times, 2))
        wanted = DeliveryFilter(
            customer_id=chance.choice([None, CUSTOMER, CUSTOMER + 1]),
            webhook_ids=chance.sample(webhook_ids, chance.choice([0, 0, 1, 3])),
            event_types=chance.sample(
                ["job.*", "*", "job.completed", "alert.*", "nothing.here"], chance.choice([0, 2])
            ),
            statuses=chance.sample(list(DeliveryStatus), chance.randint(0, 3)),
            event_id=chance.choice([None, None, chance.choice(deliveries).event_id]),
            start_time=chance.choice([None, start]),
            end_time=chance.choice([None, end]),
        )
        expected = [delivery for delivery in deliveries if wanted.admits(delivery)]
        assert await listed(database, wanted) == expected, wanted
        assert await listed(database, wanted, chance.randint(1, 9)) == expected, wanted


async def test_deliveries_of_a_replay_are_listed_wherever_they_stand(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are many retries."""
    of_replay = [delivery.event_id for delivery in deliveries[::2]]
    postgres.rows("UPDATE attempts SET replay_id = 7 WHERE event_id = ANY(%(ids)s)", {"ids": of_replay})
    all_of_them = await listed(database, EVERYTHING)
    assert {one.status for one in all_of_them if one.replay_id == 7} >= {*DeliveryStatus} - {DeliveryStatus.EXPIRED}
    for retries_sorted_max in (delivery_lists.RETRIES_SORTED_MAX, 1):
        monkeypatch.setattr(delivery_lists, "RETRIES_SORTED_MAX", retries_sorted_max)
        for statuses in ((), ENDED, (DeliveryStatus.PENDING,), (*ENDED, DeliveryStatus.PENDING)):
            wanted = DeliveryFilter(CUSTOMER, statuses=statuses, replay_id=7)
            assert await listed(database, wanted, 7) == [one for one in all_of_them if wanted.admits(one)], wanted
        assert await listed(database, DeliveryFilter(None, replay_id=8)) == []


@pytest.mark.slow
async def test_a_list_merged_from_short_lists_of_each_webhook_is_complete(
    database: Database, deliveries: list[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the rows of one webhook end, what follows from the others must wait."""
    monkeypatch.setattr(merged, "_ROWS_PER_WEBHOOK_MAX", 2)
    monkeypatch.setattr(merged, "_ROWS_PER_WEBHOOK_OF_ALL_MIN", 1)
    for wanted in (
        EVERYTHING,
        DeliveryFilter(CUSTOMER),
        DeliveryFilter(CUSTOMER, statuses=ENDED),
        DeliveryFilter(None, statuses=(*ENDED, DeliveryStatus.PENDING)),
        DeliveryFilter(None, event_types=("alert.*",)),
    ):
        for page_size in (1, 10, 1000):
            assert await listed(database, wanted, page_size) == [d for d in deliveries if wanted.admits(d)], wanted


@pytest.mark.slow
async def test_what_is_old_is_found_however_far_back_a_step_looks(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    deliveries = await set_scene(database, connection)
    for hours, delivery in enumerate(deliveries):  # the oldest is almost four days old; spread over log and outbox
        postgres.rows(
            """
            WITH aged AS (SELECT %(event)s::uuid AS event_id, %(age)s::interval AS age),
            e AS (UPDATE events SET created_at = created_at - age FROM aged WHERE events.event_id = aged.event_id),
            a AS (
                UPDATE attempts SET event_created_at = event_created_at - age FROM aged
                WHERE attempts.event_id = aged.event_id
            )
            UPDATE deliveries SET due_at = due_at - age FROM aged
            WHERE deliveries.event_id = aged.event_id AND attempt = 0 AND trigger IS NULL
            """,
            {"event": delivery.event_id, "age": timedelta(hours=hours)},
        )
    webhook_ids = sorted({delivery.webhook_id for delivery in deliveries})
    aged = await listed(database, DeliveryFilter(None, webhook_ids))  # looks back at once

    assert len(aged) == len(deliveries)
    assert aged[0].create_time - aged[-1].create_time > timedelta(days=3)
    for page_size in (1, 7, 1000):
        assert await listed(database, EVERYTHING, page_size) == aged


async def test_a_page_that_would_read_too_much_ends_early_and_says_where_it_goes_on(
    database: Database, deliveries: list[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ROWS_READ_MAX", 10)
    monkeypatch.setattr(pages, "STEP_ROWS_MAX", 5)
    wanted = DeliveryFilter(CUSTOMER, event_types=("nothing.here",))
    before: DeliveryKey | None = delivery_lists.DELIVERIES_START
    empty_pages = 0
    while before is not None:
        page = await list_deliveries(database, wanted, before, PageBounds(4, 10**6))
        assert not page.items
        assert page.next_key is None or page.next_key < before
        before = page.next_key
        empty_pages += 1
    assert empty_pages > 3

    rare = DeliveryFilter(CUSTOMER, event_types=("alert.*",))
    assert await listed(database, rare, 4) == [delivery for delivery in deliveries if rare.admits(delivery)]


async def test_a_page_ends_before_it_is_too_large(database: Database, deliveries: list[Delivery]) -> None:
    found: list[Delivery] = []
    before: DeliveryKey | None = delivery_lists.DELIVERIES_START
    sizes: list[int] = []
    while before is not None:
        page = await list_deliveries(database, EVERYTHING, before, PageBounds(1000, 8))  # answers of two bytes
        sizes.append(sum(2 * len(d.last_attempt.response_body) for d in page.items if d.last_attempt))
        found += page.items
        before = page.next_key
    assert found == deliveries
    assert max(sizes) <= 8
    assert len(sizes) > 5


async def test_deliveries_of_an_event_that_is_no_longer_kept_are_listed_from_the_log(
    database: Database, deliveries: list[Delivery], postgres: TestPostgres
) -> None:
    logged = [d for d in deliveries if is_logged(d)]
    assert len(deliveries) > len(logged) > 50
    postgres.rows("DELETE FROM events")
    keys = [key(d) for d in logged]

    assert [key(d) for d in await listed(database, DeliveryFilter(None, statuses=tuple(DeliveryStatus)))] == keys
    for delivery in logged[:10]:
        for customer_id in (None, delivery.customer_id):
            of_event = await listed(database, DeliveryFilter(customer_id, event_id=delivery.event_id))
            assert [key(d) for d in of_event] == [k for k in keys if k.event_id == delivery.event_id]
        assert not await listed(database, DeliveryFilter(999, event_id=delivery.event_id))


async def test_a_delivery_that_moves_is_seen_in_one_place(database: Database, connection: LoopConnection) -> None:
    """Asked for failed and pending ones: before it is begun anew it is the one, then the other, never both or none."""
    await new_webhook(database)
    owner = Owner(database, connection)
    await owner.start()
    [delivery] = pending(await publish(connection, new_event()))
    wanted = DeliveryFilter(CUSTOMER, statuses=(DeliveryStatus.FAILED, DeliveryStatus.PENDING))
    assert [d.status for d in await listed(database, wanted)] == [DeliveryStatus.PENDING]

    await owner.meet(delivery, "begun anew")

    [found] = await listed(database, wanted, 1)
    assert found.status is DeliveryStatus.PENDING
    assert found.attempt_count == 1
    assert not await listed(database, DeliveryFilter(CUSTOMER, statuses=(DeliveryStatus.FAILED,)))
    [found] = (await list_deliveries(database, DeliveryFilter(CUSTOMER), delivery_lists.DELIVERIES_START, ALL)).items
    assert found.status is DeliveryStatus.PENDING
