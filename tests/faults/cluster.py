"""The processes of the service in a round: started, killed, stopped and measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from typing import cast

import psutil

from tests.invariants.history import Fault, Vitals
from tests.support import slowness
from tests.support.earlier import Earlier
from tests.support.process import Process, environment

from .endpoints import DELAYS_SECONDS
from .nursery import first_line, nursery
from .poison import LEASE_RAN_OUT

# Lengthened on a slow machine, as all settings that end something: see `Cluster` and tests/support/slowness.py.
LEASE_SECONDS = 2.0
STATEMENT_SECONDS = 3.0
FIRST = "process-1"  # of a round; if there is a proxy, this is the one behind it
_SCALED = frozenset(
    {
        "WEBHOOK_LEASE_SECONDS",
        "WEBHOOK_DATABASE_TIMEOUT_SECONDS",
        "WEBHOOK_DRAIN_SECONDS",
        "WEBHOOK_STREAM_WRITE_SECONDS_MAX",
    }
)

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


def lease_seconds() -> float:
    """Returns how long a lease is in this round, unless its scenario says otherwise."""
    return slowness.lengthened(LEASE_SECONDS)


def statement_seconds() -> float:
    """Returns the deadline of a statement in this round."""
    return slowness.lengthened(STATEMENT_SECONDS)


class Cluster:
    """Processes on one database; any may be dead at any moment. On a slow machine they have more time."""

    def __init__(self, database_url: str, directory: Path, settings: Mapping[str, str]) -> None:
        wanted = {**SETTINGS, "WEBHOOK_DATABASE_URL": database_url, **settings}
        self._settings = {
            name: str(slowness.lengthened(float(value))) if name in _SCALED else value for name, value in wanted.items()
        }
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
        stdout, stderr = self._directory / f"{name}.out", self._directory / f"{name}.log"
        process = nursery().fork("serve", environment(**{**self._settings, **faults}), stdout, stderr)
        async with slowness.timeout(30):
            line = await first_line(stdout, process)
        match = re.search(r"serves gRPC on (\S+)", line)
        assert match, f"{name} did not start: {line!r}; see {self._directory}"
        self.running[name] = Process(
            cast("asyncio.subprocess.Process", process), match[1]
        )  # it has what is needed of one
        return name

    async def start_earlier(self, earlier: Earlier) -> str:
        """Starts one of an earlier version and returns its name when it serves. It imports everything by itself."""
        self._started += 1
        name = f"process-{self._started}"
        settings = {**self._settings, "PYTHONPATH": earlier.python_path}
        self.running[name] = await Process.start(self._directory / f"{name}.log", earlier.program, **settings)
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
            async with slowness.timeout(seconds):
                await self.running[name].process.wait()
            self._take_out(name)
            return True
        return False

    async def terminate(self, name: str) -> None:
        """SIGTERM; returns when it has left, and remembers its exit status."""
        process = self._take_out(name)
        self.exit_statuses[name] = await process.terminate()
        self._ended.remove(process)  # its channel is closed, nobody can call it

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

    def lost_leases(self) -> list[Fault]:
        """What each lease that ran out may excuse, from its last renewal until its process noticed: they log it.

        On a slow machine a lease may run out without a fault. Requests of its process may then still be open.
        """
        return [
            Fault(LEASE_RAN_OUT, at - line["renewed_seconds_ago"], at, may_duplicate=True, may_overlap=True)
            for path in sorted(self._directory.glob("process-*.log"))
            for line in map(json.loads, filter(_is_of_a_lost_lease, path.read_text().splitlines()))
            for at in [datetime.fromisoformat(line["timestamp"]).timestamp()]
        ]

    def _take_out(self, name: str) -> Process:
        process = self.running.pop(name)
        self._ended.append(process)
        return process


def _is_of_a_lost_lease(line: str) -> bool:
    return f'"event":"{LEASE_RAN_OUT}"' in line


def _held(process: Process) -> tuple[int, int]:
    """Descriptors and resident bytes."""
    measured = psutil.Process(process.process.pid)
    return measured.num_fds(), measured.memory_info().rss
