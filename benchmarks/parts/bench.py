"""What a row gets: the service, Postgres, load generators, clients and the sink, all of them ended after the row."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from asyncio.subprocess import STDOUT
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import psutil
import psycopg
import trustme

from . import cpu
from .children import ROOT, Child, program, worker
from .figures import Form, Spent
from .servers import DISTRIBUTION, EMBEDDED, Server, Servers
from .service import Service, environment_in, has_processes, serving

LAG_MAX: Final = 2000  # deliveries published and not yet arrived, while a rate is measured
WARM_SECONDS: Final = 1.5
DRAIN_SECONDS_MAX: Final = 120
POLL_SECONDS: Final = 0.02

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Options:
    """What is chosen for a whole run."""

    form: Form
    program: Path
    """The `webhook-grpc` that is measured: this checkout's, or another one's."""
    server: str = EMBEDDED
    """On which server rows run that do not name one."""
    log: Path | None = None


@dataclass(frozen=True)
class Sink:
    """The receiver: a worker, and its addresses."""

    child: Child
    url: str
    secure_url: str
    authority: str
    """A file with the certificate of the authority that signed for the secure one."""

    async def posts(self) -> int:
        """Returns how many requests have come."""
        return (await self.child.ask("count"))["posts"]


class Bench:
    """The surroundings of one row. An async context: what was started ends with it."""

    def __init__(self, options: Options, servers: Servers) -> None:
        self.form = options.form
        self.program = options.program
        self.spent = Spent(cores=cpu.cores())
        self.used: dict[str, Server] = {}  # servers that the row has used, by name
        self._options = options
        self._servers = servers
        self._stack = AsyncExitStack()
        self._children: list[Child] = []
        self._directory = Path()

    async def __aenter__(self) -> Self:
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-")))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- what a row starts ------------------------------------------------------------------------------------------

    async def worker(self, role: str, module: str, *arguments: str) -> Child:
        """Starts a worker. Its CPU time is reported under its role."""
        child = await self._stack.enter_async_context(worker(role, module, *arguments))
        self._children.append(child)
        return child

    def has_go(self) -> bool:
        """Returns whether there is Go, which the worker in Go is built with."""
        return shutil.which("go") is not None

    async def go_worker(self, role: str) -> Child:
        """Builds the worker in Go, and starts it. Raises RuntimeError with what Go says."""
        path, source = self._directory / "go-worker", ROOT / "benchmarks" / "workers" / "golang"
        building = await asyncio.create_subprocess_exec(
            *("go", "build", "-o", str(path), "."), cwd=source, stdout=asyncio.subprocess.PIPE, stderr=STDOUT
        )
        said, _ = await building.communicate()
        if building.returncode != 0:
            raise RuntimeError(f"go build: {said.decode()}")
        child = await self._stack.enter_async_context(program(role, str(path)))
        self._children.append(child)
        return child

    async def sink(self, *, is_secure: bool = False) -> Sink:
        """Starts the receiver, with a second port that speaks TLS if that is wanted."""
        authority, arguments = self._directory / "authority.pem", list[str]()
        if is_secure:
            made, certificate = trustme.CA(), self._directory / "certificate.pem"
            made.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
            made.cert_pem.write_to_path(str(authority))
            arguments = [str(certificate)]
        child = await self.worker("sink", "sink", *arguments)
        ports = child.ready
        secure = f"https://127.0.0.1:{ports['https']}" if is_secure else ""
        return Sink(child, f"http://127.0.0.1:{ports['http']}", secure, str(authority))

    async def client(self) -> Child:
        """Starts the bare clients."""
        return await self.worker("client", "poster")

    async def publishers(self, address: str, count: int = 1, token: str = "") -> list[Child]:
        """Starts load generators that are connected to a service, with a token if it wants one."""
        started = [await self.worker("generator", "publisher") for _ in range(count)]
        for child in started:
            await child.ask("connect", address=address, token=token)
        return started

    def servers(self) -> Sequence[str]:
        """Returns the servers that rows of several servers use: the usual one, and the distribution's where it is."""
        usual = self._options.server
        return [usual] + [name for name in (DISTRIBUTION,) if name != usual and self._servers.has(name)]

    def can_processes(self) -> bool:
        """Returns whether the program can run as several processes."""
        return has_processes(self.program)

    async def service(
        self,
        server: str | None = None,
        processes: int = 1,
        settings: Mapping[str, str] | None = None,
        prepare: Callable[[str], None] | None = None,
    ) -> Service:
        """Starts the service on a database with nothing but its schema, and with what `prepare` puts there."""
        name = server or self._options.server
        environment = environment_in(self._directory, settings or {})
        database = self._servers.database(name, self.program, environment)
        url = self._stack.enter_context(database)
        self.used[name] = self._servers.get(name)
        if prepare is not None:
            await asyncio.to_thread(prepare, url)
        return await self.service_with({**environment, "WEBHOOK_DATABASE_URL": url}, name, processes)

    async def service_with(self, environment: Mapping[str, str], server: str, processes: int = 1) -> Service:
        """Starts a service, one more perhaps, in an environment that names a database."""
        command = [self.program, "serve", *(["--processes", str(processes)] if processes > 1 else [])]
        return await self._stack.enter_async_context(serving(command, environment, server, self._options.log))

    # --- what a row measures ----------------------------------------------------------------------------------------

    async def over(self, service: Service, seconds: float, count: Callable[[], Awaitable[int]]) -> Spent:
        """Measures for so long: what `count` grew by, and what each role spent. Adds it to what the row reports."""
        begin, before = await count(), self._snapshot(service)
        await asyncio.sleep(seconds)
        return self._since(before, service, await count() - begin)

    async def during(self, service: Service, load: Awaitable[int]) -> Spent:
        """Measures a load from its begin to its end. It returns how much it did; the rest as in `over`."""
        before = self._snapshot(service)
        return self._since(before, service, await load)

    def _since(self, before: Spent, service: Service, counted: int) -> Spent:
        after = self._snapshot(service)
        spent = {role: seconds - before.cpu.get(role, 0.0) for role, seconds in after.cpu.items()}
        idle = after.idle_seconds - before.idle_seconds
        found = Spent(after.seconds - before.seconds, counted, spent, idle, cpu.cores())
        self.spent.add(found)
        return found

    async def while_loading(self, load: Coroutine[Any, Any, Any], measuring: Coroutine[Any, Any, Answer]) -> Answer:
        """Runs a load, measures once it is under way, and returns once the load has ended, too."""
        async with asyncio.TaskGroup() as group:
            group.create_task(load, name="load")
            await asyncio.sleep(min(WARM_SECONDS, self.form.seconds(WARM_SECONDS)))
            return await measuring

    async def drained(self, sink: Sink, posts: int) -> None:
        """Waits until so many requests have come in all. Raises TimeoutError, and RuntimeError if more came."""
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            while (come := await sink.posts()) < posts:  # noqa: ASYNC110 - the sink is another process
                await asyncio.sleep(POLL_SECONDS)
        if come > posts:
            raise RuntimeError(f"{come} requests for {posts} deliveries: some arrived twice")

    def wal_bytes(self, service: Service) -> int:
        """Returns how many bytes of WAL the service's server has written since it was made."""
        with psycopg.connect(service.database, autocommit=True) as connection:
            [(found,)] = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchall()
        return int(found)

    def _snapshot(self, service: Service) -> Spent:
        postmaster = self.used[service.server].postmaster
        spent = {"service": cpu.seconds_of(service.process)}
        if postmaster is not None:
            spent["postgres"] = cpu.seconds_of(postmaster)
        for child in self._children:
            spent[child.role] = spent.get(child.role, 0.0) + _own_seconds(child.psutil)
        return Spent(time.monotonic(), 0, spent, cpu.idle_seconds(), cpu.cores())


def _own_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile of values, of which there must be one at least."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
