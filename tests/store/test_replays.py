"""Replays: what they choose, that they choose it once, and that their numbers add up at every moment."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres import TestPostgres
from tests.support.replays import ENDED, Past, spec
from tests.support.store import CUSTOMER, new_event, new_webhook, publish
from webhook_grpc.domain.errors import AlreadyExists, FailedPrecondition, NotFound, QuotaExceeded
from webhook_grpc.domain.model import DeliveryStatus, WebhookStatus
from webhook_grpc.domain.replay import Replay, ReplaySpec, ReplayStatus
from webhook_grpc.store import replaying, replays
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.replaying import Choice, UnsettledReplay

ALL_SHARDS = range(64)
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


async def started(database: Database, wanted: ReplaySpec, **fields: Any) -> UnsettledReplay:
    """A new replay, as its runner sees it."""
    replay = await replays.create(database, wanted, fields.get("request_id"), fields.get("fingerprint"), 10)
    return await unsettled(database, replay.replay_id)


async def unsettled(database: Database, replay_id: int) -> UnsettledReplay:
    [found] = [r for r in await replaying.unsettled(database, ALL_SHARDS, 0) if r.replay_id == replay_id]
    return found


async def run_through(
    database: Database, replay: UnsettledReplay, events_max: int = 500, room: int = 10**6
) -> UnsettledReplay:
    """Carries a replay on to the end of its window."""
    while not replay.is_exhausted:
        choice = (await replaying.choose(database, replay.spec, replay.position, events_max)).fitting(room)
        assert await replaying.advance(database, replay, choice) is not None
        replay = replaying.advanced(replay, choice)
    return replay


def adds_up(replay: Replay) -> bool:
    ended = replay.succeeded_count + replay.failed_count + replay.cancelled_count
    return replay.delivery_count == replay.pending_count + ended + replay.skipped_count


# --- what is chosen --------------------------------------------------------------------------------------------------


async def test_a_replay_chooses_exactly_what_the_model_chooses(database: Database, past: Past) -> None:
    furnish(past)
    sizes: set[int] = set()
    for _ in range(120):
        wanted, position, pairs = random_spec(past), None, list[tuple[UUID, int]]()
        events_max = past.random.choice([1, 3, 20, 500])
        position, is_exhausted = wanted.first_position, False
        while not is_exhausted:
            choice = await replaying.choose(database, wanted, position, events_max)
            pairs += choice.pairs
            position, is_exhausted = choice.position, choice.is_exhausted
        assert pairs == past.chosen(wanted), wanted
        counted = await replaying.count(database, wanted, 60)
        assert (counted.delivery_count, counted.is_exhausted) == (len(pairs), True)
        sizes.add(len(pairs))
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
    assert replay.pending_count == len(expected)
    found = await replays.get(database, CUSTOMER, replay.replay_id)
    assert (found.delivery_count, found.pending_count, found.skipped_count) == (len(expected), len(expected), 0)
    assert found.progress_time == found.spec.end_time
    assert past.postgres.rows("SELECT DISTINCT replay_id, customer_id, shard = webhook_id % 64 FROM commands") == [
        (replay.replay_id, CUSTOMER, True)
    ]


def test_a_choice_is_cut_between_events_and_never_to_nothing() -> None:
    first, second, last = UUID(int=1), UUID(int=2), UUID(int=9)
    choice = Choice([(first, 1), (first, 2), (second, 1)], last, is_exhausted=False)
    assert choice.fitting(3) is choice
    assert choice.fitting(2) == Choice([(first, 1), (first, 2)], first, is_exhausted=False)
    assert choice.fitting(1) == Choice([(first, 1), (first, 2)], first, is_exhausted=False)
    nothing = Choice([], last, is_exhausted=False)
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
    until_now = spec(include_undelivered=True).ending_by(await replays.now(database))
    await publish(connection, new_event())
    counted = await replaying.count(database, until_now, 60)
    assert counted.delivery_count == len(events)


async def test_a_count_whose_time_is_up_tells_how_far_it_came(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "EVENTS_MAX", 4)
    past.add_webhook()
    events = [past.add_event(1000 - number) for number in range(10)]
    wanted = spec(include_undelivered=True)
    counted = await replaying.count(database, wanted, 0)
    assert (counted.delivery_count, counted.is_exhausted) == (4, False)
    progress_time = wanted.progress_time(counted.position, is_exhausted=False)
    assert abs(progress_time - events[3].create_time) < timedelta(seconds=0.1)
    assert past.commanded() == []


async def test_many_webhooks_make_batches_of_fewer_events(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "PAIRS_MAX", 10)
    for _ in range(4):
        past.add_webhook()
    for number in range(5):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    choice = await replaying.choose(database, wanted, wanted.first_position, 500)
    assert len(choice.pairs) == 8


# --- once ------------------------------------------------------------------------------------------------------------


async def test_two_runners_and_a_runner_that_repeats_itself_choose_each_delivery_once(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    for number in range(6):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    replay = await started(database, wanted)
    stale = await replaying.choose(database, wanted, replay.position, 4)
    assert await replaying.advance(database, replay, stale)
    past.carry_out()  # a command that is gone must not come again
    past.end("failed")
    assert await replaying.advance(database, replay, stale) is None, "its answer was lost, and it is repeated"
    other = await replaying.choose(database, wanted, replay.position, 2)
    assert await replaying.advance(database, replay, other) is None, "another runner stands where it began"
    assert past.commanded() == []
    replay = await run_through(database, await unsettled(database, replay.replay_id))
    assert len(past.commanded()) == 2
    past.carry_out()
    past.end("succeeded")
    assert await replaying.finish(database, replay.replay_id) is ReplayStatus.COMPLETED
    found = await replays.get(database, CUSTOMER, replay.replay_id)
    assert (found.delivery_count, found.failed_count, found.succeeded_count) == (6, 4, 2)


async def test_runners_at_the_same_time_choose_each_delivery_once(database: Database, past: Past) -> None:
    past.add_webhook()
    for number in range(40):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    begun = await started(database, wanted)

    async def runner() -> None:
        while not (replay := await unsettled(database, begun.replay_id)).is_exhausted:
            choice = await replaying.choose(database, wanted, replay.position, 3)
            await replaying.advance(database, replay, choice)

    await asyncio.gather(*(runner() for _ in range(4)))
    assert past.commanded() == past.chosen(wanted)
    assert (await replays.get(database, CUSTOMER, begun.replay_id)).delivery_count == 40


async def test_what_another_replay_is_about_to_begin_anew_is_skipped(database: Database, past: Past) -> None:
    past.add_webhook()
    past.add_event(1000)
    wanted = spec(include_undelivered=True)
    first, second = await started(database, wanted), await replays.create(database, wanted, None, None, 10)
    await run_through(database, first)
    await run_through(database, await unsettled(database, second.replay_id))
    assert len(past.commanded()) == 1
    found = await replays.get(database, CUSTOMER, second.replay_id)
    assert (found.delivery_count, found.skipped_count, found.pending_count) == (1, 1, 0)
    assert await replaying.finish(database, second.replay_id) is ReplayStatus.COMPLETED


async def test_of_one_customer_only_the_oldest_that_has_events_left_is_attended_to(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    past.add_event(1000)
    wanted = spec(include_undelivered=True)
    first, second = [await replays.create(database, wanted, None, None, 10) for _ in range(2)]
    other = await replays.create(database, spec(customer_id=CUSTOMER + 1), None, None, 10)

    async def attended_to() -> list[int]:
        return [replay.replay_id for replay in await replaying.unsettled(database, ALL_SHARDS, 0)]

    assert await attended_to() == [first.replay_id, other.replay_id]
    await run_through(database, await unsettled(database, first.replay_id))
    assert await attended_to() == [first.replay_id, second.replay_id, other.replay_id]
    assert await replaying.unsettled(database, [first.replay_id % 64], first.replay_id) == []
    shard = [second.replay_id % 64]
    assert [replay.replay_id for replay in await replaying.unsettled(database, shard, 0)] == [second.replay_id]


# --- numbers, and how it ends ----------------------------------------------------------------------------------------


async def test_the_numbers_add_up_at_every_step_and_stay_when_it_has_ended(database: Database, past: Past) -> None:
    webhook_id = past.add_webhook()
    for number in range(8):
        past.stands(past.add_event(1000 - number), webhook_id, "failed")
    replay = await started(database, spec())

    async def now() -> Replay:
        found = await replays.get(database, CUSTOMER, replay.replay_id)
        assert adds_up(found), found
        return found

    await run_through(database, replay)
    assert (await now()).pending_count == 8
    past.carry_out(5)
    assert (await now()).pending_count == 8, "three commands and five rows of the outbox"
    assert await replaying.finish(database, replay.replay_id) is None
    past.end("succeeded", 2)
    past.end("failed", 1)
    past.end("expired", 1)
    past.postgres.rows("UPDATE replays SET skipped_count = 1")  # as the owner does for a command that is for nothing
    past.postgres.rows("DELETE FROM commands WHERE event_id = (SELECT max(event_id::text)::uuid FROM commands)")
    found = await now()
    assert (found.pending_count, found.succeeded_count, found.failed_count, found.cancelled_count) == (3, 2, 1, 1)
    past.carry_out()
    assert await replaying.finish(database, replay.replay_id) is None
    past.end("cancelled")
    assert (await now()).status is ReplayStatus.RUNNING
    assert await replaying.finish(database, replay.replay_id) is ReplayStatus.COMPLETED
    assert await replaying.finish(database, replay.replay_id) is None
    ended = await now()
    assert ended.status is ReplayStatus.COMPLETED
    assert ended.finish_time is not None
    assert (ended.succeeded_count, ended.failed_count, ended.cancelled_count, ended.skipped_count) == (2, 1, 4, 1)
    past.postgres.rows("DELETE FROM attempts")  # the log is not kept for ever
    assert await now() == ended
    assert await replaying.unsettled(database, ALL_SHARDS, 0) == []


async def test_cancelling_leaves_what_is_not_begun_and_cancels_what_is(database: Database, past: Past) -> None:
    past.add_webhook()
    events = [past.add_event(1000 - number) for number in range(6)]
    replay = await started(database, spec(include_undelivered=True))
    choice = await replaying.choose(database, replay.spec, replay.position, 5)
    await replaying.advance(database, replay, choice)
    past.carry_out(3)
    past.end("succeeded", 1)
    cancelled, shards = await replays.cancel(database, CUSTOMER, replay.replay_id)
    assert list(shards) == [max(past.webhooks) % 64]
    assert cancelled.status is ReplayStatus.CANCELLED
    assert cancelled.finish_time is not None
    assert (cancelled.cancelled_count, cancelled.pending_count, cancelled.succeeded_count) == (2, 2, 1)
    assert adds_up(cancelled)
    assert past.commanded() == []
    assert [event_id for event_id, _ in past.commanded("cancel")] == [event.event_id for event in events[1:3]]
    assert await replaying.finish(database, replay.replay_id) is None, "two are still to be cancelled"
    past.carry_out()
    assert await replaying.finish(database, replay.replay_id) is ReplayStatus.CANCELLED
    ended = await replays.get(database, CUSTOMER, replay.replay_id)
    assert (ended.delivery_count, ended.succeeded_count, ended.cancelled_count, ended.pending_count) == (5, 1, 4, 0)
    assert ended.finish_time == cancelled.finish_time


async def test_a_command_that_is_carried_out_while_its_replay_is_cancelled_is_cancelled_after_all(
    database: Database, past: Past
) -> None:
    webhook_id = past.add_webhook()
    event = past.add_event(1000)
    replay = await run_through(database, await started(database, spec(include_undelivered=True)))
    with psycopg.connect(past.postgres.url) as owner:
        owner.execute("DELETE FROM commands")
        owner.execute(
            "INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger, replay_id)"
            " VALUES (%s %% 64, %s, now(), %s, %s, 0, 'replay', %s)",
            [webhook_id, webhook_id, event.event_id, CUSTOMER, replay.replay_id],
        )
        cancelling = asyncio.create_task(replays.cancel(database, CUSTOMER, replay.replay_id))
        await waits_for_a_lock(database)
        assert await replaying.finish(database, replay.replay_id) is None
        owner.commit()
    cancelled, _ = await cancelling
    assert (cancelled.pending_count, cancelled.cancelled_count) == (1, 0)
    assert past.commanded("cancel") == [], "it came too late for this"
    assert await replaying.finish(database, replay.replay_id) is None
    left = await unsettled(database, replay.replay_id)
    assert (left.status, left.pending_count) == (ReplayStatus.CANCELLED, 1)
    assert await replaying.sweep(database, replay.replay_id) == [webhook_id % 64]
    assert past.commanded("cancel") == [(event.event_id, webhook_id)]
    past.carry_out()
    assert await replaying.finish(database, replay.replay_id) is ReplayStatus.CANCELLED


async def test_what_is_chosen_while_a_replay_is_cancelled_is_dropped_too(database: Database, past: Past) -> None:
    webhook_id = past.add_webhook()
    event = past.add_event(1000)
    replay = await started(database, spec(include_undelivered=True))
    with psycopg.connect(past.postgres.url) as runner:
        runner.execute(
            replaying.ADVANCE,
            {
                "replay_id": replay.replay_id,
                "expected": replay.position,
                "position": event.event_id,
                "is_exhausted": False,
                "webhook_id": [webhook_id],
                "event_id": [event.event_id],
                "shard_count": 64,
            },
        )
        cancelling = asyncio.create_task(replays.cancel(database, CUSTOMER, replay.replay_id))
        await waits_for_a_lock(database)
        runner.commit()
    cancelled, _ = await cancelling
    assert (cancelled.delivery_count, cancelled.cancelled_count, cancelled.pending_count) == (1, 1, 0)
    assert past.commanded() == []
    choice = await replaying.choose(database, replay.spec, event.event_id, 5)
    moved = UnsettledReplay(
        replay.replay_id, replay.spec, ReplayStatus.RUNNING, event.event_id, is_exhausted=False, pending_count=0
    )
    assert await replaying.advance(database, moved, choice) is None, "a cancelled one goes on no more"


async def waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(20):
        while await database.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            await asyncio.sleep(0.005)


async def test_a_running_replay_is_not_swept_and_one_that_has_ended_is_not_cancelled(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    past.add_event(1000)
    replay = await run_through(database, await started(database, spec(include_undelivered=True)))
    await replaying.sweep(database, replay.replay_id)
    assert len(past.commanded()) == 1
    with pytest.raises(NotFound):
        await replays.cancel(database, CUSTOMER + 1, replay.replay_id)
    await replays.cancel(database, CUSTOMER, replay.replay_id)
    with pytest.raises(FailedPrecondition) as refused:
        await replays.cancel(database, CUSTOMER, replay.replay_id)
    assert refused.value.reason == "REPLAY_STATUS"


# --- made, found -----------------------------------------------------------------------------------------------------


async def test_the_same_request_id_gives_the_same_replay_and_another_content_is_refused(database: Database) -> None:
    wanted = spec()
    first = await replays.create(database, wanted, "again", 1, 10)
    assert await replays.create(database, wanted, "again", 1, 10) == first
    assert await replays.created_before(database, CUSTOMER, "again", 1) == first
    with pytest.raises(AlreadyExists):
        await replays.create(database, wanted, "again", 2, 10)
    assert await replays.created_before(database, CUSTOMER + 1, "again", 1) is None
    assert await replays.created_before(database, CUSTOMER, None, 1) is None


async def test_a_repeated_request_at_the_quota_is_answered(database: Database) -> None:
    first = await replays.create(database, spec(), "again", 1, 1)
    assert await replays.create(database, spec(), "again", 1, 1) == first


async def test_a_customer_has_only_so_many_running(database: Database) -> None:
    first = await replays.create(database, spec(), None, None, 2)
    await replays.create(database, spec(), None, None, 2)
    with pytest.raises(QuotaExceeded):
        await replays.create(database, spec(), None, None, 2)
    await replays.create(database, spec(customer_id=CUSTOMER + 1), None, None, 2)
    await replays.cancel(database, CUSTOMER, first.replay_id)
    await replays.create(database, spec(), None, None, 2)


async def test_pages_of_replays_join_newest_first(database: Database) -> None:
    made = [await replays.create(database, spec(customer_id=CUSTOMER + n % 2), None, None, 10) for n in range(6)]
    await replays.cancel(database, CUSTOMER, made[2].replay_id)
    before, joined = 2**63 - 1, list[int]()
    while page := await replays.list_page(database, CUSTOMER, [], before, 2):
        joined += [replay.replay_id for replay in page]
        before = joined[-1]
    assert joined == [made[4].replay_id, made[2].replay_id, made[0].replay_id]
    everybodys = await replays.list_page(database, None, [ReplayStatus.RUNNING], 2**63 - 1, 10)
    assert [r.replay_id for r in everybodys] == [m.replay_id for m in reversed(made) if m is not made[2]]
    assert everybodys[0] == await replays.get(database, CUSTOMER + 1, made[5].replay_id)
