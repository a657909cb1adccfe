"""The HTTP server: routes of all methods, problem documents for everything else, and bounds for whoever connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from uuid import uuid4

from aiohttp import web
from webhook.v1 import service_pb2

from webhook_grpc.api.methods import METHODS, Method, Methods
from webhook_grpc.domain.errors import PermissionDenied
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.readiness import Readiness
from webhook_grpc.settings import Settings

from .caller import CallerRoute
from .exchange import BODY_BYTES_MAX, BodyReading, UnaryExchange
from .live import StreamExchange
from .operations import Operations
from .origins import Origins
from .problem import Problem, problem_of_refusal
from .routes import Route, routes_of

HEAD_BYTES_MAX: Final = 8190  # of the request line, and of one header
KEEPALIVE_SECONDS: Final = 75.0
HEAD_SECONDS_MAX: Final = 10.0  # from the connection to the first whole request head
GRACE_SECONDS: Final = 5.0  # for calls in progress when the process stops
_BACKLOG: Final = 1024

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpAddressInUse(Exception):
    """The address can't be served: it is taken, or it is not one of this machine's."""


class HttpServer:
    """Serves the methods of the API on one port."""

    def __init__(self, settings: Settings, calls: Calls, readiness: Readiness, methods: Methods) -> None:
        self._host, _, port = settings.http_address.rpartition(":")
        self._port = int(port)
        self._connections_max = settings.http_connections_max
        self._bodies = BodyReading(settings.http_read_seconds_max, asyncio.Lock())
        self._calls = calls
        self._origins = Origins(
            settings.http_allow_origins, is_host_checked=settings.anonymous_allowed and settings.is_loopback
        )
        self._app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._as_problem])
        self._app.on_response_prepare.append(self._origins.complete)
        self._app.on_response_prepare.append(_without_version)
        by_name = {method.name: method for method in METHODS}
        for route in routes_of(service_pb2.DESCRIPTOR.services_by_name["WebhookService"]):
            self._app.router.add_route(route.verb, route.pattern, self._handler(by_name[route.method], route))
        self._app.router.add_routes(Operations(readiness, methods, calls).routes())
        self._app.router.add_routes(CallerRoute(settings, calls).routes())
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            handler_cancellation=True,
            shutdown_timeout=GRACE_SECONDS,
        )
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._silent = set[Any]()  # connections on which no request has come yet

    def bind(self) -> int:
        """Takes the address and returns its port. Raises HttpAddressInUse."""
        try:
            self._socket = socket.create_server(
                (self._host.strip("[]"), self._port), family=_family(self._host), backlog=_BACKLOG, dualstack_ipv6=False
            )
        except OSError as error:
            raise HttpAddressInUse(f"cannot listen on {self._host}:{self._port} for HTTP: {error.strerror}") from None
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Starts to serve."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, sock=self._socket)

    async def stop(self) -> None:
        """Takes no more connections, and gives calls in progress GRACE_SECONDS to end."""
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()

    # --- connections -----------------------------------------------------------------------------------------------

    def _protocol(self) -> asyncio.BaseProtocol:
        server: Any = self._runner.server
        if len(server.connections) >= self._connections_max:
            return _Refusal()
        protocol = server()
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEAD_SECONDS_MAX, self._drop_if_silent, protocol)
        return protocol

    def _drop_if_silent(self, protocol: Any) -> None:
        """Closes a connection on which no request has come in time."""
        if protocol in self._silent:
            self._silent.remove(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()

    # --- calls -----------------------------------------------------------------------------------------------------

    def _handler(self, method: Method[Any, Any], route: Route) -> _Handler:
        async def unary(request: web.Request) -> web.StreamResponse:
            exchange = UnaryExchange(request, route, self._bodies)
            error = await self._calls.serve(method, exchange)
            return exchange.answer() if error is None else exchange.problem(error)

        async def stream(request: web.Request) -> web.StreamResponse:
            exchange = StreamExchange(request, route, self._bodies)
            return await exchange.end(await self._calls.serve(method, exchange))

        return stream if method.streams else unary

    @web.middleware
    async def _as_problem(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answers what no route takes with a problem document as well."""
        self._silent.discard(request.protocol)
        try:
            self._origins.check(request)
        except PermissionDenied as error:
            return Problem.of(error).response(uuid4().hex)
        preflight = self._origins.preflight(request)
        if preflight is not None:
            return preflight
        try:
            return await handler(request)
        except web.HTTPException as refused:
            return problem_of_refusal(refused).response(uuid4().hex)


async def _without_version(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Leaves out what aiohttp says of itself and of Python."""
    response.headers["Server"] = "webhook-grpc"


class _Refusal(asyncio.Protocol):
    """What a connection beyond the bound gets: its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Closes it."""
        cast("asyncio.Transport", transport).abort()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
