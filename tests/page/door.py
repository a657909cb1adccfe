"""The HTTP door as a test plays it: the files of the page, and an API that misbehaves as it is asked to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from webhook_grpc.server.http.beside.pages import PAGE_PATHS, Pages

CUSTOMER = 42
Opening = Callable[["Door", web.Request], Awaitable[web.StreamResponse]]


class Door:
    """A server with one stream at a time. `openings` are the next answers to who opens it; then it opens."""

    def __init__(self) -> None:
        self.openings = deque[Opening]()
        self.listed: list[dict[str, Any]] = []
        self.list_count = 0  # how often the list was asked for
        self.cursors: list[str] = []  # with which the stream was asked for, "" for none
        self.tokens: list[str] = []  # with which it was asked for
        self.caller: dict[str, Any] = {"name": "x", "customer_id": CUSTOMER, "permissions": ["read", "manage"]}
        self.answers: dict[str, str] = {}  # JSON by path, of what else is asked for
        self.posts: list[tuple[str, str]] = []  # paths and the request_ids that came with them
        self.opened = asyncio.Event()
        self._stream: web.StreamResponse | None = None
        self._cursor = 0
        self._cuts = set[asyncio.Event]()  # of each stream that is open
        self._runner = web.AppRunner(self._app(), shutdown_timeout=0, handler_cancellation=True)
        self.url = ""

    async def start(self) -> None:
        """Begins to listen."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        """Ends what is open."""
        self.cut()
        await self._runner.cleanup()

    async def send(self, *deliveries: dict[str, Any]) -> None:
        """Sends changes to the page, in one message."""
        self._cursor += 1
        message = {"deliveries": deliveries, "server_time": now()}
        await self.write(f"id: c{self._cursor}\ndata: {json.dumps(message)}\n\n")

    async def write(self, text: str) -> None:
        """Sends any text on the stream."""
        await asyncio.wait_for(self.opened.wait(), 20)
        assert self._stream is not None
        await self._stream.write(text.encode())

    def cut(self) -> None:
        """Ends the stream without a word."""
        self.opened.clear()
        for cut in tuple(self._cuts):
            cut.set()

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Opens the stream, as the service does."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        cut = asyncio.Event()
        self._stream = stream
        self._cuts.add(cut)
        await stream.write(f": heartbeat\nid: c{self._cursor}\n\n".encode())
        self.opened.set()
        await cut.wait()
        self._cuts.discard(cut)
        if request.transport is not None:
            request.transport.abort()
        return stream

    def _app(self) -> web.Application:
        app, pages = web.Application(), Pages()

        async def document(request: web.Request) -> web.Response:
            return pages.document(request)

        app.router.add_routes(pages.routes())
        for path in ("/", *PAGE_PATHS):
            app.router.add_get(path, document)
        app.router.add_get("/api/caller", self._who)
        app.router.add_get("/api/deliveries", self._list)
        app.router.add_get("/api/deliveries:watch", self._watch)
        app.router.add_get("/api/webhooks", self._webhooks)
        app.router.add_get("/api/webhooks/{id}", self._webhook)
        app.router.add_get("/api/{path:.+}", self._answer)
        app.router.add_post("/api/{path:.+}", self._post)
        return app

    async def _who(self, _: web.Request) -> web.Response:
        return web.json_response(self.caller)

    async def _list(self, _: web.Request) -> web.Response:
        self.list_count += 1
        return web.json_response({"deliveries": self.listed, "next_page_token": ""})

    async def _webhooks(self, _: web.Request) -> web.Response:
        return web.json_response({"webhooks": [webhook(1)], "next_page_token": ""})

    async def _webhook(self, request: web.Request) -> web.Response:
        return web.json_response(webhook(int(request.match_info["id"])))

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path not in self.answers:
            raise web.HTTPNotFound
        return web.Response(text=self.answers[request.path], content_type="application/json")

    async def _post(self, request: web.Request) -> web.Response:
        self.posts.append((request.path, request.headers.get("Idempotency-Key", "")))
        return web.json_response({})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.cursors.append(request.headers.get("Last-Event-ID", ""))
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.openings:
            return await self.openings.popleft()(self, request)
        return await self.open(request)


def refuses(status: int, reason: str, **fields: Any) -> Opening:
    """Returns an opening that is a problem document."""

    async def answer(_: Door, __: web.Request) -> web.Response:
        document = {"status": status, "reason": reason, "title": reason, "detail": f"detail of {reason}", **fields}
        return web.json_response(document, status=status, content_type="application/problem+json")

    return answer


def away(back: asyncio.Event, answer: Opening) -> Opening:
    """Returns an opening that answers so however often it is tried, until the service is back."""

    async def refuse(door: Door, request: web.Request) -> web.StreamResponse:
        if not back.is_set():
            door.openings.append(refuse)
        return await answer(door, request)

    return refuse


def explains(door: Door, shown: dict[str, Any], attempts: Sequence[dict[str, Any]], data: str | None = "{}") -> str:
    """Makes the door answer for a delivery, and for its event, gone without `data`; returns the page's path."""
    path, event_id = f"/api/deliveries/{shown['delivery_id']}", shown["event_id"]
    door.answers[path] = json.dumps(shown)
    door.answers[f"{path}/attempts"] = json.dumps({"attempts": attempts})
    entry = {"webhook_id": 1, "verdict": "matched", "standing": "ended", "delivery": shown}
    door.answers[f"/api/events/{event_id}:explain"] = json.dumps({"webhooks": [entry]})
    if data is not None:
        head = {"event_id": event_id, "customer_id": CUSTOMER, "event_type": "job.failed", "create_time": now()}
        door.answers[f"/api/events/{event_id}"] = json.dumps(head)[:-1] + f', "data": {data}}}'
    return f"deliveries/{shown['delivery_id']}?customer_id={CUSTOMER}"


def attempt(number: int, outcome: str = "http_error", **fields: Any) -> dict[str, Any]:
    """Returns an attempt as the API writes it."""
    return {
        "attempt_number": number,
        "start_time": now(),
        "latency": "0.031s",
        "outcome": outcome,
        "response_status": 200 if outcome == "succeeded" else 503,
        "trigger": "scheduled",
        "request_headers": {"content-type": "application/json", "webhook-signature": "…"},
        "request_bytes": 97,
        "response_headers": {"server": "nginx"},
        "response_body": base64.b64encode(b"upstream unavailable\x00").decode(),
        "response_text": "upstream unavailable\\x00",
        **fields,
    }


def webhook(number: int) -> dict[str, Any]:
    """Returns a webhook as the API writes it."""
    return {
        "webhook_id": number,
        "customer_id": CUSTOMER,
        "name": f"hook-{number}",
        "events": ["*"],
        "url": "https://a.example/",
        "status": "active",
    }


def delivery(
    number: int, status: str = "succeeded", outcome: str = "succeeded", count: int = 1, **fields: Any
) -> dict[str, Any]:
    """Returns a delivery as the API writes it; `number` makes its id."""
    answered = {"succeeded": 200, "http_error": 503}.get(outcome, 0)
    attempt = {
        "attempt_number": count,
        "outcome": outcome,
        "response_status": answered,
        "latency": "0.084s",
        "trigger": "scheduled",
    }
    return {
        "delivery_id": f"dlv_{number:026d}_1",
        "event_id": f"evt_{number:026d}",
        "customer_id": CUSTOMER,
        "webhook_id": 1,
        "event_type": f"job.n{number}",
        "status": status,
        "attempt_count": count,
        "last_attempt": attempt if count else None,
        "create_time": now(),
        "update_time": now(),
        **fields,
    }


def deliveries(numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Returns so many, of which each has ended well."""
    return [delivery(number) for number in numbers]


def now() -> str:
    """Returns the time as the API writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
