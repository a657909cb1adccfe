"""Publishes with the Python client's batching publishers, and with batches made by hand, as a program of a user would.

Both know nothing before they publish: each event is made from its data, with a request id of its own, and the result of
each is looked at. As many batches are on their way by hand as the publisher has.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import grpc
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc

from webhook_grpc_client import AsyncClient, Client, PublisherLimits

from .commands import run, serve
from .publisher import DATA_JSON

BATCH: Final = 500
BATCHES_AT_ONCE: Final = PublisherLimits().batches_at_once
CALL_SECONDS_MAX: Final = 30.0
EVENT_TYPE: Final = "job.completed"


class Batching:
    """The commands. Each publishes for so long, and returns how much was published, in which time, at which cost."""

    def __init__(self) -> None:
        self._address = ""

    async def connect(self, address: str) -> None:
        """Notes where the service is: each command makes its own connection, as a program does."""
        self._address = address

    async def hand_tasks(self, customer: int, seconds: float) -> dict[str, float]:
        """Batches by hand, from asyncio."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            await channel.channel_ready()
            stub = service_pb2_grpc.WebhookServiceStub(channel)
            spent = Spent()

            async def work() -> None:
                while spent.seconds < seconds:
                    answer = await stub.BatchPublishEvents(batch(customer), timeout=CALL_SECONDS_MAX)
                    spent.count += checked(answer)

            await asyncio.gather(*(work() for _ in range(BATCHES_AT_ONCE)))
            return spent.found()

    async def hand_threads(self, customer: int, seconds: float) -> dict[str, float]:
        """Batches by hand, from threads."""
        return await asyncio.to_thread(self._hand_threads, customer, seconds)

    async def publisher_tasks(self, customer: int, seconds: float, tasks: int) -> dict[str, float]:
        """AsyncPublisher, from so many tasks."""
        async with AsyncClient(self._address) as client:
            await client.publish(EVENT_TYPE, "{}", customer_id=customer)  # it is connected
            spent, results = Spent(), Results()
            async with client.publisher() as publisher:

                async def work() -> None:
                    while spent.seconds < seconds:
                        results.add(await publisher.publish(EVENT_TYPE, DATA_JSON, customer_id=customer))

                await asyncio.gather(*(work() for _ in range(tasks)))
            spent.count = results.end()
            return spent.found()

    async def publisher_threads(self, customer: int, seconds: float, tasks: int) -> dict[str, float]:
        """Publisher, from so many threads."""
        return await asyncio.to_thread(self._publisher_threads, customer, seconds, tasks)

    def _hand_threads(self, customer: int, seconds: float) -> dict[str, float]:
        with grpc.insecure_channel(self._address) as channel:
            grpc.channel_ready_future(channel).result(timeout=CALL_SECONDS_MAX)
            stub = service_pb2_grpc.WebhookServiceStub(channel)
            spent = Spent()

            def work() -> int:
                count = 0
                while spent.seconds < seconds:
                    count += checked(stub.BatchPublishEvents(batch(customer), timeout=CALL_SECONDS_MAX))
                return count

            spent.count = sum(in_threads([work] * BATCHES_AT_ONCE))
            return spent.found()

    def _publisher_threads(self, customer: int, seconds: float, tasks: int) -> dict[str, float]:
        with Client(self._address) as client:
            client.publish(EVENT_TYPE, "{}", customer_id=customer)  # it is connected
            spent, results = Spent(), [Results() for _ in range(tasks)]
            with client.publisher() as publisher:

                def work(own: Results) -> None:
                    while spent.seconds < seconds:
                        own.add(publisher.publish(EVENT_TYPE, DATA_JSON, customer_id=customer))

                in_threads([lambda own=own: work(own) for own in results])
            spent.count = sum(own.end() for own in results)
            return spent.found()


class Spent:
    """What was published since this was made, and what it took."""

    def __init__(self) -> None:
        self.count = 0
        self._began_at = time.monotonic()
        self._cpu = time.process_time()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began_at

    def found(self) -> dict[str, float]:
        return {"count": self.count, "seconds": self.seconds, "cpu": time.process_time() - self._cpu}


class Results:
    """The futures of what was published. Those that are done are looked at and let go."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[Any] | Future[Any]] = deque()
        self._count = 0

    def add(self, future: asyncio.Future[Any] | Future[Any]) -> None:
        self._waiting.append(future)
        while self._waiting and self._waiting[0].done():
            self._look()

    def end(self) -> int:
        """Looks at those that are left, which are done; returns how many there were in all."""
        while self._waiting:
            self._look()
        return self._count

    def _look(self) -> None:
        if not self._waiting.popleft().result().event_id:
            raise RuntimeError("a result without an event")
        self._count += 1


def batch(customer: int) -> service_pb2.BatchPublishEventsRequest:
    return service_pb2.BatchPublishEventsRequest(
        requests=[
            service_pb2.PublishEventRequest(
                event=event_pb2.Event(customer_id=customer, event_type=EVENT_TYPE, data_json=DATA_JSON),
                request_id=uuid.uuid4().hex,
            )
            for _ in range(BATCH)
        ]
    )


def checked(answer: service_pb2.BatchPublishEventsResponse) -> int:
    """Returns how many events were published. Raises RuntimeError if one was not."""
    for result in answer.results:
        if not result.published.event_id:
            raise RuntimeError("an event of a batch was refused")
    return len(answer.results)


def in_threads(parts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Runs the parts at the same time, each in a thread of its own; all begin when all are there."""
    ready = threading.Barrier(len(parts))

    def begun(part: Callable[[], Any]) -> Any:
        ready.wait()
        return part()

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(begun, parts))


if __name__ == "__main__":
    batching = Batching()
    commands = ("connect", "hand_tasks", "hand_threads", "publisher_tasks", "publisher_threads")
    run(serve({name: getattr(batching, name) for name in commands}))
