"""The gRPC server: the methods of the API, health and reflection on one port, and the options of the transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from webhook.v1 import service_pb2

from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.progress import Service
from webhook_grpc.server.calls import Calls

from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Catalogue, Reflection
from .serving import rpc_handler

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"].full_name
RECEIVE_BYTES_MAX: Final = 5 * 1024 * 1024
# What reflection describes: the services, and the details of errors, so that grpcurl prints them.
DESCRIBED: Final = tuple(
    cast("FileDescriptor", module.DESCRIPTOR) for module in (service_pb2, health_pb2, status_pb2, error_details_pb2)
)

# In the trailing metadata of health checks, once for each warning.
_WARNING_KEY: Final = "webhook-warning"

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class AddressInUse(Exception):
    """The address can't be served: it is taken, or it is not an address of this machine."""


class Server:
    """Serves the API, health and reflection on one port."""

    def __init__(self, address: str, calls: Calls, *, reflection_enabled: bool, is_shared: bool = False) -> None:
        """`is_shared`: other processes listen on the address, too."""
        self._calls = calls
        self._health: Any = _Health()
        self._server = grpc.aio.server(options=_options(is_shared))
        handlers = {method.name: rpc_handler(method, calls) for method in METHODS}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        cast("Any", health_pb2_grpc).add_HealthServicer_to_server(self._health, self._server)
        if reflection_enabled:
            listed = (SERVICE, health.SERVICE_NAME, *REFLECTION_SERVICES)
            self._server.add_generic_rpc_handlers(Reflection(Catalogue(listed, DESCRIBED)).handlers())
        self._address = address
        self._is_started = False

    def bind(self) -> int:
        """Takes the address and returns its port. Raises AddressInUse."""
        try:
            return self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise AddressInUse(
                f"cannot listen on {self._address}: it is taken, or not one of this machine's; set WEBHOOK_GRPC_ADDRESS"
            ) from None

    async def start(self) -> None:
        """Starts to serve."""
        for name in ("", *Service):
            await self.set_serving(name, True)
        self._is_started = True
        await self._server.start()

    async def set_serving(self, name: str, serving: bool) -> None:
        """Sets what health checks of a service return. The service without a name is SERVING as long as the process."""
        await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def leave(self) -> None:
        """Answers all health checks with NOT_SERVING from now on, whatever is set later. Calls are still served."""
        await self._health.enter_graceful_shutdown()

    def show_warnings(self, warnings: Sequence[str]) -> None:
        """Adds warnings for operators to the answers of health checks, as trailing metadata."""
        self._health.show(warnings)

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, and ends those in progress after so many seconds."""
        self._calls.stop()
        await self.leave()
        await self._server.stop(grace_seconds)

    async def abandon(self) -> None:
        """Releases the address when the start of the process has failed. Calls that come meanwhile are refused."""
        self._calls.stop()
        if not self._is_started:
            await self._server.start()  # gRPC closes only the sockets of a server that was started
        await self._server.stop(0)


_HealthServicer: Any = cast("Any", health).aio.HealthServicer  # its types lack the aio form


class _Health(_HealthServicer):
    """Answers health checks, with warnings for people in the trailing metadata: grpcurl -v shows them."""

    def __init__(self) -> None:
        _HealthServicer.__init__(self)
        self._warnings: tuple[tuple[str, str], ...] = ()

    def show(self, warnings: Sequence[str]) -> None:
        """Adds these warnings to all answers from now on."""
        self._warnings = tuple((_WARNING_KEY, warning) for warning in warnings)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC
        """Answers one check."""
        context.set_trailing_metadata(self._warnings)
        return await _HealthServicer.Check(self, request, context)


def _options(is_shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(is_shared)),  # else a second server binds the same port without a word
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # Go clients ping every 30 s and would get GOAWAY
        ("grpc.max_connection_age_ms", 30 * 60 * 1000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
