"""How these tests ask: any method by its name with a message or raw bytes, and what a refusal consists of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, event_pb2, event_type_pb2, replay_pb2, service_pb2, token_pb2, webhook_pb2

from tests.support import slowness
from tests.support.service import CUSTOMER, SECRET, Service, error_details

SERVICE = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
METHODS = tuple(SERVICE.methods_by_name)
STREAMS = frozenset(method.name for method in SERVICE.methods if method.server_streaming)
UNARY = tuple(method for method in METHODS if method not in STREAMS)
# What belongs to the platform: no request names a customer, and only a caller for all customers may change it.
TOKENS_OF_CALLERS = ("CreateToken", "ListTokens", "RevokeToken")
OF_THE_PLATFORM = ("CreateEventType", "GetEventType", "ListEventTypes", "UpdateEventType", *TOKENS_OF_CALLERS)
FOR_ALL_CUSTOMERS_ONLY = ("CreateEventType", "UpdateEventType")
OTHER_CUSTOMER = CUSTOMER + 1
INT64_MAX = 2**63 - 1
DATA_BYTES_MAX = 256 * 1024
NOBODY_LISTENS = "https://127.0.0.1:1024/"  # so that a test of the webhook is over at once
ABSENT_EVENT_ID = "evt_01jzzzzzzzzzzzzzzzzzzzzzzz"
ABSENT_DELIVERY_ID = "dlv_01jzzzzzzzzzzzzzzzzzzzzzzz_1"

# What a caller must never see: it means that nobody thought of the case.
UNTHOUGHT_OF = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})

Metadata = Sequence[tuple[str, str]]
Item = TypeVar("Item")
Response = TypeVar("Response")


@dataclass(frozen=True)
class Refusal:
    """A status that is not OK, with its google.rpc details by the names of their types."""

    code: grpc.StatusCode
    message: str
    details: dict[str, Any]

    @property
    def reason(self) -> str:
        """The reason for programs."""
        return self.details["ErrorInfo"].reason

    @property
    def metadata(self) -> dict[str, str]:
        """The ErrorInfo's metadata."""
        return dict(self.details["ErrorInfo"].metadata)

    @property
    def fields(self) -> list[str]:
        """The dotted paths of all violations, sorted."""
        return sorted(violation.field for violation in self.details["BadRequest"].field_violations)

    @property
    def retry_seconds(self) -> float:
        """After how long the caller is asked to try again."""
        return self.details["RetryInfo"].retry_delay.ToTimedelta().total_seconds()


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Waits for a call that must be refused by the service itself: with an ErrorInfo of its domain and a sentence."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    details = error_details(error)
    assert details["ErrorInfo"].domain == "webhook-grpc"
    message = error.details() or ""
    assert message, "the message says what to do"
    return Refusal(error.code(), message, details)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    """The status of a call, whatever it is."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def request_type(method: str) -> type[Message]:
    """The class of a method's request."""
    return GetMessageClass(SERVICE.methods_by_name[method].input_type)


async def ask(service: Service, method: str, request: Message | bytes, metadata: Metadata = ()) -> Any:
    """Calls a method; of a stream, returns the first message."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    path = f"/{SERVICE.full_name}/{method}"
    parse = GetMessageClass(SERVICE.methods_by_name[method].output_type).FromString
    channel: Any = service.channel
    if method not in STREAMS:
        return await channel.unary_unary(path, response_deserializer=parse)(
            raw, metadata=metadata, timeout=slowness.scaled(20)
        )
    call = channel.unary_stream(path, response_deserializer=parse)(raw, metadata=metadata, timeout=slowness.scaled(20))
    try:
        return await call.read()
    finally:
        call.cancel()


async def pages(
    ask_page: Callable[[str], Awaitable[Response]], items: Callable[[Response], Sequence[Item]]
) -> AsyncGenerator[list[Item]]:
    """The pages of a list, until there is no next one."""
    token = ""
    while True:
        response: Any = await ask_page(token)
        yield list(items(response))
        token = response.next_page_token
        if not token:
            return


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Asks again and again: for what only the database can tell, such as who waits for a lock."""
    async with slowness.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def all_of(many: Sequence[Awaitable[Item]], at_once: int = 50) -> list[Item]:
    """Awaits many calls, so many at once."""
    turn = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[Item]) -> Item:
        async with turn:
            return await call

    return await asyncio.gather(*map(one, many))


@dataclass(frozen=True)
class World:
    """What requests name: a paused webhook, an event and a replay that wait for it, and a token."""

    webhook_id: int
    event_id: str
    delivery_id: str
    replay_id: int = 1
    token_id: int = 1


async def furnish(service: Service) -> World:
    """Makes a World of CUSTOMER's, by the calls of an anonymous caller."""
    webhook = await service.create_webhook(NOBODY_LISTENS)
    await service.stub.PauseWebhook(
        service_pb2.PauseWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook.webhook_id)
    )
    published = await service.publish()
    replay = await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=full_replay(webhook.webhook_id)))
    made = await service.stub.CreateToken(service_pb2.CreateTokenRequest(token=full_token()))
    return world_of(webhook.webhook_id, published.event_id, replay.replay_id, made.token_id)


def world_of(webhook_id: int, event_id: str, replay_id: int = 1, token_id: int = 1) -> World:
    """The World of a webhook, an event, a replay and a token."""
    return World(webhook_id, event_id, f"dlv_{event_id.removeprefix('evt_')}_{webhook_id}", replay_id, token_id)


def full_webhook(**fields: Any) -> webhook_pb2.Webhook:
    """A valid webhook with every field that a caller may choose."""
    values: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "name": "Orders & Grüße",
        "url": "https://hooks.example.com/in?a=1",
        "events": ["job.completed", "environment.*"],
        "secret": SECRET,
        "retry_policy": webhook_pb2.RetryPolicy(delays=[Duration(seconds=5), Duration(seconds=60, nanos=500_000_000)]),
        "timeout": Duration(seconds=7, nanos=250_000_000),
        "max_in_flight": 3,
        "rate_limit_per_second": 20,
        "headers": {"X-Tenant": "blue"},
        "labels": {"team": "orders"},
        "description": "Tells the warehouse.",
        "signature_type": webhook_pb2.SIGNATURE_TYPE_ED25519,
        **fields,
    }
    return webhook_pb2.Webhook(**values)


def full_event(**fields: Any) -> event_pb2.Event:
    """A valid event with every field that a caller may choose."""
    values: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "event_type": "job.completed",
        "occur_time": Timestamp(seconds=1_700_000_000),
        "attributes": {"source": "test"},
        **fields,
    }
    if "data" not in values:
        values.setdefault("data_json", '{"job_id":"job-abc123"}')
    return event_pb2.Event(**values)


def full_event_type(**fields: Any) -> event_type_pb2.EventType:
    """A valid event type with every field that a caller may choose, and a schema that all events of the tests fit."""
    values: dict[str, Any] = {
        "event_type": "order.paid",
        "description": "An order was paid – at last.",
        "json_schema": '{"type":"object"}',
        **fields,
    }
    return event_type_pb2.EventType(**values)


def full_replay(webhook_id: int, **fields: Any) -> replay_pb2.Replay:
    """A valid replay of the last day with every field that a caller may choose."""
    now = int(time.time())
    values: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "webhook_ids": [webhook_id],
        "event_types": ["job.*"],
        "statuses": [delivery_pb2.DELIVERY_STATUS_FAILED],
        "include_undelivered": True,
        "start_time": Timestamp(seconds=now - 86_400),
        "end_time": Timestamp(seconds=now),
        **fields,
    }
    return replay_pb2.Replay(**values)


def full_token(**fields: Any) -> token_pb2.Token:
    """A valid token with every field that a caller may choose."""
    values: dict[str, Any] = {
        "role": token_pb2.TOKEN_ROLE_VIEWER,
        "customer_ids": [CUSTOMER],
        "description": "The screen in the hall – at last.",
        "expire_time": Timestamp(seconds=4_000_000_000),
        **fields,
    }
    return token_pb2.Token(**values)


def valid_requests(world: World, customer_id: int = CUSTOMER) -> dict[str, Message]:
    """For every method a request that is served, with every field set that can be set without being refused."""
    pb = service_pb2
    listing: dict[str, Any] = {"customer_id": customer_id, "page_size": 10}
    filters: dict[str, Any] = {
        "webhook_ids": [world.webhook_id],
        "event_types": ["job.*"],
        "statuses": [delivery_pb2.DELIVERY_STATUS_PENDING],
        "event_id": world.event_id,
    }
    window: dict[str, Any] = {"start_time": Timestamp(seconds=1), "end_time": Timestamp(seconds=4_000_000_000)}
    one: dict[str, Any] = {"customer_id": customer_id, "webhook_id": world.webhook_id}
    publish = pb.PublishEventRequest(event=full_event(customer_id=customer_id), request_id="order-42-paid")
    return {
        "CreateWebhook": pb.CreateWebhookRequest(webhook=full_webhook(customer_id=customer_id), request_id="new"),
        "GetWebhook": pb.GetWebhookRequest(**one),
        "ListWebhooks": pb.ListWebhooksRequest(**listing, statuses=[webhook_pb2.WEBHOOK_STATUS_PAUSED]),
        "UpdateWebhook": pb.UpdateWebhookRequest(
            webhook=full_webhook(**one, secret=""), update_mask=FieldMask(paths=["name", "description"])
        ),
        "DeleteWebhook": pb.DeleteWebhookRequest(**one),
        "PauseWebhook": pb.PauseWebhookRequest(**one),  # the one that is refused: it is paused
        "ResumeWebhook": pb.ResumeWebhookRequest(**one),
        "RotateWebhookSecret": pb.RotateWebhookSecretRequest(
            **one, secret=SECRET, overlap=Duration(seconds=3600), request_id="leaked"
        ),
        "CreateEventType": pb.CreateEventTypeRequest(event_type=full_event_type()),
        "GetEventType": pb.GetEventTypeRequest(event_type="job.completed"),
        "ListEventTypes": pb.ListEventTypesRequest(page_size=10, include_archived=True),
        "UpdateEventType": pb.UpdateEventTypeRequest(
            event_type=full_event_type(event_type="job.completed"),
            update_mask=FieldMask(paths=["description", "json_schema", "archived"]),
        ),
        "PublishEvent": publish,
        "BatchPublishEvents": pb.BatchPublishEventsRequest(customer_id=customer_id, requests=[publish]),
        "GetEvent": pb.GetEventRequest(customer_id=customer_id, event_id=world.event_id),
        "GetDelivery": pb.GetDeliveryRequest(customer_id=customer_id, delivery_id=world.delivery_id),
        "ListDeliveries": pb.ListDeliveriesRequest(**listing, **filters, **window),
        "ListDeliveryAttempts": pb.ListDeliveryAttemptsRequest(
            **listing,
            **filters,
            **window,
            delivery_id=world.delivery_id,
            outcomes=[delivery_pb2.ATTEMPT_OUTCOME_TIMEOUT],
        ),
        "ListEvents": pb.ListEventsRequest(**listing, **window, event_types=["job.*"]),
        "TestWebhook": pb.TestWebhookRequest(**one, event_type="job.completed", data_json="{}"),
        "RetryDelivery": pb.RetryDeliveryRequest(  # refused: it is pending
            customer_id=customer_id, delivery_id=world.delivery_id, request_id="again"
        ),
        "CancelDelivery": pb.CancelDeliveryRequest(customer_id=customer_id, delivery_id=world.delivery_id),
        "ExplainEvent": pb.ExplainEventRequest(customer_id=customer_id, event_id=world.event_id),
        "GetWebhookStats": pb.GetWebhookStatsRequest(
            **one, start_time=Timestamp(seconds=1_700_000_000), end_time=Timestamp(seconds=1_702_000_000)
        ),
        "CreateReplay": pb.CreateReplayRequest(
            replay=full_replay(world.webhook_id, customer_id=customer_id), request_id="again"
        ),
        "GetReplay": pb.GetReplayRequest(customer_id=customer_id, replay_id=world.replay_id),
        "ListReplays": pb.ListReplaysRequest(**listing, statuses=[replay_pb2.REPLAY_STATUS_RUNNING]),
        "CancelReplay": pb.CancelReplayRequest(customer_id=customer_id, replay_id=world.replay_id),
        "WatchDeliveries": pb.WatchDeliveriesRequest(
            customer_id=customer_id, **filters, snapshot=True, heartbeat_interval=Duration(seconds=5)
        ),
        "DeleteCustomerData": pb.DeleteCustomerDataRequest(customer_id=customer_id),
        "CreateToken": pb.CreateTokenRequest(token=full_token(customer_ids=[customer_id])),
        "ListTokens": pb.ListTokensRequest(page_size=10),
        "RevokeToken": pb.RevokeTokenRequest(token_id=world.token_id),
        "ListAuditEntries": pb.ListAuditEntriesRequest(**listing),
        "GetSigningKeys": pb.GetSigningKeysRequest(customer_id=customer_id),
        "RotateSigningKey": pb.RotateSigningKeyRequest(customer_id=customer_id, overlap=Duration(seconds=0)),
        "CreateAccessToken": pb.CreateAccessTokenRequest(
            customer_id=customer_id, permissions=[token_pb2.ACCESS_PERMISSION_READ], life=Duration(seconds=60)
        ),
    }


# The valid requests that are refused all the same, because of the state of the world.
REFUSED = frozenset({"PauseWebhook", "RetryDelivery"})


def set_customer(request: Any, value: int) -> None:
    """Sets customer_id where the request carries it."""
    _customer_holder(request).customer_id = value


def _customer_holder(request: Any) -> Any:
    match request:
        case service_pb2.CreateWebhookRequest() | service_pb2.UpdateWebhookRequest():
            return request.webhook
        case service_pb2.PublishEventRequest():
            return request.event
        case service_pb2.CreateReplayRequest():
            return request.replay
        case _:
            return request


def set_webhook_id(request: Any, value: int) -> None:
    """Sets webhook_id where the request carries it."""
    (request.webhook if isinstance(request, service_pb2.UpdateWebhookRequest) else request).webhook_id = value
