"""The engine as a whole, with real receivers: who gets what, when, how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import pytest
from aiohttp import web
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Received, Receiver, answer, answers
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory, seconds, until_shared
from tests.support.sharing import receiver, service, services, shared, shared_settings
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.engine.http.dialling import DirectDialler
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.http.sender import Sender
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.hub.hints import NOTIFY
from webhook_grpc.store.outbox import due, settlement
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.registry import webhooks

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]  # fixtures

pytestmark = pytest.mark.asyncio(loop_scope="module")
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
CANCELLED = delivery_pb2.DELIVERY_STATUS_CANCELLED
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED


async def test_a_paused_webhook_keeps_its_deliveries_and_a_resumed_one_gets_them(
    service: Service, receiver: Receiver
) -> None:
    paused = await service.create_webhook(receiver.url("/paused"))
    await service.create_webhook(receiver.url("/active"))
    await service.pause_webhook(paused.webhook_id)
    async with service.watching() as watch:
        event_ids = await service.publish_many(20)
        await watch.until_ended(20)
        assert not receiver.at("/paused")
        await service.resume_webhook(paused.webhook_id)
        await watch.until_ended(40)
    assert sorted(request.event_id for request in receiver.at("/paused")) == sorted(event_ids)


async def test_deleting_a_webhook_cancels_what_is_queued_and_what_waits_for_a_retry(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=(3600.0,), lane_prefetch_max=5)
    webhook = await service.create_webhook(receiver.on("/down", answer(500)), max_in_flight=2)
    async with service.watching() as watch:
        await service.publish_many(10)
        await watch.until(lambda seen: len(seen) >= 10)  # each was tried once, and waits for an hour
        await service.pause_webhook(webhook.webhook_id)
        await until_heard(service, webhook.webhook_id, WebhookStatus.PAUSED)
        await service.publish_many(10)
        await service.delete_webhook(webhook.webhook_id)
        cancelled = await watch.until_ended(20)
    assert {delivery.status for delivery in cancelled} == {CANCELLED}
    assert Counter(delivery.attempt_count for delivery in cancelled) == {0: 10, 1: 10}
    assert len(receiver.requests) == 10


async def test_a_receiver_that_is_gone_disables_its_webhook(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    webhook = await service.create_webhook(receiver.on("/gone", answer(410)), max_in_flight=1)
    async with service.watching() as watch:
        await service.publish_many(30)
        deliveries = await watch.until_ended(30)
    assert {delivery.status for delivery in deliveries} == {CANCELLED}
    assert len(receiver.requests) < 30
    found = await service.webhook(webhook.webhook_id)
    assert found.status == webhook_pb2.WEBHOOK_STATUS_DISABLED
    assert "410" in found.status_reason
    assert (await service.publish()).delivery_count == 0
    await service.resume_webhook(webhook.webhook_id)
    assert (await service.publish()).delivery_count == 1


async def test_a_receiver_that_hangs_delays_nobody_else(services: ServiceFactory, receiver: Receiver) -> None:
    """Of the same customer even: only its own requests wait."""
    service = await services.start(process_in_flight_max=50)
    gate = Gate()
    await service.create_webhook(receiver.on("/hang", gate))
    await service.create_webhook(receiver.url("/quick"))
    await service.publish_many(100)
    await receiver.wait_for(100, "/quick")
    assert len(await receiver.wait_for(10, "/hang")) == 10
    gate.opened.set()
    await receiver.wait_for(100, "/hang")


async def test_no_more_requests_are_in_flight_than_the_webhook_allows(service: Service, receiver: Receiver) -> None:
    now_in_flight = most = 0

    async def behave(_: Received) -> web.StreamResponse:
        nonlocal now_in_flight, most
        now_in_flight += 1
        most = max(most, now_in_flight)
        await asyncio.sleep(0.01)  # the receiver's work
        now_in_flight -= 1
        return web.Response()

    await service.create_webhook(receiver.on("/slow", behave), max_in_flight=3)
    await service.publish_many(60)
    await receiver.wait_for(60)
    assert most == 3


async def test_a_backlog_larger_than_memory_arrives_once_and_in_order(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(lane_prefetch_max=8)
    webhook = await service.create_webhook(receiver.url("/backlog"), max_in_flight=1)
    await service.pause_webhook(webhook.webhook_id)
    event_ids = [event_id for _ in range(5) for event_id in await service.publish_many(40)]
    await service.resume_webhook(webhook.webhook_id)
    await receiver.wait_for(200)
    received = [request.event_id for request in receiver.requests]
    assert sorted(received) == sorted(event_ids)
    batches = [{*event_ids[start : start + 40]} for start in range(0, 200, 40)]
    assert [{*received[start : start + 40]} for start in range(0, 200, 40)] == batches


async def test_a_changed_url_is_used_for_the_next_attempt(services: ServiceFactory, receiver: Receiver) -> None:
    """The first one is answered when the engine has heard of the change, which may take longer than any delay."""
    service = await services.start()
    has_heard = asyncio.Event()

    async def fail_late(_: Received) -> web.StreamResponse:
        await has_heard.wait()
        return web.Response(status=500)

    webhook = await service.create_webhook(receiver.on("/old", fail_late))
    await service.publish()
    await receiver.wait_for(1, "/old")
    webhook.url = receiver.url("/new")
    await service.stub.UpdateWebhook(
        service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=["url"]))
    )
    async with slowness.timeout(20):
        while (known := service.app.engine.receivers.get(webhook.webhook_id)) and known.webhook.url != webhook.url:
            await asyncio.sleep(0.01)  # what the engine hears gives no signal
    has_heard.set()
    await receiver.wait_for(1, "/new")
    assert len(receiver.at("/old")) == 1


async def test_retry_after_is_waited_for(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(3600.0, 3600.0))
    await service.create_webhook(receiver.on("/busy", answer(503, "", Retry_After="600")))
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until(lambda seen: len(seen) == 1)
    waits = delivery.next_attempt_time.seconds - delivery.update_time.seconds
    assert 2800 < waits < 4400, "the schedule asks for an hour, which is more"


async def test_an_own_schedule_is_followed(services: ServiceFactory, receiver: Receiver) -> None:
    service = await services.start(retry_delays_seconds=(3600.0,))
    await service.create_webhook(
        receiver.on("/flaky", answers(500, 200)), retry_policy=webhook_pb2.RetryPolicy(delays=[seconds(1)])
    )
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until_ended()
    assert (delivery.status, delivery.attempt_count) == (SUCCEEDED, 2)


async def test_a_fault_of_our_own_costs_the_customer_no_attempt(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = 2
    send = Sender.send

    async def faulty(self: Sender, request: Any) -> Any:
        nonlocal faults
        if faults:
            faults -= 1
            raise SenderFault("EMFILE")
        return await send(self, request)

    monkeypatch.setattr(Sender, "send", faulty)
    monkeypatch.setattr("webhook_grpc.engine.attempt._FAULT_PAUSE_SECONDS", (0.05, 0.1))
    service = await services.start()
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish()
        [delivery] = await watch.until_ended()
    assert faults == 0
    assert (delivery.status, delivery.attempt_count) == (SUCCEEDED, 1)


async def test_a_webhook_whose_secret_cannot_be_opened_fails_alone(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    broken = await service.create_webhook(receiver.url("/broken"))
    await service.create_webhook(receiver.url("/whole"))
    postgres.rows("UPDATE webhooks SET secret = 'nonsense' WHERE id = %s", [broken.webhook_id])
    async with service.watching() as watch:
        await service.publish_many(10)
        deliveries = await watch.until_ended(20)
    assert {d.status for d in deliveries if d.webhook_id == broken.webhook_id} == {FAILED}
    assert {d.status for d in deliveries if d.webhook_id != broken.webhook_id} == {SUCCEEDED}
    assert not receiver.at("/broken")


async def test_a_bug_in_an_attempt_fails_that_delivery_alone(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Sender.send

    async def buggy(self: Sender, request: Any) -> Any:
        if request.url.endswith("/bug"):
            raise ZeroDivisionError
        return await send(self, request)

    monkeypatch.setattr(Sender, "send", buggy)
    service = await services.start()
    await service.create_webhook(receiver.url("/bug"))
    await service.create_webhook(receiver.url("/fine"))
    async with service.watching() as watch:
        await service.publish_many(5)
        deliveries = await watch.until_ended(10)
    assert Counter(delivery.status for delivery in deliveries) == {FAILED: 5, SUCCEEDED: 5}


# --- two processes --------------------------------------------------------------------------------------------------


async def until_heard(service: Service, webhook_id: int, status: WebhookStatus) -> None:
    """The engine hears of a change within a second, not at once."""
    async with slowness.timeout(20):
        while (known := service.app.engine.receivers.get(webhook_id)) is None or known.webhook.status is not status:
            await asyncio.sleep(0.005)


async def test_two_processes_share_the_shards_and_each_others_streams(
    services: ServiceFactory, receiver: Receiver
) -> None:
    first, second = await services.start(), await services.start()
    await until_shared(first, second)
    for number in range(8):
        await first.create_webhook(receiver.url(f"/{number}"))
    async with first.watching() as at_first, second.watching() as at_second:
        event_ids = await first.publish_many(25) + await second.publish_many(25)
        told = [await watch.until_ended(400) for watch in (at_first, at_second)]
    assert sorted(d.delivery_id for d in told[0]) == sorted(d.delivery_id for d in told[1])
    received = Counter((request.path, request.event_id) for request in receiver.requests)
    assert received == {(f"/{number}", event_id): 1 for number in range(8) for event_id in event_ids}


async def test_a_hint_wakes_the_owner_in_the_other_process(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a poll interval of an hour only a hint can be that quick."""
    first, second = await services.start(poll_seconds=10.0), await services.start(poll_seconds=10.0)
    for one in (first, second):
        monkeypatch.setattr(one.app.engine.fetcher, "_poll_seconds", 3600.0)  # more than can be set
    await until_shared(first, second)
    theirs = 0
    while theirs < 3:
        webhook = await first.create_webhook(receiver.url(f"/{theirs}"))
        if shard_of(webhook.webhook_id) in second.app.engine.shards.owned:
            theirs += 1
        else:
            await first.delete_webhook(webhook.webhook_id)
    await first.publish_many(5)
    await receiver.wait_for(15)


@pytest.mark.slow
async def test_a_process_that_leaves_hands_over_without_loss_or_duplicate(
    services: ServiceFactory, receiver: Receiver
) -> None:
    first, second = [await services.start(drain_seconds=slowness.scaled(30)) for _ in range(2)]
    await until_shared(first, second)

    async def slowly(_: Received) -> web.StreamResponse:
        await asyncio.sleep(0.01)  # so that requests are in flight when it leaves
        return web.Response()

    for number in range(8):
        await first.create_webhook(receiver.on(f"/{number}", slowly))
    event_ids = await first.publish_many(100)
    await receiver.wait_for(50)
    await services.stop_one(first)
    await receiver.wait_for(800)
    async with slowness.timeout(20):
        while second.app.engine.shards.owned.keys() != set(range(64)):
            await asyncio.sleep(0.01)  # shards without work are taken with a later heartbeat
    received = Counter((request.path, request.event_id) for request in receiver.requests)
    assert received == {(f"/{number}", event_id): 1 for number in range(8) for event_id in event_ids}


@pytest.mark.slow(3)
async def test_a_process_that_cannot_renew_its_lease_stops_sending_before_another_takes_over(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results of before are refused by the fence, so that nothing is told twice as succeeded."""
    first = await services.start()
    for number in range(4):
        await first.create_webhook(receiver.url(f"/{number}"))
    cut_off = first.app.engine.shards.worker
    renew = leases.renew

    async def unreachable_for_first(connection: Any, worker: Any, ttl_seconds: float, **options: Any) -> Any:
        if worker == cut_off:
            raise Unavailable("STORAGE_UNAVAILABLE", "cut off")
        return await renew(connection, worker, ttl_seconds, **options)

    monkeypatch.setattr(leases, "renew", unreachable_for_first)
    async with slowness.timeout(10):
        while first.app.engine.shards.may_send:
            await asyncio.sleep(0.02)
    await first.publish_many(10)  # publishing needs no lease
    second = await services.start()
    async with second.watching() as watch:
        await watch.until_ended(1)
    await receiver.wait_for(40)
    assert len(receiver.requests) == 40
    await until_shared(second)  # shards without work are taken with a later heartbeat


@pytest.mark.slow
async def test_what_waits_in_memory_or_for_its_connection_is_not_sent_without_a_lease(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    gate = Gate()
    await service.create_webhook(receiver.on("/gate", gate), max_in_flight=1)
    await service.publish_many(5)
    await receiver.wait_for(1)
    connecting, connected, dial = asyncio.Event(), asyncio.Event(), DirectDialler.dial

    async def slow(*arguments: Any) -> Any:
        connecting.set()
        await connected.wait()
        return await dial(*arguments)

    monkeypatch.setattr(DirectDialler, "dial", slow)
    await service.create_webhook(receiver.url("/connecting"))
    await service.publish()
    async with slowness.timeout(10):
        await connecting.wait()

    async def unreachable(*_: Any, **__: Any) -> Any:
        raise Unavailable("STORAGE_UNAVAILABLE", "cut off")

    monkeypatch.setattr(leases, "renew", unreachable)
    async with slowness.timeout(10):
        while service.app.engine.shards.may_send:
            await asyncio.sleep(0.02)
    gate.opened.set()
    connected.set()
    async with slowness.timeout(10):
        while service.app.engine.lanes.in_flight:
            await asyncio.sleep(0.02)  # an attempt that is given up gives no signal
    await asyncio.sleep(0.3)  # a failure would show itself now
    assert len(receiver.requests) == 1
    monkeypatch.undo()
    await receiver.wait_for(7)
    assert Counter(request.path for request in receiver.requests) == {"/gate": 6, "/connecting": 1}
    assert len({request.event_id for request in receiver.at("/gate")}) == 6


async def test_a_settlement_whose_answer_is_lost_is_not_made_twice_and_leaves_no_hole(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been committed, so the log is further than this process knows."""
    settle, lost, all_lost = settlement.settle, 0, asyncio.Event()

    async def lossy(*arguments: Any) -> Any:
        nonlocal lost
        answer = await settle(*arguments)
        if lost < 3:
            lost += 1
            raise Unavailable("STORAGE_UNAVAILABLE", "the answer is lost")
        all_lost.set()
        return answer

    monkeypatch.setattr(settlement, "settle", lossy)
    service = await services.start()
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        for _ in range(6):
            await service.publish_many(5)
        await watch.until_ended(30)
    await all_lost.wait()
    assert len(receiver.requests) == 30
    [(count, first, last)] = postgres.rows("SELECT count(*), min(seq), max(seq) FROM attempts")
    assert (count, first, last) == (30, 1, 30)


async def test_cut_connections_to_the_database_lose_and_double_nothing(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    for number in range(4):
        await service.create_webhook(receiver.url(f"/{number}"))
    event_ids: list[str] = []
    stopped = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            while True:
                try:
                    event_ids.append((await service.publish(request_id=f"n-{number}")).event_id)
                    break
                except Exception:  # noqa: BLE001 - as a client does: the same request again
                    await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    for number in range(1, 9):
        async with slowness.timeout(20):
            while len(event_ids) < 3 * number:
                await asyncio.sleep(0.01)
        postgres.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    stopped.set()
    await publishing
    async with slowness.timeout(20):
        while postgres.rows("SELECT count(*) FROM deliveries") != [(0,)]:
            await asyncio.sleep(0.05)
    assert len(event_ids) == len(set(event_ids)) > 20
    received = Counter((request.path, request.event_id) for request in receiver.requests)
    assert not [e for e in event_ids for n in range(4) if not received[f"/{n}", e]]
    seqs = postgres.rows("SELECT shard, count(*), max(seq) FROM attempts GROUP BY shard")
    assert all(count == last for _, count, last in seqs)


async def test_requests_in_flight_end_and_are_settled_before_the_process_stops(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(drain_seconds=slowness.scaled(30))
    gate = Gate()
    await service.create_webhook(receiver.on("/slow", gate))
    await service.publish_many(5)
    await receiver.wait_for(5)
    stopping = asyncio.create_task(services.stop_one(service))
    await asyncio.sleep(0)
    gate.opened.set()
    await stopping
    assert postgres.rows("SELECT status, count(*) FROM attempts GROUP BY status") == [("succeeded", 5)]
    assert postgres.rows("SELECT count(*) FROM shards WHERE owner IS NOT NULL") == [(0,)]
    assert postgres.rows("SELECT count(*) FROM workers") == [(0,)]


async def test_what_is_in_flight_too_long_at_stop_is_sent_again_by_the_next(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(drain_seconds=0.1)
    gate = Gate()
    await service.create_webhook(receiver.on("/hang", gate))
    await service.publish()
    await receiver.wait_for(1)
    await services.stop_one(service)
    assert postgres.rows("SELECT attempt FROM deliveries") == [(0,)]
    gate.opened.set()
    await services.start()
    await receiver.wait_for(2)
    assert {request.event_id for request in receiver.requests} == {receiver.requests[0].event_id}
    for request in receiver.requests:
        request.verify(SECRET)


# --- what must not stop the engine -----------------------------------------------------------------------------------


def ended_loops(service: Service) -> list[str]:
    return [task.get_name() for task in service.app._loops if task.done()]  # pyright: ignore[reportPrivateUsage]


async def in_shards(service: Service, shards: set[int], url: str, **fields: Any) -> webhook_pb2.Webhook:
    """A webhook in one of these shards."""
    while True:
        webhook = await service.create_webhook(url, **fields)
        if shard_of(webhook.webhook_id) in shards:
            return webhook
        request = service_pb2.DeleteWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id)
        await service.stub.DeleteWebhook(request)


async def test_a_database_that_stalls_longer_than_the_lease_ends_no_loop(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    lease_seconds = slowness.lengthened(1.0)
    service = await services.start(lease_seconds=lease_seconds)
    await service.create_webhook(receiver.url())
    async with await psycopg.AsyncConnection.connect(postgres.url) as blocker:
        await blocker.execute("LOCK TABLE shards IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(2 * lease_seconds)  # the stall
    await service.publish()
    await receiver.wait_for(1)
    assert not ended_loops(service)


async def test_a_registration_whose_answer_is_lost_ends_no_loop(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    await service.create_webhook(receiver.url())
    register, lost = leases.register, 0

    async def lossy(*arguments: Any) -> Any:
        nonlocal lost
        database_time = await register(*arguments)
        if not lost:
            lost += 1
            raise Unavailable("STORAGE_UNAVAILABLE", "the answer is lost")
        return database_time

    monkeypatch.setattr(leases, "register", lossy)
    postgres.rows("UPDATE workers SET lease_until = now() - interval '1 second'")
    async with slowness.timeout(10):
        while not lost:
            await asyncio.sleep(0.02)
    await service.publish()
    await receiver.wait_for(1)
    assert not ended_loops(service)


async def test_a_process_that_takes_its_shards_back_sends_nothing_beside_what_it_sends_or_has_to_settle(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ran out, because the database was away for longer, say. One request has no answer yet, one a 2xx."""
    gate, may_settle, settle, is_stray = Gate(), asyncio.Event(), settlement.settle, Lanes.is_stray
    strays: set[int] = set()

    async def settle_later(*arguments: Any) -> Any:
        if not may_settle.is_set():
            raise Unavailable("STORAGE_UNAVAILABLE", "not now")
        return await settle(*arguments)

    def is_stray_noted(lanes: Lanes, webhook_id: int, event_id: UUID, attempt: int) -> bool:
        if found := is_stray(lanes, webhook_id, event_id, attempt):
            strays.add(webhook_id)
        return found

    service = await services.start()
    shards = service.app.engine.shards
    await service.create_webhook(receiver.on("/gate", gate))
    await service.create_webhook(receiver.url("/ok"))
    monkeypatch.setattr(settlement, "settle", settle_later)
    async with service.watching() as watch:
        await service.publish()
        await receiver.wait_for(2)
        before = shards.worker
        monkeypatch.setattr(Lanes, "is_stray", is_stray_noted)
        postgres.rows("UPDATE workers SET lease_until = now() - interval '1 second'")
        async with slowness.timeout(20):
            while shards.worker == before or len(strays) < 2:  # until both rows were found again
                await asyncio.sleep(0.01)
        gate.opened.set()
        may_settle.set()
        ended = await watch.until_ended(2)
    assert {(delivery.status, delivery.attempt_count) for delivery in ended} == {(SUCCEEDED, 1)}
    assert len(receiver.requests) == 2


async def test_an_unknown_hint_ends_no_loop(service: Service, receiver: Receiver, postgres: TestPostgres) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        for payload in ("drain", "d", "wx", "d99999999999999999999", ""):
            postgres.rows(NOTIFY, [payload])
        await service.publish()
        await watch.until_ended()
    assert not ended_loops(service)


async def test_what_a_newer_version_wrote_into_the_log_ends_no_stream(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    await service.create_webhook(receiver.url())
    await service.publish()
    await receiver.wait_for(1)
    async with slowness.timeout(10):
        while not postgres.rows("UPDATE attempts SET outcome = 'new', reason = 'new', trigger = 'new' RETURNING 1"):
            await asyncio.sleep(0.02)
    async with service.watching(start_time=Timestamp(seconds=1)) as watch:
        [delivery] = await watch.until_ended()
    assert delivery.last_attempt.outcome == delivery_pb2.ATTEMPT_OUTCOME_INTERNAL_ERROR
    assert not ended_loops(service)


async def test_calls_that_hold_every_pooled_connection_do_not_stop_deliveries(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(database_pool_size=2)
    await service.create_webhook(receiver.url("/1"))
    await service.publish()
    await receiver.wait_for(1)
    async with service.app.database.connection(), service.app.database.connection():
        await service.publish()
        await receiver.wait_for(2)


async def test_hanging_webhooks_with_large_events_do_not_use_up_the_memory_of_others(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(prefetch_bytes_max=1_000_000, attempt_timeout_seconds=30)
    gate = Gate()
    for number in range(8):
        await service.create_webhook(receiver.on(f"/hang/{number}", gate), max_in_flight=1)
    await service.create_webhook(receiver.url("/ok"), customer_id=CUSTOMER + 1)
    for _ in range(3):
        await service.publish('"' + "x" * 200_000 + '"')
    for number in range(8):
        await receiver.wait_for(1, f"/hang/{number}")
    for _ in range(5):
        await service.publish(customer_id=CUSTOMER + 1)
    await receiver.wait_for(5, "/ok")
    gate.opened.set()


async def test_lanes_that_wait_longest_are_read_first(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many others hang, and are looked at again and again."""
    monkeypatch.setattr("webhook_grpc.engine.queue.fetcher._LANES_PER_LOOK", 2)
    monkeypatch.setattr("webhook_grpc.engine.queue.reading.FULL_LOOK_SECONDS", 0.0)
    service = await services.start(attempt_timeout_seconds=30)
    gate = Gate()
    for number in range(30):
        await service.create_webhook(receiver.on(f"/hang/{number}", gate))
    await service.publish()
    await receiver.wait_for(30)
    late = await service.create_webhook(receiver.url("/ok"), customer_id=CUSTOMER + 1)
    await pause_of(service, late)
    await service.publish(customer_id=CUSTOMER + 1)
    await resume_of(service, late)
    await receiver.wait_for(1, "/ok")
    gate.opened.set()


async def pause_of(service: Service, webhook: webhook_pb2.Webhook) -> None:
    request = service_pb2.PauseWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id)
    await service.stub.PauseWebhook(request)


async def resume_of(service: Service, webhook: webhook_pb2.Webhook) -> None:
    request = service_pb2.ResumeWebhookRequest(customer_id=webhook.customer_id, webhook_id=webhook.webhook_id)
    await service.stub.ResumeWebhook(request)


async def test_a_process_that_drains_gives_idle_shards_to_others_at_once(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """A request that hangs in one of its shards must not make the customers of all others wait."""
    settings = {"drain_seconds": slowness.scaled(30), "attempt_timeout_seconds": 30}
    first, second = [await services.start(**settings) for _ in range(2)]
    await until_shared(first, second)
    gate, theirs = Gate(), set(first.app.engine.shards.owned)
    await in_shards(first, theirs, receiver.on("/hang", gate), events=["job.*"])
    await in_shards(first, theirs, receiver.url("/ok"), customer_id=CUSTOMER + 1, events=["alert.*"])
    await first.publish()
    await receiver.wait_for(1, "/hang")
    stopping = asyncio.create_task(services.stop_one(first))
    await asyncio.sleep(0.1)  # it is draining
    await second.publish(customer_id=CUSTOMER + 1, event_type="alert.triggered")
    await receiver.wait_for(1, "/ok")
    gate.opened.set()
    await stopping


@pytest.mark.slow
async def test_shards_that_are_handed_over_are_idle_ones_if_there_are_enough(
    services: ServiceFactory, receiver: Receiver
) -> None:
    first, gate = await services.start(), Gate()
    busy = await first.create_webhook(receiver.on("/hang", gate), events=["job.*"])
    shard = shard_of(busy.webhook_id)
    await in_shards(first, {shard}, receiver.url("/ok"), customer_id=CUSTOMER + 1, events=["alert.*"])
    await first.publish()
    await receiver.wait_for(1, "/hang")
    second = await services.start()
    await until_shared(first, second)
    assert shard in first.app.engine.shards.owned
    await first.publish(customer_id=CUSTOMER + 1, event_type="alert.triggered")
    await receiver.wait_for(1, "/ok")
    gate.opened.set()


async def test_410_of_an_old_url_does_not_disable_the_webhook_that_was_mended(
    service: Service, receiver: Receiver
) -> None:
    mended = asyncio.Event()

    async def gone(_: Received) -> web.StreamResponse:
        await mended.wait()
        return web.Response(status=410)

    webhook = await service.create_webhook(receiver.on("/old", gone))
    async with service.watching() as watch:
        await service.publish()
        await receiver.wait_for(1, "/old")
        webhook.url = receiver.url("/new")
        await service.stub.UpdateWebhook(
            service_pb2.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=["url"]))
        )
        mended.set()
        [delivery] = await watch.until_ended()
    assert delivery.status == SUCCEEDED
    assert len(receiver.at("/new")) == 1


async def test_a_schedule_that_cannot_be_computed_fails_its_delivery_alone(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    broken = await service.create_webhook(receiver.on("/broken", answer(500)))
    postgres.rows("UPDATE webhooks SET retry_delays_seconds = '{NULL}' WHERE id = %s", [broken.webhook_id])
    await service.create_webhook(receiver.url("/whole"))
    async with service.watching() as watch:
        await service.publish()
        deliveries = await watch.until_ended(2)
    assert {d.status for d in deliveries if d.webhook_id == broken.webhook_id} == {FAILED}


async def test_a_change_that_was_missed_during_a_pause_of_the_process_is_made_up_for(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    """As after SIGSTOP: the change is older than what is usually looked back."""
    gate = Gate()
    webhook = await service.create_webhook(receiver.on("/gate", gate), max_in_flight=1)
    async with service.watching() as watch:
        await service.publish_many(5)
        await receiver.wait_for(1)
        postgres.rows(
            "UPDATE webhooks SET status = 'deleted', version = version + 1, updated_at = now() - interval '1 hour'"
            " WHERE id = %s",
            [webhook.webhook_id],
        )
        service.app.engine.receivers._webhooks._followed_at -= 60  # pyright: ignore[reportPrivateUsage]
        async with slowness.timeout(10):
            while service.app.engine.receivers.get(webhook.webhook_id).webhook.status != "deleted":  # pyright: ignore[reportOptionalMemberAccess]
                await asyncio.sleep(0.02)
        gate.opened.set()
        await watch.until_ended(5)
    assert len(receiver.requests) == 1


async def test_deliveries_whose_event_is_gone_end_as_expired_and_hold_up_nobody(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(lane_prefetch_max=5)
    webhook = await service.create_webhook(receiver.url("/x"))
    await service.pause_webhook(webhook.webhook_id)
    await service.publish_many(20)
    postgres.rows("DELETE FROM events")
    kept = await service.publish()
    async with service.watching() as watch:
        await service.resume_webhook(webhook.webhook_id)
        deliveries = await watch.until_ended(21)
    assert [d.event_id for d in deliveries if d.status == SUCCEEDED] == [kept.event_id]
    assert sum(d.status == delivery_pb2.DELIVERY_STATUS_EXPIRED for d in deliveries) == 20


async def test_what_was_published_to_a_webhook_that_a_failover_lost_is_not_held_for_ever(
    service: Service, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new primary has neither the webhook nor the delivery, whose lane waits for its receiver."""
    webhook = await service.create_webhook(receiver.url("/lost"))
    load, lost = webhooks.by_ids, asyncio.Event()

    async def after_the_failover(database: Any, webhook_ids: Any) -> Any:
        if webhook.webhook_id in webhook_ids and not lost.is_set():
            lane = service.app.engine.lanes.get(webhook.webhook_id)
            assert lane is not None
            while not lane.held:  # a look may have found the row before its publisher hands it over
                await asyncio.sleep(0.001)
            postgres.forget()
            lost.set()
        return await load(database, webhook_ids)

    monkeypatch.setattr(webhooks, "by_ids", after_the_failover)
    await service.publish()
    async with slowness.timeout(20):
        await lost.wait()
        while service.app.engine.lanes.get(webhook.webhook_id) is not None:
            await asyncio.sleep(0.01)  # what is forgotten gives no signal
    assert service.is_at_rest
    assert not receiver.requests


async def test_a_row_that_was_read_before_its_delivery_was_settled_is_not_sent_again(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of a read comes late: the delivery has been sent and settled meanwhile, and forgotten."""
    monkeypatch.setattr("webhook_grpc.engine.queue.reading.FULL_LOOK_SECONDS", 0.0)
    gate, returned, fetch = Gate(), asyncio.Event(), due.fetch

    async def behave(received: Received) -> web.StreamResponse:
        return await gate(received) if received.number == 1 else web.Response()

    async def late(connection: Any, requests: Any) -> Any:
        rows = await fetch(connection, requests)
        if rows and len(receiver.requests) == 2 and not gate.opened.is_set():
            gate.opened.set()
            await watch.until_ended(2)
            await asyncio.sleep(0.1)  # what the stream tells, the dispatcher hears a moment later
            returned.set()
        return rows

    service = await services.start()
    await service.create_webhook(receiver.on("/gate", behave))
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended(1)
        monkeypatch.setattr(due, "fetch", late)
        await service.publish()
        async with slowness.timeout(20):
            await returned.wait()
        await service.publish()
        await receiver.wait_for(3)
        await asyncio.sleep(0.3)  # a fourth request would have come by now
    assert len({request.event_id for request in receiver.requests}) == len(receiver.requests) == 3


async def test_what_is_published_while_its_lane_is_being_read_waits_for_no_later_look(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.engine.queue.reading.FULL_LOOK_SECONDS", 3600.0)
    gate, reading, fetch = Gate(), asyncio.Event(), due.fetch

    async def behave(received: Received) -> web.StreamResponse:
        if received.number == 0:
            return await gate(received)
        return web.Response(status=500 if received.number == 1 else 200)

    async def slow(connection: Any, requests: Any) -> Any:
        rows = await fetch(connection, requests)
        reading.set()
        await asyncio.sleep(0.2)  # what is published now is not among the rows
        return rows

    service = await services.start(retry_delays_seconds=(0.5,))
    await service.create_webhook(receiver.on("/x", behave))
    await service.publish()
    await receiver.wait_for(1)
    monkeypatch.setattr(due, "fetch", slow)
    await service.publish()  # answered with 500; its retry makes the lane be read
    await receiver.wait_for(2)
    reading.clear()
    await reading.wait()
    await service.publish()
    await receiver.wait_for(4)
    gate.opened.set()
