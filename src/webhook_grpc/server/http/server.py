"""The addresses of HTTP: one for the methods of the API with what operators need, one for what operators need alone.

The doors, and with them aiohttp, are loaded when somebody comes: `address/listening.py`.
"""

from __future__ import annotations

from typing import Final

from webhook_grpc.api.methods import Methods
from webhook_grpc.server.calls import Calls
from webhook_grpc.server.certificates import Certificates
from webhook_grpc.server.readiness import Readiness
from webhook_grpc.settings import Settings

from .address.listening import Door, Listener, Loading
from .exposition import Exposition

METRICS_CONNECTIONS_MAX: Final = 100  # programs that read figures and probe, each with a few connections


def http_listener(
    settings: Settings,
    connections_max: int,
    calls: Calls,
    readiness: Readiness,
    methods: Methods,
    exposition: Exposition,
    certificates: Certificates | None,
    loading: Loading,
) -> Listener:
    """Returns what serves the methods of the API."""

    def load() -> Door:
        from .doors import ApiDoor  # noqa: PLC0415 - see above

        return ApiDoor(settings, calls, readiness, methods, exposition)

    return Listener(settings.http_address, connections_max, load, loading, certificates)


def metrics_listener(
    address: str, readiness: Readiness, exposition: Exposition, loading: Loading, *, is_loopback: bool
) -> Listener:
    """Returns what serves /metrics, /healthz and /readyz on an address of their own, to whoever reaches it."""

    def load() -> Door:
        from .doors import MetricsDoor  # noqa: PLC0415 - see above

        return MetricsDoor(readiness, exposition, is_loopback=is_loopback)

    return Listener(address, METRICS_CONNECTIONS_MAX, load, loading)
