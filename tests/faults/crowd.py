"""A crowd of callers with batches for a customer of many webhooks: each leaves after a while and calls again.

Its webhooks are paused: what it publishes costs the database what it costs, and nobody has to receive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from random import Random
from typing import Final, LiteralString

import grpc
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.postgres import query
from tests.support.service import SECRET

from .harness import Round

CUSTOMER: Final = 98
CALLERS: Final = 40
_BATCH_EVENTS: Final = 100  # on the reference; on a slow machine fewer
_WEBHOOKS: Final = 20
_LEAVE_SECONDS: Final = 3.0  # both on the reference; on a slow machine, on which a batch takes long, more
_THINK_SECONDS: Final = 4.0  # between an acknowledgement and the next batch
_PAUSE_SECONDS: Final = 0.05
_CALM_SECONDS: Final = 1.5  # after which nothing is stored any more for callers that have gone

STORED: LiteralString = """
SELECT count(*) FROM idempotency_keys k JOIN events e ON e.event_id = k.event_id
WHERE k.customer_id = 98 AND k.request_id = ANY(%(request_ids)s)
"""
# Waits for whoever is writing. What is written later, for nobody, remains, and the checker finds it pending.
CLEAR: LiteralString = "LOCK TABLE deliveries; DELETE FROM deliveries WHERE customer_id = 98"


def leave_seconds() -> float:
    """Returns how long a caller waits for its answer."""
    return slowness.lengthened(_LEAVE_SECONDS)


def batch_events() -> int:
    """Returns how many events a batch has: a machine that is slow has to store it before its caller leaves.

    Callers have more time there, but less than in proportion. With as many events as on the reference all would leave.
    """
    return max(1, round(_BATCH_EVENTS * leave_seconds() / slowness.scaled(_LEAVE_SECONDS)))


@dataclass
class Crowd:
    """Its acknowledgements: when, and of which request ids."""

    round_: Round
    acknowledged_at: list[float] = field(default_factory=list[float])
    request_ids: list[str] = field(default_factory=list[str])

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncGenerator[None]:
        """It calls as long as the block runs. Fails afterwards if anything that was acknowledged is not stored."""
        await self._make_webhooks()
        callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        try:
            yield
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            await asyncio.sleep(_CALM_SECONDS)
            await self.clear()
        parameters = {"request_ids": self.request_ids}
        [(stored,)] = await asyncio.to_thread(query, self.round_.database_url, STORED, parameters)
        assert stored == len(self.request_ids), f"{len(self.request_ids)} events acknowledged, {stored} stored"

    async def clear(self) -> None:
        """Deletes its deliveries."""
        await asyncio.to_thread(query, self.round_.database_url, CLEAR)

    async def _make_webhooks(self) -> None:
        stub = self.round_.cluster.running[self.round_.one_running()].stub
        for number in range(_WEBHOOKS):
            webhook = webhook_pb2.Webhook(
                customer_id=CUSTOMER, name=f"{number}", url="http://127.0.0.1:9999/", events=["*"], secret=SECRET
            )
            created = await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
            await stub.PauseWebhook(
                service_pb2.PauseWebhookRequest(customer_id=CUSTOMER, webhook_id=created.webhook_id)
            )

    async def _call(self, caller: int) -> None:
        random = Random(caller)
        number = 0
        count, think_seconds = batch_events(), slowness.lengthened(_THINK_SECONDS)
        await asyncio.sleep(random.uniform(0, think_seconds / 4))
        while True:
            number += 1
            request = _batch([f"{caller}-{number}-{index}" for index in range(count)])
            while not await self._is_acknowledged(request, random):
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(random.uniform(0.5, 1.5) * think_seconds)

    async def _is_acknowledged(self, request: service_pb2.BatchPublishEventsRequest, random: Random) -> bool:
        stub = self.round_.cluster.any(random).stub
        try:
            answer = await stub.BatchPublishEvents(request, timeout=leave_seconds())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        if not all(result.HasField("published") for result in answer.results):
            return False
        self.acknowledged_at.append(time.time())
        self.request_ids += [one.request_id for one in request.requests]
        return True


def _batch(request_ids: list[str]) -> service_pb2.BatchPublishEventsRequest:
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
    return service_pb2.BatchPublishEventsRequest(
        requests=[service_pb2.PublishEventRequest(event=event, request_id=request_id) for request_id in request_ids]
    )
