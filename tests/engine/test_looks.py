"""What is read of the table for a webhook without a lane: nothing that its event came with, all that was there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from tests.support import slowness
from tests.support.application import application, publish_event
from tests.support.receiver import Gate, Received, Receiver
from tests.support.service import Service, ServiceFactory
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.engine.queue import reading
from webhook_grpc.store.outbox import due

ALL = range(SHARD_COUNT)


class Looks:
    """Counts the rows that are read for lanes, and lets a test wait for looks, and hold the next one up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched = 0
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.held_up = asyncio.Event()
        self._ended = 0
        self._discover, self._fetch = due.discover, due.fetch
        monkeypatch.setattr(due, "discover", self._discovering(self._discover))
        monkeypatch.setattr(due, "fetch", self._fetching)
        monkeypatch.setattr(reading, "FULL_LOOK_SECONDS", 3600.0)

    def _discovering(self, discover: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def discovering(*arguments: Any) -> Any:
            if not self.allowed.is_set():
                self.held_up.set()
                await self.allowed.wait()
            found = await discover(*arguments)
            self._ended += 1
            return found

        return discovering

    async def _fetching(self, *arguments: Any) -> Any:
        rows = await self._fetch(*arguments)
        self.fetched += len(rows)
        return rows

    async def at_all(self, service: Service) -> None:
        """Waits until all shards have been looked at, and what was found has been read."""
        hints, until = service.app.engine.due_hints, self._ended + 3  # the first may have begun before
        async with slowness.timeout(20):
            while self._ended < until or any(map(hints.names, ALL)):
                if self._ended < until:
                    hints.discover(ALL)
                await asyncio.sleep(0.01)  # a look gives no signal


async def test_what_was_published_here_is_not_read_from_the_table(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while its webhook is unknown, nor when it is known and has no lane any more."""
    looks, gates = Looks(monkeypatch), [Gate(), Gate()]

    async def behave(received: Received) -> web.StreamResponse:
        return await gates[received.number](received)

    service = await services.start()
    for number in range(10):
        await service.create_webhook(receiver.on(f"/{number}", behave))
    async with service.watching() as watch:
        for count, gate in enumerate(gates, start=1):
            await looks.at_all(service)
            looks.fetched = 0
            await service.publish()
            await receiver.wait_for(10 * count)
            await looks.at_all(service)
            assert looks.fetched == 0
            gate.opened.set()
            await watch.until_ended(10 * count)
            async with slowness.timeout(20):
                while len(service.app.engine.lanes):
                    await asyncio.sleep(0.01)  # a lane that is forgotten gives no signal


async def test_a_row_that_was_there_before_is_found_though_its_webhook_has_a_lane_for_another_event(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application has committed the row, without a hint; the event that made the lane is still being sent."""
    looks, gate = Looks(monkeypatch), Gate()

    async def behave(received: Received) -> web.StreamResponse:
        return await gate(received) if received.number == 1 else web.Response()

    service = await services.start()
    await service.create_webhook(receiver.on("/hook", behave))
    async with service.watching() as watch:
        await service.publish()  # so that the webhook is known: it is loaded by a look
        await watch.until_ended(1)
    looks.allowed.clear()
    async with slowness.timeout(20):
        await looks.held_up.wait()
    with application(services.database_url) as app:
        before = publish_event(app)
        app.commit()
    made_the_lane = await service.publish()
    await receiver.wait_for(2)
    looks.allowed.set()
    await receiver.wait_for(3)
    assert [request.event_id for request in receiver.requests[1:]] == [made_the_lane.event_id, before]
    gate.opened.set()
