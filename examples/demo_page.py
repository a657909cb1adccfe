"""`make demo-page`: the page with something to see on it, with one command.

Leaves the service on its embedded Postgres in a temporary folder running, with a receiver and a trickle of events, and
prints the page's address. Most deliveries succeed; some are retried; one receiver is down for most of each minute, one
is slow, one refuses everything, one has answered 410 and is disabled, one webhook is paused. Ctrl-C ends everything,
and so does the end of `--seconds`; exit status 0 unless the service fails.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from aiohttp import web
from examples.demo import ACME, EVENTS, GLOBEX, Service, console, running_service
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

SETTINGS: Final = {  # so that a reader sees a breaker open and close within a minute
    "WEBHOOK_LOG_LEVEL": "error",
    "WEBHOOK_BREAKER_FAILURES": "4",
    "WEBHOOK_BREAKER_PROBE_SECONDS_MIN": "5",
    "WEBHOOK_BREAKER_PROBE_SECONDS_MAX": "10",
    "WEBHOOK_OVERLOAD_DELAY_SECONDS_MIN": "2",
}
EVERY_SECONDS: Final = 0.8  # an event for each customer, in turn
FIRST_EVENTS: Final = 30
DOWN_SECONDS: Final = 40  # of each minute
SLOW_SECONDS: Final = 2.5
END_SECONDS: Final = (
    1.0  # the service gets the terminal's Ctrl-C too, and may be away a moment before this program knows
)


@dataclass(frozen=True)
class Hook:
    """A webhook of the demo: what it subscribes to, and how its receiver behaves."""

    customer_id: int
    name: str
    path: str
    events: tuple[str, ...]
    delays_seconds: tuple[int, ...] = (2, 5, 10, 20)
    is_paused: bool = False


HOOKS: Final = (
    Hook(ACME, "ci-bot", "/ok", ("job.*",)),
    Hook(ACME, "pager", "/flaky", ("alert.triggered", "job.failed")),
    Hook(ACME, "billing-eu", "/down", ("*",), (2, 5, 10, 20, 40, 60)),
    Hook(ACME, "data-lake", "/slow", ("environment.*", "job.completed")),
    Hook(ACME, "audit", "/ok", ("quota.exceeded",), is_paused=True),
    Hook(GLOBEX, "old-crm", "/gone", ("*",)),
    Hook(GLOBEX, "strict-parser", "/refuses", ("quota.*", "alert.*"), (1,)),
    Hook(GLOBEX, "warehouse", "/ok", ("*",)),
)


class Receiver:
    """Answers as the path says. `/down` fails for the first `down_seconds` of each minute."""

    def __init__(self, down_seconds: float) -> None:
        self._down_seconds = down_seconds
        self._refused_once = set[str]()

    async def handle(self, request: web.Request) -> web.Response:
        """Answers one request."""
        await request.read()
        match request.path:
            case "/flaky" if self._is_to_be_repeated(request.headers["webhook-id"]):
                return web.Response(status=500, text="deploying, back in a moment")
            case "/down" if time.time() % 60 < self._down_seconds:
                return web.Response(status=503, text="upstream unavailable")
            case "/slow":
                await asyncio.sleep(SLOW_SECONDS)  # this receiver is slow
            case "/gone":
                return web.Response(status=410, text="this endpoint was removed")
            case "/refuses":
                return web.json_response({"error": "field `limit` is not known"}, status=422)
            case _:
                await asyncio.sleep(random.uniform(0.01, 0.08))  # as long as a usual receiver needs
        return web.Response(text="thanks")

    def _is_to_be_repeated(self, event_id: str) -> bool:
        """Returns whether this is the first attempt of an event, for half of them."""
        is_first = event_id not in self._refused_once and event_id[-1] in "02468aceg"
        self._refused_once.add(event_id)
        return is_first


@asynccontextmanager
async def running_receiver(down_seconds: float = DOWN_SECONDS) -> AsyncGenerator[int]:
    """Serves on a free port, and yields it."""
    app = web.Application()
    app.router.add_post("/{path}", Receiver(down_seconds).handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def register(stub: service_pb2_grpc.WebhookServiceAsyncStub, port: int) -> None:
    """Registers the webhooks of the demo, and pauses those that are to be paused."""
    for hook in HOOKS:
        webhook = webhook_pb2.Webhook(
            customer_id=hook.customer_id,
            name=hook.name,
            url=f"http://127.0.0.1:{port}{hook.path}",
            events=hook.events,
        )
        for seconds in hook.delays_seconds:
            webhook.retry_policy.delays.add(seconds=seconds)
        created = await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
        if hook.is_paused:
            named = service_pb2.PauseWebhookRequest(customer_id=hook.customer_id, webhook_id=created.webhook_id)
            await stub.PauseWebhook(named)


async def publish_one(stub: service_pb2_grpc.WebhookServiceAsyncStub, number: int) -> None:
    """Publishes an event, for one customer after the other."""
    event_type = random.choice(list(EVENTS))
    event = event_pb2.Event(customer_id=(ACME, GLOBEX)[number % 2], event_type=event_type, data_json=EVENTS[event_type])
    await stub.PublishEvent(service_pb2.PublishEventRequest(event=event))


async def trickle(stub: service_pb2_grpc.WebhookServiceAsyncStub) -> None:
    """Publishes some events at once, and then one after the other."""
    for number in range(sys.maxsize):
        await publish_one(stub, number)
        if number >= FIRST_EVENTS:
            await asyncio.sleep(EVERY_SECONDS)  # a trickle


async def run_until(stop: asyncio.Event, service: Service, seconds: float) -> None:
    """Publishes until `stop` is set or the time is over.

    Raises what the trickle raises, and SystemExit if the service ends.
    """
    stopped = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(service.process.wait())
    publishing = asyncio.create_task(trickle(service.stub))
    try:
        await asyncio.wait({stopped, ended, publishing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() or publishing.done():
            await asyncio.wait({stopped}, timeout=END_SECONDS)
        if stop.is_set():
            return
        if publishing.done():
            publishing.result()
        if ended.done():
            sys.exit("demo-page: the service ended")
    finally:
        for task in (stopped, ended, publishing):
            task.cancel()
        await asyncio.wait({stopped, ended, publishing})


def say_where(service: Service, seconds: float) -> None:
    """Prints where the page is, and how it ends."""
    console.print(f"\n  the page: [bold]{service.page_url}[/]   (on this machine it needs no token)\n")
    console.print(f"{len(HOOKS)} webhooks of customers {ACME} and {GLOBEX} get an event each {EVERY_SECONDS} s.")
    console.print(f"Ctrl-C ends everything; by itself it ends after {seconds / 60:.0f} min.", soft_wrap=True)


async def main(seconds: float) -> None:
    """Runs until a signal comes or the time is over, and leaves nothing behind."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-demo-") as directory:
        try:
            async with running_receiver() as port, running_service(Path(directory), **SETTINGS) as service:
                await register(service.stub, port)
                say_where(service, seconds)
                await run_until(stop, service, seconds)
        except (SystemExit, grpc.aio.AioRpcError):
            if not stop.is_set():  # the signal came to the service as well, while it was starting
                raise
    console.print("Everything has ended.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="after how long it ends by itself")
    asyncio.run(main(parser.parse_args().seconds))
