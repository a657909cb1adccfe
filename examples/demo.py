"""`make demo`: the whole way of an event, live, in a few seconds.

Starts the service on its embedded Postgres in a temporary folder, and a real receiver beside it; registers webhooks for
two customers; publishes events of all seven types; shows every delivery as WatchDeliveries returns it. One endpoint
answers 500 twice and then recovers. The receiver verifies each request twice: with its own HMAC, and with the
independent package `standardwebhooks`. Exit status 0 only if every delivery arrived and verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import cast

import grpc
from aiohttp import web
from rich.console import Console
from rich.table import Table
from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError
from webhook.v1 import delivery_pb2, event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

ACME, GLOBEX = 1, 2
EVENTS = {
    "environment.created": '{"environment_id":"env-7","region":"eu-west"}',
    "environment.started": '{"environment_id":"env-7","seconds":41}',
    "job.completed": '{"job_id":"job-abc123","status":"completed","duration":3600}',
    "job.failed": '{"job_id":"job-def456","status":"failed","exit_code":137}',
    "alert.triggered": '{"alert":"gpu-temperature","celsius":91.5}',
    "quota.exceeded": '{"quota":"gpu-hours","limit":1000,"used":1000.25}',
    "environment.stopped": '{"environment_id":"env-7","reason":"idle"}',
}
WEBHOOKS = (  # customer, name, subscribed events, path at the receiver
    (ACME, "acme everything", ["*"], "/acme/all"),
    (ACME, "acme jobs", ["job.*"], "/acme/jobs"),
    (GLOBEX, "globex flaky", ["*"], "/globex/flaky"),
    (GLOBEX, "globex alerts", ["alert.triggered", "quota.exceeded"], "/globex/alerts"),
)
FLAKY, FAILURES = "/globex/flaky", 2
SECONDS_MAX = 60

console = Console(highlight=False, force_terminal=sys.stdout.isatty() or None)


@dataclass
class Receiver:
    """What a customer runs: an HTTP server that trusts nothing that does not verify."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    accepted: Counter[str] = field(default_factory=Counter[str])
    refused: list[str] = field(default_factory=list[str])
    failing_event: str = ""
    failures: int = 0
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serves on a free port."""
        app = web.Application()
        app.router.add_post("/{customer}/{hook}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def handle(self, request: web.Request) -> web.Response:
        """Verifies, then answers."""
        body = await request.read()
        if not self.is_genuine(request, body):
            self.refused.append(request.path)
            return web.Response(status=401, text="signature does not verify")
        if request.path == FLAKY and self.is_down_for(request.headers["webhook-id"]):
            self.failures += 1
            return web.Response(status=500, text="deploying, back in a moment")
        self.accepted[request.path] += 1
        return web.Response(text="thanks")

    def is_down_for(self, event_id: str) -> bool:
        """The flaky endpoint fails the first event that it gets, twice."""
        self.failing_event = self.failing_event or event_id
        return event_id == self.failing_event and self.failures < FAILURES

    def is_genuine(self, request: web.Request, body: bytes) -> bool:
        """Both signatures, each on its own."""
        secret = self.secrets[request.path]
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), request.headers["X-Webhook-Signature"].encode()):
            return False
        try:
            StandardWebhook(secret).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return False
        return True


@dataclass(frozen=True)
class Service:
    """A running service: its API, and the address of its page."""

    stub: service_pb2_grpc.WebhookServiceAsyncStub
    page_url: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def running_service(data_dir: Path, **settings: str) -> AsyncGenerator[Service]:
    """The service as an operator starts it, allowed to call this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    environment |= {
        "WEBHOOK_DATA_DIR": str(data_dir),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LOG_LEVEL": "warning",
        **settings,
    }
    command = Path(sys.executable).with_name("webhook-grpc")
    process = await asyncio.create_subprocess_exec(command, "serve", env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        first_line = (await process.stdout.readline()).decode()
        if not first_line:
            sys.exit("demo: the service did not start")
        console.print(f"[dim]{first_line.strip()}[/]")
        page_url = (await process.stdout.readline()).decode().split()[-1]
        async with grpc.aio.insecure_channel(first_line.split()[-1]) as channel:
            yield Service(service_pb2_grpc.WebhookServiceStub(channel), page_url, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def register(service: service_pb2_grpc.WebhookServiceAsyncStub, receiver: Receiver) -> dict[int, str]:
    """Registers the webhooks; the service makes the secrets. Returns their names by id."""
    names: dict[int, str] = {}
    for customer_id, name, events, path in WEBHOOKS:
        webhook = webhook_pb2.Webhook(
            customer_id=customer_id, name=name, url=f"http://127.0.0.1:{receiver.port}{path}", events=events
        )
        for _ in range(3):
            webhook.retry_policy.delays.add(seconds=1)  # the default would start with five seconds
        created = await service.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
        receiver.secrets[path] = created.secret
        names[created.webhook_id] = name
        console.print(f"registered [bold]{name}[/] for customer {customer_id}: {', '.join(events)}")
    return names


async def publish(service: service_pb2_grpc.WebhookServiceAsyncStub) -> int:
    """Publishes every type for both customers; returns how many deliveries that makes."""
    count = 0
    for event_type, data_json in EVENTS.items():
        for customer_id in (ACME, GLOBEX):
            event = event_pb2.Event(customer_id=customer_id, event_type=event_type, data_json=data_json)
            request = service_pb2.PublishEventRequest(event=event, request_id=f"demo-{event_type}")
            count += (await service.PublishEvent(request)).delivery_count
    return count


async def show_until_ended(
    call: grpc.aio.UnaryStreamCall[service_pb2.WatchDeliveriesRequest, service_pb2.WatchDeliveriesResponse],
    names: dict[int, str],
    expected: int,
) -> Counter[str]:
    """One line a change, until every delivery has ended. Returns how often each status came."""
    statuses = Counter[str]()
    while statuses.total() - statuses["pending"] < expected:
        message = await call.read()
        assert isinstance(message, service_pb2.WatchDeliveriesResponse), "the stream ended early"
        for delivery in message.deliveries:
            status = delivery_pb2.DeliveryStatus.Name(delivery.status).removeprefix("DELIVERY_STATUS_").lower()
            statuses[status] += 1
            console.print(line(delivery, status, names[delivery.webhook_id]), soft_wrap=True)
    return statuses


def line(delivery: delivery_pb2.Delivery, status: str, name: str) -> str:
    """A change, readable."""
    attempt = delivery.last_attempt
    when = delivery.update_time.ToDatetime().strftime("%H:%M:%S.%f")[:-3]
    colour, mark = {"succeeded": ("green", "✓"), "pending": ("yellow", "↻")}.get(status, ("red", "✗"))
    outcome = f"{attempt.response_status} in {attempt.latency.ToMilliseconds()} ms"
    if status == "pending":
        wait = delivery.next_attempt_time.ToMilliseconds() - delivery.update_time.ToMilliseconds()
        outcome += f", again in {wait / 1000:.1f} s"
    return (
        f"[dim]{when}[/] [{colour}]{mark} {status:<9}[/] {delivery.event_type:<19} → {name:<15} "
        f"attempt {attempt.attempt_number}: {outcome}"
    )


def summary(receiver: Receiver, statuses: Counter[str], expected: int, seconds: float) -> bool:
    """What came of it; True if all is well."""
    table = Table("webhook", "requests accepted, each verified twice")
    for _, name, _, path in WEBHOOKS:
        table.add_row(name, str(receiver.accepted[path]))
    console.print(table)
    is_well = (
        statuses["succeeded"] == expected == receiver.accepted.total()
        and statuses["pending"] == FAILURES
        and not receiver.refused
    )
    verdict = "[bold green]all deliveries arrived and verified[/]" if is_well else "[bold red]something is missing[/]"
    console.print(
        f"{verdict}: {statuses['succeeded']} of {expected} succeeded, {statuses['pending']} failed attempts were "
        f"retried, {len(receiver.refused)} requests did not verify, {seconds:.1f} s",
        soft_wrap=True,
    )
    return is_well


async def main() -> bool:
    """Runs the demo. True if every delivery arrived and verified."""
    started_at = time.monotonic()
    receiver = Receiver()
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-demo-") as directory:
        async with receiver.running(), running_service(Path(directory)) as service, asyncio.timeout(SECONDS_MAX):
            names = await register(service.stub, receiver)
            call = service.stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest())
            await call.read()  # the first message: from here on nothing is missed
            expected = await publish(service.stub)
            console.print(f"published {len(EVENTS) * 2} events, which makes {expected} deliveries\n")
            statuses = await show_until_ended(call, names, expected)
            call.cancel()
    return summary(receiver, statuses, expected, time.monotonic() - started_at)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        cast("TextIOWrapper", stream).reconfigure(errors="replace")  # for terminals without ✓
    try:
        sys.exit(0 if asyncio.run(main()) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
