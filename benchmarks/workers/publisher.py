"""A load generator: publishes over grpc.aio. Rows that need more than one core of it start several of these."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

from .commands import run, serve
from .lean import Connection
from .poster import paced

DATA_JSON = '{"job_id":"job-abc123","status":"completed","duration":3600,"padding":"' + "x" * 330 + '"}'
BATCHES_AT_ONCE = 4
CHANNELS = 4
LAG_PAUSE_SECONDS = 0.005


class Publisher:
    """The commands. Several channels, so that a service of several processes has calls in each of them."""

    def __init__(self) -> None:
        self._stubs: Iterator[service_pb2_grpc.WebhookServiceAsyncStub] = iter(())
        self._sent: Sequence[tuple[str, str]] = ()  # with each call

    async def connect(self, address: str, token: str = "") -> None:
        """Opens channels to a service, each with a TCP connection of its own. Calls carry the token, if any."""
        self._sent = (("authorization", f"Bearer {token}"),) if token else ()
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        self._stubs = itertools.cycle([service_pb2_grpc.WebhookServiceStub(channel) for channel in channels])

    @property
    def stub(self) -> service_pb2_grpc.WebhookServiceAsyncStub:
        """Returns the stub whose turn it is."""
        return next(self._stubs)

    async def webhooks(self, url: str, customers: int, each: int = 1, first: int = 1, in_flight: int = 100) -> None:
        """Creates `each` webhooks for each of the customers; the path of each is its own."""
        waiting = iter([(first + number, own) for number in range(customers) for own in range(each)])

        async def work() -> None:
            for customer_id, own in waiting:
                webhook = webhook_pb2.Webhook(
                    customer_id=customer_id,
                    name="bench",
                    url=f"{url}/{customer_id}/{own}",
                    events=["*"],
                    max_in_flight=in_flight,
                )
                await self.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=self._sent)

        await asyncio.gather(*(work() for _ in range(16)))

    async def batches(
        self,
        customers: int,
        size: int,
        seconds: float = 0,
        count: int = 0,
        first: int = 1,
        gate: dict[str, Any] | None = None,
    ) -> int:
        """Publishes in batches for so long, or so many events in all; returns how many."""
        batch = service_pb2.BatchPublishEventsRequest(
            requests=[request(first + number % customers) for number in range(size)]
        )

        async def one(_: int) -> int:
            response = await self.stub.BatchPublishEvents(batch, metadata=self._sent)
            if not all(result.HasField("published") for result in response.results):
                raise RuntimeError("an event of a batch was refused")
            return size

        return await self._load(one, BATCHES_AT_ONCE, size, seconds, count, gate)

    async def distinct(self, customers: int, size: int) -> int:
        """Publishes one event for each of the customers, in batches."""
        for first in range(1, customers + 1, size):
            await self.batches(size, size, count=size, first=first)
        return customers

    async def singly(
        self,
        customers: int,
        callers: int,
        seconds: float = 0,
        count: int = 0,
        first: int = 1,
        gate: dict[str, Any] | None = None,
    ) -> int:
        """Publishes one event a call, so many calls at a time; returns how many."""

        async def one(number: int) -> int:
            await self.stub.PublishEvent(request(first + number % customers), metadata=self._sent)
            return 1

        return await self._load(one, callers, 1, seconds, count, gate)

    async def paced(self, customers: int, rate: float, seconds: float, first: int = 1) -> dict[str, float]:
        """Publishes one event a call at a steady rate; returns when each call began, by the event's id."""
        began: dict[str, float] = {}

        async def one(number: int) -> None:
            at = time.monotonic()
            response = await self.stub.PublishEvent(request(first + number % customers), metadata=self._sent)
            began[response.event_id] = at

        await paced(one, rate, seconds)
        return began

    async def timed(self, rate: float, seconds: float, first: int = 1) -> dict[str, tuple[float, float]]:
        """Publishes for one customer as `paced` does; returns when each call began and ended, by the event's id."""
        times: dict[str, tuple[float, float]] = {}

        async def one(_: int) -> None:
            at = time.monotonic()
            response = await self.stub.PublishEvent(request(first), metadata=self._sent)
            times[response.event_id] = at, time.monotonic()

        await paced(one, rate, seconds)
        return times

    async def flood(self, customer_id: int, size: int, rate: float, seconds: float) -> int:
        """Publishes batches at so many events a second, whatever comes of them; returns how many events were taken."""
        batch = service_pb2.BatchPublishEventsRequest(requests=[request(customer_id) for _ in range(size)])
        taken = 0

        async def one(_: int) -> None:
            nonlocal taken
            try:
                response = await self.stub.BatchPublishEvents(batch, metadata=self._sent)
            except grpc.aio.AioRpcError:
                return  # refused: there are too many
            taken += sum(result.HasField("published") for result in response.results)

        await paced(one, rate / size, seconds)
        return taken

    async def switch(self, customer_id: int, *, on: bool) -> None:
        """Pauses the webhooks of a customer, or resumes them."""
        wanted = service_pb2.ListWebhooksRequest(customer_id=customer_id)
        listed = await self.stub.ListWebhooks(wanted, metadata=self._sent)
        for webhook in listed.webhooks:
            named = {"customer_id": customer_id, "webhook_id": webhook.webhook_id}
            if on:
                await self.stub.ResumeWebhook(service_pb2.ResumeWebhookRequest(**named), metadata=self._sent)
            else:
                await self.stub.PauseWebhook(service_pb2.PauseWebhookRequest(**named), metadata=self._sent)

    async def _load(
        self,
        one: Callable[[int], Awaitable[int]],
        callers: int,
        size: int,
        seconds: float,
        count: int,
        gate: dict[str, Any] | None,
    ) -> int:
        """Calls in turns of `callers` at a time until the time is over, or so many are begun."""
        until = time.monotonic() + seconds
        begun = done = 0
        opened = await Gate.open(gate) if gate else None

        async def work() -> None:
            nonlocal begun, done
            while begun < count if count else time.monotonic() < until:
                if opened is not None and opened.is_shut(begun):
                    await opened.pause()
                    continue
                begun += size
                taken = await one(begun // size)  # not `done += await`, which would read `done` before it waits
                done += taken

        try:
            await asyncio.gather(*(work() for _ in range(callers)))
        finally:
            if opened is not None:
                opened.close()
        return done


class Gate:
    """Holds publishing back while too much is still to arrive: the backlog then does not grow.

    `share`: which part of all deliveries this process causes for each event that it publishes. Asks the sink.
    """

    def __init__(self, connection: Connection, lag_max: int, deliveries: float) -> None:
        self._connection, self._lag_max, self._deliveries = connection, lag_max, deliveries
        self._base = 0
        self._arrived = 0
        self._asking = asyncio.Lock()

    @classmethod
    async def open(cls, gate: dict[str, Any]) -> Gate:
        """`url` of the sink, `lag_max` deliveries, `deliveries` caused by each event published here."""
        opened = cls(await Connection.open(gate["url"], None), gate["lag_max"], gate["deliveries"])
        opened._base = await opened._ask()
        return opened

    def is_shut(self, begun: int) -> bool:
        """Returns whether what was begun here is too far ahead of what has arrived."""
        return begun * self._deliveries - self._arrived > self._lag_max

    async def pause(self) -> None:
        """Waits a moment, and asks how much has arrived."""
        async with self._asking:
            self._arrived = await self._ask() - self._base
        await asyncio.sleep(LAG_PAUSE_SECONDS)

    def close(self) -> None:
        self._connection.close()

    async def _ask(self) -> int:
        await self._connection.post(b"GET /count HTTP/1.1\r\nHost: sink\r\n\r\n")
        return int(self._connection.body)


def request(customer_id: int) -> service_pb2.PublishEventRequest:
    event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json=DATA_JSON)
    return service_pb2.PublishEventRequest(event=event)


if __name__ == "__main__":
    publisher = Publisher()
    commands = ("connect", "webhooks", "batches", "distinct", "singly", "paced", "timed", "flood", "switch")
    run(serve({name: getattr(publisher, name) for name in commands}))
