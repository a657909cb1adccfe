"""`make bench-takeover`: how long the shards of a process that is killed (kill -9) wait, and when it answers again.

The service runs on an embedded Postgres: with `--processes 2`, where a parent ends the lease of the dead one, and as
two processes of which the one that was killed is started again. An event for 64 webhooks is published when one has
died. Measured is from the signal until the last of them has arrived, and until the new process has acknowledged its
first event.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
from aiohttp import web
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

PROGRAM = Path(sys.executable).with_name("webhook-grpc")
WEBHOOKS = 64
SECONDS_MAX = 300


class Receiver:
    """Notes when requests come to each path."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.port = 0
        self._arrived = asyncio.Event()

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/{hook}", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner

    async def until_all_have(self, count: int) -> None:
        while sum(each >= count for each in self.counts.values()) < WEBHOOKS:
            self._arrived.clear()
            await self._arrived.wait()

    async def _handle(self, request: web.Request) -> web.Response:
        self.counts[request.path] = self.counts.get(request.path, 0) + 1
        self._arrived.set()
        return web.Response()


def environment(data_dir: str, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {
        "WEBHOOK_DATA_DIR": data_dir,
        "WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0",
        "WEBHOOK_HTTP_ADDRESS": "",
        "WEBHOOK_EGRESS_ALLOW_HTTP": "true",
        "WEBHOOK_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "WEBHOOK_LOG_LEVEL": "error",
        **settings,
    }


@asynccontextmanager
async def serving(settings: dict[str, str]) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """One `webhook-grpc serve`: its address, and its process."""
    process = await asyncio.create_subprocess_exec(PROGRAM, "serve", env=settings, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1], process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def publish(address: str) -> None:
    """One event for all webhooks, on a new connection; again while nobody takes it."""
    event = event_pb2.Event(customer_id=1, event_type="job.completed", data_json="{}")
    request = service_pb2.PublishEventRequest(event=event)
    while True:
        try:
            async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                await service_pb2_grpc.WebhookServiceStub(channel).PublishEvent(request)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.01)
        else:
            return


async def prepare(address: str, receiver: Receiver) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        service: Any = service_pb2_grpc.WebhookServiceStub(channel)
        for number in range(WEBHOOKS):
            url = f"http://127.0.0.1:{receiver.port}/{number}"
            webhook = webhook_pb2.Webhook(customer_id=1, name="takeover", url=url, events=["*"])
            await service.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    await publish(address)
    await receiver.until_all_have(1)


async def with_parent(data_dir: str) -> tuple[float, float]:
    receiver = Receiver()
    runner = await receiver.start()
    async with serving(environment(data_dir, WEBHOOK_PROCESSES="2")) as (address, parent):
        await prepare(address, receiver)
        await asyncio.sleep(2)  # until both have their share
        before = set(psutil.Process(parent.pid).children())
        [victim, *_] = [child for child in before if child.net_connections("tcp")]
        os.kill(victim.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        await publish(address)
        await receiver.until_all_have(2)
        delivered = time.monotonic() - killed_at
        await _until_it_listens(parent.pid, before)
        await publish(address)
        restarted = time.monotonic() - killed_at
    await runner.cleanup()
    return delivered, restarted


def _open_to_all(data_dir: str) -> None:
    """As root, Postgres runs as another user."""
    Path(data_dir).chmod(0o755)


def _listens(process: psutil.Process) -> bool:
    return any(each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp"))


async def _until_it_listens(parent_pid: int, before: set[psutil.Process]) -> None:
    """Waits for the child that replaces the dead one."""
    while not any(map(_listens, set(psutil.Process(parent_pid).children()) - before)):  # noqa: ASYNC110 - no signal
        await asyncio.sleep(0.005)


async def without_parent(data_dir: str) -> tuple[float, float]:
    receiver = Receiver()
    runner = await receiver.start()
    settings = environment(data_dir)
    async with serving(settings) as (address, _), serving(settings) as (_, victim):
        await prepare(address, receiver)
        await asyncio.sleep(2)  # until both have their share, which nothing reports
        os.kill(victim.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        await publish(address)
        async with serving(settings) as (new_address, _):
            await publish(new_address)
            restarted = time.monotonic() - killed_at
            await receiver.until_all_have(3)
            delivered = time.monotonic() - killed_at
    await runner.cleanup()
    return delivered, restarted


async def measure(rounds: int) -> None:
    for name, run in (("--processes 2", with_parent), ("restarted by hand", without_parent)):
        found: list[tuple[float, float]] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as data_dir:
                _open_to_all(data_dir)
                found.append(await run(data_dir))
        delivered, restarted = (statistics.median(column) for column in zip(*found, strict=True))
        worst = max(seconds for seconds, _ in found)
        print(
            f"{name}: the dead one's shards deliver after {delivered:.2f} s (at most {worst:.2f}), "
            f"first answer of the new process after {restarted:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(asyncio.wait_for(measure(parser.parse_args().rounds), SECONDS_MAX))


if __name__ == "__main__":
    main()
