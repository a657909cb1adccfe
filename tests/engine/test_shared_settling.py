"""Which results wait for others to share a statement: those by which nobody is held up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from webhook.v1 import delivery_pb2

from tests.support import slowness
from tests.support.receiver import Receiver, answer
from tests.support.service import Service, ServiceFactory
from tests.support.sharing import receiver, service, services, shared, shared_settings
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.engine.unsettled import EndedTurn, FencedQueue, Unsettled

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]  # fixtures

pytestmark = pytest.mark.asyncio(loop_scope="module")

PENDING, SUCCEEDED = DeliveryStatus.PENDING, DeliveryStatus.SUCCEEDED


class Results:
    """What was queued for the settler: what became of each delivery, and whether that may wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[DeliveryStatus, bool]] = []
        add = FencedQueue[EndedTurn].add

        def noted(queue: FencedQueue[Any], change: Any, *, may_wait: bool = False) -> None:
            self.found.append((change.settlement.decision.status, may_wait))
            add(queue, change, may_wait=may_wait)

        monkeypatch.setattr(FencedQueue, "add", noted)

    async def take(self, count: int) -> list[tuple[DeliveryStatus, bool]]:
        async with slowness.timeout(20):
            while len(self.found) < count:
                await asyncio.sleep(0.01)  # until the results are there
        taken, self.found = self.found[:count], self.found[count:]
        return taken


async def until_watched(service: Service, is_watched: bool) -> None:
    """Waits until a watcher has joined the live end of the log, or the last one has left it."""
    async with slowness.timeout(20):
        while service.app._tail.is_watched() is not is_watched:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)  # the tail gives no signal of who joins


async def test_a_success_may_wait_and_a_failure_may_not(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(retry_delays_seconds=(3600.0,))
    results = Results(monkeypatch)
    webhook = await service.create_webhook(receiver.url("/up"))
    await service.publish()
    assert await results.take(1) == [(SUCCEEDED, True)]
    await service.delete_webhook(webhook.webhook_id)
    await service.create_webhook(receiver.on("/down", answer(500)))
    await service.publish()
    assert await results.take(1) == [(PENDING, False)]


async def test_no_success_of_a_webhook_with_a_backlog_may_wait(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room for so many of its deliveries only, and each takes some until it is settled."""
    service = await services.start(lane_prefetch_max=4)
    webhook = await service.create_webhook(receiver.url("/backlog"), max_in_flight=1)
    await service.pause_webhook(webhook.webhook_id)
    await service.publish_many(40)
    results = Results(monkeypatch)
    await service.resume_webhook(webhook.webhook_id)
    found = await results.take(40)
    assert found[:30] == [(SUCCEEDED, False)] * 30


async def test_successes_wait_until_something_may_not_and_then_for_the_shortest_time() -> None:
    unsettled = Unsettled(lambda: False)
    now = asyncio.get_running_loop().time
    change: Any = object()  # nobody looks at it
    unsettled.results.add(change, may_wait=True)
    began_at = now()
    gathering = asyncio.create_task(unsettled.gathered(0.02, 600), name="gathering")
    await asyncio.sleep(0)  # it waits
    unsettled.results.add(change, may_wait=False)
    async with slowness.timeout(20):
        await gathering
    assert now() - began_at >= 0.02


async def test_no_success_waits_while_somebody_watches(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, gathered = list[bool](), Unsettled.gathered

    async def noted(unsettled: Unsettled, seconds: float, seconds_max: float) -> None:
        waits.append(seconds_max > seconds)
        await gathered(unsettled, seconds, seconds_max)

    monkeypatch.setattr(Unsettled, "gathered", noted)
    await service.create_webhook(receiver.url("/watched"))
    await until_watched(service, False)
    await service.publish()
    async with slowness.timeout(20):
        while not waits or service.app.engine.unsettled_count:
            await asyncio.sleep(0.01)  # until the result is written
    assert all(waits)
    async with service.watching() as watch:
        await until_watched(service, True)
        waits.clear()
        await service.publish()
        deliveries = await watch.until_ended(1)
    assert [delivery.status for delivery in deliveries] == [delivery_pb2.DELIVERY_STATUS_SUCCEEDED]
    assert waits
    assert not any(waits)
