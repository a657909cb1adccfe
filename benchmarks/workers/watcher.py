"""Watchers: so many WatchDeliveries at once, which count changes or note when each came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import service_pb2

from .commands import run, serve
from .noop import LENGTH_BYTES

METHOD = "/webhook.v1.WebhookService/WatchDeliveries"
STREAMS_PER_CHANNEL = 100
NO_WEBHOOK = 1_000_000_000  # from here on there are none with such an id
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


class Watchers:
    """The commands."""

    def __init__(self) -> None:
        self._following: list[asyncio.Task[None]] = []
        self._channels: list[grpc.aio.Channel] = []
        self._arrived: dict[str, list[float]] = {}

    async def catch_up(
        self, address: str, customer_id: int, start_seconds: float, watchers: int, changes: int, kept: str = ""
    ) -> dict[str, float]:
        """Watches from a time (Unix) on until each watcher has so many changes; returns the seconds it took.

        `kept`: a file for the messages of the first watcher, as they came.
        """
        start_time = Timestamp()
        start_time.FromMicroseconds(int(start_seconds * 1_000_000))
        request = service_pb2.WatchDeliveriesRequest(customer_id=customer_id, start_time=start_time)
        raw = request.SerializeToString()
        messages: list[bytes] = []
        started_at = time.monotonic()

        async def one(number: int, channel: grpc.aio.Channel) -> None:
            left = changes
            call = _call(channel, raw)
            async for message in call:
                if kept and number == 0:
                    messages.append(message)
                left -= len(service_pb2.WatchDeliveriesResponse.FromString(message).deliveries)
                if left <= 0:
                    break
            call.cancel()
            if left > 0:
                raise RuntimeError(f"a watcher misses {left} of {changes} changes")

        channels = self._open(address, watchers)
        await asyncio.gather(*(one(number, channels[number // STREAMS_PER_CHANNEL]) for number in range(watchers)))
        seconds = time.monotonic() - started_at
        for channel in channels:
            await channel.close()
        if kept:
            text = b"".join(len(message).to_bytes(LENGTH_BYTES, "big") + message for message in messages)
            Path(kept).write_bytes(text)  # noqa: ASYNC240 - after the measuring
        return {"seconds": seconds}

    async def follow(self, address: str, customer_id: int, watchers: int) -> None:
        """Opens watchers; returns when all of them follow. They go on until `leave`."""
        request = service_pb2.WatchDeliveriesRequest(customer_id=customer_id, snapshot=True)
        raw = request.SerializeToString()
        ready = [asyncio.Event() for _ in range(watchers)]
        self._channels = self._open(address, watchers)

        async def one(number: int) -> None:
            call = _call(self._channels[number // STREAMS_PER_CHANNEL], raw)
            async for message in call:
                at, response = time.monotonic(), service_pb2.WatchDeliveriesResponse.FromString(message)
                if response.snapshot_complete:
                    ready[number].set()
                for delivery in response.deliveries:
                    self._arrived.setdefault(delivery.event_id, []).append(at)

        self._following = [asyncio.create_task(one(number), name=f"watcher {number}") for number in range(watchers)]
        waiting = asyncio.gather(*(event.wait() for event in ready))
        await asyncio.wait([waiting, *self._following], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise RuntimeError("a watcher ended before it followed")

    async def crowd(self, address: str, customer_id: int, watchers: int, idle: int) -> int:
        """Opens watchers that only read, and others with filters of their own that fit nothing; `leave` ends them.

        Returns how many the service has taken: those that got a first message.
        """
        everything = [service_pb2.WatchDeliveriesRequest(customer_id=customer_id)] * watchers
        nothing = [
            service_pb2.WatchDeliveriesRequest(customer_id=customer_id, webhook_ids=[NO_WEBHOOK + number])
            for number in range(idle)
        ]
        raw = [request.SerializeToString() for request in (*everything, *nothing)]
        self._channels = self._open(address, len(raw))
        begun = [asyncio.get_running_loop().create_future() for _ in raw]

        async def one(number: int) -> None:
            try:
                async for _ in _call(self._channels[number // STREAMS_PER_CHANNEL], raw[number]):
                    if not begun[number].done():
                        begun[number].set_result(True)
            except grpc.aio.AioRpcError:  # refused, or let go because this process is slower than the service
                if not begun[number].done():
                    begun[number].set_result(False)

        self._following = [asyncio.create_task(one(number), name=f"watcher {number}") for number in range(len(raw))]
        return sum(await asyncio.gather(*begun))

    async def latencies(self, began: Mapping[str, float], watchers: int) -> list[float]:
        """Waits until each watcher has these events; returns how long after its begin each came, for all of them."""
        while any(len(self._arrived.get(event_id, ())) < watchers for event_id in began):  # noqa: ASYNC110 - a sum of all
            await asyncio.sleep(0.02)
        return [at - began[event_id] for event_id in began for at in self._arrived[event_id]]

    async def leave(self) -> None:
        """Ends the watchers that follow."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for channel in self._channels:
            await channel.close()
        self._following, self._channels, self._arrived = [], [], {}

    def _open(self, address: str, watchers: int) -> list[grpc.aio.Channel]:
        count = -(-watchers // STREAMS_PER_CHANNEL)
        return [grpc.aio.insecure_channel(address, options=OPTIONS) for _ in range(count)]


def _call(channel: grpc.aio.Channel, raw: bytes) -> Any:
    return cast("Any", channel.unary_stream)(METHOD)(raw)  # its types say nothing of raw bytes


if __name__ == "__main__":
    watching = Watchers()
    run(serve({name: getattr(watching, name) for name in ("catch_up", "follow", "crowd", "latencies", "leave")}))
