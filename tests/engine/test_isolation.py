"""One endpoint cannot hurt another: what hangs, floods, fails or waits changes nothing for the rest.

Counted in requests, not in seconds: a flood is let through request by request. `make bench-isolation` has the seconds.
"""

from __future__ import annotations

from webhook.v1 import service_pb2

from tests.api.asking import until
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver, Valve, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory, until_shared

OTHER = CUSTOMER + 1


def arrived(receiver: Receiver, event_ids: list[str]) -> int:
    """How many of the events have come."""
    return len({request.event_id for request in receiver.requests} & set(event_ids))


def is_in_turn(service: Service, webhook_id: int) -> bool:
    """Whether a webhook has something to send, and only waits for its turn."""
    lane = service.app.engine.lanes.get(webhook_id)
    return lane is not None and lane.is_ready


def held_fresh(service: Service, webhook_id: int) -> int:
    """How many of those are queued that were just published."""
    lane = service.app.engine.lanes.get(webhook_id)
    return 0 if lane is None else len(lane.fresh)


def held_count(service: Service, webhook_id: int) -> int:
    """How many are queued, in flight or not settled yet."""
    lane = service.app.engine.lanes.get(webhook_id)
    return 0 if lane is None else len(lane.held)


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
    """Although the flood has all slots of the process: of the next two that are free one is the event's."""
    service = await services.start(process_in_flight_max=10)
    valve = Valve(50)
    flood = await service.create_webhook(receiver.on("/flood", valve))
    other = await service.create_webhook(receiver.url("/other"), customer_id=OTHER)
    await pause_and_fill(service, flood.webhook_id, 500)
    await receiver.wait_for(60)
    await service.publish(customer_id=OTHER)
    await until(lambda: is_in_turn(service, other.webhook_id))
    for count in (61, 62):
        valve.let(1)
        await receiver.wait_for(count)
    assert len(receiver.at("/other")) == 1


async def test_an_event_does_not_wait_behind_the_flood_of_another_webhook_of_its_customer(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(process_in_flight_max=10)
    valve = Valve(50)
    flood = await service.create_webhook(receiver.on("/flood", valve), events=["job.*"])
    other = await service.create_webhook(receiver.url("/other"), events=["alert.*"])
    await pause_and_fill(service, flood.webhook_id, 500)
    await receiver.wait_for(60)
    await service.publish(event_type="alert.triggered")
    await until(lambda: is_in_turn(service, other.webhook_id))
    for count in (61, 62):
        valve.let(1)
        await receiver.wait_for(count)
    assert len(receiver.at("/other")) == 1


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


async def test_slow_answers_to_one_customer_leave_slots_of_their_host_for_another(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """However many webhooks of the one lead there, and wait for a slot."""
    service = await services.start(host_in_flight_max=5)
    gate = Gate()
    for number in range(8):
        await service.create_webhook(receiver.on(f"/slow{number}", gate))
    await service.create_webhook(receiver.url("/other"), customer_id=OTHER)
    await service.publish_many(3)
    await receiver.wait_for(4)
    await service.publish_many(5, customer_id=OTHER)
    await receiver.wait_for(5, "/other")
    assert len(receiver.requests) == 9
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


async def test_a_receiver_that_comes_back_gets_new_events_beside_its_backlog(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """From memory, and from the table as well when there are more than memory holds."""
    service = await services.start(lane_prefetch_max=20)
    valve = Valve(50)
    webhook = await service.create_webhook(receiver.on("/back", valve), max_in_flight=2)
    await pause_and_fill(service, webhook.webhook_id, 500)
    await receiver.wait_for(52)
    new = await service.publish_many(30)
    while missing := 30 - arrived(receiver, new):
        await until(lambda: held_fresh(service, webhook.webhook_id) > 0)
        count = len(receiver.requests)
        valve.let(2)
        await receiver.wait_for(count + 2)
    assert not missing
    assert len(receiver.requests) - 52 <= 2 * 30 + 4, "half of the requests are theirs"


async def test_new_events_of_another_process_do_not_wait_behind_the_backlog(
    services: ServiceFactory, receiver: Receiver
) -> None:
    """Even while the backlog has all of its room in memory, and nothing of it moves."""
    both = [await services.start(lane_prefetch_max=20) for _ in range(2)]
    await until_shared(*both)
    valve = Valve(0)
    webhook = await both[0].create_webhook(receiver.on("/back", valve), max_in_flight=2)
    await pause_and_fill(both[0], webhook.webhook_id, 500)
    await receiver.wait_for(2)
    both.sort(key=lambda service: webhook.webhook_id % 64 in service.app.engine.shards.owned)
    stranger, owner = both
    await until(lambda: held_count(owner, webhook.webhook_id) == 20)
    new = await stranger.publish_many(1)
    await until(lambda: held_fresh(owner, webhook.webhook_id) == 1)
    assert len(receiver.requests) == 2, "no slot became free meanwhile"
    valve.let(4)
    await receiver.wait_for(6)
    assert arrived(receiver, new) == 1
