"""How replays go on: to each webhook by itself, and once."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime

import psycopg
import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.replays import ALL_SHARDS, Past, run_through, spec, started, step, turns, unsettled
from tests.support.store import AUDIT, CUSTOMER
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.domain.replay import ReplayStatus
from webhook_grpc.store.db import Database
from webhook_grpc.store.replays import progress, rows, selection
from webhook_grpc.store.replays.selection import Count


@pytest.fixture
def past(database: Database, postgres: TestPostgres) -> Past:
    return Past(postgres, random.Random(5))


# --- to each webhook by itself ---------------------------------------------------------------------------------------


async def test_a_webhook_of_which_enough_waits_has_no_turn_and_the_others_go_on(database: Database, past: Past) -> None:
    stuck, lively = past.add_webhook(), past.add_webhook(status=WebhookStatus.PAUSED)
    for number in range(9):
        past.add_event(1000 - number)
    replay = await started(database, spec(include_undelivered=True))
    first, _ = await turns(database, replay, 6)
    assert (first.webhook_id, first.pending_count) == (stuck, 0)
    assert await step(database, first, room=4) == 4
    for carried_out in (0, 2, 2):  # what waits as a command, and what waits in the outbox
        past.carry_out(carried_out)
        [other] = await turns(database, replay, 6)
        assert (other.webhook_id, other.pending_count) == (lively, 0)
    both = await turns(database, replay, 8)
    assert {turn.webhook_id: turn.pending_count for turn in both} == {stuck: 4, lively: 0}
    assert await step(database, other) == 9
    assert await turns(database, replay, 6) == []
    past.end("failed", 1)
    [again] = await turns(database, replay, 6)
    assert (again.webhook_id, again.pending_count) == (stuck, 3)


async def test_of_many_webhooks_those_that_have_waited_longest_are_next(
    database: Database, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WEBHOOKS_PER_LOOK", 2)
    webhook_ids = [past.add_webhook() for _ in range(5)]
    for number in range(9):
        past.add_event(1000 - number)
    replay = await started(database, spec(include_undelivered=True))
    seen = list[int]()
    for _ in range(5):
        found = await turns(database, replay)
        assert len(found) == 2
        for turn in found:
            seen.append(turn.webhook_id)
            await step(database, turn, events_max=1)
    assert seen == webhook_ids * 2


async def test_progress_is_that_of_the_webhook_that_has_come_least_far(database: Database, past: Past) -> None:
    slow, quick, gone = [past.add_webhook() for _ in range(3)]
    events = [past.add_event(1000 - number) for number in range(9)]
    replay = await started(database, spec(include_undelivered=True))

    async def progress_time() -> datetime:
        return (await rows.get(database, CUSTOMER, replay.replay_id)).progress_time

    turn_of = {turn.webhook_id: turn for turn in await turns(database, replay)}
    await step(database, turn_of[slow], 3)
    await step(database, turn_of[quick], 6)
    assert await progress_time() == replay.spec.start_time, "one has not begun"
    past.postgres.rows("UPDATE webhooks SET status = 'deleted' WHERE id = %s", [gone])
    turn_of = {turn.webhook_id: turn for turn in await turns(database, replay)}
    assert [turn.is_switched_on for turn in turn_of.values()].count(False) == 1
    assert await step(database, turn_of[gone]) == 0
    slow_time = replay.spec.progress_time(events[2].event_id)
    assert await progress_time() == slow_time, "nobody waits for what was deleted"
    cancelled, _ = await rows.cancel(database, CUSTOMER, replay.replay_id, audit=AUDIT)
    assert cancelled.progress_time == slow_time
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.CANCELLED
    assert await progress_time() == slow_time
    assert past.postgres.rows("SELECT count(*) FROM replay_webhooks") == [(0,)]


@pytest.mark.parametrize("status", ["disabled", "deleted"])
async def test_with_a_webhook_that_is_switched_off_a_replay_is_through(
    database: Database, past: Past, status: str
) -> None:
    webhook_id, other = past.add_webhook(), past.add_webhook()
    for number in range(6):
        past.add_event(1000 - number)
    replay = await started(database, spec(include_undelivered=True))
    for turn in await turns(database, replay):
        await step(database, turn, 2)
    past.postgres.rows("UPDATE webhooks SET status = %s WHERE id = %s", [status, webhook_id])
    await run_through(database, replay)
    past.postgres.rows("UPDATE webhooks SET status = 'active'")
    assert (await unsettled(database, replay.replay_id)).is_exhausted, "it does not come back"
    chosen = [webhook_id for _, webhook_id in past.commanded()]
    assert (chosen.count(webhook_id), chosen.count(other)) == (2, 6)


async def test_a_replay_is_for_the_webhooks_that_there_were_when_it_was_made(database: Database, past: Past) -> None:
    before, switched_off = past.add_webhook(), past.add_webhook(status=WebhookStatus.DISABLED)
    past.add_event(1000)
    replay = await started(database, spec(include_undelivered=True))
    past.add_webhook()
    past.postgres.rows("UPDATE webhooks SET status = 'active' WHERE id = %s", [switched_off])
    await run_through(database, replay)
    assert [webhook_id for _, webhook_id in past.commanded()] == [before]


async def test_a_replay_for_nobody_is_through_at_once(database: Database) -> None:
    replay = await started(database, spec())
    assert (replay.is_exhausted, replay.is_waiting) == (True, False)
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.COMPLETED
    found = await rows.get(database, CUSTOMER, replay.replay_id)
    assert found.progress_time == found.spec.end_time
    assert await selection.count(database, spec(), 60) == Count(0, None)


# --- once ------------------------------------------------------------------------------------------------------------


async def test_two_runners_and_a_runner_that_repeats_itself_choose_each_delivery_once(
    database: Database, past: Past
) -> None:
    webhook_id = past.add_webhook()
    for number in range(6):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    replay = await started(database, wanted)
    [turn] = await turns(database, replay)
    stale = await selection.choose(database, wanted, [webhook_id], turn.position, 4)
    assert await progress.advance(database, turn, stale) == 4
    past.carry_out()  # a command that is gone must not come again
    past.end("failed")
    assert await progress.advance(database, turn, stale) is None, "its answer was lost, and it is repeated"
    assert await step(database, turn, 2) is None, "another runner stands where it began"
    assert past.commanded() == []
    [last] = await turns(database, replay)
    await run_through(database, replay)
    assert await step(database, last) is None, "another runner has come to the end"
    assert len(past.commanded()) == 2
    past.carry_out()
    past.end("succeeded")
    assert await progress.finish(database, replay.replay_id) is ReplayStatus.COMPLETED
    found = await rows.get(database, CUSTOMER, replay.replay_id)
    assert (found.delivery_count, found.failed_count, found.succeeded_count) == (6, 4, 2)


async def test_runners_at_the_same_time_choose_each_delivery_once(database: Database, past: Past) -> None:
    past.add_webhook()
    past.add_webhook()
    for number in range(40):
        past.add_event(1000 - number)
    wanted = spec(include_undelivered=True)
    begun = await started(database, wanted)

    async def runner() -> None:
        while found := await turns(database, begun):
            for turn in found:
                await step(database, turn, 3)

    await asyncio.gather(*(runner() for _ in range(4)))
    assert past.commanded() == past.chosen(wanted)
    assert (await rows.get(database, CUSTOMER, begun.replay_id)).delivery_count == 80


async def test_what_another_replay_is_about_to_begin_anew_is_skipped(database: Database, past: Past) -> None:
    past.add_webhook()
    past.add_event(1000)
    wanted = spec(include_undelivered=True)
    first, second = await started(database, wanted), await rows.create(database, wanted, None, None, 10, audit=AUDIT)
    await run_through(database, first)
    await run_through(database, await unsettled(database, second.replay_id))
    assert len(past.commanded()) == 1
    found = await rows.get(database, CUSTOMER, second.replay_id)
    assert (found.delivery_count, found.skipped_count, found.pending_count) == (1, 1, 0)
    assert await progress.finish(database, second.replay_id) is ReplayStatus.COMPLETED


async def test_all_replays_of_a_customer_are_attended_to_by_who_owns_their_shards(
    database: Database, past: Past
) -> None:
    past.add_webhook()
    past.add_event(1000)
    wanted = spec(include_undelivered=True)
    first, second = [await rows.create(database, wanted, None, None, 10, audit=AUDIT) for _ in range(2)]
    other = await rows.create(database, spec(customer_id=CUSTOMER + 1), None, None, 10, audit=AUDIT)

    async def attended_to() -> list[int]:
        return [replay.replay_id for replay in await progress.unsettled(database, ALL_SHARDS, 0)]

    assert await attended_to() == [first.replay_id, second.replay_id, other.replay_id]
    assert await progress.unsettled(database, [first.replay_id % 64], first.replay_id) == []
    shard = [second.replay_id % 64]
    assert [replay.replay_id for replay in await progress.unsettled(database, shard, 0)] == [second.replay_id]


async def test_a_step_does_not_wait_for_an_owner_that_carries_out_another_replays_command(
    database: Database, past: Past
) -> None:
    """The owner may wait for this replay's row, to count what it skipped."""
    past.add_webhook()
    past.add_event(1000)
    await run_through(database, await started(database, spec(include_undelivered=True)))
    replay = await started(database, spec(include_undelivered=True))
    [turn] = await turns(database, replay)
    with psycopg.connect(past.postgres.url) as owner:
        owner.execute("DELETE FROM commands")
        async with slowness.timeout(20):
            assert await step(database, turn) == 0
        owner.execute("UPDATE replays SET skipped_count = skipped_count")
    after = await rows.get(database, CUSTOMER, replay.replay_id)
    assert (after.delivery_count, after.skipped_count) == (1, 1)
