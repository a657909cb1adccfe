"""The workers as child processes, which end with this one, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS_MAX = 30
ANSWER_BYTES_MAX = 256 * 1024 * 1024


class WorkerError(Exception):
    """A worker could not do what was asked, or has ended."""


class Child:
    """A worker. One command at a time."""

    def __init__(self, role: str, process: asyncio.subprocess.Process) -> None:
        self.role = role
        self.ready: Any = None
        self._process = process
        self._lock = asyncio.Lock()
        self.psutil = psutil.Process(process.pid)

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Returns the answer to a command. Raises WorkerError."""
        assert self._process.stdin is not None
        async with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            return await self.answer()

    async def answer(self) -> Any:
        """Returns what the next line says. Raises WorkerError."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the {self.role} has ended")
        said = json.loads(line)
        if "error" in said:
            raise WorkerError(f"{self.role}: {said['error']}")
        return said["answer"]


@asynccontextmanager
async def worker(role: str, module: str, *arguments: str) -> AsyncGenerator[Child]:
    """Starts `benchmarks.workers.<module>`; returns once it is ready."""
    async with program(role, sys.executable, "-m", f"benchmarks.workers.{module}", *arguments) as child:
        yield child


@asynccontextmanager
async def program(role: str, *command: str) -> AsyncGenerator[Child]:
    """Starts a program that speaks as the workers do; returns once it is ready.

    In a session of its own: Ctrl-C reaches this process only, which then ends all children in order.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=ANSWER_BYTES_MAX,
    )
    try:
        child = Child(role, process)
        child.ready = await child.answer()
        yield child
    finally:
        await ended(process)


async def ended(process: asyncio.subprocess.Process, seconds: float = END_SECONDS_MAX) -> None:
    """Ends a process that may have ended: SIGTERM, and SIGKILL if that is not enough. Also while we are cancelled."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
