"""A customer's endpoint: a real HTTP server whose paths can be told how to answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDictProxy
from standardwebhooks.webhooks import Webhook as StandardWebhook

from tests.support import slowness

Behaviour = Callable[["Received"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes
    number: int  # how many had come to this path before
    target: str = ""  # the path and the query, as they were sent

    @property
    def event_id(self) -> str:
        """The id by which a receiver tells duplicates."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> None:
        """Raises unless both signatures are right: one computed here, one by an independent library."""
        expected = "sha256=" + hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        assert self.headers["X-Webhook-Signature"] == expected
        key = secret if secret.startswith("whsec_") else base64.b64encode(secret.encode()).decode()
        StandardWebhook(key).verify(self.body, dict(self.headers))


def answer(status: int, body: str = "ok", **headers: str) -> Behaviour:
    """Answers always the same."""

    async def behave(_: Received) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return behave


def answers(*statuses: int) -> Behaviour:
    """Answers one status after the other, and keeps to the last."""

    async def behave(received: Received) -> web.StreamResponse:
        return web.Response(status=statuses[min(received.number, len(statuses) - 1)])

    return behave


@dataclass
class Gate:
    """Holds requests until it is opened."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _: Received) -> web.StreamResponse:
        await self.opened.wait()
        return web.Response()


class Valve:
    """Lets so many requests through, and holds the others until it is asked to let more through."""

    def __init__(self, count: int) -> None:
        self._through = asyncio.Semaphore(count)

    async def __call__(self, _: Received) -> web.StreamResponse:
        await self._through.acquire()
        return web.Response()

    def let(self, count: int) -> None:
        """Lets so many more through."""
        for _ in range(count):
            self._through.release()


class Receiver:
    """Records every request; awaitable until enough have come."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.port = 0
        self._behaviours: dict[str, Behaviour] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    def url(self, path: str = "/ok") -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def on(self, path: str, behaviour: Behaviour) -> str:
        """Tells a path how to answer; without, it answers 200. Returns its URL."""
        self._behaviours[path] = behaviour
        return self.url(path)

    def at(self, path: str) -> list[Received]:
        """What came to a path."""
        return [request for request in self.requests if request.path == path]

    async def wait_for(self, count: int, path: str | None = None, seconds: float = 20) -> list[Received]:
        """Waits until so many requests have come, to one path or to all."""
        async with slowness.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self._of(path)) >= count)
        return self._of(path)

    def _of(self, path: str | None) -> list[Received]:
        return self.requests if path is None else self.at(path)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.match_info["path"]
        received = Received(path, request.headers, await request.read(), self._counts[path], request.raw_path)
        self._counts[path] += 1
        self.requests.append(received)
        async with self._changed:
            self._changed.notify_all()
        return await self._behaviours.get(path, answer(200))(received)
