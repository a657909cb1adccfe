"""What `make bench-page` has in its own process: a receiver, and calls to a service that is a process of its own."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psutil
from aiohttp import web
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

DATA_JSON = '{"job_id":"job-abc123","status":"completed","duration":3600,"padding":"' + "x" * 400 + '"}'
OWN_PROGRAM = Path(sys.executable).with_name("webhook-grpc")


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
async def running_service(
    program: Path, environment: Mapping[str, str]
) -> AsyncGenerator[tuple[service_pb2_grpc.WebhookServiceAsyncStub, psutil.Process]]:
    """The service as its own process."""
    process = await asyncio.create_subprocess_exec(program, "serve", env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().split()[-1]
        async with grpc.aio.insecure_channel(address) as channel:
            yield service_pb2_grpc.WebhookServiceStub(channel), psutil.Process(process.pid)
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
    service: service_pb2_grpc.WebhookServiceAsyncStub, count: int, first_customer: int, customers: int, size: int
) -> None:
    """Publishes in batches, four at a time."""
    at_once = asyncio.Semaphore(4)

    async def batch() -> None:
        async with at_once:
            requests = [request(first_customer + number % customers) for number in range(size)]
            response = await service.BatchPublishEvents(service_pb2.BatchPublishEventsRequest(requests=requests))
            assert all(result.HasField("published") for result in response.results)

    await asyncio.gather(*(batch() for _ in range(count // size)))


def environment_in(directory: str) -> dict[str, str]:
    """Returns the environment of a service with its data in a folder, which may send to loopback addresses."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")} | {
        "WEBHOOK_DATA_DIR": directory,
        "WEBHOOK_SECRET_KEYS": base64.b64encode(bytes(32)).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LOG_LEVEL": "error",
    }
