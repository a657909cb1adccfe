"""The publishers' workers are woken for all that they have to do. A function plays the service."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from webhook.v1 import service_pb2

from tests.support import slowness
from webhook_grpc_client import PublisherLimits
from webhook_grpc_client.aio.publisher import AsyncPublisher
from webhook_grpc_client.threads.publisher import Publisher

Published = service_pb2.PublishEventResponse
CALLERS, EVENTS = 8, 100
# A batch is sent only when it is full: what nobody wakes a worker for is never sent. And callers wait for room.
LIMITS = PublisherLimits(batch_events=2, linger_seconds=1_000_000, max_waiting=6)

pytestmark = pytest.mark.fast


def answered(request: service_pb2.BatchPublishEventsRequest) -> service_pb2.BatchPublishEventsResponse:
    published = [Published(event_id=one.request_id) for one in request.requests]
    results = [service_pb2.BatchPublishResult(published=each) for each in published]
    return service_pb2.BatchPublishEventsResponse(results=results)


def test_every_full_batch_of_many_threads_is_sent_and_nobody_waits_for_room_that_is_there() -> None:
    publisher = Publisher(lambda request, _: answered(request), LIMITS)

    def publish(caller: int) -> list[Future[Published]]:
        return [publisher.publish("a", {}, request_id=f"{caller} {number}") for number in range(EVENTS)]

    with ThreadPoolExecutor(CALLERS) as pool:
        futures = [future for some in pool.map(publish, range(CALLERS)) for future in some]
    seconds = slowness.scaled(20)
    event_ids = {future.result(timeout=seconds).event_id for future in futures}

    assert len(event_ids) == CALLERS * EVENTS
    publisher.close()


async def test_every_full_batch_of_many_tasks_is_sent_and_nobody_waits_for_room_that_is_there() -> None:
    async def send(request: service_pb2.BatchPublishEventsRequest, _: float) -> service_pb2.BatchPublishEventsResponse:
        await asyncio.sleep(0)  # others have their turn, as with a real call
        return answered(request)

    async with slowness.timeout(20), AsyncPublisher(send, LIMITS) as publisher:

        async def publish(caller: int) -> list[asyncio.Future[Published]]:
            return [await publisher.publish("a", {}, request_id=f"{caller} {number}") for number in range(EVENTS)]

        waiting = await asyncio.gather(*(publish(caller) for caller in range(CALLERS)))
        published = await asyncio.gather(*(future for some in waiting for future in some))

    assert len({each.event_id for each in published}) == CALLERS * EVENTS


def test_an_event_that_is_handed_over_when_the_workers_have_ended_fails_and_is_not_forgotten() -> None:
    """A thread was about to hand it over while another one closed the publisher."""
    publisher = Publisher(lambda request, _: answered(request), LIMITS)
    has_room = publisher._has_room_for_small  # pyright: ignore[reportPrivateUsage]

    def closed_meanwhile(size_bytes: int) -> bool:
        found = has_room(size_bytes)
        with publisher._lock:  # pyright: ignore[reportPrivateUsage]
            publisher._is_closed = True  # pyright: ignore[reportPrivateUsage] - what `close` does, before it waits
            publisher._work.notify_all()  # pyright: ignore[reportPrivateUsage]
        for thread in publisher._threads:  # pyright: ignore[reportPrivateUsage]
            thread.join()
        return found

    publisher._has_room_for_small = closed_meanwhile  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    late = publisher.publish("a", {})
    publisher.close()
    assert isinstance(late.exception(timeout=slowness.scaled(20)), RuntimeError)


def test_flush_returns_and_close_ends_the_threads_while_their_batches_linger() -> None:
    before = set(threading.enumerate())
    publisher = Publisher(lambda request, _: answered(request), LIMITS)
    first = publisher.publish("a", {}, request_id="first")
    publisher.flush()
    assert first.done()
    last = publisher.publish("a", {}, request_id="last")
    publisher.close()
    assert last.done()
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name.startswith("publisher")]
