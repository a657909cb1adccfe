"""Careful mode: after a crash, what may have caused it is marked before it is sent, and does not kill for ever."""

from __future__ import annotations

import asyncio
from dataclasses import astuple, replace
from uuid import UUID

import pytest
from aiohttp import web
from webhook.v1 import delivery_pb2, service_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Received, Receiver
from tests.support.service import CUSTOMER, ServiceFactory
from tests.support.service import ended as ended_ones
from tests.support.store import options
from tests.unit.test_lanes import make_delivery
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import event_id_text
from webhook_grpc.domain.model import Danger, FailureReason, PendingDelivery
from webhook_grpc.engine import attempt
from webhook_grpc.engine.poison import PoisonGuard
from webhook_grpc.engine.shards import Shards
from webhook_grpc.engine.unsettled import FencedQueue
from webhook_grpc.process.machine.marks import own_mark
from webhook_grpc.store.db import LoopConnection
from webhook_grpc.store.outbox import poison_marks
from webhook_grpc.store.ownership import poison_suspects
from webhook_grpc.store.ownership.marks import ProcessMark

SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
INTERNAL_ERROR = delivery_pb2.ATTEMPT_OUTCOME_INTERNAL_ERROR


def dangers(postgres: TestPostgres) -> list[int]:
    return [danger for (danger,) in postgres.rows("SELECT danger FROM deliveries ORDER BY danger")]


def isolated(postgres: TestPostgres) -> list[tuple[object, ...]]:
    """What processes name as the last delivery that they sent alone."""
    return postgres.rows("SELECT isolated_event_id FROM workers WHERE isolated_event_id IS NOT NULL")


def abandon_shards(postgres: TestPostgres) -> None:
    """As a process does that dies: its shards still name it, and it is no more."""
    postgres.rows("UPDATE shards SET owner = gen_random_uuid()")


async def leave_pending(services: ServiceFactory, url: str, count: int, postgres: TestPostgres) -> None:
    """Deliveries that nobody has sent, in shards of a process that died."""
    service = await services.start()
    webhook = await service.create_webhook(url)
    named = service_pb2.PauseWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
    await service.stub.PauseWebhook(named)
    await service.publish_many(count)
    await services.stop_one(service)
    postgres.rows("UPDATE webhooks SET status = 'active', version = version + 1, updated_at = now()")
    abandon_shards(postgres)


async def test_nothing_is_marked_in_everyday_work(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start()
    gate = Gate()
    await service.create_webhook(receiver.on("/gate", gate))
    await service.publish_many(5)
    await receiver.wait_for(5)
    assert dangers(postgres) == [0] * 5
    gate.opened.set()


async def test_what_is_published_after_a_crash_is_not_marked(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    abandon_shards(postgres)
    service = await services.start()
    gate = Gate()
    await service.create_webhook(receiver.on("/gate", gate))
    await service.publish_many(3)
    await receiver.wait_for(3)
    assert dangers(postgres) == [0, 0, 0]
    gate.opened.set()


async def test_what_was_due_at_a_crash_is_noted_before_it_is_sent(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    gate = Gate()
    await leave_pending(services, receiver.on("/gate", gate), 4, postgres)
    service = await services.start()
    async with service.watching() as watch:
        await receiver.wait_for(4)
        assert dangers(postgres) == [Danger.SUSPECT] * 4
        gate.opened.set()
        ended = await watch.until_ended(4)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}


async def test_a_suspect_without_an_answer_does_not_hold_up_the_others(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A death would be put down to the one that had begun last."""
    monkeypatch.setattr(attempt, "ALONE_SECONDS_MAX", 0.05)
    gate = Gate()
    await leave_pending(services, receiver.on("/hangs", gate), 3, postgres)
    postgres.rows("UPDATE deliveries SET danger = 1")
    service = await services.start()
    async with service.watching(snapshot=True) as watch:
        requests = await receiver.wait_for(3)
        assert dangers(postgres) == [Danger.MARKED] * 3
        [(event_id,)] = postgres.rows("SELECT isolated_event_id FROM workers")
        assert event_id_text(event_id) == requests[-1].event_id
        gate.opened.set()
        ended = await watch.until_ended(3)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}


async def test_suspects_are_sent_one_at_a_time_under_a_mark_and_lose_no_attempt(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were in flight together when the second process died. What is published meanwhile does not wait for them."""
    monkeypatch.setattr(attempt, "ALONE_SECONDS_MAX", 600.0)  # on a machine of any speed
    answers = asyncio.Semaphore(0)

    async def wait_for_permission(_: Received) -> web.StreamResponse:
        await answers.acquire()
        return web.Response()

    url = receiver.on("/alone", wait_for_permission)
    service = await services.start()
    for _ in range(3):
        webhook = await service.create_webhook(url, events=["alert.*"])
        named = service_pb2.PauseWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
        await service.stub.PauseWebhook(named)
    await service.create_webhook(receiver.url("/fresh"), events=["job.*"])
    await service.publish_many(4, event_type="alert.triggered")
    await services.stop_one(service)
    postgres.rows("UPDATE deliveries SET danger = 1")
    postgres.rows("UPDATE webhooks SET status = 'active', version = version + 1, updated_at = now()")
    abandon_shards(postgres)

    second = await services.start()
    async with second.watching(snapshot=True) as watch:
        for count in range(1, 13):
            await receiver.wait_for(count, "/alone")
            await second.publish()
            await receiver.wait_for(count, "/fresh")
            assert len(receiver.at("/alone")) == count, "the next one only when this one is settled"
            assert dangers(postgres).count(Danger.MARKED) == 1
            answers.release()
        ended = await watch.until_ended(24)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}
    async with slowness.timeout(10):
        while isolated(postgres):  # polled: nothing reports that the name of one that was answered is cleared
            await asyncio.sleep(0.01)


async def test_what_waited_through_a_crash_is_still_noted_after_an_orderly_hand_over(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """The owner in between may have given the shard away before it came to the delivery that kills."""
    gate = Gate()
    await leave_pending(services, receiver.on("/gate", gate), 2, postgres)
    postgres.rows("UPDATE webhooks SET status = 'paused', version = version + 1, updated_at = now()")
    between = await services.start()
    await services.stop_one(between)
    postgres.rows("UPDATE webhooks SET status = 'active', version = version + 1, updated_at = now()")
    assert postgres.rows("SELECT count(owner) FROM shards") == [(0,)]
    await services.start()
    await receiver.wait_for(2)
    assert dangers(postgres) == [Danger.SUSPECT] * 2
    gate.opened.set()


async def test_the_name_of_what_is_sent_alone_stays_although_the_one_before_ends_in_that_moment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without an answer for long ends beside it. Else the death of the next one would be counted for nobody."""
    names: list[PendingDelivery | None] = [None]

    async def name(_: object, __: object, delivery: PendingDelivery) -> None:
        names.append(delivery)

    async def clear(_: object, __: object, ___: object, delivery: PendingDelivery) -> None:
        names.append(None if names[-1] is delivery else names[-1])

    async def written(*_: object) -> set[tuple[int, UUID]]:
        return set()

    monkeypatch.setattr(poison_suspects, "isolate", name)
    monkeypatch.setattr(poison_suspects, "clear", clear)
    monkeypatch.setattr(poison_marks, "set_danger", written)
    connection = LoopConnection(options(database_url), "health")
    guard = PoisonGuard(connection, Shards(), FencedQueue(asyncio.Event(), asyncio.Event()))
    first, next_one = make_delivery(), make_delivery()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(guard.run())
        await asyncio.sleep(0)  # so that it waits for the end of one
        for delivery, ended in ((first, None), (next_one, first), (None, next_one)):
            guard._written = {first.key: (first, Danger.MARKED), next_one.key: (next_one, Danger.MARKED)}  # pyright: ignore[reportPrivateUsage]
            guard.forget_written([] if ended is None else [ended])
            if delivery is not None:
                await guard._write_all([(delivery, Danger.MARKED)])  # pyright: ignore[reportPrivateUsage]
            for _ in range(5):
                await asyncio.sleep(0)  # the guard's turns, if it has anything to do
            assert names[-1] is delivery
        running.cancel()
    await connection.close()


def die_alone(postgres: TestPostgres, count: int, mark: ProcessMark | None = None) -> None:
    """So many leases have run out while the only delivery was sent alone: of one process, if it is named."""
    marked = (None, None, None, None) if mark is None else astuple(mark)
    postgres.rows("UPDATE deliveries SET danger = 2")
    postgres.rows(
        """
        INSERT INTO workers (
            worker_id, lease_until, isolated_webhook_id, isolated_event_id, machine, namespaces, pid, started_ticks
        )
        SELECT gen_random_uuid(), now() - n * interval '1 minute', webhook_id, event_id, %s, %s, %s, %s
        FROM deliveries, generate_series(1, %s) n
        """,
        [*marked, count],
    )


async def test_a_mark_that_is_found_once_may_be_chance_and_costs_nothing(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """However many leases of the process that died, or of this one, which lives, had run out before."""
    mark = own_mark()
    assert mark is not None
    await leave_pending(services, receiver.url("/innocent"), 1, postgres)
    die_alone(postgres, 3, replace(mark, started_ticks=mark.started_ticks - 1))
    die_alone(postgres, 3, mark)
    service = await services.start()
    async with service.watching(snapshot=True) as watch:
        [ended] = await watch.until_ended()
    assert (ended.status, ended.attempt_count) == (SUCCEEDED, 1)
    async with slowness.timeout(10):
        while len(isolated(postgres)) > 3:  # polled: nothing reports that what this process had named is cleared
            await asyncio.sleep(0.01)


@pytest.mark.symptom("died")
async def test_a_mark_that_is_found_again_counts_as_an_attempt_that_failed(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """Two processes have died while they sent this one alone: it backs off like any failure, and stays suspect."""
    await leave_pending(services, receiver.url("/poison"), 1, postgres)
    die_alone(postgres, 2)
    service = await services.start(retry_delays_seconds=(0.5,))
    async with service.watching(snapshot=True) as watch:
        *_, interrupted, sent = await watch.until(lambda seen: len(ended_ones(seen)) == 1)
    assert interrupted.last_attempt.outcome == INTERNAL_ERROR
    assert interrupted.last_attempt.error_message == FailureReason.INTERRUPTED.value
    assert (sent.status, sent.attempt_count) == (SUCCEEDED, 2)
    [request] = receiver.requests
    assert request.headers["X-Webhook-Attempt"] == "2"


async def test_marks_are_taken_back_when_a_process_ends_in_order(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that hangs while its process stops has not killed that. One sent alone is sent alone again."""
    monkeypatch.setattr(attempt, "ALONE_SECONDS_MAX", 600.0)  # on a machine of any speed
    gate = Gate()
    await leave_pending(services, receiver.on("/gate", gate), 2, postgres)
    second = await services.start(drain_seconds=0.2)
    await receiver.wait_for(2)
    assert dangers(postgres) == [Danger.SUSPECT] * 2
    await services.stop_one(second)
    assert dangers(postgres) == [Danger.NONE] * 2
    postgres.rows("UPDATE deliveries SET danger = 1")
    alone = await services.start(drain_seconds=0.2)
    await receiver.wait_for(3)
    assert dangers(postgres) == [Danger.SUSPECT, Danger.MARKED]
    await services.stop_one(alone)
    assert dangers(postgres) == [Danger.SUSPECT] * 2
    gate.opened.set()
    third = await services.start()
    async with third.watching(snapshot=True) as watch:
        ended = await watch.until_ended(2)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}


async def test_what_cannot_be_marked_is_not_sent_and_not_lost(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_pending(services, receiver.url("/later"), 3, postgres)
    set_danger, lost = poison_marks.set_danger, asyncio.Event()

    async def lossy(*arguments: object) -> object:
        if lost.is_set():
            return await set_danger(*arguments)  # pyright: ignore[reportArgumentType]
        await set_danger(*arguments)  # pyright: ignore[reportArgumentType] - marked, and the answer is lost
        assert not receiver.requests
        lost.set()
        raise Unavailable("STORAGE_UNAVAILABLE", "the answer is lost")

    monkeypatch.setattr(poison_marks, "set_danger", lossy)
    second = await services.start()
    async with second.watching(snapshot=True) as watch:
        ended = await watch.until_ended(3)
    assert lost.is_set()
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}
    assert len(receiver.requests) == 3


async def test_marks_of_which_the_answer_was_lost_are_taken_back_when_a_process_ends_in_order(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave_pending(services, receiver.url("/never"), 2, postgres)
    set_danger, lost = poison_marks.set_danger, asyncio.Event()

    async def lossy(*arguments: object) -> object:
        written = await set_danger(*arguments)  # pyright: ignore[reportArgumentType]
        if arguments[-1] is Danger.NONE:
            return written
        lost.set()
        raise Unavailable("STORAGE_UNAVAILABLE", "the answer is lost")

    monkeypatch.setattr(poison_marks, "set_danger", lossy)
    second = await services.start(drain_seconds=0.2)
    await lost.wait()
    assert dangers(postgres) == [Danger.SUSPECT] * 2
    await services.stop_one(second)
    assert dangers(postgres) == [Danger.NONE] * 2
    assert not receiver.requests
