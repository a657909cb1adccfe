"""DeleteCustomerData: afterwards nothing of the customer is anywhere, and everybody else is served as before."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from webhook.v1 import delivery_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import OTHER_CUSTOMER, refusal
from tests.api.test_auth import TOKENS, bearer
from tests.support import slowness
from tests.support.postgres import TestPostgres, dump
from tests.support.receiver import Gate, Received, Receiver, answer
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.api.access import customers
from webhook_grpc.store.upkeep import erasure

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary"


async def delete_data(service: Service, customer_id: int = CUSTOMER) -> bool:
    """One call; whether it was complete."""
    return (await service.stub.DeleteCustomerData(pb.DeleteCustomerDataRequest(customer_id=customer_id))).complete


async def erase(service: Service, customer_id: int = CUSTOMER) -> None:
    """Calls until it is complete."""
    async with slowness.timeout(30):
        while not await delete_data(service, customer_id):
            pass


async def canary_webhook(service: Service, url: str, **fields: Any) -> int:
    values: dict[str, Any] = {
        "name": f"{CANARY} webhook",
        "headers": {"X-Canary": CANARY},
        "labels": {CANARY: CANARY},
        "description": CANARY,
        **fields,
    }
    return (await service.create_webhook(f"{url}?{CANARY}", **values)).webhook_id


@pytest.mark.slow(2)
async def test_afterwards_a_dump_of_the_database_holds_nothing_of_the_customer(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """What it chose, what was published for it, what its receivers answered; delivered, failed and still pending."""
    service = await services.start(retry_delays_seconds=(3600,))
    await canary_webhook(service, receiver.on("/ok", answer(200, CANARY, server=CANARY)))
    failing = await canary_webhook(service, receiver.on("/no", answer(500, CANARY)))
    paused = await canary_webhook(service, receiver.url("/paused"))
    await service.pause_webhook(paused)
    theirs = await service.create_webhook(receiver.url("/theirs"), customer_id=OTHER_CUSTOMER)
    async with service.watching(customer_id=0) as watch:
        await service.publish(f'{{"{CANARY}":"{CANARY}"}}', request_id=f"{CANARY}-1")
        await service.publish("{}", customer_id=OTHER_CUSTOMER, request_id="theirs-1")
        await watch.until(lambda seen: len(seen) == 3)
    assert dump(postgres.url).count(CANARY) > 10

    await erase(service)

    text = dump(postgres.url)
    assert CANARY not in text
    assert "X-Canary" not in text
    assert [row[0] for row in postgres.rows("SELECT id FROM webhooks")] == [theirs.webhook_id]
    assert postgres.rows("SELECT count(*) FROM webhook_logs") == [(1,)]
    for webhook_id in (failing, paused):
        request = pb.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook_id)
        assert (await refusal(service.stub.GetWebhook(request))).code is grpc.StatusCode.NOT_FOUND
    assert not (await service.stub.ListDeliveries(pb.ListDeliveriesRequest(customer_id=CUSTOMER))).deliveries
    kept = (await service.stub.ListDeliveries(pb.ListDeliveriesRequest())).deliveries
    assert [delivery.customer_id for delivery in kept] == [OTHER_CUSTOMER]


async def test_a_request_that_is_under_way_is_waited_for_and_leaves_nothing(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customers, "_WORK_SECONDS_MAX", 0.3)
    service = await services.start()
    gate = Gate()

    async def behave(received: Received) -> Any:
        await gate(received)
        return await answer(200, CANARY)(received)

    await canary_webhook(service, receiver.on("/slow", behave))
    await service.publish(f'"{CANARY}"')
    await receiver.wait_for(1)

    assert not await delete_data(service), "the owner has not settled it"
    listed = await service.stub.ListWebhooks(pb.ListWebhooksRequest(customer_id=CUSTOMER))
    assert not listed.webhooks, "but nothing else is sent any more"
    assert (await service.publish(f'"{CANARY}"')).delivery_count == 0
    gate.opened.set()
    await erase(service)

    assert CANARY not in dump(postgres.url)
    assert postgres.rows("SELECT status FROM attempts") == [("erased",)]
    assert len(receiver.requests) == 1


async def test_a_retry_of_an_erased_delivery_is_never_made(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(retry_delays_seconds=(3600,) * 5)
    await canary_webhook(service, receiver.on("/no", answer(500)))
    async with service.watching() as watch:
        await service.publish()
        await watch.until(lambda seen: len(seen) == 1)
    await erase(service)
    assert postgres.rows("SELECT count(*) FROM deliveries") == [(0,)]
    assert len(receiver.requests) == 1


async def test_a_watcher_passes_over_what_was_erased_and_may_resume_from_before(
    service: Service, receiver: Receiver
) -> None:
    await service.create_webhook(receiver.url())
    await service.create_webhook(receiver.url(), customer_id=OTHER_CUSTOMER)
    async with service.watching(customer_id=0) as watch:
        before = watch.cursor
        await service.publish()
        await service.publish(customer_id=OTHER_CUSTOMER)
        await watch.until_ended(2)
        await erase(service)
        await service.publish(customer_id=OTHER_CUSTOMER)
        await watch.until_ended(3)
    for request in ({"cursor": before}, {"start_time": {"seconds": 1_700_000_000}}):
        async with service.watching(customer_id=0, **request) as again:
            ended = await again.until_ended(2)
        assert [delivery.customer_id for delivery in ended] == [OTHER_CUSTOMER] * 2
    async with service.watching(cursor=watch.cursor) as end:
        message = await end.next_message() if not end.cursor else None
        assert message is None


async def test_the_customer_can_begin_anew(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    await service.publish(request_id="order-1")
    await receiver.wait_for(1)
    await erase(service)

    async with service.watching() as watch:
        await service.create_webhook(receiver.url("/new"))
        published = await service.publish(request_id="order-1")
        assert (published.duplicate, published.delivery_count) == (False, 1)
        [ended] = await watch.until_ended()
    assert ended.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED


async def test_it_may_be_repeated_and_asked_for_a_customer_that_never_was(
    service: Service, postgres: TestPostgres
) -> None:
    for _ in range(3):
        await erase(service)
    assert postgres.rows("SELECT customer_id, completed_at >= requested_at FROM erasures") == [(CUSTOMER, True)]


async def test_other_processes_stop_sending_too(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    first, second = await services.start(), await services.start()
    for number in range(8):
        await canary_webhook(first, receiver.on(f"/{number}", answer(500, CANARY)), retry_policy=None)
    await second.publish(f'"{CANARY}"')
    await receiver.wait_for(8)
    await erase(second)
    assert CANARY not in dump(postgres.url)


@pytest.mark.slow(2)
async def test_the_call_stops_after_a_while_and_the_rest_goes_on(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "EVENTS_PER_BATCH", 1)
    monkeypatch.setattr(customers, "_WORK_SECONDS_MAX", 0.3)
    service = await services.start()
    await service.create_webhook(receiver.url())
    await service.publish_many(20)
    await receiver.wait_for(20)
    await delete_data(service)
    async with slowness.timeout(20):
        while postgres.rows("SELECT completed_at IS NOT NULL FROM erasures") != [(True,)]:
            await asyncio.sleep(0.02)
    assert postgres.rows("SELECT count(*) FROM events") == [(0,)]


# --- who may ---------------------------------------------------------------------------------------------------------


async def test_a_token_of_one_customer_may_not_even_erase_its_own(services: ServiceFactory) -> None:
    service = await services.start(tokens=TOKENS)
    for customer_id in (CUSTOMER, OTHER_CUSTOMER, 0, -1):
        request = pb.DeleteCustomerDataRequest(customer_id=customer_id)
        refused = await refusal(service.stub.DeleteCustomerData(request, metadata=bearer("customer")))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED, customer_id
        assert refused.reason == "CUSTOMER_NOT_ALLOWED", customer_id


async def test_the_customer_must_be_named(services: ServiceFactory, postgres: TestPostgres) -> None:
    service = await services.start(tokens=TOKENS)
    for customer_id in (0, -1):
        request = pb.DeleteCustomerDataRequest(customer_id=customer_id)
        refused = await refusal(service.stub.DeleteCustomerData(request, metadata=bearer("everybody")))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, customer_id
        assert refused.fields == ["customer_id"]
    assert postgres.rows("SELECT * FROM erasures") == []
