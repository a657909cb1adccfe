"""Health checks (grpc.health.v1), which need no token: no client, however slow, holds up another one or the process.

Nothing here waits for a client but the call of that client, and that only for a bounded time. (The servicer of
grpcio-health-checking writes to its watchers while it holds a lock that every change of a status needs.)

Bounds: a request has at most REQUEST_BYTES_MAX and comes within READ_SECONDS_MAX; an address has at most
READS_PER_ADDRESS_MAX requests that have not come whole and WATCHES_PER_ADDRESS_MAX watches, all of them READS_MAX and
WATCHES_MAX; a watcher that takes no message for WRITE_SECONDS_MAX is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from webhook_grpc.api.codes import Code
from webhook_grpc.domain.concurrency_limits import Places

from .call import Call, Handler

SERVICE: Final = "grpc.health.v1.Health"
REQUEST_BYTES_MAX: Final = 1024
READ_SECONDS_MAX: Final = 2.0
READS_MAX: Final = 32
READS_PER_ADDRESS_MAX: Final = 8
WATCHES_MAX: Final = 200
WATCHES_PER_ADDRESS_MAX: Final = 50
WRITE_SECONDS_MAX: Final = 5.0

_ONE_REQUEST: Final = f"a health check has one request, of at most {REQUEST_BYTES_MAX} bytes"
# In the trailing metadata of Check, once for each warning.
_WARNING_KEY: Final = "webhook-warning"

_RESPONSE: Final = health_pb2.HealthCheckResponse

log = structlog.get_logger("webhook_grpc.grpc")


class Health:
    """Knows what each service answers, and answers Check and Watch."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services` are NOT_SERVING at first."""
        self._is_serving = dict.fromkeys(services, False)
        self._is_leaving = False
        self._is_closed = False
        self._changed = asyncio.Event()  # one for each change: replaced when it is set
        self._warnings: tuple[tuple[str, str], ...] = ()
        self._reads = _places("health checks that have not come whole", READS_MAX, READS_PER_ADDRESS_MAX)
        self._watches = _places("health watches", WATCHES_MAX, WATCHES_PER_ADDRESS_MAX)
        self._unread_count = 0  # watches that were ended because their clients did not read

    def set(self, name: str, is_serving: bool) -> None:
        """Sets what a service answers. Never waits."""
        self._is_serving[name] = is_serving
        self._announce()

    def leave(self) -> None:
        """Answers NOT_SERVING for every service from now on, whatever is set later."""
        self._is_leaving = True
        self._announce()

    def close(self) -> None:
        """Ends all watches, and those that come."""
        self._is_closed = True
        self._announce()

    def report_unread(self) -> None:
        """Leaves one line in the log, however many watches were ended because their clients did not read."""
        if self._unread_count:
            log.warning("health watches were not read", count=self._unread_count, waited_seconds=WRITE_SECONDS_MAX)

    def show(self, warnings: Sequence[str]) -> None:
        """Adds warnings for operators to all answers of Check from now on: grpcurl -v shows them."""
        self._warnings = tuple((_WARNING_KEY, warning) for warning in warnings)

    def handlers(self) -> dict[str, Handler]:
        """Returns what serves the methods of the service, by their paths."""
        return {f"/{SERVICE}/Check": self.check, f"/{SERVICE}/Watch": self.watch}

    async def check(self, call: Call) -> bytes:
        """Answers one check."""
        name = await self._read(call)
        call.set_trailing_metadata(self._warnings)
        if name not in self._is_serving:
            call.abort(Code.NOT_FOUND, "there is no service of this name")
        return self._answer(name)

    async def watch(self, call: Call) -> None:
        """Sends the status of a service, and every other one that it has later."""
        name = await self._read(call)
        try:
            with self._watches.place(call.peer.address):
                await self._send_changes(call, name)
        except _NoPlace as error:
            call.abort(Code.RESOURCE_EXHAUSTED, str(error))
        except TimeoutError:
            self._unread_count += 1
            call.abort(Code.UNAVAILABLE, "the client did not read for too long; watch again")

    async def _send_changes(self, call: Call, name: str) -> None:
        call.begin()
        sent = None
        while not self._is_closed:
            changed, message = self._changed, self._answer(name)
            if message != sent:
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    await call.write(message)
                sent = message
            else:
                await changed.wait()

    async def _read(self, call: Call) -> str:
        """Returns the name in the request. Aborts the call if the request doesn't come in time, or is none."""
        try:
            with self._reads.place(call.peer.address):
                async with asyncio.timeout(READ_SECONDS_MAX):
                    raw = await call.read(REQUEST_BYTES_MAX, _ONE_REQUEST)
        except _NoPlace as error:
            call.abort(Code.RESOURCE_EXHAUSTED, str(error))
        except TimeoutError:
            call.abort(Code.DEADLINE_EXCEEDED, "the request did not come in time")
        if raw is None:
            call.abort(Code.INVALID_ARGUMENT, _ONE_REQUEST)
        try:
            return health_pb2.HealthCheckRequest.FromString(raw).service
        except DecodeError:
            call.abort(Code.INVALID_ARGUMENT, "the request is not a HealthCheckRequest")

    def _answer(self, name: str) -> bytes:
        if name not in self._is_serving:
            status = _RESPONSE.SERVICE_UNKNOWN
        elif self._is_serving[name] and not self._is_leaving:
            status = _RESPONSE.SERVING
        else:
            status = _RESPONSE.NOT_SERVING
        return _RESPONSE(status=status).SerializeToString()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _NoPlace(Exception):
    """All places are taken."""


def _places(what: str, all_max: int, per_address_max: int) -> Places[str]:
    def none_left(_: str) -> _NoPlace:
        return _NoPlace(f"this server has as many {what} as it takes; retry later")

    return Places(per_address_max, none_left, all_max)
