"""One endpoint cannot hurt another: what hangs, floods, fails or waits changes nothing for the rest.

Counted in requests, not in seconds: how many of somebody else's came before. `make bench-isolation` has the seconds.
"""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from webhook.v1 import service_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Received, Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory

OTHER = CUSTOMER + 1


async def briefly(_: Received) -> web.StreamResponse:
    await asyncio.sleep(0.005)  # the receiver's work
    return web.Response()


def arrived_before(receiver: Receiver, path: str, other: str, since: int) -> int:
    """How many requests came to `path` after the first `since` in all and before the first to `other`."""
    paths = [request.path for request in receiver.requests][since:]
    return paths[: paths.index(other)].count(path)


async def pause_and_fill(service: Service, webhook_id: int, count: int) -> None:
    """Leaves so many deliveries pending, and lets the engine at them."""
    named = {"customer_id": CUSTOMER, "webhook_id": webhook_id}
    await service.stub.PauseWebhook(service_pb2.PauseWebhookRequest(**named))
    for _ in range(count // 500):
        await service.publish_many(500)
    await service.stub.ResumeWebhook(service_pb2.ResumeWebhookRequest(**named))


async def test_an_event_does_not_wait_behind_another_customers_flood(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    flood = await service.create_webhook(receiver.on("/flood", briefly))
    await service.create_webhook(receiver.url("/other"), customer_id=OTHER)
    await pause_and_fill(service, flood.webhook_id, 2000)
    await receiver.wait_for(20)
    before = len(receiver.requests)
    await service.publish(customer_id=OTHER)
    await receiver.wait_for(1, "/other")
    assert arrived_before(receiver, "/flood", "/other", before) <= 60
    assert len(receiver.at("/flood")) < 2000, "the flood is not over"


async def test_an_event_does_not_wait_behind_the_flood_of_another_webhook_of_its_customer(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    flood = await service.create_webhook(receiver.on("/flood", briefly), events=["job.*"])
    await service.create_webhook(receiver.url("/other"), events=["alert.*"])
    await pause_and_fill(service, flood.webhook_id, 2000)
    await receiver.wait_for(20)
    before = len(receiver.requests)
    await service.publish(event_type="alert.triggered")
    await receiver.wait_for(1, "/other")
    assert arrived_before(receiver, "/flood", "/other", before) <= 60


async def test_endpoints_that_hang_leave_slots_for_the_others(services: ServiceFactory, receiver: Receiver) -> None:
    """Also when they want more than the whole process may have in flight."""
    service = await services.start(customer_in_flight_max=20, process_in_flight_max=40, host_in_flight_max=1000)
    gate = Gate()
    for number in range(5):
        await service.create_webhook(receiver.on(f"/hang{number}", gate))
    await service.create_webhook(receiver.url("/other"), customer_id=OTHER)
    await service.publish_many(50)
    await receiver.wait_for(20)
    await service.publish_many(50, customer_id=OTHER)
    await receiver.wait_for(50, "/other")
    assert len(receiver.requests) == 70
    gate.opened.set()


async def test_a_backlog_of_a_dead_endpoint_takes_no_memory_and_no_turns(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(
        breaker_failures=3, breaker_probe_seconds_min=3600, breaker_probe_seconds_max=3600, lane_prefetch_max=50
    )
    dead = await service.create_webhook(receiver.on("/dead", answer(503)), events=["job.*"])
    await service.create_webhook(receiver.url("/other"), customer_id=OTHER)
    await pause_and_fill(service, dead.webhook_id, 5000)
    for _ in range(5):
        await service.publish_many(20, customer_id=OTHER)
        lane = service.app.engine.lanes.get(dead.webhook_id)
        assert lane is None or len(lane.held) <= 100
    await receiver.wait_for(100, "/other")
    assert len(receiver.at("/dead")) <= 3 + 10, "those in flight when the breaker opened"
    [(pending,)] = postgres.rows("SELECT count(*) FROM deliveries WHERE webhook_id = %s", [dead.webhook_id])
    assert pending == 5000


@pytest.mark.slow(3)
async def test_a_receiver_that_comes_back_gets_new_events_beside_its_backlog(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """From memory, and from the table as well when another process has published them."""
    service = await services.start(lane_prefetch_max=20)
    webhook = await service.create_webhook(receiver.on("/back", briefly), max_in_flight=2)
    await pause_and_fill(service, webhook.webhook_id, 1000)
    await receiver.wait_for(50)
    new = await service.publish_many(30)
    published_at = len(receiver.requests)
    arrived: list[int] = []
    async with slowness.timeout(20):
        while len(arrived) < 30:
            await receiver.wait_for(len(receiver.requests) + 1)
            ids = [request.event_id for request in receiver.requests]
            arrived = [ids.index(event_id) for event_id in new if event_id in ids]
    assert max(arrived) - published_at <= 200, "half of the requests are theirs, and a look at the table goes by"
    assert len(receiver.requests) < 1030, "the backlog is not done"
    await receiver.wait_for(1030)


async def test_new_events_of_another_process_do_not_wait_behind_the_backlog(
    services: ServiceFactory, receiver: Receiver
) -> None:
    owner = await services.start(lane_prefetch_max=20)
    publisher = await services.start(lane_prefetch_max=20)
    webhook = await owner.create_webhook(receiver.on("/back", briefly), max_in_flight=2)
    await pause_and_fill(owner, webhook.webhook_id, 1000)
    await receiver.wait_for(50)
    both = (owner, publisher)
    [stranger] = [service for service in both if webhook.webhook_id % 64 not in service.app.engine.shards.owned]
    [new] = await stranger.publish_many(1)
    published_at = len(receiver.requests)
    async with slowness.timeout(20):
        while new not in (ids := [request.event_id for request in receiver.requests]):
            await receiver.wait_for(len(receiver.requests) + 1)
    assert ids.index(new) - published_at <= 300
    assert len(receiver.requests) < 1001
