"""What operators and programs look for on an HTTP port: health, the description of the API, and where all of it is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from webhook_grpc.api.methods import Methods
from webhook_grpc.domain.errors import WebhookError
from webhook_grpc.domain.model import EventType
from webhook_grpc.server.calls import AUTHORIZATION_KEY, Calls
from webhook_grpc.server.readiness import Readiness

from .openapi import document
from .pages import PAGE_PATHS, Pages

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


class Operations:
    """Answers without a token: nothing here is about a customer."""

    def __init__(self, readiness: Readiness, methods: Methods, calls: Calls) -> None:
        self._pages = Pages()
        self._readiness = readiness
        self._calls = calls
        self._event_types = methods.event_types

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the routes."""
        return (
            web.get("/", self._index),
            *(web.get(path, self._page) for path in PAGE_PATHS),
            web.get("/healthz", self._alive),
            web.get("/readyz", self._ready),
            web.get("/api/openapi.json", self._openapi),
            *self._pages.routes(),
        )

    async def _index(self, request: web.Request) -> web.Response:
        """Answers a browser with the page, a program with a list of what there is."""
        if "text/html" in request.headers.get("Accept", ""):
            return self._pages.document(request)
        return web.Response(text=_INDEX)

    async def _page(self, request: web.Request) -> web.Response:
        """Answers with the page: its own script shows what the address names."""
        return self._pages.document(request)

    async def _alive(self, _: web.Request) -> web.Response:
        """Answers as long as the process lives: whatever the database does is no reason to restart it."""
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """Answers 503 while calls cannot be answered. Deliveries that stall are no reason: see Readiness."""
        if self._readiness.is_ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: the log says why (`health changed`)\n")

    async def _openapi(self, request: web.Request) -> web.Response:
        """Answers with the description of the API, and for those who may call it with the event types."""
        event_types: Sequence[EventType] = ()
        if self._calls.is_known(request.headers.getall(AUTHORIZATION_KEY, [])):
            with contextlib.suppress(WebhookError):  # the description of the API does not depend on the database
                event_types = await self._event_types.catalogue()
        return web.Response(body=document(event_types), content_type="application/json")
