"""What operators and programs look for on an HTTP port: health, the description of the API, and where all of it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from aiohttp import web

from webhook_grpc.api.methods import Methods
from webhook_grpc.domain.errors import Unavailable, WebhookError
from webhook_grpc.domain.model import EventType
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.http.credentials import credentials_of
from webhook_grpc.server.http.exposition import Exposition
from webhook_grpc.server.http.problem import Problem
from webhook_grpc.server.readiness import Readiness

from .pages import PAGE_PATHS, Pages

if TYPE_CHECKING:
    from webhook_grpc.server.http.openapi.document import Served

_INDEX: Final = """\
webhook-grpc

/                        what happens now, in a browser
/api/webhooks            webhooks: POST creates one, GET lists them
/api/events              events: POST publishes one, GET lists them
/api/deliveries          deliveries
/api/deliveries:watch    what happens to them, live, as server-sent events
/api/openapi.json        all of the API, for programs
/healthz                 whether the process lives
/readyz                  whether it can take calls
"""
_METRICS_LINE: Final = "/metrics                 figures of this process, for Prometheus\n"
_REVALIDATED: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Encoding"}


class Probes:
    """Answers whoever decides where calls go, and whether to restart the process. Without a token."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the routes."""
        return web.get("/healthz", self._alive), web.get("/readyz", self._ready)

    async def _alive(self, _: web.Request) -> web.Response:
        """Answers as long as the process lives: whatever the database does is no reason to restart it."""
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """Answers 503 while calls cannot be answered. Deliveries that stall are no reason: see Readiness."""
        if self._readiness.is_ready:
            return web.Response(text="ready\n")
        where = f" {found}" if (found := self._readiness.why_not_ready) else ""
        return web.Response(status=503, text=f"not ready:{where} the log says why (`health changed`)\n")


class MetricsPage:
    """Answers with the figures of the process."""

    def __init__(self, exposition: Exposition, calls: Calls | None) -> None:
        """`calls` knows who may read: a caller for all customers, since the figures are of all. None: anybody."""
        self._exposition = exposition
        self._calls = calls

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the routes."""
        return (web.get("/metrics", self._metrics),)

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            if self._calls is not None:
                caller = await self._calls.caller_of(*credentials_of(request))
                caller.must_be_for_all_customers()
            text = await self._exposition.text()
        except WebhookError as error:
            return Problem.of(error).response(uuid4().hex)
        except TimeoutError:
            return Problem.of(Unavailable("FIGURES_MISSING", "other processes did not answer")).response(uuid4().hex)
        headers = {"Content-Type": self._exposition.content_type, "Cache-Control": "no-store"}
        return web.Response(body=text, headers=headers)


class Operations:
    """Answers without a token: nothing here is about a customer."""

    def __init__(self, methods: Methods, calls: Calls, *, has_metrics: bool) -> None:
        self._calls = calls
        self._event_types = methods.event_types
        self._text = _INDEX + _METRICS_LINE if has_metrics else _INDEX
        self._pages = Pages()

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the routes."""
        return (
            web.get("/", self._index),
            *(web.get(path, self._page) for path in PAGE_PATHS),
            web.get("/api/openapi.json", self._openapi),
            *self._pages.routes(),
        )

    async def _index(self, request: web.Request) -> web.Response:
        """Answers a browser with the page, a program with a list of what there is."""
        if "text/html" in request.headers.get("Accept", ""):
            return self._pages.document(request)
        return web.Response(text=self._text)

    async def _page(self, request: web.Request) -> web.Response:
        """Answers with the page: its own script shows what the address names."""
        return self._pages.document(request)

    async def _openapi(self, request: web.Request) -> web.Response:
        """Answers with the description of the API, and for those who may call it with the event types."""
        event_types: Sequence[EventType] = ()
        if await self._calls.known_caller(*credentials_of(request)) is not None:
            with contextlib.suppress(WebhookError):  # the description of the API does not depend on the database
                event_types = await self._event_types.catalogue()
        # Beside the loop: schemas of event types may be megabytes.
        is_open = await self._calls.known_caller(()) is not None
        served = await asyncio.to_thread(_document, tuple(event_types), is_open=is_open)
        headers = {**_REVALIDATED, "ETag": f'W/"{served.etag}"'}  # weak: the same whether compressed or not
        if any(one.value in {served.etag, "*"} for one in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            packed = {**headers, "Content-Encoding": "gzip"}
            return web.Response(body=served.packed, content_type="application/json", headers=packed)
        return web.Response(body=served.body, content_type="application/json", headers=headers)


def _document(event_types: tuple[EventType, ...], *, is_open: bool) -> Served:
    """Returns the description of the API. What makes it is imported when somebody reads it, not at each start."""
    from webhook_grpc.server.http.openapi.document import document  # noqa: PLC0415 - see above

    return document(event_types, is_open=is_open)
