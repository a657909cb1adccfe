"""Clients of another customer, in a process of their own: they call at both doors while a service is attacked.

They publish, and receive what they publish. Each call and each delivery leaves a line: when it began (a delivery: the
call that published its event), how long it took in milliseconds, what came of it, and which of the two it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
from aiohttp import web
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

from tests.support import slowness

CALL_SECONDS_MAX: Final = slowness.scaled(30.0)  # a server that runs out of it may be first to say so: CANCELLED
PAUSE_SECONDS: Final = 0.02
CALL, DELIVERY = "call", "delivery"


@dataclass(frozen=True)
class Felt:
    """What the others felt in a time."""

    calls: int
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float
    deliveries: int
    delivered_p99_ms: float


@dataclass(frozen=True)
class Line:
    """One call or delivery."""

    at: float
    ms: float
    error: str
    kind: str


@dataclass
class Others:
    """The process, and what it has reported."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list[Line])
    calls: int = 0

    @classmethod
    async def start(cls, address: str, http_url: str, secret: str, ca_file: str = "") -> Others:
        """Starts them; returns when both doors have answered. `ca_file`: they speak TLS."""
        arguments = (sys.executable, "-m", "tests.attack.others", address, http_url, secret, ca_file)
        others = cls(await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE))
        others._reading = asyncio.ensure_future(others._read())
        await others.called(4)
        return others

    _reading: asyncio.Future[None] | None = None

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(Line(*json.loads(line)))
            self.calls += self.lines[-1].kind == CALL

    async def called(self, count: int) -> None:
        """Waits until so many more calls have ended."""
        wanted = self.calls + count
        while self.calls < wanted:
            await asyncio.sleep(0.01)

    def felt(self, since: float) -> Felt:
        """Returns what they felt since then: of all that had not ended by then."""
        lines = [line for line in self.lines if line.at + line.ms / 1000 >= since]
        errors = Counter(line.error for line in lines if line.error)
        calls, delivered = (sorted(line.ms for line in lines if line.kind == kind) for kind in (CALL, DELIVERY))
        of_calls = _quantile(calls, 0.5), _quantile(calls, 0.99)
        return Felt(len(calls), dict(errors), *of_calls, len(delivered), _quantile(delivered, 0.99))

    async def stop(self) -> None:
        """Ends the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        await self.process.wait()


def _quantile(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, math.ceil(len(times) * share) - 1)] if times else math.nan


class Deliveries:
    """The receiver: knows what is on its way, and reports what comes, or does not come in time."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}  # by the number of the event, the oldest first

    async def serve(self) -> str:
        """Listens on a port of its own; returns the URL."""
        app = web.Application()
        app.router.add_post("/", self._receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/"

    def begin(self, number: int, began: float) -> None:
        """Notes an event that is about to be published."""
        self._began[number] = began

    def forget(self, number: int) -> None:
        """Forgets an event whose call failed: the error of the call is reported."""
        self._began.pop(number, None)

    def report_missing(self) -> None:
        """Reports what has not come in the time in which a call has to end."""
        late = [number for number, began in self._began.items() if time.time() - began > CALL_SECONDS_MAX]
        for number in late:
            _report(self._began.pop(number), "NOT_DELIVERED", DELIVERY)

    async def _receive(self, request: web.Request) -> web.Response:
        number = json.loads(await request.read())["data"]["number"]
        if (began := self._began.pop(number, None)) is not None:  # None: it has come before
            _report(began, "", DELIVERY)
        return web.Response()


def _channel(address: str, ca_file: str) -> grpc.aio.Channel:
    if not ca_file:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(Path(ca_file).read_bytes()))


async def _grpc(address: str, secret: str, ca_file: str) -> None:
    deliveries = Deliveries()
    url, metadata = await deliveries.serve(), (("authorization", f"Bearer {secret}"),)
    async with _channel(address, ca_file) as channel:
        stub: Any = service_pb2_grpc.WebhookServiceStub(channel)
        webhook = webhook_pb2.Webhook(name="others", url=url, events=["*"])
        await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook), metadata=metadata)
        for number in itertools.count():
            event = event_pb2.Event(event_type="job.completed", data_json=json.dumps({"number": number}))
            request = service_pb2.PublishEventRequest(event=event)
            began, error = time.time(), ""
            deliveries.begin(number, began)
            try:
                await stub.PublishEvent(request, metadata=metadata, timeout=CALL_SECONDS_MAX)
            except grpc.aio.AioRpcError as failed:
                error = failed.code().name
                deliveries.forget(number)
            _report(began, error)
            deliveries.report_missing()
            await asyncio.sleep(PAUSE_SECONDS)


async def _http(url: str, secret: str, ca_file: str) -> None:
    headers = {"Authorization": f"Bearer {secret}"}
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
    connector = aiohttp.TCPConnector()
    if ca_file:  # with a handshake for each call: what new connections feel shows
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file), force_close=True)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
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


def _report(began: float, error: str, kind: str = CALL) -> None:
    line = [began, round((time.time() - began) * 1000, 2), error, kind]
    print(json.dumps(line), flush=True)  # noqa: T201 - the other process reads it


async def main(address: str, http_url: str, secret: str, ca_file: str) -> None:
    """Calls at both doors until it is ended."""
    await asyncio.gather(_grpc(address, secret, ca_file), _http(http_url, secret, ca_file))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
