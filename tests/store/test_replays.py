"""Replays as rows: their numbers add up at every moment, how they end, how they are made and found."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.replays import ALL_SHARDS, Past, run_through, spec, started, step, turns, unsettled
from tests.support.store import AUDIT, CUSTOMER
from webhook_grpc.domain.errors import AlreadyExists, FailedPrecondition, NotFound, QuotaExceeded
from webhook_grpc.domain.replay import Replay, ReplayStatus
from webhook_grpc.store.db import Database
from webhook_grpc.store.replays import progress, rows


@pytest.fixture
def past(database: Database, postgres: TestPostgres) -> Past:
    return Past(postgres, random.Random(5))


def adds_up(replay: Replay) -> bool:
    ended = replay.succeeded_count + replay.failed_count + replay.cancelled_count
    return replay.delivery_count == replay.pending_count + ended + replay.skipped_count


# --- numbers, and how it ends ----------------------------------------------------------------------------------------


async def test_the_numbers_add_up_at_every_step_and_stay_when_it_has_ended(database: Database, past: Past) -> None:
    webhook_id = past.add_webhook()
    for number in range(8):
        past.stands(past.add_event(1000 - number), webhook_id, "failed")
    replay = await started(database, spec())

    async def now() -> Replay:
        found = await rows.get(database, CUSTOMER, replay.replay_id)
        assert adds_up(found), found
        return found

    await run_through(database, replay)
    assert (await now()).pending_count == 8
    past.carry_out(5)
    assert (await now()).pending_count == 8, "three commands and five rows of the outbox"
    assert await progress.finish(database, replay.replay_id) is None
    past.end("succeeded", 2)
    past.end("failed", 1)
    past.end("expired", 1)
    past.postgres.rows("UPDATE replays SET skipped_count = 1")  # as the owner does for a command that is for nothing
    past.postgres.rows("DELETE FROM commands WHERE event_id = (SELECT max(event_id::text)::uuid FROM commands)")
    found = await now()
    assert (found.pending_count, found.succeeded_count, found.failed_count, found.cancelled_count) == (3, 2, 1, 1)
    past.carry_out()
    assert await progress.finish(database, replay.replay_id) is None
    past.end("cancelled")
    assert (await now()).status is ReplayStatus.RUNNING
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.COMPLETED
    assert await progress.finish(database, replay.replay_id) is None
    ended = await now()
    assert ended.status is ReplayStatus.COMPLETED
    assert ended.finish_time is not None
    assert (ended.succeeded_count, ended.failed_count, ended.cancelled_count, ended.skipped_count) == (2, 1, 4, 1)
    past.postgres.rows("DELETE FROM attempts")  # the log is not kept for ever
    assert await now() == ended
    assert await progress.unsettled(database, ALL_SHARDS, 0) == []


async def test_a_replay_has_not_ended_while_a_webhook_is_left_though_nothing_waits(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    past.add_webhook()
    replay = await started(database, spec())
    for turn in await turns(database, replay):
        assert await progress.finish(database, replay.replay_id) is None
        await step(database, turn)
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.COMPLETED


async def test_cancelling_leaves_what_is_not_begun_and_cancels_what_is(database: Database, past: Past) -> None:
    past.add_webhook()
    events = [past.add_event(1000 - number) for number in range(6)]
    replay = await started(database, spec(include_undelivered=True))
    [turn] = await turns(database, replay)
    await step(database, turn, 5)
    past.carry_out(3)
    past.end("succeeded", 1)
    cancelled, shards = await rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT)
    assert list(shards) == [max(past.webhooks) % 64]
    assert cancelled.status is ReplayStatus.CANCELLED
    assert cancelled.finish_time is not None
    assert (cancelled.cancelled_count, cancelled.pending_count, cancelled.succeeded_count) == (2, 2, 1)
    assert adds_up(cancelled)
    assert past.commanded() == []
    assert [event_id for event_id, _ in past.commanded("cancel")] == [event.event_id for event in events[1:3]]
    assert await progress.finish(database, replay.replay_id) is None, "two are still to be cancelled"
    past.carry_out()
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.CANCELLED
    ended = await rows.get(database, CUSTOMER, replay.replay_id)
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
        async with slowness.timeout(20):  # an owner that carries out others of its commands must not wait for it
            cancelled, _ = await rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT)
        assert await progress.finish(database, replay.replay_id) is None
        owner.commit()
    assert (cancelled.pending_count, cancelled.cancelled_count) == (1, 0)
    assert past.commanded("cancel") == [], "it came too late for this"
    assert await progress.finish(database, replay.replay_id) is None
    left = await unsettled(database, replay.replay_id)
    assert (left.status, left.is_waiting) == (ReplayStatus.CANCELLED, True)
    assert await progress.sweep(database, replay.replay_id) == [webhook_id % 64]
    assert past.commanded("cancel") == [(event.event_id, webhook_id)]
    past.carry_out()
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.CANCELLED


async def test_what_is_chosen_while_a_replay_is_cancelled_is_dropped_too(database: Database, past: Past) -> None:
    webhook_id = past.add_webhook()
    event = past.add_event(1000)
    replay = await started(database, spec(include_undelivered=True))
    [turn] = await turns(database, replay)
    with psycopg.connect(past.postgres.url) as runner:
        runner.execute(
            progress.ADVANCE_REPLAY,
            {
                "replay_id": replay.replay_id,
                "webhook_id": webhook_id,
                "expected": turn.position,
                "position": event.event_id,
                "event_id": [event.event_id],
                "shard_count": 64,
            },
        )
        cancelling = asyncio.create_task(rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT))
        await waits_for_a_lock(database)
        runner.commit()
    cancelled, _ = await cancelling
    assert (cancelled.delivery_count, cancelled.cancelled_count, cancelled.pending_count) == (1, 1, 0)
    assert past.commanded() == []
    [moved] = await turns(database, replay)
    assert await step(database, moved) is None, "a cancelled one goes on no more"


async def waits_for_a_lock(database: Database) -> None:
    async with slowness.timeout(20):
        while await database.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            await asyncio.sleep(0.005)


async def test_a_running_replay_is_not_swept_and_one_that_has_ended_is_not_cancelled(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    past.add_event(1000)
    replay = await run_through(database, await started(database, spec(include_undelivered=True)))
    await progress.sweep(database, replay.replay_id)
    assert len(past.commanded()) == 1
    with pytest.raises(NotFound):
        await rows.cancel(database, CUSTOMER + 1, replay.replay_id, audit=AUDIT)
    await rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT)
    with pytest.raises(FailedPrecondition) as refused:
        await rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT)
    assert refused.value.reason == "REPLAY_STATUS"


# --- made, found -----------------------------------------------------------------------------------------------------


async def test_the_same_request_id_gives_the_same_replay_and_another_content_is_refused(database: Database) -> None:
    wanted = spec()
    first = await rows.create(database, wanted, "again", 1, 10, audit=AUDIT)
    assert await rows.create(database, wanted, "again", 1, 10, audit=AUDIT) == first
    assert await rows.created_before(database, CUSTOMER, "again", 1) == first
    with pytest.raises(AlreadyExists):
        await rows.create(database, wanted, "again", 2, 10, audit=AUDIT)
    assert await rows.created_before(database, CUSTOMER + 1, "again", 1) is None
    assert await rows.created_before(database, CUSTOMER, None, 1) is None


async def test_a_repeated_request_at_the_quota_is_answered(database: Database) -> None:
    first = await rows.create(database, spec(), "again", 1, 1, audit=AUDIT)
    assert await rows.create(database, spec(), "again", 1, 1, audit=AUDIT) == first


async def test_a_customer_has_only_so_many_running(database: Database) -> None:
    first = await rows.create(database, spec(), None, None, 2, audit=AUDIT)
    await rows.create(database, spec(), None, None, 2, audit=AUDIT)
    with pytest.raises(QuotaExceeded):
        await rows.create(database, spec(), None, None, 2, audit=AUDIT)
    await rows.create(database, spec(customer_id=CUSTOMER + 1), None, None, 2, audit=AUDIT)
    await rows.cancel(database, CUSTOMER, first.replay_id, audit=AUDIT)
    await rows.create(database, spec(), None, None, 2, audit=AUDIT)


async def test_whoever_deletes_a_replay_deletes_where_it_stands(database: Database, past: Past) -> None:
    past.add_webhook()
    deleted, kept = await started(database, spec()), await started(database, spec())
    await database.rows("DELETE FROM replays WHERE replay_id = %(id)s", {"id": deleted.replay_id})
    assert past.postgres.rows("SELECT replay_id FROM replay_webhooks") == [(kept.replay_id,)]


async def test_pages_of_replays_join_newest_first(database: Database) -> None:
    made = [
        await rows.create(database, spec(customer_id=CUSTOMER + n % 2), None, None, 10, audit=AUDIT) for n in range(6)
    ]
    await rows.cancel(database, CUSTOMER, made[2].replay_id, audit=AUDIT)
    before, joined = 2**63 - 1, list[int]()
    while page := await rows.list_page(database, CUSTOMER, [], before, 2):
        joined += [replay.replay_id for replay in page]
        before = joined[-1]
    assert joined == [made[4].replay_id, made[2].replay_id, made[0].replay_id]
    everybodys = await rows.list_page(database, None, [ReplayStatus.RUNNING], 2**63 - 1, 10)
    assert [r.replay_id for r in everybodys] == [m.replay_id for m in reversed(made) if m is not made[2]]
    assert everybodys[0] == await rows.get(database, CUSTOMER + 1, made[5].replay_id)
