"""A door: aiohttp's server with our bounds for whoever connects, and problem documents for what no route takes.

Loaded when the first connection comes (`address/listening.py`), with all that it imports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final
from uuid import uuid4

from aiohttp import HttpVersion11, web

from webhook_grpc.domain.errors import PermissionDenied
from webhook_grpc.server.unauthenticated_turns import Strangers

from .connection import Connection
from .exchange import BODY_BYTES_MAX
from .origins import Origins
from .problem import Problem, problem_of_refusal

KEEPALIVE_SECONDS: Final = 75.0
HEAD_SECONDS_MAX: Final = 10.0  # from the connection to the first whole request head
GRACE_SECONDS: Final = 5.0  # for calls in progress when the process stops

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpDoor:
    """Serves routes to the connections of one address."""

    def __init__(self, origins: Origins, strangers: Strangers) -> None:
        """`strangers` read what is beside the methods: what `add_routes` adds; or what is not there."""
        self._origins = origins
        self._strangers = strangers
        self._app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._as_problem])
        self._app.on_response_prepare.append(origins.complete)
        self._app.on_response_prepare.append(_without_version)
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS)
        self._silent = set[Any]()  # connections on which no request has come yet

    def add_route(self, verb: str, pattern: str, handler: Handler) -> None:
        """Adds a route for that verb only: a HEAD of a stream would never end."""
        self._app.router.add_route(verb, pattern, handler, expect_handler=_meet_expectation)

    def add_routes(self, routes: Iterable[web.RouteDef], line: str = "") -> None:
        """Adds routes, before it is opened. Who asks waits in turn, with the others of the address and `line`."""
        for route in routes:
            handler = self._in_turn(route.handler, line)
            self._app.router.add_routes([web.RouteDef(route.method, route.path, handler, route.kwargs)])

    def _in_turn(self, handler: Any, line: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            await self._strangers.wait((request.remote, line))
            return await handler(request)

        return answer

    async def open(self) -> None:
        """Gets ready for connections."""
        await self._runner.setup()

    def protocol(self, lost: Callable[[], None]) -> asyncio.Protocol:
        """Returns what serves a connection that begins now, and calls `lost` when that is lost."""
        server: Any = self._runner.server
        protocol = Connection(server, asyncio.get_running_loop(), KEEPALIVE_SECONDS, lost)
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEAD_SECONDS_MAX, self._drop_if_silent, protocol)
        return protocol

    async def close(self) -> None:
        """Gives calls in progress GRACE_SECONDS to end, and closes all connections."""
        await self._runner.cleanup()

    def _drop_if_silent(self, protocol: Any) -> None:
        """Closes a connection on which no request has come in time."""
        if protocol in self._silent:
            self._silent.remove(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()

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
            await self._strangers.wait((request.remote, ""))
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
