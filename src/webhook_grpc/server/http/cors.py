"""Which pages of other origins may call the door (CORS, the Fetch standard): none but those that a setting names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiohttp import web

_METHODS: Final = "GET, POST, PATCH, DELETE"
_HEADERS: Final = "authorization, content-type, idempotency-key, if-match, last-event-id, x-request-id"
_SHOWN: Final = "etag, retry-after, x-request-id"
_SECONDS: Final = "600"  # for which a browser remembers the answer


class Cors:
    """Knows the origins that may call, such as `https://console.example.com`."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, request: web.Request) -> web.Response | None:
        """Returns the answer to a browser that wants to know whether it may call; None if this is another request."""
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or request.headers.get("Origin") not in self._origins:
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _HEADERS,
                "Access-Control-Max-Age": _SECONDS,
            },
        )

    async def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Adds to an answer that the page may read it. To be run before each answer is sent."""
        origin = request.headers.get("Origin")
        if self._origins:
            response.headers["Vary"] = "Origin"
        if origin in self._origins:
            response.headers["Access-Control-Allow-Origin"] = str(origin)
            response.headers["Access-Control-Expose-Headers"] = _SHOWN
