"""The gRPC server: the methods of the API, health and reflection on one port, and the options of the transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from webhook.v1 import service_pb2

from webhook_grpc.api.methods import METHODS
from webhook_grpc.domain.access import ANONYMOUS, Caller
from webhook_grpc.domain.progress import Service
from webhook_grpc.domain.record import record
from webhook_grpc.server.auth import CertificateNames
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.certificates import Certificates

from .accepting import Arrivals, asking
from .beginnings import Beginnings, Unknown
from .credentials import credentials
from .exchange import rpc_handler
from .health import SERVICE as HEALTH_SERVICE
from .health import Health
from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Catalogue, Reflection, ReflectionAccess
from .wake_ups import read_together

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"].full_name
RECEIVE_BYTES_MAX: Final = 5 * 1024 * 1024
PENDING_CALLS_MAX: Final = 10_000
HANDSHAKE_SECONDS_MAX: Final = 10.0  # from the connection to the settings of HTTP/2
# What reflection describes: the services, and the details of errors, so that grpcurl prints them.
DESCRIBED: Final = tuple(
    cast("FileDescriptor", module.DESCRIPTOR) for module in (service_pb2, health_pb2, status_pb2, error_details_pb2)
)


@record
class TransportLimits:
    """Bounds of connections. `idle_seconds_max`: without a call; `read_seconds_max`: for a whole request to come."""

    connections_max: int
    streams_per_connection_max: int
    idle_seconds_max: float
    read_seconds_max: float


class AddressInUse(Exception):
    """The address can't be served: it is taken, or it is not an address of this machine."""


class Server:
    """Serves the API, health and reflection on one port."""

    def __init__(
        self,
        address: str,
        calls: Calls,
        limits: TransportLimits,
        certificates: Certificates | None,
        *,
        reflection: ReflectionAccess,
        is_shared: bool,
    ) -> None:
        """`is_shared`: other processes listen on the address, too. Without certificates it is served in plain text."""
        self._calls = calls
        self._health = Health(("", *Service))
        arrivals = Arrivals()
        with read_together(arrivals.take), asking(arrivals):
            self._server = grpc.aio.server(options=_options(limits, is_shared=is_shared))
        beginnings, read_max = Beginnings(), limits.read_seconds_max
        handlers = {method.name: rpc_handler(method, calls, read_max, beginnings) for method in METHODS}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        self._server.add_generic_rpc_handlers([self._health.handlers(beginnings)])
        if reflection is not ReflectionAccess.NOBODY:
            listed = (SERVICE, HEALTH_SERVICE, *REFLECTION_SERVICES)
            caller_of = calls.known_caller if reflection is ReflectionAccess.CALLERS else _anybody
            described = Reflection(Catalogue(listed, DESCRIBED), caller_of)
            self._server.add_generic_rpc_handlers(described.handlers(beginnings))
        self._server.add_generic_rpc_handlers([Unknown(beginnings)])
        self._address = address
        self._certificates = certificates
        self._is_started = False

    def bind(self) -> int:
        """Takes the address and returns its port. Raises AddressInUse."""
        try:
            if self._certificates is None:
                return self._server.add_insecure_port(self._address)
            return self._server.add_secure_port(self._address, credentials(self._certificates))
        except RuntimeError:
            raise AddressInUse(
                f"cannot listen on {self._address}: it is taken, or not one of this machine's; set WEBHOOK_GRPC_ADDRESS"
            ) from None

    async def start(self) -> None:
        """Starts to serve."""
        for name in ("", *Service):
            self._health.set(name, True)
        self._is_started = True
        await self._server.start()

    async def set_serving(self, name: str, serving: bool) -> None:
        """Sets what health checks of a service return. The service without a name is SERVING as long as the process."""
        self._health.set(name, serving)

    def leave(self) -> None:
        """Answers all health checks with NOT_SERVING from now on, whatever is set later. Calls are still served."""
        self._health.leave()

    def show_warnings(self, warnings: Sequence[str]) -> None:
        """Adds warnings for operators to the answers of health checks, as trailing metadata."""
        self._health.show(warnings)

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, and ends those in progress after so many seconds."""
        self._calls.stop()
        self.leave()
        self._health.close()
        await self._server.stop(grace_seconds)
        self._health.report_unread()

    async def abandon(self) -> None:
        """Releases the address when the start of the process has failed. Calls that come meanwhile are refused."""
        self._calls.stop()
        if not self._is_started:
            await self._server.start()  # gRPC closes only the sockets of a server that was started
        await self._server.stop(0)


async def _anybody(_: Sequence[str | bytes], __: CertificateNames) -> Caller:
    return ANONYMOUS


def _options(limits: TransportLimits, *, is_shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(is_shared)),  # else a second server binds the same port without a word
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        # A reset stream still costs work, so a connection that opens and resets without end must be slowed down.
        ("grpc.max_concurrent_streams", limits.streams_per_connection_max),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.max_connection_idle_ms", round(limits.idle_seconds_max * 1000)),
        ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_SECONDS_MAX * 1000)),
        # Beyond so many calls that have come and are not served yet, gRPC ends some at random as CANCELLED, whoever
        # made them; its defaults are 1,000 and 3,000. Ours are refused in turn (server/admission.py), with a reason.
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS_MAX),
        # What a call that nobody reads yet can leave in memory stays at 64 KiB: the probe would raise it to megabytes.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # Go clients ping every 30 s and would get GOAWAY
        ("grpc.max_connection_age_ms", 30 * 60 * 1000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
