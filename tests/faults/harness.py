"""One round: a load, a fault in it, the end of both, and what the checker says of the histories."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from google.protobuf.duration_pb2 import Duration
from psycopg.conninfo import conninfo_to_dict
from webhook.v1 import service_pb2, webhook_pb2

from tests.support.postgres import query
from tests.support.service import SECRET
from webhook_grpc.domain.ids import shard_of

from . import database
from .checker import Report, check
from .cluster import LEASE_SECONDS, Cluster
from .database import DatabaseServer
from .dns import NameServer
from .endpoints import DEFAULT_PLAN, EndpointPlan, Endpoints
from .history import Endpoint, Fault, History
from .proxy import Proxy
from .workload import Publisher, ResumingWatcher

_TOLD_SECONDS_MAX = 5.0
_NOTICE_SECONDS = 0.05  # until a death is noticed


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault and the load that it meets."""

    name: str
    inject: Callable[[Round], Awaitable[None]]
    plan: tuple[EndpointPlan, ...] = DEFAULT_PLAN
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    first: Mapping[str, str] = field(default_factory=dict[str, str])  # faults of the first process, see faulty.py
    others: Mapping[str, str] = field(default_factory=dict[str, str])  # and of the others
    processes: int = 2
    proxied: bool = False
    publishers_per_customer: int = 3
    gap_seconds: float = 0.08
    quiet_customer: int | None = None  # publishes two events a second
    watchers_per_customer: int = 1
    reconnect_seconds: float | None = None
    away_seconds: float = 0.05
    drain_seconds_max: float = 10.0
    short_seconds: float = 2.5  # in pytest


class Round:
    """What a scenario may reach while the load runs."""

    def __init__(self, scenario: Scenario, server: DatabaseServer, directory: Path, seed: int, seconds: float) -> None:
        self.scenario = scenario
        self.server = server
        self.seconds = seconds
        self.random = Random(seed)  # only for the schedule of faults, so that a seed replays it
        self.directory = directory
        self.database_url = server.new_database()
        self.proxy = Proxy(server.socket_path)
        self.names = NameServer()
        self.endpoints = Endpoints(directory)
        self.cluster = Cluster("", directory, {})
        self.watchers: list[ResumingWatcher] = []
        self.publishers: list[Publisher] = []
        self.faults: list[Fault] = []
        self._registered: list[Endpoint] = []
        self._seed = seed

    # --- for scenarios ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fault(self, kind: str, *, may_duplicate: bool = False, may_overlap: bool = False) -> Generator[None]:
        """What is done in the block is the fault; the checker is told when it was and what it may excuse."""
        started_at = time.time()
        try:
            yield
        finally:
            self.faults.append(Fault(kind, started_at, time.time(), may_duplicate, may_overlap))

    def died(self, kind: str) -> None:
        """A process was just found dead."""
        self.faults.append(Fault(kind, time.time() - _NOTICE_SECONDS, time.time(), may_duplicate=True))

    @contextlib.contextmanager
    def outage(self, kind: str) -> Generator[None]:
        """The database can't be reached in the block. If that takes long, leases may run out: see `Fault`."""
        started_at = time.time()
        try:
            yield
        finally:
            is_long = time.time() - started_at > LEASE_SECONDS / 2
            self.faults.append(Fault(kind, started_at, time.time(), is_long, is_long))

    @property
    def database_name(self) -> str:
        """The name of this round's database."""
        return str(conninfo_to_dict(self.database_url)["dbname"])

    def pauses(self, least: float, most: float) -> list[float]:
        """Random pauses that fill the round's time. Drawn at once, so that a seed gives the same whatever happens."""
        pauses: list[float] = []
        while sum(pauses) < self.seconds:
            pauses.append(self.random.uniform(least, most))
        return pauses

    def logged(self, name: str, text: str) -> bool:
        """Whether a process has said so in its log: whether the fault took effect."""
        return text in (self.directory / f"{name}.log").read_text()

    def owner_of(self, number: int) -> str:
        """The process that sends to the number-th endpoint now."""
        statement = "SELECT owner::text FROM shards WHERE shard = %s"
        [(owner,)] = query(self.database_url, statement, [shard_of(self._registered[number].webhook_id)])
        return next(name for name in self.cluster.running if self.logged(name, str(owner)))

    def one_running(self) -> str:
        """The name of a random process."""
        return self.random.choice(sorted(self.cluster.running))

    def path(self, number: int) -> str:
        """The path of the number-th endpoint of the plan."""
        return f"/{number}"

    async def until_received(self, number: int, count: int, seconds: float = 10.0) -> None:
        """Waits until the number-th endpoint has *answered* so many requests."""
        webhook_id = self._registered[number].webhook_id
        async with asyncio.timeout(seconds):
            while sum(request.webhook_id == webhook_id for request in self.endpoints.requests()) < count:
                await asyncio.sleep(0.05)

    # --- the round -------------------------------------------------------------------------------------------------

    async def run(self) -> Report:
        """Runs it and compares the histories."""
        async with self._running():
            tasks = [asyncio.create_task(publisher.run()) for publisher in self.publishers]
            try:
                await self.scenario.inject(self)
            finally:
                ended_at = time.monotonic()
                for publisher in self.publishers:
                    publisher.stopped.set()
                await asyncio.gather(*tasks)
            is_drained = await database.until_nothing_is_pending(self.database_url, self.scenario.drain_seconds_max)
            drained_seconds = time.monotonic() - ended_at
            await self._until_told()
            return check(await self._history(drained_seconds if is_drained else None))

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        await self.proxy.start()
        await self.names.start()
        scenario = self.scenario
        self.cluster = Cluster(self.database_url, self.directory, scenario.settings)
        first, others = dict(scenario.first), dict(scenario.others)
        if any(plan.host for plan in scenario.plan):
            first["WEBHOOK_TEST_DNS_PORT"] = others["WEBHOOK_TEST_DNS_PORT"] = str(self.names.port)
        if scenario.proxied:  # one of them: the other one is there to take over
            first["WEBHOOK_DATABASE_URL"] = database.through(self.database_url, self.proxy.port)
        watching: list[asyncio.Task[None]] = []
        try:
            await asyncio.gather(
                self.endpoints.start(),
                self.cluster.start(**first),
                *(self.cluster.start(**others) for _ in range(scenario.processes - 1)),
            )
            await self._register()
            self._staff()
            watching = [asyncio.create_task(watcher.run()) for watcher in self.watchers]
            async with asyncio.timeout(15):
                for watcher in self.watchers:
                    await watcher.joined.wait()
            self.cluster.measure()
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await self.cluster.end()
            await self.endpoints.stop()
            await self.proxy.stop()
            self.names.stop()
            self.server.drop_database(self.database_url)

    async def _register(self) -> None:
        process = self.cluster.any(self.random)
        for number, plan in enumerate(self.scenario.plan):
            path = self.path(number)
            await self.endpoints.behave(path, plan.behaviour)
            webhook = webhook_pb2.Webhook(
                customer_id=plan.customer_id,
                name=path,
                url=self.endpoints.url(path, plan),
                events=["*"],
                secret=SECRET,
                max_in_flight=plan.in_flight_max,
                timeout=Duration(seconds=plan.timeout_seconds),
            )
            for seconds in plan.own_delays_seconds:
                webhook.retry_policy.delays.add().FromMilliseconds(round(seconds * 1000))
            created = await process.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
            self.endpoints.belongs(path, created.webhook_id)
            self._registered.append(
                Endpoint(created.webhook_id, plan.customer_id, plan.in_flight_max, plan.delays_seconds, plan.prompt)
            )

    def _staff(self) -> None:
        scenario = self.scenario
        for customer_id in sorted({plan.customer_id for plan in scenario.plan}):
            is_quiet = customer_id == scenario.quiet_customer
            for number in range(1 if is_quiet else scenario.publishers_per_customer):
                name = f"{customer_id}-{number}"
                gap_seconds = 0.5 if is_quiet else scenario.gap_seconds
                publisher = Publisher(name, customer_id, self.cluster, Random(f"{self._seed}-{name}"), gap_seconds)
                publisher.gives_up = number == 2  # one of them, so that "unknown" is looked at as well
                self.publishers.append(publisher)
            for number in range(scenario.watchers_per_customer):
                name = f"{customer_id}-{number}"
                watcher = ResumingWatcher(name, customer_id, self.cluster, Random(f"{self._seed}-watcher-{name}"))
                watcher.reconnect_seconds, watcher.away_seconds = scenario.reconnect_seconds, scenario.away_seconds
                self.watchers.append(watcher)

    async def _until_told(self) -> None:
        """Waits until the watchers were told as much as the log has; what they were told is compared later."""
        log = await asyncio.to_thread(database.log_rows, self.database_url)
        customer_of = {endpoint.webhook_id: endpoint.customer_id for endpoint in self._registered}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_SECONDS_MAX):
                for watcher in self.watchers:
                    watcher.reading.set()
                    count = sum(customer_of[row.webhook_id] == watcher.customer_id for row in log)
                    while len(watcher.told) < count:
                        await asyncio.sleep(0.05)

    async def _history(self, drained_seconds: float | None) -> History:
        return History(
            endpoints=tuple(self._registered),
            publishes=tuple(publish for publisher in self.publishers for publish in publisher.history),
            requests=self.endpoints.requests(),
            log=await asyncio.to_thread(database.log_rows, self.database_url),
            pending=await asyncio.to_thread(database.pending_rows, self.database_url),
            watchers=tuple(watcher.history() for watcher in self.watchers),
            faults=tuple(self.faults),
            drained_seconds=drained_seconds,
            drain_seconds_max=self.scenario.drain_seconds_max,
            attempt_seconds_max=max(plan.timeout_seconds for plan in self.scenario.plan) + 1.0,
            exit_statuses=self.cluster.exit_statuses,
            vitals=self.cluster.vitals(),
        )


async def run_round(scenario: Scenario, server: DatabaseServer, seed: int, seconds: float) -> Report:
    """Runs one round in a folder of its own, which stays if anything is violated."""
    directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-round-"))
    report = await Round(scenario, server, directory, seed, seconds).run()
    if not report.violations:
        await asyncio.to_thread(shutil.rmtree, directory)
    return report
