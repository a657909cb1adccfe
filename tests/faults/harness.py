"""One round: a load, a fault in it, the end of both, and what the checker says of the histories."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
import traceback
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import grpc
from psycopg.conninfo import conninfo_to_dict

from tests.invariants.history import Asked, Endpoint, Fault, History, Poison, Switch
from tests.invariants.violation import Violation
from tests.support import slowness
from tests.support.earlier import Earlier, checkout, previous
from webhook_grpc.domain.ids import shard_of

from . import database, participants
from .checker import Report, check
from .cluster import Cluster, lease_seconds
from .database import DatabaseServer
from .distribution import DistributionServer
from .dns import NameServer
from .endpoints import Endpoints
from .proxy import Proxy
from .replicated import ReplicatedServer
from .scenario import Scenario
from .stepped import SteppedServer
from .undone import undone
from .workload import Publisher, ResumingWatcher

# On the reference: from where a process counts a request to where its receiver reads the clock. A burst too many is the
# requests of a whole second, so a third of that hides nothing.
_LATE_SECONDS = 0.3
_LOOK_SECONDS = 0.05  # between two looks at what the machine keeps waiting
_HANG_SECONDS = 120.0  # and twice the time of its load: longer takes only a round that hangs
_NOTICE_SECONDS = 0.05  # until a death is noticed
_EVENTS_MIN = 10  # on the reference: with fewer a fault has met no load


class Round:
    """What a scenario may reach while the load runs."""

    def __init__(
        self,
        scenario: Scenario,
        server: DatabaseServer,
        directory: Path,
        seed: int,
        seconds: float,
        earlier: Earlier | None = None,
    ) -> None:
        self.scenario = scenario
        self.server = server
        self.seconds = seconds
        self.random = Random(seed)  # only for the schedule of faults, so that a seed replays it
        self.directory = directory
        self.database_url = _new_database(scenario, server)
        self.ask = database.Asker(self.database_url)
        self.proxy = Proxy(server.socket_path)
        self.names = NameServer()
        self.endpoints = Endpoints(directory)
        self.cluster = Cluster("", directory, {})
        self.watchers: list[ResumingWatcher] = []
        self.publishers: list[Publisher] = []
        self.faults: list[Fault] = []
        self.switches: list[Switch] = []
        self.poison: Poison | None = None
        self.asked: list[Asked] = []
        self.has_replayed = False
        self.registered: list[Endpoint] = []
        self._seed = seed
        self._watching: list[asyncio.Task[None]] = []
        self._stalled_seconds = 0.0
        self._earlier = earlier

    # --- for scenarios ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def fault(
        self,
        kind: str,
        *,
        may_duplicate: bool = False,
        may_overlap: bool = False,
        may_forget: bool = False,
        rules_out: str = "",
    ) -> Generator[None]:
        """What is done in the block is the fault; the checker is told when it was and what it may excuse."""
        started_at = time.time()
        try:
            yield
        finally:
            times = started_at, time.time()
            fault = Fault(kind, *times, may_duplicate, may_overlap, may_forget=may_forget, rules_out=rules_out)
            self.faults.append(replace(fault, is_many=may_forget))  # all of it may have to be done once more

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
            is_long = time.time() - started_at > lease_seconds() / 2
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
        return self.count_logged(name, text) > 0

    def count_logged(self, name: str, text: str) -> int:
        """How often a process has said so in its log."""
        return (self.directory / f"{name}.log").read_text().count(text)

    async def until_logged(self, name: str, text: str, count: int = 1) -> None:
        """Waits until a process has said so often enough: until the fault took effect."""
        async with slowness.timeout(10):
            while self.count_logged(name, text) < count:
                await asyncio.sleep(0.05)

    async def owner_of(self, number: int) -> str:
        """The process that sends to the number-th endpoint now; waits while there is none that says so in its log."""
        statement = "SELECT owner::text FROM shards WHERE shard = %s"
        shard = shard_of(self.registered[number].webhook_id)
        async with slowness.timeout(10):
            while True:
                [(owner,)] = self.ask(statement, [shard])
                for name in self.cluster.running:
                    if owner is not None and self.logged(name, owner):
                        return name
                await asyncio.sleep(0.02)

    def one_running(self) -> str:
        """The name of a random process."""
        return self.random.choice(sorted(self.cluster.running))

    async def start_earlier(self) -> str:
        """Starts a process of the version before, in a scenario that begins with one."""
        assert self._earlier is not None
        return await self.cluster.start_earlier(self._earlier)

    def path(self, number: int) -> str:
        """The path of the number-th endpoint of the plan."""
        return participants.path_of(number)

    async def until_received(self, number: int, count: int, seconds: float = 10.0) -> None:
        """Waits until the number-th endpoint has *answered* so many requests."""
        webhook_id = self.registered[number].webhook_id
        async with slowness.timeout(seconds):
            while sum(request.webhook_id == webhook_id for request in self.endpoints.requests()) < count:
                await asyncio.sleep(0.05)

    # --- the round -------------------------------------------------------------------------------------------------

    async def run(self) -> Report:
        """Runs it and compares the histories. What time it needs is measured first: see tests/support/slowness.py."""
        slowness.measure_again()
        async with self._running():
            tasks = [asyncio.create_task(publisher.run()) for publisher in self.publishers]
            failures: list[Violation] = []
            try:
                await self._until_there_is_load()
                await self.scenario.inject(self)
            except (AssertionError, TimeoutError, grpc.aio.AioRpcError) as error:
                failures.append(failure(error))
            finally:
                for publisher in self.publishers:
                    publisher.stopped.set()
                await asyncio.gather(*tasks)
                ended_at = time.monotonic()  # only now: a publisher still repeats its last event for a while
            is_drained = await database.until_nothing_is_pending(self.ask, self.scenario.drain_seconds_max)
            drained_seconds = time.monotonic() - ended_at
            await self._until_told()
            assert not any(task.done() for task in self._watching), "a watcher has ended"
            history = await self._history(drained_seconds if is_drained else None)
            report = check(history, stepped=self.scenario.stepped)
            if report.events <= (events_min := _EVENTS_MIN / slowness.ratio()):
                failures.append(
                    Violation("scenario", f"{report.events} events acknowledged, not more than {events_min:g}")
                )
            return replace(report, violations=(*failures, *report.violations))

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        await self.proxy.start()
        await self.names.start()
        scenario = self.scenario
        delays = ",".join(map(str, scenario.delays_seconds))
        settings = {"WEBHOOK_RETRY_DELAYS_SECONDS": delays, **scenario.settings}
        self.cluster = Cluster(self.database_url, self.directory, settings)
        first, others = dict(scenario.first), dict(scenario.others)
        if any(plan.host for plan in scenario.plan):
            first["WEBHOOK_TEST_DNS_PORT"] = others["WEBHOOK_TEST_DNS_PORT"] = str(self.names.port)
        if scenario.proxied:  # one of them: the other one is there to take over
            first["WEBHOOK_DATABASE_URL"] = database.through(self.database_url, self.proxy.port)
        if isinstance(self.server, ReplicatedServer):
            others["WEBHOOK_DATABASE_URL"] = self.server.by_name(self.database_url)
            others["WEBHOOK_TEST_DATABASE_ADDRESS"] = str(self.server.names)
        try:
            self._watching.append(asyncio.create_task(self._watch_machine()))
            await asyncio.gather(self.endpoints.start(), self._start_processes(first, others))
            self.registered += await participants.register(scenario, self.endpoints, self.cluster.any(self.random))
            self.publishers += participants.publishers(scenario, self.cluster, self._seed)
            self.watchers += participants.watchers(scenario, self.cluster, self._seed)
            self._watching += [asyncio.create_task(watcher.run()) for watcher in self.watchers]
            async with slowness.timeout(15):
                for watcher in self.watchers:
                    await watcher.joined.wait()
            self.cluster.measure()
            yield
        finally:
            for task in self._watching:
                task.cancel()
            await asyncio.gather(*self._watching, return_exceptions=True)
            await self.cluster.end()
            await self.endpoints.stop()
            await self.proxy.stop()
            self.names.stop()
            if isinstance(self.server, SteppedServer):
                self.server.set_clock(0)
            self.ask.close()
            self.server.drop_database(self.database_url)

    async def _start_processes(self, first: Mapping[str, str], others: Mapping[str, str]) -> None:
        count = self.scenario.processes
        if self._earlier is not None:
            await asyncio.to_thread(self._earlier.migrate, self.database_url)
            await asyncio.gather(*(self.start_earlier() for _ in range(count)))
            return
        await asyncio.gather(self.cluster.start(**first), *(self.cluster.start(**others) for _ in range(count - 1)))

    async def _until_there_is_load(self) -> None:
        """Waits until every publisher has an answer, and a receiver a request: a fault is to meet them at work."""
        async with slowness.timeout(15):
            while not (all(one.history for one in self.publishers) and self.endpoints.requests()):
                await asyncio.sleep(0.02)

    async def _until_told(self) -> None:
        """Waits until the watchers were told as much as the log has; what they were told is compared later."""
        log = await asyncio.to_thread(database.log_rows, self.database_url)
        customer_of = {endpoint.webhook_id: endpoint.customer_id for endpoint in self.registered}
        with contextlib.suppress(TimeoutError):
            async with slowness.timeout(self.scenario.told_seconds_max):
                for watcher in self.watchers:
                    watcher.reading.set()
                    changes = {
                        (row.webhook_id, row.event_id, row.attempt_count, row.status)
                        for row in log
                        if customer_of[row.webhook_id] == watcher.customer_id
                    }
                    while watcher.told_once < len(changes):
                        await asyncio.sleep(0.05)

    async def _history(self, drained_seconds: float | None) -> History:
        return History(
            endpoints=tuple(self.registered),
            publishes=tuple(publish for publisher in self.publishers for publish in publisher.history),
            requests=self.endpoints.requests(),
            log=await asyncio.to_thread(database.log_rows, self.database_url),
            pending=await asyncio.to_thread(database.pending_rows, self.database_url),
            watchers=tuple(watcher.history() for watcher in self.watchers),
            faults=(*self.faults, *self.cluster.lost_leases()),
            drained_seconds=drained_seconds,
            undone=await asyncio.to_thread(undone, self.database_url) if drained_seconds is None else (),
            drain_seconds_max=slowness.scaled(self.scenario.drain_seconds_max),
            attempt_seconds_max=max(plan.timeout_seconds for plan in self.scenario.plan) + slowness.lengthened(1.0),
            slowness=slowness.lengthened(1.0),
            stalled_seconds=self._stalled_seconds,
            late_seconds=slowness.lengthened(_LATE_SECONDS),
            exit_statuses=self.cluster.exit_statuses,
            vitals=self.cluster.vitals(),
            switches=tuple(self.switches),
            poison=self.poison,
            asked=tuple(self.asked),
            replays=self.has_replayed,
            shown=await asyncio.to_thread(database.shown_rows, self.database_url),
            gone=await asyncio.to_thread(self._gone) if self.scenario.restored else frozenset(),
        )

    async def _watch_machine(self) -> None:
        """Measures the longest time that this process, which publishes and receives, was kept from its work."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            self._stalled_seconds = max(self._stalled_seconds, time.monotonic() - began - _LOOK_SECONDS)

    def _gone(self) -> frozenset[str]:
        """Returns the events that publishers or receivers know, and that the database does not have any more."""
        published = {publish.event_id for publisher in self.publishers for publish in publisher.history}
        sent = {request.event_id for request in self.endpoints.requests()}
        return frozenset(one for one in published | sent if one is not None) - database.stored_events(self.database_url)


def _new_database(scenario: Scenario, server: DatabaseServer) -> str:
    if scenario.begins_before:
        return server.empty_database()
    if scenario.small_disk:
        assert isinstance(server, DistributionServer)
        return server.new_database_on_small_disk()
    return server.new_database()


async def run_round(
    scenario: Scenario, server: DatabaseServer, seed: int, seconds: float, *, keeps_folder: bool = True
) -> Report:
    """Runs one round in a folder of its own, which stays if anything is violated and it is to be kept.

    An assertion of the scenario's own that fails is a violation like any other, also one while it is being set up.
    """
    directory = Path(tempfile.mkdtemp(prefix="webhook-grpc-round-"))
    earlier = checkout(previous()) if scenario.begins_before else contextlib.nullcontext()
    try:
        with earlier as before:
            async with asyncio.timeout(slowness.RATIO_MAX * (_HANG_SECONDS + 2 * seconds)):
                report = await Round(scenario, server, directory, seed, seconds, before).run()
    except (AssertionError, TimeoutError, grpc.aio.AioRpcError) as error:
        report = replace(check(History()), violations=(failure(error),))
    if not (report.violations and keeps_folder):
        await asyncio.to_thread(shutil.rmtree, directory)
    return report


def failure(error: Exception) -> Violation:
    """Names the last line of the suite's: a time-out and a call end in code of others."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if Path(frame.filename).parent == Path(__file__).parent][-1]
    return Violation("scenario", f"{type(error).__name__} in {last.name}, line {last.lineno}: {error}")
