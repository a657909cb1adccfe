"""GET /api/caller: who calls and what they may do, so that a page knows what to offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import orjson
from aiohttp import web

from webhook_grpc import __version__
from webhook_grpc.domain.access import Caller
from webhook_grpc.domain.errors import Unauthenticated, Unavailable
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.http.credentials import credentials_of
from webhook_grpc.server.http.problem import Problem
from webhook_grpc.settings import Settings

PATH: Final = "/api/caller"


class CallerRoute:
    """Answers with the caller of a request, and with what a page has to know of the service."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        self._calls = calls
        self._about = {
            "version": __version__,
            "grpc_address": settings.grpc_address,
            "events_retention_days": settings.events_retention_days,
        }

    def routes(self) -> Sequence[web.RouteDef]:
        """Returns the route."""
        return (web.get(PATH, self._get),)

    async def _get(self, request: web.Request) -> web.Response:
        try:
            caller = await self._calls.caller_of(*credentials_of(request))
        except (Unauthenticated, Unavailable) as error:
            return Problem.of(error).response(uuid4().hex)
        document = {
            "name": caller.name,
            **_customers_of(caller),
            "permissions": sorted(caller.permissions),
            **self._about,
        }
        headers = {"Cache-Control": "no-store"}
        body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, content_type="application/json", headers=headers)


def _customers_of(caller: Caller) -> dict[str, Any]:
    """Returns the customer that the caller is bound to, or the customers if these are several; nothing for all."""
    if caller.customer_ids is None:
        return {}
    if caller.customer_id is not None:
        return {"customer_id": caller.customer_id}
    return {"customer_ids": sorted(caller.customer_ids)}
