"""`make bench`: how many events are published and delivered a second on this machine.

One process of the service on its embedded Postgres; publishers and the receiver in this process. Everything shares the
machine's cores, so compare the rows of one run with each other, not with another machine's. Bounded: 20,000 events.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import uvloop
from aiohttp import web
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

DATA_JSON = '{"job_id":"job-abc123","status":"completed","duration":3600,"padding":"' + "x" * 400 + '"}'
BATCH = 500
SECONDS_MAX = 120


class Receiver:
    """Counts requests by event and endpoint, and answers 200."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        app = web.Application()
        app.router.add_post("/{hook}", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def until(self, count: int) -> None:
        """Waits until so many requests have come."""
        while self.counts.total() < count:
            self._arrived.clear()
            await self._arrived.wait()

    async def _handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.counts[request.path, request.headers["webhook-id"]] += 1
        self._arrived.set()
        return web.Response(text="ok")


@asynccontextmanager
async def running_service(data_dir: Path) -> AsyncGenerator[service_pb2_grpc.WebhookServiceAsyncStub]:
    """The service as its own process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    environment |= {
        "WEBHOOK_DATA_DIR": str(data_dir),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LOG_LEVEL": "warning",
    }
    command = Path(sys.executable).with_name("webhook-grpc")
    process = await asyncio.create_subprocess_exec(command, "serve", env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().split()[-1]
        async with grpc.aio.insecure_channel(address) as channel:
            yield service_pb2_grpc.WebhookServiceStub(channel)
    finally:
        process.terminate()
        await process.wait()


def request(customer_id: int) -> service_pb2.PublishEventRequest:
    event = event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json=DATA_JSON)
    return service_pb2.PublishEventRequest(event=event)


async def create_webhooks(service: service_pb2_grpc.WebhookServiceAsyncStub, port: int, count: int) -> None:
    """One webhook for each of so many customers."""
    for customer_id in range(1, count + 1):
        webhook = webhook_pb2.Webhook(
            customer_id=customer_id,
            name="bench",
            url=f"http://127.0.0.1:{port}/{customer_id}",
            events=["*"],
            max_in_flight=100,
        )
        await service.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))


async def publish_batches(
    service: service_pb2_grpc.WebhookServiceAsyncStub, count: int, first_customer: int, customers: int
) -> None:
    """Publishes in batches, four at a time."""
    at_once = asyncio.Semaphore(4)

    async def batch() -> None:
        async with at_once:
            requests = [request(first_customer + number % customers) for number in range(BATCH)]
            response = await service.BatchPublishEvents(service_pb2.BatchPublishEventsRequest(requests=requests))
            assert all(result.HasField("published") for result in response.results)

    await asyncio.gather(*(batch() for _ in range(count // BATCH)))


async def publish_singly(service: service_pb2_grpc.WebhookServiceAsyncStub, count: int) -> None:
    """Publishes one event a call, a hundred calls at a time, for a customer without webhooks."""
    at_once = asyncio.Semaphore(100)

    async def one() -> None:
        async with at_once:
            await service.PublishEvent(request(1_000_000))

    await asyncio.gather(*(one() for _ in range(count)))


async def measure(count: int, webhooks: int) -> None:
    receiver = Receiver()
    rows: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as directory:
        async with receiver.running(), running_service(Path(directory)) as service, asyncio.timeout(SECONDS_MAX):
            await create_webhooks(service, receiver.port, webhooks)
            started_at = time.monotonic()
            await publish_batches(service, count, 1_000_000, webhooks)
            rows.append(("published in batches of 500, nobody listens", count / (time.monotonic() - started_at)))
            started_at = time.monotonic()
            await publish_singly(service, count // 10)
            rows.append(("published one a call, nobody listens", count / 10 / (time.monotonic() - started_at)))
            started_at = time.monotonic()
            await publish_batches(service, count, 1, webhooks)
            seconds = time.monotonic() - started_at
            rows.append((f"published in batches, each to 1 of {webhooks} webhooks", count / seconds))
            await receiver.until(count)
            rows.append(("published, sent, answered and settled", count / (time.monotonic() - started_at)))
    for name, rate in rows:
        print(f"{rate:10,.0f}/s  {name}")
    duplicates = receiver.counts.total() - len(receiver.counts)
    print(f"{count} deliveries arrived, {duplicates} of them twice")
    if duplicates:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--webhooks", type=int, default=20)
    arguments = parser.parse_args()
    uvloop.run(measure(arguments.events, arguments.webhooks))
