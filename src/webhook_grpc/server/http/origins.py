"""Which web pages may call the door: its own, and those of origins that a setting names (CORS, the Fetch standard).

A browser lets any page send requests to any address, and sends some of them without asking first. So a request that
says that it comes from a page is judged before anything is done; programs that are no browsers don't say so.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from webhook_grpc.domain.errors import PermissionDenied

_METHODS: Final = "GET, POST, PATCH, DELETE"
_HEADERS: Final = (
    "authorization, content-type, idempotency-key, if-match, last-event-id, traceparent, tracestate, x-request-id"
)
_SHOWN: Final = "etag, retry-after, x-request-id"
_SHOWN_CHARACTERS_MAX: Final = 256
_SECONDS: Final = "600"  # for which a browser remembers the answer
_FROM_ELSEWHERE: Final = frozenset({"cross-site", "same-site"})  # Sec-Fetch-Site (Fetch Metadata)


class Origins:
    """Knows the origins that may call, such as `https://console.example.com`."""

    def __init__(self, allowed: Collection[str], *, is_host_checked: bool) -> None:
        self._allowed = frozenset(allowed)
        self._is_host_checked = is_host_checked

    def check(self, request: web.BaseRequest) -> None:
        """Raises PermissionDenied for a page that may not call.

        Where callers need no token, the name under which a page reached this machine has to be one of its own: a page
        may let its own name point here (DNS rebinding), and its requests then look like those of our own page.
        """
        if self._is_host_checked and not _is_of_this_machine(request.host):
            message = f"this server is called by `localhost` or a loopback address, not by `{_printable(request.host)}`"
            raise PermissionDenied("HOST_NOT_ALLOWED", message)
        origin = request.headers.get("Origin")
        if origin is None:
            is_foreign = request.headers.get("Sec-Fetch-Site") in _FROM_ELSEWHERE and not _is_visit(request)
        else:
            is_foreign = origin not in self._allowed and origin.partition("://")[2] != request.host
        if is_foreign:
            page = _printable(origin or "other sites")
            message = f"pages of {page} may not call; WEBHOOK_HTTP_ALLOW_ORIGINS names those that may"
            raise PermissionDenied("ORIGIN_NOT_ALLOWED", message)

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """Returns the answer to a browser that wants to know whether it may call; None if this is another request."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
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
        if self._allowed:  # beside what it depends on anyway: a cache between must not mix those up
            response.headers["Vary"] = ", ".join(("Origin", *response.headers.getall("Vary", ())))
        if origin in self._allowed:
            response.headers["Access-Control-Allow-Origin"] = str(origin)
            response.headers["Access-Control-Expose-Headers"] = _SHOWN


def _printable(value: str) -> str:
    """Returns a header's value for people: it may hold bytes that are no text."""
    return value.encode("ascii", "backslashreplace").decode("ascii")[:_SHOWN_CHARACTERS_MAX]


def _is_visit(request: web.BaseRequest) -> bool:
    """Returns whether somebody follows a link to here; the page with the link can't read the answer."""
    return request.method in {"GET", "HEAD"} and request.headers.get("Sec-Fetch-Mode") == "navigate"


def _is_of_this_machine(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower().removesuffix(".") == "localhost" or name.lower().removesuffix(".").endswith(".localhost")
