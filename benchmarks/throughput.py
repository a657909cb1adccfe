"""`make bench`: how many events are published and delivered a second on this machine, and what each costs in CPU time.

One process of the service; publishers and the receiver in this process. Everything shares the machine's cores, so
compare the rows and columns of one run with each other, not with another machine's. Several servers (the embedded
Postgres and each `--database`) and several programs (this one and each `--program`, another checkout's `webhook-grpc`)
are measured in turns; the ratios are to the first column. Bounded: 20,000 events a round.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import psycopg
import uvloop
from aiohttp import web
from psycopg import sql
from psycopg.conninfo import make_conninfo
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

DATA_JSON = '{"job_id":"job-abc123","status":"completed","duration":3600,"padding":"' + "x" * 400 + '"}'
BATCH = 500
AT_ONCE = 100
SECONDS_MAX = 300
OWN_PROGRAM = Path(sys.executable).with_name("webhook-grpc")
SHOWN_SETTINGS = ("jit", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


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


@dataclass(frozen=True)
class Column:
    """What is measured in turns with the others: a program on a server. No address: its embedded Postgres."""

    name: str
    program: Path
    database_url: str | None


@dataclass
class Figures:
    """What one column showed, row by row, a value for each round."""

    rates: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    service_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    postgres_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    server: str = ""


class Meter:
    """Measures the rate of a row, and the CPU time that the service and Postgres spend on each event of it."""

    def __init__(self, figures: Figures, service: psutil.Process, postmaster: psutil.Process | None) -> None:
        self._figures = figures
        self._service = service
        self._postmaster = postmaster

    @contextmanager
    def row(self, name: str, count: int) -> Generator[None]:
        """Measures the block, in which so many events are handled."""
        started_at, service, postgres = time.monotonic(), self._service_seconds(), self._postgres_seconds()
        yield
        figures = self._figures
        figures.rates.setdefault(name, []).append(count / (time.monotonic() - started_at))
        figures.service_ms.setdefault(name, []).append((self._service_seconds() - service) / count * 1000)
        figures.postgres_ms.setdefault(name, []).append((self._postgres_seconds() - postgres) / count * 1000)

    def _service_seconds(self) -> float:
        times = self._service.cpu_times()
        return times.user + times.system

    def _postgres_seconds(self) -> float:
        """Of all processes of the server, those that have ended counted with their parent. 0 if it is elsewhere."""
        if self._postmaster is None:
            return 0.0
        own = self._postmaster.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in self._postmaster.children():
            times = child.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def empty_database(server_url: str, program: Path, environment: Mapping[str, str]) -> Generator[str]:
    """A migrated database on a server, dropped at the end."""
    name = sql.Identifier(f"webhook_bench_{os.getpid()}")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(name))
        url = make_conninfo(server_url, dbname=f"webhook_bench_{os.getpid()}")
        try:
            subprocess.run(
                [program, "migrate"], env={**environment, "WEBHOOK_DATABASE_URL": url}, check=True, capture_output=True
            )
            yield url
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


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


async def publish_singly(
    service: service_pb2_grpc.WebhookServiceAsyncStub, count: int, first_customer: int, customers: int
) -> None:
    """Publishes one event a call, a hundred calls at a time."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with at_once:
            await service.PublishEvent(request(first_customer + number % customers))

    await asyncio.gather(*(one(number) for number in range(count)))


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


async def measure(column: Column, figures: Figures, count: int, webhooks: int) -> None:
    """One round of one column."""
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as directory:
        environment = environment_in(directory)
        if column.database_url is None:
            await measure_on(column, figures, f"host={directory}/postgres user=postgres", environment, count, webhooks)
        else:
            with empty_database(column.database_url, column.program, environment) as url:
                environment["WEBHOOK_DATABASE_URL"] = url
                await measure_on(column, figures, url, environment, count, webhooks)


async def measure_on(
    column: Column, figures: Figures, url: str, environment: Mapping[str, str], count: int, webhooks: int
) -> None:
    receiver = Receiver()
    async with (
        receiver.running(),
        running_service(column.program, environment) as (service, process),
        asyncio.timeout(SECONDS_MAX),
    ):
        figures.server, postmaster = server_of(url)
        meter = Meter(figures, process, postmaster)
        await create_webhooks(service, receiver.port, webhooks)
        with meter.row(f"published in batches of {BATCH}, nobody listens", count):
            await publish_batches(service, count, 1_000_000, webhooks, BATCH)
        with meter.row("published in batches of 100, nobody listens", count // 2):
            await publish_batches(service, count // 2, 1_000_000, webhooks, 100)
        with meter.row("published one a call, nobody listens", count // 10):
            await publish_singly(service, count // 10, 1_000_000, 1)
        with meter.row(f"published in batches of {BATCH}, sent, answered and settled", count):
            await publish_batches(service, count, 1, webhooks, BATCH)
            await receiver.until(count)
        with meter.row("published one a call, sent, answered and settled", count // 4):
            await publish_singly(service, count // 4, 1, webhooks)
            await receiver.until(count + count // 4)
    if duplicates := receiver.counts.total() - len(receiver.counts):
        sys.exit(f"{duplicates} deliveries arrived twice")


def server_of(url: str) -> tuple[str, psutil.Process | None]:
    """What server this is, with the settings that it gives to others than us, and its first process if it is here."""
    with psycopg.connect(url, autocommit=True) as connection:
        read = "SELECT version(), pg_backend_pid(), pg_jit_available()"
        [(version, backend, has_jit)] = connection.execute(read).fetchall()
        names = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        settings = dict(connection.execute(names, [list(SHOWN_SETTINGS)]).fetchall())  # pyright: ignore[reportArgumentType]
        try:
            process = psutil.Process(backend).parent()
        except psutil.NoSuchProcess:
            process = None
    shown = ", ".join(f"{name}={value}" for name, value in settings.items())
    jit = "" if has_jit else " (not available)"
    return f"{version.split(' on ')[0]}: {shown.replace(',', jit + ',', 1)}", process


def report(columns: Sequence[Column], figures: Mapping[str, Figures]) -> None:
    """A table of Markdown for each figure, medians of the rounds; ratios to the first column."""
    first = figures[columns[0].name]
    for column in columns:
        print(f"{column.name}: {figures[column.name].server}")
    print()
    names = [column.name for column in columns]
    print("| row | " + " | ".join(names) + " | ratios |")
    print("|---" * (len(names) + 2) + "|")
    for row in first.rates:
        of = [figures[name] for name in names]
        medians = [statistics.median(found.rates[row]) for found in of]
        cells = [
            f"{median:,.0f}/s, {statistics.median(found.service_ms[row]):.2f} + "
            f"{statistics.median(found.postgres_ms[row]):.2f} ms"
            for median, found in zip(medians, of, strict=True)
        ]
        ratios = ", ".join(f"{median / medians[0]:.2f}" for median in medians[1:]) or "-"
        print(f"| {row} | " + " | ".join(cells) + f" | {ratios} |")
    print("\nmedian events a second, CPU time of the service + of Postgres for each event; no delivery arrived twice")


async def run(columns: Sequence[Column], rounds: int, count: int, webhooks: int) -> None:
    figures = {column.name: Figures() for column in columns}
    for number in range(rounds):
        turn = columns if number % 2 == 0 else columns[::-1]
        for column in turn:
            await measure(column, figures[column.name], count, webhooks)
    report(columns, figures)


def columns_of(programs: Sequence[str], databases: Sequence[str]) -> list[Column]:
    """Every program on every server, with a short name each."""
    named = [("this", OWN_PROGRAM), *((f"program {n}", Path(p)) for n, p in enumerate(programs, 1))]
    servers = [("embedded", None), *((f"database {n}", url) for n, url in enumerate(databases, 1))]
    return [
        Column(f"{program_name}, {server_name}" if len(named) > 1 else server_name, program, url)
        for server_name, url in servers
        for program_name, program in named
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="of a round")
    parser.add_argument("--webhooks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1, help="of each column, in turns")
    parser.add_argument(
        "--database", action="append", default=[], help="another server, where databases may be made; may be repeated"
    )
    parser.add_argument("--program", action="append", default=[], help="another checkout's webhook-grpc; repeatable")
    arguments = parser.parse_args()
    uvloop.run(
        run(
            columns_of(arguments.program, arguments.database),
            arguments.rounds,
            arguments.events,
            arguments.webhooks,
        )
    )
