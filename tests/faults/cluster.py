"""The processes of the service in a round: started, killed, stopped and measured."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random

import psutil

from tests.support.process import CLI, ROOT, Process, environment

from .endpoints import DELAYS_SECONDS
from .history import Vitals

LEASE_SECONDS = 2.0
STATEMENT_SECONDS = 3.0

SETTINGS = {
    "WEBHOOK_LEASE_SECONDS": str(LEASE_SECONDS),
    "WEBHOOK_POLL_SECONDS": "0.1",
    "WEBHOOK_RETRY_DELAYS_SECONDS": ",".join(map(str, DELAYS_SECONDS)),
    "WEBHOOK_OVERLOAD_DELAY_SECONDS_MIN": "0",
    "WEBHOOK_DATABASE_TIMEOUT_SECONDS": str(STATEMENT_SECONDS),
    "WEBHOOK_LOG_LEVEL": "info",
    "WEBHOOK_LOG_FORMAT": "json",
    "WEBHOOK_DRAIN_SECONDS": "10",
}


class Cluster:
    """Processes on one database; any may be dead at any moment."""

    def __init__(self, database_url: str, directory: Path, settings: Mapping[str, str]) -> None:
        self._settings = {**SETTINGS, "WEBHOOK_DATABASE_URL": database_url, **settings}
        self._directory = directory
        self._started = 0
        self._before: dict[str, tuple[int, int]] = {}
        self.running: dict[str, Process] = {}
        self.exit_statuses: dict[str, int] = {}
        self._ended: list[Process] = []

    async def start(self, **faults: str) -> str:
        """Starts one and returns its name when it serves. With WEBHOOK_TEST_… it is `faulty.py`."""
        self._started += 1
        name = f"process-{self._started}"
        is_faulty = any(name.startswith("WEBHOOK_TEST_") for name in faults)
        command = [sys.executable, "-m", "tests.faults.faulty"] if is_faulty else [str(CLI)]
        with (self._directory / f"{name}.log").open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *command,
                "serve",
                env=environment(**{**self._settings, **faults}),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        assert process.stdout is not None
        async with asyncio.timeout(30):
            first_line = (await process.stdout.readline()).decode()
        match = re.search(r"serves gRPC on (\S+)", first_line)
        assert match, f"{name} did not start: {first_line!r}; see {self._directory}"
        self.running[name] = Process(process, match[1])
        return name

    def any(self, random: Random) -> Process:
        """A process that is not known to be dead, or one that is, if there is no other: its client then fails."""
        return random.choice(list(self.running.values()) or self._ended)

    async def kill(self, name: str) -> None:
        """kill -9."""
        await self._take_out(name).kill()

    async def until_dead(self, name: str, seconds: float) -> bool:
        """Waits until a process has ended by itself. False: it lives on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.running[name].process.wait()
            self._take_out(name)
            return True
        return False

    async def terminate(self, name: str) -> None:
        """SIGTERM; returns when it has left, and remembers its exit status."""
        process = self._take_out(name)
        self.exit_statuses[name] = await process.terminate()

    def stop(self, name: str) -> None:
        """SIGSTOP: no instruction is executed until it is continued."""
        self.running[name].process.send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """SIGCONT."""
        self.running[name].process.send_signal(signal.SIGCONT)

    def limit_descriptors(self, name: str, spare: int | None) -> None:
        """Lets a process open only a few files more than it holds now. None: as many as ever."""
        pid = self.running[name].process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        soft = hard if spare is None else psutil.Process(pid).num_fds() + spare
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    async def end(self) -> None:
        """Makes sure that all are gone."""
        for process in (*self.running.values(), *self._ended):
            with contextlib.suppress(ProcessLookupError):
                await process.end()

    def measure(self) -> None:
        """Remembers what each process holds before the load."""
        self._before = {name: _held(process) for name, process in self.running.items()}

    def vitals(self) -> tuple[Vitals, ...]:
        """What those that lived through it held before, and hold now."""
        found: list[Vitals] = []
        for name, process in self.running.items():
            if name in self._before and process.process.returncode is None:
                (descriptors, resident), (descriptors_now, resident_now) = self._before[name], _held(process)
                found.append(Vitals(name, (descriptors, descriptors_now), (resident, resident_now)))
        return tuple(found)

    def _take_out(self, name: str) -> Process:
        process = self.running.pop(name)
        self._ended.append(process)
        return process


def _held(process: Process) -> tuple[int, int]:
    """Descriptors and resident bytes."""
    measured = psutil.Process(process.process.pid)
    return measured.num_fds(), measured.memory_info().rss
