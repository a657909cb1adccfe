"""The doors over HTTP: the methods of the API with what operators need, and what operators need alone."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any, Final

from aiohttp import web
from webhook.v1 import service_pb2

from webhook_grpc.api.methods import METHODS, Method, Methods
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.http.beside.caller import CallerRoute
from webhook_grpc.server.http.beside.operator_endpoints import MetricsPage, Operations, Probes
from webhook_grpc.server.readiness import Readiness
from webhook_grpc.server.unauthenticated_turns import Strangers
from webhook_grpc.settings import Settings

from .door import Handler, HttpDoor
from .exchange import BodyReading, UnaryExchange
from .exposition import Exposition
from .jwks import JwksRoute
from .live import StreamExchange
from .origins import Origins
from .routes import Route, routes_of

PROBES: Final = "probes"  # a line of their own: a flood of pages must not make a probe fail
BUFFERED_BYTES_MAX: Final = 64 * 1024  # asyncio's: what a connection may hold before writing to it waits


class ApiDoor(HttpDoor):
    """Serves the methods of the API."""

    def __init__(
        self, settings: Settings, calls: Calls, readiness: Readiness, methods: Methods, exposition: Exposition
    ) -> None:
        is_host_checked = settings.anonymous_allowed and settings.is_loopback
        super().__init__(Origins(settings.http_allow_origins, is_host_checked=is_host_checked), calls.strangers)
        self._bodies = BodyReading(settings.http_read_seconds_max, asyncio.Lock())
        self._calls = calls
        by_name = {method.name: method for method in METHODS}
        for route in routes_of(service_pb2.DESCRIPTOR.services_by_name["WebhookService"]):
            self.add_route(route.verb, route.pattern, self._handler(by_name[route.method], route))
        has_metrics = settings.metrics_address is None
        self.add_routes(Operations(methods, calls, has_metrics=has_metrics).routes())
        self.add_routes(CallerRoute(settings, calls).routes())
        self.add_routes(JwksRoute(methods.signing_keys).routes())
        self.add_routes(Probes(readiness).routes(), PROBES)
        if has_metrics:
            self.add_routes(MetricsPage(exposition, calls).routes())

    def _handler(self, method: Method[Any, Any], route: Route) -> Handler:
        async def unary(request: web.Request) -> web.StreamResponse:
            exchange = UnaryExchange(request, route, self._bodies)
            error = await self._calls.serve(method, exchange)
            answer = exchange.answer() if error is None else exchange.problem(error)
            if (answer.content_length or 0) > BUFFERED_BYTES_MAX:
                await self._send(request, answer, exchange.whose)
            return answer

        async def stream(request: web.Request) -> web.StreamResponse:
            exchange = StreamExchange(request, route, self._bodies)
            return await exchange.end(await self._calls.serve(method, exchange))

        return stream if method.streams else unary

    async def _send(self, request: web.Request, answer: web.Response, whose: Hashable) -> None:
        """Sends an answer, which counts as unread until the caller has taken most of it."""
        taken = self._calls.unread.hold(whose, answer.content_length or 0)
        try:
            await answer.prepare(request)
            await answer.write_eof()
        finally:
            taken()


class MetricsDoor(HttpDoor):
    """Serves /metrics, /healthz and /readyz."""

    def __init__(self, readiness: Readiness, exposition: Exposition, *, is_loopback: bool) -> None:
        super().__init__(Origins((), is_host_checked=is_loopback), Strangers())
        self.add_routes(Probes(readiness).routes(), PROBES)
        self.add_routes(MetricsPage(exposition, None).routes())
