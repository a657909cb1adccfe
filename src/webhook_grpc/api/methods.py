"""The methods of the API, as a table. Doors read it; none of them names a method itself.

`METHODS` has a row for each RPC of webhook.v1.WebhookService, in the order of the proto; a test compares the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, Generic, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from webhook.v1 import service_pb2 as pb
from webhook.v1.delivery_pb2 import Delivery
from webhook.v1.event_pb2 import Event
from webhook.v1.event_type_pb2 import EventType
from webhook.v1.replay_pb2 import Replay
from webhook.v1.signing_key_pb2 import SigningKey
from webhook.v1.token_pb2 import AccessToken, Token
from webhook.v1.webhook_pb2 import Webhook

from webhook_grpc.api.access.access_tokens import AccessTokenMethods
from webhook_grpc.api.access.audit import AuditMethods
from webhook_grpc.api.access.customers import CustomerMethods
from webhook_grpc.api.access.tokens import TokenMethods
from webhook_grpc.api.deliveries.actions import ActionMethods
from webhook_grpc.api.deliveries.deliveries import DeliveryMethods
from webhook_grpc.api.deliveries.replays import ReplayMethods
from webhook_grpc.api.deliveries.watch import WatchMethods
from webhook_grpc.api.events.event_types import EventTypeMethods
from webhook_grpc.api.events.events import EventMethods
from webhook_grpc.api.events.explain import ExplainMethods
from webhook_grpc.api.events.offloading import LargeWork
from webhook_grpc.api.messages.sharing import Write
from webhook_grpc.api.webhooks.secrets import SecretMethods
from webhook_grpc.api.webhooks.signing_keys import SigningKeyMethods
from webhook_grpc.api.webhooks.stats import StatsMethods
from webhook_grpc.api.webhooks.webhooks import WebhookMethods
from webhook_grpc.domain.access import Permission
from webhook_grpc.domain.record import record
from webhook_grpc.domain.sealed_cursors import PURPOSE as CURSORS
from webhook_grpc.domain.sealed_cursors import SealedCursors
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.hub.hints import Hints
from webhook_grpc.hub.log.history import History
from webhook_grpc.hub.log.tail import Tail
from webhook_grpc.hub.publisher import Publisher
from webhook_grpc.hub.type_rules import EventTypes
from webhook_grpc.settings import Settings
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.db import Database

from .call import Call

REQUEST_BYTES_MAX: Final = 128 * 1024  # the largest webhook that is valid, as JSON with escapes, has less
_LARGE_REQUESTS: Final = {
    # 256 KiB of data, as a Struct of numbers: 11 bytes each, for 2 in JSON
    "PublishEvent": 1792 * 1024,
    "BatchPublishEvents": 5 * 1024 * 1024,
    "TestWebhook": 1024 * 1024,
    # A schema of 64 KiB, as JSON with escapes
    "CreateEventType": 512 * 1024,
    "UpdateEventType": 512 * 1024,
}

# Methods of the permission `admin` that change nothing. Publishing is no change here: each event says who sent it.
_READS_OF_ADMINS: Final = frozenset({"ListTokens", "ListAuditEntries"})

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Methods:
    """The objects whose functions the table names."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: DatabaseClock,
        sealer: Sealer,
        publisher: Publisher,
        hints: Hints,
        tail: Tail,
    ) -> None:
        history = History(database, settings.stream_history_bytes_max)
        event_types, large = EventTypes(database), LargeWork()
        webhooks_max = settings.webhooks_per_customer_max
        self.webhooks = WebhookMethods(database, sealer, hints, event_types, settings.egress_policy, webhooks_max)
        self.secrets = SecretMethods(database, sealer, hints)
        self.event_types = EventTypeMethods(database, event_types, large, settings.event_types_max)
        self.events = EventMethods(database, publisher, event_types, clock, large, settings.publish_rates)
        self.deliveries = DeliveryMethods(database)
        self.actions = ActionMethods(database, tail, hints, clock)
        cursors = SealedCursors(sealer.keys_for(CURSORS))
        write_seconds_max = settings.stream_write_seconds_max
        self.watch = WatchMethods(database, tail, history, clock, write_seconds_max, cursors, tail.turns)
        self.explain = ExplainMethods(database)
        self.stats = StatsMethods(database, clock)
        self.replays = ReplayMethods(database, clock, hints, settings.replays_per_customer_max)
        self.customers = CustomerMethods(database, hints, settings.call_seconds_max)
        self.access_tokens = AccessTokenMethods(clock, sealer)
        self.audit = AuditMethods(database)
        self.signing_keys = SigningKeyMethods(database, sealer, hints)
        self.tokens = TokenMethods(database, clock, hints, settings.tokens_max, settings.tokens_per_customer_max)


@record
class Method(ABC, Generic[Request, Response]):
    """A row of the table: Unary or Stream."""

    streams: ClassVar[bool]

    name: str
    permission: Permission
    request_type: type[Request]
    response_type: type[Response]

    @property
    def request_bytes_max(self) -> int:
        """Returns how large a request may be, as JSON too. A larger one is refused before it is parsed."""
        return _LARGE_REQUESTS.get(self.name, REQUEST_BYTES_MAX)

    @property
    def changes(self) -> bool:
        """Returns whether a call leaves an entry in the audit, in one transaction with what it changes."""
        return self.permission in {"manage", "admin"} and self.name not in _READS_OF_ADMINS

    @abstractmethod
    async def run(self, methods: Methods, request: Request, call: Call, write: Write) -> None:
        """Carries a call out and writes its responses. Raises WebhookError if it is refused."""


@record
class Unary(Method[Request, Response]):
    """A method of one request and one response."""

    streams = False

    handler: Callable[[Methods], Callable[[Request, Call], Awaitable[Response]]]

    async def run(self, methods: Methods, request: Request, call: Call, write: Write) -> None:
        """Writes the one response."""
        await write(await self.handler(methods)(request, call))


@record
class Stream(Method[Request, Response]):
    """A method of one request and any number of responses.

    Its handler writes them itself: a generator would hide how long a write blocks.
    """

    streams = True

    handler: Callable[[Methods], Callable[[Request, Call, Write], Awaitable[None]]]

    async def run(self, methods: Methods, request: Request, call: Call, write: Write) -> None:
        """Lets the handler write."""
        await self.handler(methods)(request, call, write)


METHODS: Final[tuple[Method[Any, Any], ...]] = (
    Unary("CreateWebhook", "manage", pb.CreateWebhookRequest, Webhook, lambda on: on.webhooks.create),
    Unary("GetWebhook", "read", pb.GetWebhookRequest, Webhook, lambda on: on.webhooks.get),
    Unary("ListWebhooks", "read", pb.ListWebhooksRequest, pb.ListWebhooksResponse, lambda on: on.webhooks.list),
    Unary("UpdateWebhook", "manage", pb.UpdateWebhookRequest, Webhook, lambda on: on.webhooks.update),
    Unary("DeleteWebhook", "manage", pb.DeleteWebhookRequest, Empty, lambda on: on.webhooks.delete),
    Unary("PauseWebhook", "manage", pb.PauseWebhookRequest, Webhook, lambda on: on.webhooks.pause),
    Unary("ResumeWebhook", "manage", pb.ResumeWebhookRequest, Webhook, lambda on: on.webhooks.resume),
    Unary("RotateWebhookSecret", "manage", pb.RotateWebhookSecretRequest, Webhook, lambda on: on.secrets.rotate),
    Unary("TestWebhook", "manage", pb.TestWebhookRequest, pb.TestWebhookResponse, lambda on: on.actions.test),
    Unary("GetWebhookStats", "read", pb.GetWebhookStatsRequest, pb.GetWebhookStatsResponse, lambda on: on.stats.get),
    Unary("CreateEventType", "manage", pb.CreateEventTypeRequest, EventType, lambda on: on.event_types.create),
    Unary("GetEventType", "read", pb.GetEventTypeRequest, EventType, lambda on: on.event_types.get),
    Unary(
        "ListEventTypes", "read", pb.ListEventTypesRequest, pb.ListEventTypesResponse, lambda on: on.event_types.list
    ),
    Unary("UpdateEventType", "manage", pb.UpdateEventTypeRequest, EventType, lambda on: on.event_types.update),
    Unary("PublishEvent", "publish", pb.PublishEventRequest, pb.PublishEventResponse, lambda on: on.events.publish),
    Unary(
        "BatchPublishEvents",
        "publish",
        pb.BatchPublishEventsRequest,
        pb.BatchPublishEventsResponse,
        lambda on: on.events.publish_batch,
    ),
    Unary("GetEvent", "read", pb.GetEventRequest, Event, lambda on: on.events.get),
    Unary("ListEvents", "read", pb.ListEventsRequest, pb.ListEventsResponse, lambda on: on.events.list),
    Unary("ExplainEvent", "read", pb.ExplainEventRequest, pb.ExplainEventResponse, lambda on: on.explain.explain),
    Unary("GetDelivery", "read", pb.GetDeliveryRequest, Delivery, lambda on: on.deliveries.get),
    Unary("ListDeliveries", "read", pb.ListDeliveriesRequest, pb.ListDeliveriesResponse, lambda on: on.deliveries.list),
    Unary(
        "ListDeliveryAttempts",
        "read",
        pb.ListDeliveryAttemptsRequest,
        pb.ListDeliveryAttemptsResponse,
        lambda on: on.deliveries.list_attempts,
    ),
    Unary("RetryDelivery", "manage", pb.RetryDeliveryRequest, Delivery, lambda on: on.actions.retry),
    Unary("CancelDelivery", "manage", pb.CancelDeliveryRequest, Delivery, lambda on: on.actions.cancel),
    Stream("WatchDeliveries", "read", pb.WatchDeliveriesRequest, pb.WatchDeliveriesResponse, lambda on: on.watch.watch),
    Unary("CreateReplay", "manage", pb.CreateReplayRequest, Replay, lambda on: on.replays.create),
    Unary("GetReplay", "read", pb.GetReplayRequest, Replay, lambda on: on.replays.get),
    Unary("ListReplays", "read", pb.ListReplaysRequest, pb.ListReplaysResponse, lambda on: on.replays.list),
    Unary("CancelReplay", "manage", pb.CancelReplayRequest, Replay, lambda on: on.replays.cancel),
    Unary(
        "DeleteCustomerData",
        "manage",
        pb.DeleteCustomerDataRequest,
        pb.DeleteCustomerDataResponse,
        lambda on: on.customers.delete_data,
    ),
    Unary("CreateToken", "admin", pb.CreateTokenRequest, Token, lambda on: on.tokens.create),
    Unary("ListTokens", "admin", pb.ListTokensRequest, pb.ListTokensResponse, lambda on: on.tokens.list),
    Unary("RevokeToken", "admin", pb.RevokeTokenRequest, Empty, lambda on: on.tokens.revoke),
    Unary("CreateAccessToken", "read", pb.CreateAccessTokenRequest, AccessToken, lambda on: on.access_tokens.create),
    Unary(
        "ListAuditEntries",
        "admin",
        pb.ListAuditEntriesRequest,
        pb.ListAuditEntriesResponse,
        lambda on: on.audit.list,
    ),
    Unary(
        "GetSigningKeys",
        "read",
        pb.GetSigningKeysRequest,
        pb.GetSigningKeysResponse,
        lambda on: on.signing_keys.get,
    ),
    Unary("RotateSigningKey", "manage", pb.RotateSigningKeyRequest, SigningKey, lambda on: on.signing_keys.rotate),
)
