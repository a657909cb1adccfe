"""Replays from end to end: what receivers get, what callers see, and that nothing stops or doubles them."""

from __future__ import annotations

import asyncio
from typing import Any, LiteralString
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver, answer, answers
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory, ended
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.store.db import Queries
from webhook_grpc.store.replays import progress
from webhook_grpc.store.replays.progress import ReplayWebhook
from webhook_grpc.store.replays.selection import Choice

SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED
COMPLETED = replay_pb2.REPLAY_STATUS_COMPLETED
RUNNING = replay_pb2.REPLAY_STATUS_RUNNING


async def replay(service: Service, **fields: Any) -> replay_pb2.Replay:
    """Starts a replay of everything that was stored so far."""
    values: dict[str, Any] = {"customer_id": CUSTOMER, "start_time": just_now(), **fields}
    return await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=replay_pb2.Replay(**values)))


def just_now() -> Timestamp:
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.seconds -= 600
    return moment


async def until(service: Service, replay_id: int, **wanted: int) -> replay_pb2.Replay:
    """Looks until the replay is as wanted; its numbers must add up at every look."""
    async with slowness.timeout(30):
        while True:
            seen = await service.replay(replay_id)
            ended_count = seen.succeeded_count + seen.failed_count + seen.cancelled_count
            assert seen.delivery_count == seen.pending_count + ended_count + seen.skipped_count, seen
            if all(getattr(seen, name) == value for name, value in wanted.items()):
                return seen
            await asyncio.sleep(0.01)


async def until_rows(postgres: TestPostgres, statement: LiteralString, wanted: list[tuple[Any, ...]]) -> None:
    async with slowness.timeout(20):
        while postgres.rows(statement) != wanted:
            await asyncio.sleep(0.01)


async def set_paused(service: Service, webhook_id: int, *, paused: bool) -> None:
    if paused:
        await service.pause_webhook(webhook_id)
    else:
        await service.resume_webhook(webhook_id)


async def paused_webhook(service: Service, receiver: Receiver) -> int:
    webhook = await service.create_webhook(receiver.url())
    await set_paused(service, webhook.webhook_id, paused=True)
    return webhook.webhook_id


# --- what receivers get, and callers see -----------------------------------------------------------------------------


async def test_what_failed_is_sent_again_with_the_same_id_and_a_new_timestamp(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=())
    await service.create_webhook(receiver.on("/mended", answers(500, 500, 500, 200)))
    async with service.watching() as watch:
        event_ids = await service.publish_many(3)
        await watch.until_ended(3)
        await asyncio.sleep(1.1)  # a timestamp has whole seconds
        started = await replay(service)
        assert list(started.statuses) == [FAILED, CANCELLED, delivery_pb2.DELIVERY_STATUS_EXPIRED]
        seen = await watch.until(lambda seen: len(ended(seen)) == 6)
    first, again = receiver.requests[:3], receiver.requests[3:]
    assert {request.event_id for request in again} == set(event_ids)
    for before in first:
        [after] = [request for request in again if request.event_id == before.event_id]
        after.verify(SECRET)
        assert after.body == before.body
        assert int(after.headers["webhook-timestamp"]) > int(before.headers["webhook-timestamp"])
    told = [delivery for delivery in seen if delivery.replay_id == started.replay_id]
    assert {delivery.trigger for delivery in told} == {delivery_pb2.ATTEMPT_TRIGGER_REPLAY}
    assert [delivery.status for delivery in told].count(delivery_pb2.DELIVERY_STATUS_PENDING) == 3, "its progress"
    assert {delivery.attempt_count for delivery in ended(told)} == {2}
    done = await until(service, started.replay_id, status=COMPLETED)
    assert (done.delivery_count, done.succeeded_count, done.pending_count, done.failed_count) == (3, 3, 0, 0)
    assert done.progress_time == done.end_time
    assert done.HasField("finish_time")


async def test_events_that_nobody_asked_for_reach_who_asks_now(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    event_ids = [*await service.publish_many(3), (await service.publish(event_type="job.failed")).event_id]
    await service.create_webhook(receiver.url(), events=["job.completed"])
    await service.create_webhook(receiver.url(), events=["job.*"], customer_id=CUSTOMER + 1)
    started = await replay(service, include_undelivered=True)
    assert not started.statuses
    done = await until(service, started.replay_id, status=COMPLETED)
    assert (done.delivery_count, done.succeeded_count) == (3, 3)
    assert sorted(request.event_id for request in receiver.requests) == sorted(event_ids[:3])


async def test_a_replayed_attempt_that_fails_is_not_repeated(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start()
    await service.publish_many(4)
    await service.create_webhook(receiver.on("/down", answer(503)))
    started = await replay(service, include_undelivered=True)
    done = await until(service, started.replay_id, status=COMPLETED)
    assert (done.delivery_count, done.failed_count) == (4, 4)
    assert len(receiver.requests) == 4


async def test_what_was_deleted_by_the_time_it_is_its_turn_is_skipped(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    await service.publish_many(4)
    webhook = await service.create_webhook(receiver.url())
    advance, deleted = progress.advance, asyncio.Event()

    async def advance_late(database: Queries, turn: ReplayWebhook, choice: Choice) -> int | None:
        await deleted.wait()
        return await advance(database, turn, choice)

    monkeypatch.setattr(progress, "advance", advance_late)
    started = await replay(service, include_undelivered=True)
    await service.delete_webhook(webhook.webhook_id)
    deleted.set()
    done = await until(service, started.replay_id, status=COMPLETED)
    assert done.delivery_count == done.skipped_count
    assert receiver.requests == []


# --- pace ------------------------------------------------------------------------------------------------------------


async def test_no_more_waits_for_a_webhook_than_may_and_everything_is_sent_once(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(replay_pending_max=6)
    event_ids = await service.publish_many(30)
    gate = Gate()
    for path in ("/a", "/b"):
        await service.create_webhook(receiver.on(path, gate), max_in_flight=20)
    started = await replay(service, include_undelivered=True)
    await receiver.wait_for(1)
    held = await until(service, started.replay_id, pending_count=12)
    await asyncio.sleep(0.3)  # more would be chosen now
    assert (await service.replay(started.replay_id)).pending_count == 12
    assert held.status == RUNNING
    assert held.progress_time.ToNanoseconds() < held.end_time.ToNanoseconds()
    gate.opened.set()
    await until(service, started.replay_id, status=COMPLETED, succeeded_count=60)
    for path in ("/a", "/b"):
        assert sorted(request.event_id for request in receiver.at(path)) == sorted(event_ids)


async def test_a_paused_webhook_and_a_dead_one_hold_up_neither_another_nor_a_later_replay(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(
        replay_pending_max=4, breaker_failures=1, breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600
    )
    event_ids = await service.publish_many(20)
    await paused_webhook(service, receiver)
    await service.create_webhook(receiver.on("/dead", answer(503)))
    await service.create_webhook(receiver.url("/healthy"))
    first = await replay(service, include_undelivered=True)
    seen = await until(service, first.replay_id, succeeded_count=20)
    assert sorted(request.event_id for request in receiver.at("/healthy")) == sorted(event_ids)
    later = await replay(service, include_undelivered=True, statuses=[SUCCEEDED])
    await until(service, later.replay_id, succeeded_count=20)
    assert len(receiver.at("/healthy")) == 40

    await until_rows(postgres, "SELECT breaker FROM webhook_health WHERE breaker <> 'closed'", [("open",)])
    assert len(receiver.at("/dead")) < 8, "it is still to be replayed to"
    for started in (first, later):
        seen = await service.replay(started.replay_id)
        assert (seen.status, seen.progress_time.ToNanoseconds() < seen.end_time.ToNanoseconds()) == (RUNNING, True)
    waiting = """
        SELECT max(count) FROM (
            SELECT count(*) FROM (
                SELECT replay_id, webhook_id FROM commands UNION ALL SELECT replay_id, webhook_id FROM deliveries
            ) w GROUP BY replay_id, webhook_id
        ) c
    """
    assert postgres.rows(waiting) == [(4,)]


# --- nothing stops it, nothing doubles it ----------------------------------------------------------------------------


async def test_a_replay_goes_on_in_the_next_process(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    first = await services.start(replay_pending_max=4)
    event_ids = await first.publish_many(15)
    webhook_id = await paused_webhook(first, receiver)
    started = await replay(first, include_undelivered=True)
    await until(first, started.replay_id, pending_count=4)
    await services.stop_one(first)
    postgres.rows("UPDATE shards SET owner = gen_random_uuid()")  # as after a crash

    second = await services.start(replay_pending_max=4)
    await set_paused(second, webhook_id, paused=False)
    done = await until(second, started.replay_id, status=COMPLETED)
    assert (done.delivery_count, done.succeeded_count) == (15, 15)
    assert sorted(request.event_id for request in receiver.requests) == sorted(event_ids)


async def test_two_processes_send_each_once(services: ServiceFactory, receiver: Receiver) -> None:
    one, other = await services.start(replay_pending_max=10), await services.start(replay_pending_max=10)
    event_ids = await one.publish_many(60)
    await one.create_webhook(receiver.url("/a"))
    await one.create_webhook(receiver.url("/b"))
    started = await replay(one, include_undelivered=True)
    await until(other, started.replay_id, status=COMPLETED, succeeded_count=120)
    for path in ("/a", "/b"):
        assert sorted(request.event_id for request in receiver.at(path)) == sorted(event_ids)


async def test_answers_that_are_lost_neither_stop_a_replay_nor_double_anything(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(replay_pending_max=5)
    event_ids = await service.publish_many(20)
    advance, finish, lost = progress.advance, progress.finish, list[UUID | None]()

    async def advance_and_lose(database: Queries, turn: ReplayWebhook, choice: Choice) -> int | None:
        await advance(database, turn, choice)
        lost.append(choice.position)
        raise Unavailable("STORAGE_UNAVAILABLE", "the answer was lost")

    async def finish_and_lose(database: Queries, replay_id: int) -> None:
        await finish(database, replay_id)
        raise Unavailable("STORAGE_UNAVAILABLE", "the answer was lost")

    monkeypatch.setattr(progress, "advance", advance_and_lose)
    monkeypatch.setattr(progress, "finish", finish_and_lose)
    for path in ("/a", "/b"):
        await service.create_webhook(receiver.url(path))
    started = await replay(service, include_undelivered=True)
    await until(service, started.replay_id, status=COMPLETED, succeeded_count=40)
    assert len(lost) > 6
    for path in ("/a", "/b"):
        assert sorted(request.event_id for request in receiver.at(path)) == sorted(event_ids)


# --- cancelled -------------------------------------------------------------------------------------------------------


async def test_cancelling_ends_what_waits_and_nothing_more_is_sent(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(replay_pending_max=3)
    await service.publish_many(10)
    webhook_id = await paused_webhook(service, receiver)
    async with service.watching(statuses=[CANCELLED]) as watch:
        started = await replay(service, include_undelivered=True)
        await watch_until_begun(service, started.replay_id)
        cancelled = await service.cancel_replay(started.replay_id)
        assert cancelled.status == replay_pb2.REPLAY_STATUS_CANCELLED
        assert cancelled.HasField("finish_time")
        told = await watch.until_ended(3)
    assert {delivery.replay_id for delivery in told} == {started.replay_id}
    done = await until(service, started.replay_id, pending_count=0)
    assert (done.delivery_count, done.cancelled_count, done.finish_time) == (3, 3, cancelled.finish_time)
    await set_paused(service, webhook_id, paused=False)
    await service.publish()
    await receiver.wait_for(1)
    assert len(receiver.requests) == 1, "what was cancelled would have been sent first"


async def watch_until_begun(service: Service, replay_id: int) -> None:
    """Until the three that may wait are begun anew: a snapshot tells them with their replay."""
    async with slowness.timeout(20):
        while True:
            request = service_pb2.ListDeliveriesRequest(customer_id=CUSTOMER)
            found = (await service.stub.ListDeliveries(request)).deliveries
            if [delivery.replay_id for delivery in found].count(replay_id) == 3:
                return
            await asyncio.sleep(0.01)


async def test_what_is_in_flight_when_its_replay_is_cancelled_ends_as_it_ends(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(replay_pending_max=2)
    await service.publish_many(5)
    gate = Gate()
    await service.create_webhook(receiver.on("/gate", gate), max_in_flight=20)
    started = await replay(service, include_undelivered=True)
    await receiver.wait_for(1)
    await service.cancel_replay(started.replay_id)
    gate.opened.set()
    done = await until(service, started.replay_id, pending_count=0)
    assert done.succeeded_count == len(receiver.requests) >= 1
    assert done.status == replay_pb2.REPLAY_STATUS_CANCELLED


async def test_what_the_process_that_cancelled_a_replay_left_undone_its_runner_does(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(replay_pending_max=3)
    await service.publish_many(10)
    await paused_webhook(service, receiver)
    started = await replay(service, include_undelivered=True)
    await watch_until_begun(service, started.replay_id)
    postgres.rows("UPDATE replays SET status = 'cancelled', finished_at = now()")
    done = await until(service, started.replay_id, pending_count=0)
    assert (done.delivery_count, done.cancelled_count) == (3, 3)
    await until_rows(postgres, "SELECT is_settled, cancelled_count FROM replays", [(True, 3)])
