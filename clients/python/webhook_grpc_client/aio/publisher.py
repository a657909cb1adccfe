"""Publishes what many tasks give it, in batches."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self, Unpack

import grpc
from webhook.v1 import service_pb2

from ..batches import PublisherLimits, Queue, Waiting
from ..calls import BATCH_SECONDS_MAX
from ..errors import error_of
from ..events import EventFields, publish_request

Published = service_pb2.PublishEventResponse
SendBatch = Callable[[service_pb2.BatchPublishEventsRequest, float], Awaitable[service_pb2.BatchPublishEventsResponse]]


class AsyncPublisher:
    """Publishes events in batches: of what waits, as soon as a batch may be sent. Every event has a future of its own.

    An event is tried until the service has judged it, with the same `request_id`, so it is published once. Events that
    wait when the process ends are lost: use `async with`, or `close`.
    """

    def __init__(self, send: SendBatch, limits: PublisherLimits) -> None:
        self._send = send
        self._limits = limits
        self._queue = Queue[asyncio.Future[Published]](limits)
        self._changed = asyncio.Event()  # one for each change: replaced when it is set
        self._flushing = 0
        self._is_closed = False
        self._workers: list[asyncio.Task[None]] = []

    async def publish(self, event_type: str, data: Any, **fields: Unpack[EventFields]) -> asyncio.Future[Published]:
        """Takes an event, and returns its future; waits while too many wait already.

        The future raises Refused for an event that the service refuses, Unauthorized, or Unavailable when patience is
        at its end. Raises RuntimeError if the publisher is closed.
        """
        request = publish_request(event_type, data, fields)
        size_bytes = request.ByteSize()
        while not self._is_closed and not self._queue.has_room(size_bytes):
            await self._changed.wait()
        if self._is_closed:
            raise RuntimeError("the publisher is closed")
        self._start()
        future = asyncio.get_running_loop().create_future()
        if self._queue.add(request, size_bytes, future, time.monotonic()):
            self._announce()
        return future

    async def flush(self) -> None:
        """Returns when all events that were published until now are settled."""
        self._flushing += 1
        self._announce()
        try:
            while self._queue.count:
                await self._changed.wait()
        finally:
            self._flushing -= 1

    async def close(self) -> None:
        """Takes no more events, and returns when all are settled."""
        self._is_closed = True
        self._announce()
        await asyncio.gather(*self._workers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _start(self) -> None:
        if not self._workers:
            count = self._limits.batches_at_once
            self._workers = [asyncio.create_task(self._run(), name=f"publisher {number}") for number in range(count)]

    async def _run(self) -> None:
        while batch := await self._next_batch():
            await self._publish(batch)

    async def _next_batch(self) -> list[Waiting[asyncio.Future[Published]]]:
        """Waits for a batch. Returns an empty one when everything is settled and nothing more will come."""
        while not (self._is_closed and not self._queue.count):
            hurry = self._is_closed or self._flushing > 0
            seconds = self._queue.wait_seconds(time.monotonic(), hurry=hurry)
            if seconds == 0 and (batch := self._queue.take(time.monotonic())):
                if self._queue.has_more:
                    self._announce()  # another worker takes what is left, or sees when that is due
                return batch
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return []

    async def _publish(self, batch: list[Waiting[asyncio.Future[Published]]]) -> None:
        request = service_pb2.BatchPublishEventsRequest(requests=[event.request for event in batch])
        outcome = await self._outcome(request)
        if isinstance(outcome, Exception):
            self._queue.failed(batch, outcome, time.monotonic(), random.random())
        else:
            self._queue.answered(batch, outcome.results, time.monotonic(), random.random())
        self._announce()

    async def _outcome(
        self, request: service_pb2.BatchPublishEventsRequest
    ) -> service_pb2.BatchPublishEventsResponse | Exception:
        try:
            return await self._send(request, BATCH_SECONDS_MAX)
        except grpc.RpcError as error:
            return error_of(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the futures of the batch raise it
            return error

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
