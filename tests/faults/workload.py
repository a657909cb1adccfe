"""Clients of the service: publishers that repeat until they are acknowledged, watchers that resume by cursor."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from random import Random

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, event_pb2, service_pb2

from tests.invariants.history import Publish, Told, Watcher
from tests.support import slowness
from tests.support.service import error_details
from webhook_grpc.domain.ids import parse_delivery_id

from .cluster import Cluster

_OCCURRED_AT = 1_700_000_000
_PUBLISH_SECONDS_MAX = 3.0
_PAUSE_SECONDS = 0.05
OTHER_LOG = "CURSOR_OF_OTHER_LOG"


@dataclass
class Publisher:
    """Publishes one event after the other, each under its own request id, until it is acknowledged."""

    name: str
    customer_id: int
    cluster: Cluster
    random: Random
    gap_seconds: float
    history: list[Publish] = field(default_factory=list[Publish])
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    gives_up: bool = False  # takes "unknown" for an answer and goes on with the next event
    last_seconds: float = 10.0  # after the end of the load, for the event that is not acknowledged yet

    async def run(self) -> None:
        """Until it is stopped; the event that it is at then is still repeated for a while."""
        number = 0
        while not self.stopped.is_set():
            number += 1
            await self._publish(f"{self.name}-{number}")
            await asyncio.sleep(self.gap_seconds * self.random.uniform(0.5, 1.5))

    async def _publish(self, request_id: str) -> None:
        data_json = f'{{"request":"{request_id}","text":"✓ {"é" * 20}"}}'
        event = event_pb2.Event(
            customer_id=self.customer_id,
            event_type="job.completed",
            data_json=data_json,
            occur_time=Timestamp(seconds=_OCCURRED_AT),
        )
        request = service_pb2.PublishEventRequest(event=event, request_id=request_id)
        body_hash = hashlib.sha256(_body(data_json)).hexdigest()
        until: float | None = None
        asked_at = time.time()
        while True:
            stub = self.cluster.any(self.random).stub
            try:
                answer = await stub.PublishEvent(request, timeout=slowness.scaled(_PUBLISH_SECONDS_MAX))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                self.history.append(Publish(self.customer_id, request_id, body_hash, None, asked_at=asked_at))
            else:
                self.history.append(
                    Publish(
                        self.customer_id,
                        request_id,
                        body_hash,
                        answer.event_id,
                        answer.duplicate,
                        answer.delivery_count,
                        asked_at,
                        time.time(),
                    )
                )
                return
            if self.gives_up:
                return
            if self.stopped.is_set():
                now = asyncio.get_running_loop().time()
                until = until or now + slowness.scaled(self.last_seconds)
                if now > until:
                    return
            await asyncio.sleep(_PAUSE_SECONDS)  # as a client would: the process may be dead


@dataclass
class ResumingWatcher:
    """Watches one customer's deliveries and resumes with whichever process answers."""

    name: str
    customer_id: int
    cluster: Cluster
    random: Random
    told: list[Told] = field(default_factory=list[Told])
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: it does not read what is sent to it
    reconnect_seconds: float | None = None  # leaves its stream of its own accord so often
    away_seconds: float = 0.05  # and stays away so long
    streams: int = 0
    refusals: list[str] = field(default_factory=list[str])  # why its streams ended, if the service said so
    prompt: bool = False  # see history.Watcher
    begins_again: bool = False  # at the log's first change, if its cursor is of another log; what it was told is void

    async def run(self) -> None:
        """Until it is cancelled."""
        cursor, is_from_the_beginning = b"", False
        self.reading.set()
        while True:
            request = service_pb2.WatchDeliveriesRequest(customer_id=self.customer_id)
            request.heartbeat_interval.FromSeconds(1)
            if cursor:
                request.cursor = cursor
            elif is_from_the_beginning:
                request.start_time.FromSeconds(_OCCURRED_AT)
            stream, call = self.streams, self.cluster.any(self.random).stub.WatchDeliveries(request)
            try:
                async with slowness.timeout(self.reconnect_seconds):
                    async for message in call:
                        self.told += [_told(stream, delivery) for delivery in message.deliveries]
                        cursor = message.cursor
                        self.joined.set()
                        await self.reading.wait()
            except grpc.aio.AioRpcError as error:
                self.refusals += _reasons(error)
                if self.begins_again and OTHER_LOG in _reasons(error):
                    cursor, is_from_the_beginning = b"", True
                    self.told.clear()
            except (TimeoutError, asyncio.InvalidStateError):
                pass
            finally:
                call.cancel()
            self.streams += 1
            await asyncio.sleep(self.away_seconds)

    @property
    def told_once(self) -> int:
        """How many changes it was told, those after a resume that it knew not counted."""
        return len({(told.webhook_id, told.event_id, told.attempt_count, told.status) for told in self.told})

    def history(self) -> Watcher:
        """What it was told."""
        return Watcher(self.name, self.customer_id, tuple(self.told), self.prompt)


def _told(stream: int, delivery: delivery_pb2.Delivery) -> Told:
    parsed = parse_delivery_id(delivery.delivery_id)
    assert parsed is not None
    assert parsed[1] == delivery.webhook_id
    status = delivery_pb2.DeliveryStatus.Name(delivery.status).removeprefix("DELIVERY_STATUS_").lower()
    return Told(stream, delivery.webhook_id, delivery.event_id, delivery.attempt_count, status, time.time())


def _reasons(error: grpc.aio.AioRpcError) -> list[str]:
    try:
        return [error_details(error)["ErrorInfo"].reason]
    except KeyError:  # not the service's own words: its process is gone
        return []


def _body(data_json: str) -> bytes:
    """What a receiver must get, written down independently of the service."""
    return f'{{"event":"job.completed","timestamp":{_OCCURRED_AT},"data":{data_json}}}'.encode()
