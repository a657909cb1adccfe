"""Programs in Go: built once for the tests that run them, and run to their end."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support import slowness

GO: Final = shutil.which("go")
BUILD_SECONDS: Final = 240  # the first time gRPC is compiled. Again it costs little: Go keeps what it compiled
RUN_SECONDS: Final = 40


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int | None
    stdout: str
    stderr: str


def build(folder: Path, program: Path) -> Path:
    """Returns the program that the module in a folder gives. Skips the test where Go is not installed."""
    go(folder, "build", "-o", str(program), ".")
    return program


def go(folder: Path, *arguments: str, seconds: float = BUILD_SECONDS) -> str:
    """Runs a command of Go in a folder, and returns its output. Skips the test where Go is not installed."""
    if GO is None:
        pytest.skip("Go is not installed")
    ended = subprocess.run(
        [GO, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=slowness.scaled(seconds),
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


async def run(*command: str | Path, seconds: float = RUN_SECONDS) -> Ended:
    """Runs a program to its end, and makes sure that it has ended."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with slowness.timeout(seconds):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, stdout.decode(), stderr.decode())
