"""What replays choose: exactly what the model chooses, in steps of any size."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.replays import ENDED, Past, run_through, spec, started
from tests.support.store import CUSTOMER, new_event, new_webhook, publish
from webhook_grpc.domain.model import DeliveryStatus, WebhookStatus
from webhook_grpc.domain.replay import ReplaySpec
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.replays import rows, selection
from webhook_grpc.store.replays.selection import Choice, Count

TYPES = ("job.completed", "job.failed", "job.step.done", "alert.triggered")
PATTERNS = ("*", "job.*", "job.step.*", "job.completed", "alert.*", "nothing.here")


@pytest.fixture
def past(database: Database, postgres: TestPostgres) -> Past:
    return Past(postgres, random.Random(5))


def furnish(past: Past) -> None:
    """Sixty events of two customers, with seven webhooks, and deliveries that stand anywhere or do not exist."""
    chance = past.random
    statuses = [*WebhookStatus, WebhookStatus.ACTIVE, WebhookStatus.ACTIVE]
    for status in statuses:
        past.add_webhook(status=status, patterns=chance.sample(PATTERNS, 2))
    past.add_webhook(customer_id=CUSTOMER + 1)
    for _ in range(60):
        event = past.add_event(
            chance.uniform(0, 3600),
            CUSTOMER + (chance.random() < 0.1),
            chance.choice(TYPES),
            chance.choice([-3.0, 0.001, 0.5, 30.0]),
            is_test=chance.random() < 0.1,
        )
        for webhook_id, (customer_id, _, _) in past.webhooks.items():
            if customer_id == event.customer_id and chance.random() < 0.7:
                history = chance.choice([["unlogged"], ["pending"], *([status] for status in ENDED)])
                if history != ["unlogged"]:
                    history = [*chance.choices(["pending", *ENDED], k=chance.randint(0, 2)), *history]
                past.stands(event, webhook_id, *history)


def random_spec(past: Past) -> ReplaySpec:
    chance, now = past.random, datetime.now(UTC)
    start_time = now - timedelta(seconds=chance.uniform(0, 4000))
    return spec(
        customer_id=chance.choice([CUSTOMER, CUSTOMER, CUSTOMER + 1, CUSTOMER + 2]),
        webhook_ids=chance.sample(list(past.webhooks), chance.choice([0, 0, 1, 3])),
        event_types=chance.sample(PATTERNS, chance.choice([0, 0, 1, 2])),
        statuses=chance.sample([DeliveryStatus(status) for status in ENDED], chance.randint(0, 3)),
        include_undelivered=chance.random() < 0.5,
        start_time=start_time,
        end_time=start_time + timedelta(seconds=chance.uniform(0, 4000)),
    )


@pytest.mark.slow
async def test_a_replay_chooses_exactly_what_the_model_chooses(database: Database, past: Past) -> None:
    furnish(past)
    sizes: set[int] = set()
    for _ in range(80):
        wanted = random_spec(past)
        replay = await started(database, wanted)
        await run_through(database, replay, past.random.choice([4, 20, 500]), past.random.choice([2, 1000]))
        expected = past.chosen(wanted)
        assert past.commanded() == sorted(expected), wanted
        found = await rows.get(database, wanted.customer_id, replay.replay_id)
        assert (found.delivery_count, found.skipped_count) == (len(expected), 0)
        assert await selection.count(database, wanted, 60) == Count(len(expected), None)
        sizes.add(len(expected))
        past.postgres.rows("DELETE FROM commands")
        past.postgres.rows("DELETE FROM replays")
    assert len(sizes) > 10, "the replays differ"


@pytest.mark.parametrize(("events_max", "room"), [(1, 1), (7, 3), (500, 1), (500, 10), (500, 1000)])
async def test_however_small_the_steps_the_same_is_commanded(
    database: Database, past: Past, events_max: int, room: int
) -> None:
    furnish(past)
    wanted = spec(include_undelivered=True, statuses=(DeliveryStatus.FAILED, DeliveryStatus.SUCCEEDED))
    replay = await run_through(database, await started(database, wanted), events_max, room)
    expected = past.chosen(wanted)
    assert len(expected) > 20
    assert past.commanded() == sorted(expected)
    found = await rows.get(database, CUSTOMER, replay.replay_id)
    assert (found.delivery_count, found.pending_count, found.skipped_count) == (len(expected), len(expected), 0)
    assert found.progress_time == found.spec.end_time
    assert past.postgres.rows("SELECT DISTINCT replay_id, customer_id, shard = webhook_id % 64 FROM commands") == [
        (replay.replay_id, CUSTOMER, True)
    ]


def test_a_choice_is_cut_to_what_fits_and_goes_on_after_that() -> None:
    first, second, last = UUID(int=1), UUID(int=2), UUID(int=9)
    choice = Choice([(first, 1), (second, 1)], last)
    assert choice.fitting(2) is choice
    assert choice.fitting(1) == Choice([(first, 1)], first)
    nothing = Choice([], last)
    assert nothing.fitting(1) is nothing


async def test_events_that_nobody_matched_and_events_of_a_disabled_phase_are_sent_to_who_matches_now(
    database: Database, connection: LoopConnection, past: Past
) -> None:
    await publish(connection, nobody := new_event())
    webhook_id = await new_webhook(database)
    await database.rows("UPDATE webhooks SET status = 'disabled'")
    await publish(connection, disabled := new_event())
    await database.rows("UPDATE webhooks SET status = 'active'")
    await publish(connection, new_event())
    replay = await started(database, spec(include_undelivered=True, statuses=()))
    await run_through(database, replay)
    assert past.commanded() == [(nobody.event_id, webhook_id), (disabled.event_id, webhook_id)]


async def test_every_event_that_was_acknowledged_before_the_call_is_of_a_window_that_ends_with_it(
    database: Database, connection: LoopConnection, past: Past
) -> None:
    await publish(connection, *(events := [new_event() for _ in range(20)]))
    await new_webhook(database)
    until_now = spec(include_undelivered=True).ending_by(await rows.now(database))
    await publish(connection, new_event())
    assert await selection.count(database, until_now, 60) == Count(len(events), None)


async def test_a_count_whose_time_is_up_tells_how_far_it_came(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PAIRS_MAX", 8)
    past.add_webhook()
    past.add_webhook()
    events = [past.add_event(1000 - number) for number in range(10)]
    counted = await selection.count(database, spec(include_undelivered=True), 0)
    assert counted == Count(8, events[3].event_id), "all of the first four events, to both"
    assert past.commanded() == []


async def test_many_webhooks_make_batches_of_fewer_events(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "PAIRS_MAX", 10)
    webhook_ids = [past.add_webhook() for _ in range(4)]
    for number in range(5):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    choice = await selection.choose(database, wanted, webhook_ids, wanted.first_position, 500)
    assert len(choice.pairs) == 8
