"""The service as its own process."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from .children import ended
from .cpu import rss_of, seconds_of

READY_SECONDS_MAX = 120


@dataclass(frozen=True)
class Service:
    """A service that serves."""

    address: str
    process: psutil.Process
    server: str
    """The name of the Postgres server that it uses."""
    database: str
    """The connection string of its database."""
    environment: Mapping[str, str]
    ready_seconds: float
    """Between its start and its line about the address."""
    ready_cpu_seconds: float
    """What it had used until then."""

    def rss(self) -> int:
        """Returns the resident memory of all its processes, in bytes."""
        return rss_of(self.process)


def environment_in(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a service that may send to loopback addresses. Nothing else is unlike its defaults."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    return {
        **inherited,
        "WEBHOOK_DATA_DIR": str(directory),
        "WEBHOOK_SECRET_KEYS": base64.b64encode(bytes(32)).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        **settings,
    }


def has_processes(program: Path) -> bool:
    """Returns whether a program's `serve` knows `--processes`."""
    done = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, check=False)
    return "--processes" in done.stdout


@asynccontextmanager
async def serving(
    command: Sequence[str | Path], environment: Mapping[str, str], server: str, log: Path | None
) -> AsyncGenerator[Service]:
    """Starts a service; returns when it has said its address. Its log lines go to a file, or nowhere.

    In a session of its own, as the workers.
    """
    started_at = time.monotonic()
    with (log or Path(os.devnull)).open("ab", buffering=0) as lines:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=lines, start_new_session=True
        )
    reading = None
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS_MAX):
            address = await _address(process.stdout)
        seconds, found = time.monotonic() - started_at, psutil.Process(process.pid)
        reading = asyncio.create_task(_drain(process.stdout), name="rest of the banner")
        url = environment["WEBHOOK_DATABASE_URL"]
        yield Service(address, found, server, url, environment, seconds, seconds_of(found))
    finally:
        await ended(process)
        if reading is not None:
            await reading


async def _address(stdout: asyncio.StreamReader) -> str:
    while line := await stdout.readline():
        if match := re.search(rb"gRPC on (\S+:\d+)", line):
            return match[1].decode()
    raise RuntimeError("the service ended before it was ready: --log FILE keeps what it said")


async def _drain(stdout: asyncio.StreamReader) -> None:
    while await stdout.read(65536):
        pass
