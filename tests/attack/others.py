"""Clients of another customer, in a process of their own: they call at both doors while a service is attacked.

Each call leaves a line: when it began, how long it took in milliseconds, and what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import grpc
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc

from tests.support import slowness

CALL_SECONDS_MAX: Final = slowness.scaled(30.0)  # a server that runs out of it may be first to say so: CANCELLED
PAUSE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Felt:
    """What the others felt in a time."""

    calls: int
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float


@dataclass
class Others:
    """The process, and what it has reported."""

    process: asyncio.subprocess.Process
    lines: list[tuple[float, float, str]] = field(default_factory=list[tuple[float, float, str]])

    @classmethod
    async def start(cls, address: str, http_url: str, secret: str) -> Others:
        """Starts them; returns when both doors have answered."""
        arguments = (sys.executable, "-m", "tests.attack.others", address, http_url, secret)
        others = cls(await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE))
        others._reading = asyncio.ensure_future(others._read())
        await others.called(4)
        return others

    _reading: asyncio.Future[None] | None = None

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            at, ms, error = json.loads(line)
            self.lines.append((at, ms, error))

    async def called(self, count: int) -> None:
        """Waits until so many more calls have ended."""
        wanted = len(self.lines) + count
        while len(self.lines) < wanted:
            await asyncio.sleep(0.01)

    def felt(self, since: float) -> Felt:
        """Returns what the calls that began since then felt."""
        calls = [(ms, error) for at, ms, error in self.lines if at >= since]
        errors = dict[str, int]()
        for _, error in calls:
            if error:
                errors[error] = errors.get(error, 0) + 1
        times = sorted(ms for ms, _ in calls)
        return Felt(len(calls), errors, _quantile(times, 0.5), _quantile(times, 0.99))

    async def stop(self) -> None:
        """Ends the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        await self.process.wait()


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, math.ceil(len(times) * share) - 1)] if times else math.nan


async def _grpc(address: str, secret: str) -> None:
    event = event_pb2.Event(event_type="job.completed", data_json="{}")
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = service_pb2_grpc.WebhookServiceStub(channel)
        while True:
            began, error = time.time(), ""
            try:
                await stub.PublishEvent(
                    service_pb2.PublishEventRequest(event=event),
                    metadata=(("authorization", f"Bearer {secret}"),),
                    timeout=CALL_SECONDS_MAX,
                )
            except grpc.aio.AioRpcError as failed:
                error = failed.code().name
            _report(began, error)
            await asyncio.sleep(PAUSE_SECONDS)


async def _http(url: str, secret: str) -> None:
    headers = {"Authorization": f"Bearer {secret}"}
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        while True:
            began, error = time.time(), ""
            try:
                async with session.get(f"{url.rstrip('/')}/api/webhooks") as answer:
                    await answer.read()
                    error = "" if answer.status == 200 else str(answer.status)
            except (aiohttp.ClientError, TimeoutError) as failed:
                error = type(failed).__name__
            _report(began, error)
            await asyncio.sleep(PAUSE_SECONDS)


def _report(began: float, error: str) -> None:
    print(json.dumps([began, round((time.time() - began) * 1000, 2), error]), flush=True)  # noqa: T201 - the other process reads it


async def main(address: str, http_url: str, secret: str) -> None:
    """Calls at both doors until it is ended."""
    await asyncio.gather(_grpc(address, secret), _http(http_url, secret))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
