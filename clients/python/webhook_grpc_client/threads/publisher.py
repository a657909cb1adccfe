"""Publishes what many threads give it, in batches."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Self, Unpack

import grpc
from webhook.v1 import service_pb2

from ..batches import PublisherLimits, Queue, Waiting
from ..calls import BATCH_SECONDS_MAX
from ..errors import error_of
from ..events import EventFields, publish_request

Published = service_pb2.PublishEventResponse
SendBatch = Callable[[service_pb2.BatchPublishEventsRequest, float], service_pb2.BatchPublishEventsResponse]
Arrived = tuple[service_pb2.PublishEventRequest, int, Future[Published], float]  # what `Queue.add` takes
SMALL_BYTES: Final = 4096  # of an event that is handed over without the lock


class Publisher:
    """Publishes events in batches: of what waits, as soon as a batch may be sent. Every event has a future of its own.

    An event is tried until the service has judged it, with the same `request_id`, so it is published once. Events that
    wait when the process ends are lost: use `with`, or `close`.
    """

    def __init__(self, send: SendBatch, limits: PublisherLimits) -> None:
        self._send = send
        self._limits = limits
        self._queue = Queue[Future[Published]](limits)
        self._arrived: deque[Arrived] = deque()  # any thread appends; only who holds the lock takes out
        self._lock = threading.Lock()  # owns the queue and the fields below. Each condition has those that wait for it:
        self._work = threading.Condition(self._lock)  # workers, for a batch
        self._room = threading.Condition(self._lock)  # publishing threads, for room
        self._settled = threading.Condition(self._lock)  # `flush`, for the last event
        self._look_at = 1  # as many arrived events are moved to the queue by the thread that brings the last of them
        self._is_full = False  # all wait until there is ample room: those who come later do not overtake
        self._flushing = 0
        self._is_closed = False
        self._working_count = limits.batches_at_once
        self._is_over = False  # closed, and the last worker has ended
        self._threads = [
            threading.Thread(target=self._run, name=f"publisher-{number}", daemon=True)
            for number in range(limits.batches_at_once)
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, event_type: str, data: Any, **fields: Unpack[EventFields]) -> Future[Published]:
        """Takes an event, and returns its future; waits while too many wait already (one more for each thread may).

        The future raises Refused for an event that the service refuses, Unauthorized, or Unavailable when patience is
        at its end. Raises RuntimeError if the publisher is closed; the future does if it is closed meanwhile.
        """
        request = publish_request(event_type, data, fields)
        size_bytes = request.ByteSize()
        future = Future[Published]()
        future.set_running_or_notify_cancel()  # it is on its way from now on
        arrived = request, size_bytes, future, time.monotonic()
        if self._has_room_for_small(size_bytes):
            self._hand_over(arrived)
        else:
            self._wait_and_add(arrived)
        return future

    def flush(self) -> None:
        """Returns when all events that were published until now are settled."""
        with self._lock:
            self._flushing += 1
            self._admit()
            self._work.notify_all()
            try:
                self._settled.wait_for(lambda: not self._queue.count)
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Takes no more events, and returns when all are settled."""
        with self._lock:
            self._is_closed = True
            self._work.notify_all()
            self._room.notify_all()
        for thread in self._threads:
            thread.join()
        with self._lock:
            self._admit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_room_for_small(self, size_bytes: int) -> bool:
        """Returns whether the event is small and has room for sure. Reads without the lock."""
        if size_bytes > SMALL_BYTES or self._is_full or self._is_closed:
            return False
        count = len(self._arrived)
        fits = self._queue.size_bytes + (count + 1) * SMALL_BYTES <= self._limits.max_waiting_bytes
        return fits and self._queue.count + count < self._limits.max_waiting

    def _hand_over(self, arrived: Arrived) -> None:
        """Hands over an event without the lock.

        A thread that waits for the lock gets it while another runs Python, and holds it until it runs itself: with the
        lock for each event, each event would cost a switch of threads.
        """
        self._arrived.append(arrived)
        if self._is_over or len(self._arrived) >= self._look_at:
            with self._lock:
                self._admit()

    def _wait_and_add(self, arrived: Arrived) -> None:
        size_bytes = arrived[1]
        with self._lock:
            self._admit()
            while not self._is_closed and (self._is_full or not self._queue.has_room(size_bytes)):
                self._is_full = True
                self._room.wait()
            if self._is_closed:
                raise closed()
            self._arrived.append(arrived)
            self._admit()

    def _admit(self) -> None:
        """Moves what arrived to the queue.

        Whoever holds the lock does so before looking at the queue, and after taking from it.
        """
        while True:
            while self._arrived:
                arrived = self._arrived.popleft()
                if self._is_over:
                    arrived[2].set_exception(closed())  # nobody would publish it
                elif self._queue.add(*arrived):
                    self._work.notify()
            self._look_at = self._queue.until_look()
            if len(self._arrived) < self._look_at:
                return  # who appends another sees the new number: they append first, and then read it

    def _run(self) -> None:
        while batch := self._next_batch():
            self._publish(batch)

    def _next_batch(self) -> list[Waiting[Future[Published]]]:
        """Waits for a batch. Returns an empty one when everything is settled and nothing more will come."""
        with self._lock:
            while True:
                self._admit()
                if self._is_closed and not self._queue.count:
                    self._working_count -= 1
                    self._is_over = not self._working_count
                    return []
                hurry = self._is_closed or self._flushing > 0
                seconds = self._queue.wait_seconds(time.monotonic(), hurry=hurry)
                if seconds == 0 and (batch := self._queue.take(time.monotonic())):
                    self._admit()
                    if self._queue.has_more:
                        self._work.notify()  # another worker takes what is left, or sees when that is due
                    return batch
                self._work.wait(seconds)

    def _publish(self, batch: list[Waiting[Future[Published]]]) -> None:
        request = service_pb2.BatchPublishEventsRequest(requests=[event.request for event in batch])
        outcome = self._outcome(request)
        with self._lock:
            if isinstance(outcome, Exception):
                self._queue.failed(batch, outcome, time.monotonic(), random.random())
            else:
                self._queue.answered(batch, outcome.results, time.monotonic(), random.random())
            self._admit()
            if self._is_full and self._queue.has_ample_room():
                self._is_full = False
                self._room.notify_all()
            if not self._queue.count:
                self._settled.notify_all()
                self._work.notify_all()  # after `close` they end

    def _outcome(
        self, request: service_pb2.BatchPublishEventsRequest
    ) -> service_pb2.BatchPublishEventsResponse | Exception:
        try:
            return self._send(request, BATCH_SECONDS_MAX)
        except grpc.RpcError as error:
            return error_of(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the futures of the batch raise it
            return error


def closed() -> RuntimeError:
    """Returns the error of an event that comes too late."""
    return RuntimeError("the publisher is closed")
