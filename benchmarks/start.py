"""`make bench-start`: the CPU time of `webhook-grpc serve` until it is ready, on an external Postgres.

Several programs (this one and each `--program`, another checkout's `webhook-grpc`) are started in turns; the first
start of each is not counted, for it may compile. Seconds of CPU say more than the clock on a machine that is busy.
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
from collections.abc import Sequence
from pathlib import Path

import psutil

from webhook_grpc.store.schema.embedded import EmbeddedPostgres

OWN_PROGRAM = Path(sys.executable).with_name("webhook-grpc")
SECONDS_MAX = 300


def environment(database_url: str) -> dict[str, str]:
    """The settings of a service on a free port, with HTTP, that log nothing but errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # every start would compile everything
    return kept | {
        "WEBHOOK_DATABASE_URL": database_url,
        "WEBHOOK_SECRET_KEYS": base64.b64encode(bytes(32)).decode(),
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_LOG_LEVEL": "error",
    }


async def start(program: Path, settings: dict[str, str]) -> tuple[float, float, float]:
    """One start and its end: seconds of CPU until ready, seconds by the clock, megabytes of memory."""
    began_at = time.monotonic()
    process = await asyncio.create_subprocess_exec(program, "serve", env=settings, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        waited = time.monotonic() - began_at
        assert b"serves gRPC" in line, line
        found = psutil.Process(process.pid)
        times = found.cpu_times()
        return times.user + times.system, waited, found.memory_info().rss / 1e6
    finally:
        process.terminate()
        await process.wait()


async def measure(programs: Sequence[Path], rounds: int, database_url: str) -> None:
    settings = environment(database_url)
    figures: dict[Path, list[tuple[float, float, float]]] = {program: [] for program in programs}
    for number in range(rounds + 1):
        for program in programs:
            found = await start(program, settings)
            if number:
                figures[program].append(found)
    for program, found in figures.items():
        cpu, waited, memory = (statistics.median(column) for column in zip(*found, strict=True))
        least = min(seconds for seconds, _, _ in found)
        print(f"{program}: ready after {cpu:.2f} s of CPU (least {least:.2f}), {waited:.2f} s, {memory:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--program", type=Path, action="append", default=[], help="another checkout's webhook-grpc")
    arguments = parser.parse_args()
    programs = [OWN_PROGRAM, *arguments.program]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # as root, Postgres runs as another user
        server = EmbeddedPostgres(Path(folder))
        url = server.start()
        try:
            migrated = environment(url)
            subprocess.run([OWN_PROGRAM, "migrate"], env=migrated, check=True, capture_output=True)
            asyncio.run(asyncio.wait_for(measure(programs, arguments.rounds, url), SECONDS_MAX))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
