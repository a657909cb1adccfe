"""The gRPC server: which methods there are, what each needs, and the options of the transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from webhook.v1 import service_pb2

from webhook_grpc.api.actions import ActionMethods
from webhook_grpc.api.customers import CustomerMethods
from webhook_grpc.api.deliveries import DeliveryMethods
from webhook_grpc.api.event_types import EventTypeMethods
from webhook_grpc.api.events import EventMethods
from webhook_grpc.api.explain import ExplainMethods
from webhook_grpc.api.replays import ReplayMethods
from webhook_grpc.api.secrets import SecretMethods
from webhook_grpc.api.stats import StatsMethods
from webhook_grpc.api.watch import WatchMethods
from webhook_grpc.api.webhooks import WebhookMethods
from webhook_grpc.domain.progress import Service
from webhook_grpc.server.calls import Calls

from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Catalogue, Reflection

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["WebhookService"].full_name
RECEIVE_BYTES_MAX: Final = 5 * 1024 * 1024
# What reflection describes: the services, and the details of errors, so that grpcurl prints them.
DESCRIBED: Final = tuple(
    cast("FileDescriptor", module.DESCRIPTOR) for module in (service_pb2, health_pb2, status_pb2, error_details_pb2)
)

# In the trailing metadata of health checks, one for each warning.
_DETAIL_KEY: Final = "webhook-warning"

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class AddressInUse(Exception):
    """The address can't be served: it is taken, or it is not one of this machine's."""


@dataclass(frozen=True, slots=True)
class Methods:
    """What serves the calls."""

    webhooks: WebhookMethods
    secrets: SecretMethods
    event_types: EventTypeMethods
    events: EventMethods
    deliveries: DeliveryMethods
    actions: ActionMethods
    watch: WatchMethods
    explain: ExplainMethods
    stats: StatsMethods
    replays: ReplayMethods
    customers: CustomerMethods


class Server:
    """Serves the API, health and reflection on one port."""

    def __init__(self, address: str, methods: Methods, calls: Calls, *, reflection_enabled: bool) -> None:
        self._calls = calls
        self._health: Any = _Health()
        self._server = grpc.aio.server(options=_options())
        self._server.add_generic_rpc_handlers([_service_handler(methods, calls)])
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
        """Sets what health checks of a service return. The one without a name serves as long as the process."""
        await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def leave(self) -> None:
        """Health checks hear NOT_SERVING from now on, whatever else is set. Calls are still served."""
        await self._health.enter_graceful_shutdown()

    def show_warnings(self, warnings: Sequence[str]) -> None:
        """Adds warnings for operators to the answers of health checks, as trailing metadata."""
        self._health.details = tuple((_DETAIL_KEY, warning) for warning in warnings)

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, and gives those in progress a time to end."""
        self._calls.stopping = True
        await self.leave()
        await self._server.stop(grace_seconds)

    async def abandon(self) -> None:
        """Gives the address back after a start of the process that failed. Calls that come meanwhile are refused."""
        self._calls.stopping = True
        if not self._is_started:
            await self._server.start()  # gRPC closes only the sockets of a server that was started
        await self._server.stop(0)


_HealthServicer: Any = cast("Any", health).aio.HealthServicer  # its types lack the aio form


class _Health(_HealthServicer):
    """Answers health checks, with details for people in the trailing metadata: grpcurl -v shows them."""

    details: tuple[tuple[str, str], ...] = ()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC
        """Answers one check."""
        context.set_trailing_metadata(self.details)
        return await _HealthServicer.Check(self, request, context)


def _service_handler(methods: Methods, calls: Calls) -> grpc.GenericRpcHandler:
    """The method table: name, permission, request type, handler."""
    pb, unary = service_pb2, calls.unary
    webhooks, events, deliveries, actions = methods.webhooks, methods.events, methods.deliveries, methods.actions
    event_types, replays = methods.event_types, methods.replays
    handlers = {
        "CreateWebhook": unary("CreateWebhook", "manage", pb.CreateWebhookRequest, webhooks.create),
        "GetWebhook": unary("GetWebhook", "read", pb.GetWebhookRequest, webhooks.get),
        "ListWebhooks": unary("ListWebhooks", "read", pb.ListWebhooksRequest, webhooks.list),
        "UpdateWebhook": unary("UpdateWebhook", "manage", pb.UpdateWebhookRequest, webhooks.update),
        "DeleteWebhook": unary("DeleteWebhook", "manage", pb.DeleteWebhookRequest, webhooks.delete),
        "PauseWebhook": unary("PauseWebhook", "manage", pb.PauseWebhookRequest, webhooks.pause),
        "ResumeWebhook": unary("ResumeWebhook", "manage", pb.ResumeWebhookRequest, webhooks.resume),
        "RotateWebhookSecret": unary(
            "RotateWebhookSecret", "manage", pb.RotateWebhookSecretRequest, methods.secrets.rotate
        ),
        "CreateEventType": unary("CreateEventType", "manage", pb.CreateEventTypeRequest, event_types.create),
        "GetEventType": unary("GetEventType", "read", pb.GetEventTypeRequest, event_types.get),
        "ListEventTypes": unary("ListEventTypes", "read", pb.ListEventTypesRequest, event_types.list),
        "UpdateEventType": unary("UpdateEventType", "manage", pb.UpdateEventTypeRequest, event_types.update),
        "PublishEvent": unary("PublishEvent", "publish", pb.PublishEventRequest, events.publish),
        "BatchPublishEvents": unary(
            "BatchPublishEvents", "publish", pb.BatchPublishEventsRequest, events.publish_batch
        ),
        "GetEvent": unary("GetEvent", "read", pb.GetEventRequest, events.get),
        "ListEvents": unary("ListEvents", "read", pb.ListEventsRequest, events.list),
        "GetDelivery": unary("GetDelivery", "read", pb.GetDeliveryRequest, deliveries.get),
        "ListDeliveries": unary("ListDeliveries", "read", pb.ListDeliveriesRequest, deliveries.list),
        "ListDeliveryAttempts": unary(
            "ListDeliveryAttempts", "read", pb.ListDeliveryAttemptsRequest, deliveries.list_attempts
        ),
        "TestWebhook": unary("TestWebhook", "manage", pb.TestWebhookRequest, actions.test),
        "RetryDelivery": unary("RetryDelivery", "manage", pb.RetryDeliveryRequest, actions.retry),
        "CancelDelivery": unary("CancelDelivery", "manage", pb.CancelDeliveryRequest, actions.cancel),
        "ExplainEvent": unary("ExplainEvent", "read", pb.ExplainEventRequest, methods.explain.explain),
        "GetWebhookStats": unary("GetWebhookStats", "read", pb.GetWebhookStatsRequest, methods.stats.get),
        "CreateReplay": unary("CreateReplay", "manage", pb.CreateReplayRequest, replays.create),
        "GetReplay": unary("GetReplay", "read", pb.GetReplayRequest, replays.get),
        "ListReplays": unary("ListReplays", "read", pb.ListReplaysRequest, replays.list),
        "CancelReplay": unary("CancelReplay", "manage", pb.CancelReplayRequest, replays.cancel),
        "WatchDeliveries": calls.stream("WatchDeliveries", "read", pb.WatchDeliveriesRequest, methods.watch.watch),
        "DeleteCustomerData": unary(
            "DeleteCustomerData", "manage", pb.DeleteCustomerDataRequest, methods.customers.delete_data
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # else a second server binds the same port without a word
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # Go clients ping every 30 s and would get GOAWAY
        ("grpc.max_connection_age_ms", 30 * 60 * 1000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]
