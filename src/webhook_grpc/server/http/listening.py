"""An address that HTTP is served on: bounds for whoever connects, and problem documents for what no route takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast
from uuid import uuid4

from aiohttp import HttpVersion11, web

from webhook_grpc.domain.errors import PermissionDenied
from webhook_grpc.server.certificates import Certificates
from webhook_grpc.server.handshakes import Handshakes

from .connection import Connection
from .exchange import BODY_BYTES_MAX
from .origins import Origins
from .problem import Problem, problem_of_refusal

KEEPALIVE_SECONDS: Final = 75.0
HEAD_SECONDS_MAX: Final = 10.0  # from the connection to the first whole request head
GRACE_SECONDS: Final = 5.0  # for calls in progress when the process stops
_BACKLOG: Final = 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpAddressInUse(Exception):
    """The address can't be served: it is taken, or it is not one of this machine's."""


class Listener:
    """Serves routes on one address."""

    def __init__(
        self, address: str, connections_max: int, origins: Origins, certificates: Certificates | None = None
    ) -> None:
        """Without certificates it is served in plain text."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._connections_max = connections_max
        self._origins = origins
        self._app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._as_problem])
        self._app.on_response_prepare.append(origins.complete)
        self._app.on_response_prepare.append(_without_version)
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._silent = set[Any]()  # connections on which no request has come yet
        self._handshakes: Handshakes | None = None
        if certificates is not None:
            self._handshakes = Handshakes(lambda: certificates.current.http_context, self._protocol, self._has_room)

    @property
    def connection_count(self) -> int:
        """How many connections there are."""
        server: Any = self._runner.server
        in_handshake = 0 if self._handshakes is None else self._handshakes.count
        return in_handshake + (0 if server is None else len(server.connections))

    def add_route(self, verb: str, pattern: str, handler: Handler) -> None:
        """Adds a route for that verb only: a HEAD of a stream would never end."""
        self._app.router.add_route(verb, pattern, handler, expect_handler=_meet_expectation)

    def add_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """Adds routes, before the start."""
        self._app.router.add_routes(routes)

    def bind(self, *, is_shared: bool = False) -> int:
        """Takes the address and returns its port. `is_shared`: with other processes. Raises HttpAddressInUse."""
        try:
            self._socket = socket.create_server(
                (self._host.strip("[]"), self._port),
                family=_family(self._host),
                backlog=_BACKLOG,
                reuse_port=is_shared,
                dualstack_ipv6=False,
            )
        except OSError as error:
            raise HttpAddressInUse(f"cannot listen on {self._host}:{self._port} for HTTP: {error.strerror}") from None
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Starts to serve."""
        await self._runner.setup()
        if self._handshakes is not None and self._socket is not None:
            self._handshakes.start(self._socket)
        else:
            self._server = await asyncio.get_running_loop().create_server(self._accept, sock=self._socket)

    async def stop(self) -> None:
        """Takes no more connections, and gives calls in progress GRACE_SECONDS to end."""
        if self._handshakes is not None:
            await self._handshakes.stop()
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self) -> asyncio.Protocol:
        return self._protocol() if self._has_room() else _Refusal()

    def _has_room(self) -> bool:
        return self.connection_count < self._connections_max

    def _protocol(self) -> asyncio.Protocol:
        server: Any = self._runner.server
        protocol = Connection(server, asyncio.get_running_loop(), KEEPALIVE_SECONDS)
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEAD_SECONDS_MAX, self._drop_if_silent, protocol)
        return protocol

    def _drop_if_silent(self, protocol: Any) -> None:
        """Closes a connection on which no request has come in time."""
        if protocol in self._silent:
            self._silent.remove(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()

    # --- requests --------------------------------------------------------------------------------------------------

    @web.middleware
    async def _as_problem(self, request: web.Request, handler: Handler) -> web.StreamResponse:
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


async def _meet_expectation(request: web.Request) -> web.Response | None:
    """Lets a caller send its body who waits for that; refuses what else is expected (RFC 9110, section 10.1.1).

    aiohttp calls this before every middleware.
    """
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() != "100-continue":
        detail = "no expectation but 100-continue can be met"
        return Problem.of_http("EXPECTATION_UNKNOWN", detail).response(uuid4().hex)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun yet
    return None


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
