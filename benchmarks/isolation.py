"""`make bench-isolation`: what one customer's trouble does to the others' latency.

Ten endpoints on one process of the service. Seven are well, and get a few events a second. In every other phase the
three others misbehave: one hangs for 30 s, one is flooded with events, and one is dead and has 100,000 deliveries
pending. Measured is the time from the call of PublishEvent to the request's arrival at the seven, with and without the
trouble, in turns in one run; and the memory of the service. The troublemakers are played by a process of their own,
with a lower priority. Bounded: about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop
from aiohttp import web
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

WELL = 7
EVENTS_PER_SECOND = 70  # of the seven together
HANG_SECONDS = 30.0
FLOOD_BATCH = 500
FLOOD_CUSTOMER, HANGING_CUSTOMER, DEAD_CUSTOMER = 101, 102, 103
SECONDS_MAX = 600
SECONDS_TO_SETTLE = 3.0


@dataclass
class Phase:
    """What was measured while things were one way."""

    is_troubled: bool
    latencies: list[float] = field(default_factory=list[float])
    sent: int = 0
    flooded: int = 0
    rss_bytes: int = 0

    def percentile(self, share: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Receiver:
    """The seven endpoints, each with an address of its own; notes when each request came."""

    def __init__(self) -> None:
        self.arrived: dict[int, float] = {}
        self.urls: list[str] = []
        self._changed = asyncio.Event()

    async def until(self, numbers: Collection[int]) -> None:
        """Waits until all of these have come."""
        while not self.arrived.keys() >= set(numbers):
            self._changed.clear()
            await self._changed.wait()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        app = web.Application()
        app.router.add_post("/", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        for number in range(WELL):
            host = f"127.0.1.{number + 1}"
            site = web.TCPSite(runner, host, 0)
            await site.start()
            self.urls.append(f"http://{host}:{runner.addresses[number][1]}/")
        try:
            yield
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        body = json.loads(await request.read())
        self.arrived.setdefault(body["data"]["number"], now)
        self._changed.set()
        return web.Response()


@asynccontextmanager
async def running_service(data_dir: Path) -> AsyncGenerator[tuple[str, int]]:
    """The service as its own process: its address and its process id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    environment |= {
        "WEBHOOK_DATA_DIR": str(data_dir),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LOG_LEVEL": "error",
    }
    command = Path(sys.executable).with_name("webhook-grpc")
    process = await asyncio.create_subprocess_exec(command, "serve", env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1], process.pid
    finally:
        process.terminate()
        await process.wait()


async def create(service: Any, customer_id: int, url: str, **fields: Any) -> webhook_pb2.Webhook:
    webhook = webhook_pb2.Webhook(customer_id=customer_id, name="isolation", url=url, events=["*"], **fields)
    return await service.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))


def event(customer_id: int, data: dict[str, Any]) -> service_pb2.PublishEventRequest:
    return service_pb2.PublishEventRequest(
        event=event_pb2.Event(customer_id=customer_id, event_type="job.completed", data_json=json.dumps(data))
    )


async def publish_batch(service: Any, customer_id: int, count: int = FLOOD_BATCH) -> None:
    requests = [event(customer_id, {"padding": "x" * 200}) for _ in range(count)]
    await service.BatchPublishEvents(service_pb2.BatchPublishEventsRequest(requests=requests))


# --- the seven -------------------------------------------------------------------------------------------------------


async def measure_phase(service: Any, receiver: Receiver, phase: Phase, seconds: float, first: int) -> int:
    """Publishes at a steady pace, whatever comes back, and waits for what was sent."""
    started: dict[int, float] = {}
    calls: set[asyncio.Task[Any]] = set()
    count = int(seconds * EVENTS_PER_SECOND)
    begin = time.monotonic()
    for number in range(first, first + count):
        await asyncio.sleep(max(0.0, begin + (number - first) / EVENTS_PER_SECOND - time.monotonic()))
        started[number] = time.monotonic()
        call = service.PublishEvent(event(number % WELL + 1, {"number": number}))
        calls.add(asyncio.ensure_future(call))
    await asyncio.gather(*calls)
    async with asyncio.timeout(60):
        await receiver.until(started.keys())
    phase.sent = count
    phase.latencies = [receiver.arrived[number] - at for number, at in started.items()]
    return first + count


# --- the troublemakers -----------------------------------------------------------------------------------------------


async def make_trouble(address: str, rate: float) -> None:
    """Runs until its standard input ends, which it does with the process that measures."""

    async def quick(_: web.Request) -> web.Response:
        return web.Response()

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(HANG_SECONDS)
        return web.Response()

    app = web.Application()
    app.router.add_post("/quick", quick)
    app.router.add_post("/hang", hang)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    hosts = ("127.0.2.1", "127.0.2.2")
    for host in hosts:
        await web.TCPSite(runner, host, 0, backlog=1024).start()
    ports = [site_address[1] for site_address in runner.addresses]
    async with grpc.aio.insecure_channel(address) as channel:
        service = service_pb2_grpc.WebhookServiceStub(channel)
        await create(service, FLOOD_CUSTOMER, f"http://{hosts[0]}:{ports[0]}/quick", max_in_flight=100)
        await create(service, HANGING_CUSTOMER, f"http://{hosts[1]}:{ports[1]}/hang", timeout={"seconds": 30})
        print("ready", flush=True)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        trouble: list[asyncio.Task[None]] = []
        flooded = Counter[str]()
        while line := await commands.readline():
            for task in trouble:
                task.cancel()
            await asyncio.gather(*trouble, return_exceptions=True)
            trouble = []
            print(flooded.total(), flush=True)
            flooded.clear()
            if line == b"on\n":
                trouble = [asyncio.create_task(flood(service, rate, flooded)), asyncio.create_task(feed(service))]
        for task in trouble:
            task.cancel()
    await runner.cleanup()


async def flood(service: Any, rate: float, flooded: Counter[str]) -> None:
    """So many events a second; if the service takes fewer, as many as it takes."""
    next_at = time.monotonic()
    while True:
        await publish_batch(service, FLOOD_CUSTOMER)
        flooded["events"] += FLOOD_BATCH
        next_at = max(next_at + FLOOD_BATCH / rate, time.monotonic())
        await asyncio.sleep(next_at - time.monotonic())


async def feed(service: Any) -> None:
    """A few events a second for the endpoint that hangs."""
    while True:
        await publish_batch(service, HANGING_CUSTOMER, 5)
        await asyncio.sleep(0.2)


async def switch(troublemaker: asyncio.subprocess.Process, word: str) -> int:
    """Begins or ends the trouble; returns how many events the flood had brought until then."""
    assert troublemaker.stdin is not None
    assert troublemaker.stdout is not None
    troublemaker.stdin.write(f"{word}\n".encode())
    return int(await troublemaker.stdout.readline())


# --- the run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """How long each phase is, how many there are of each kind, and how much trouble there is."""

    seconds: float = 12.0
    rounds: int = 3
    backlog: int = 100_000
    flood_rate: float = 2000.0


async def run(scenario: Scenario) -> list[Phase]:
    """Measures a service of its own."""
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as directory:
        async with asyncio.timeout(SECONDS_MAX), running_service(Path(directory)) as (address, pid):
            return await measure(scenario, address, pid)


async def measure(scenario: Scenario, address: str, pid: int) -> list[Phase]:
    """Measures a service that runs and has no webhooks yet; returns the phases, well and troubled in turns."""
    receiver = Receiver()
    async with receiver.running(), grpc.aio.insecure_channel(address) as channel:
        service = service_pb2_grpc.WebhookServiceStub(channel)
        for number, url in enumerate(receiver.urls):
            await create(service, number + 1, url)
        dead = await create(service, DEAD_CUSTOMER, "http://127.0.2.3:1999/")
        named = {"customer_id": DEAD_CUSTOMER, "webhook_id": dead.webhook_id}
        await service.PauseWebhook(service_pb2.PauseWebhookRequest(**named))
        for _ in range(scenario.backlog // FLOOD_BATCH):
            await publish_batch(service, DEAD_CUSTOMER)
        async with running_troublemaker(address, scenario.flood_rate) as troublemaker:
            return await measure_phases(scenario, service, receiver, troublemaker, named, pid)


@asynccontextmanager
async def running_troublemaker(address: str, flood_rate: float) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The process that plays the troublemakers, when it is ready."""
    troublemaker = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--trouble", address, "--flood", str(flood_rate)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert troublemaker.stdin is not None
    assert troublemaker.stdout is not None
    try:
        await troublemaker.stdout.readline()
        yield troublemaker
    finally:
        troublemaker.stdin.close()
        await troublemaker.wait()


async def measure_phases(
    scenario: Scenario,
    service: Any,
    receiver: Receiver,
    troublemaker: asyncio.subprocess.Process,
    dead: dict[str, int],
    pid: int,
) -> list[Phase]:
    """Measures with and without trouble, in turns."""
    phases: list[Phase] = []
    await measure_phase(service, receiver, Phase(False), 2, 1_000_000)  # warm-up
    next_number = 0
    for number in range(2 * scenario.rounds):
        phase = Phase(is_troubled=number % 2 == 1)
        if phase.is_troubled:
            await service.ResumeWebhook(service_pb2.ResumeWebhookRequest(**dead))
            await switch(troublemaker, "on")
        next_number = await measure_phase(service, receiver, phase, scenario.seconds, next_number)
        phase.rss_bytes = psutil.Process(pid).memory_info().rss
        if phase.is_troubled:
            phase.flooded = await switch(troublemaker, "off")
            await service.PauseWebhook(service_pb2.PauseWebhookRequest(**dead))
            await asyncio.sleep(SECONDS_TO_SETTLE)  # the rest of the flood
        phases.append(phase)
    return phases


def medians(phases: list[Phase], share: float) -> tuple[float, float]:
    """Returns the medians of a percentile of all phases without trouble and with trouble, in milliseconds."""
    well, troubled = (
        statistics.median(phase.percentile(share) for phase in phases if phase.is_troubled == kind)
        for kind in (False, True)
    )
    return well, troubled


def report(phases: list[Phase]) -> None:
    print("| phase | events | flood | p50 ms | p99 ms | max ms | service's memory MB |")
    print("|---|---|---|---|---|---|---|")
    for phase in phases:
        name = "three in trouble" if phase.is_troubled else "all is well"
        print(
            f"| {name} | {phase.sent} | {phase.flooded} | {phase.percentile(0.5):.1f} | {phase.percentile(0.99):.1f} "
            f"| {phase.percentile(1.0):.1f} | {phase.rss_bytes / 1e6:.0f} |"
        )
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        before, after = medians(phases, share)
        print(f"{name} with trouble / without: {after / before:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3, help="phases of each kind")
    parser.add_argument("--backlog", type=int, default=100_000, help="deliveries of the dead endpoint")
    parser.add_argument("--flood", type=float, default=2000.0, help="events a second for the flooded endpoint")
    parser.add_argument("--trouble", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trouble:
        os.nice(10)  # so that the figures tell of the service rather than of the machine's cores
        uvloop.run(make_trouble(arguments.trouble, arguments.flood))
    else:
        scenario = Scenario(arguments.seconds, arguments.rounds, arguments.backlog, arguments.flood)
        report(uvloop.run(run(scenario)))
