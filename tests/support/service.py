"""The service inside the test's own process: the real thing on a free port, only the signals are missing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from webhook.v1 import delivery_pb2, event_pb2, replay_pb2, service_pb2, service_pb2_grpc, webhook_pb2

from tests.support import roles, slowness
from webhook_grpc.app import App
from webhook_grpc.settings import Settings, load_settings

SECRET_KEY = bytes(range(32))
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CUSTOMER = 42
DETAILS_KEY = "grpc-status-details-bin"
DETAIL_TYPES = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)


def test_settings(database_url: str, data_dir: Path, **overrides: Any) -> Settings:
    """Settings that let deliveries go to this machine, make everything quick and give it the time that it needs."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "data_dir": data_dir,
        "secret_keys": (base64.b64encode(SECRET_KEY).decode(),),
        "grpc_address": "127.0.0.1:0",
        "http_address": "",
        "default_customer_id": 0,
        "egress_allow_http": True,
        "egress_allow_cidrs": "127.0.0.0/8",
        "poll_seconds": 0.2,
        "replay_poll_seconds": 0.2,
        "lease_seconds": slowness.lengthened(2.0),
        "retry_delays_seconds": (0.1, 0.1, 0.1),
        "overload_delay_seconds_min": 0.0,
        "breaker_failures": 1000,  # tests of receivers that fail are about something else; test_health.py sets its own
        "breaker_window_attempts_min": 10_000,
        "breaker_probe_seconds_min": 0.1,
        "breaker_probe_seconds_max": 0.5,
        "drain_seconds": slowness.lengthened(2.0),
        "database_timeout_seconds": slowness.scaled(10.0),
    }
    return load_settings(**{**values, **overrides})


test_settings.__test__ = False  # pyright: ignore[reportFunctionMemberAccess] - pytest would take it for a test


class Service:
    """A running process of the service, and a client of it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.address = f"127.0.0.1:{app.port}"
        self.channel = grpc.aio.insecure_channel(self.address)
        self.stub = service_pb2_grpc.WebhookServiceStub(self.channel)

    async def close(self) -> None:
        """Stops it as SIGTERM would."""
        await self.channel.close()
        await self.app.stop()

    @property
    def is_at_rest(self) -> bool:
        """Whether no delivery is queued in its memory, in flight or unsettled, and no command is to be answered.

        Nor may it hold a place in the log, which is another log once the rows are removed.
        """
        engine = self.app.engine
        tail = self.app._tail  # pyright: ignore[reportPrivateUsage]
        if tail._position is not None:  # pyright: ignore[reportPrivateUsage]
            tail.hint()  # it looks now whether anybody watches
            return False
        unsettled = engine._unsettled  # pyright: ignore[reportPrivateUsage]
        is_settled = not unsettled.results.unanswered_count and not unsettled.commands.unanswered_count
        return is_settled and not engine.lanes.in_flight and not any(lane.held for lane in engine.lanes)

    async def create_webhook(self, url: str, **fields: Any) -> webhook_pb2.Webhook:
        """Registers a webhook for all events."""
        values: dict[str, Any] = {
            "customer_id": CUSTOMER,
            "name": "test",
            "url": url,
            "events": ["*"],
            "secret": SECRET,
            **fields,
        }
        return await self.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook_pb2.Webhook(**values)))

    async def publish(
        self, data_json: str = "{}", event_type: str = "job.completed", customer_id: int = CUSTOMER, **request: Any
    ) -> service_pb2.PublishEventResponse:
        """Publishes one event."""
        event = event_pb2.Event(customer_id=customer_id, event_type=event_type, data_json=data_json)
        return await self.stub.PublishEvent(service_pb2.PublishEventRequest(event=event, **request))

    async def publish_many(
        self, count: int, customer_id: int = CUSTOMER, event_type: str = "job.completed"
    ) -> list[str]:
        """Publishes a batch and returns the event ids."""
        requests = [
            service_pb2.PublishEventRequest(
                event=event_pb2.Event(customer_id=customer_id, event_type=event_type, data_json=f'{{"n":{number}}}')
            )
            for number in range(count)
        ]
        response = await self.stub.BatchPublishEvents(service_pb2.BatchPublishEventsRequest(requests=requests))
        assert all(result.HasField("published") for result in response.results), response
        return [result.published.event_id for result in response.results]

    async def webhook(self, webhook_id: int, customer_id: int = CUSTOMER) -> webhook_pb2.Webhook:
        """Looks at one webhook."""
        return await self.stub.GetWebhook(service_pb2.GetWebhookRequest(customer_id=customer_id, webhook_id=webhook_id))

    async def pause_webhook(self, webhook_id: int, customer_id: int = CUSTOMER) -> webhook_pb2.Webhook:
        """Pauses one webhook."""
        return await self.stub.PauseWebhook(
            service_pb2.PauseWebhookRequest(customer_id=customer_id, webhook_id=webhook_id)
        )

    async def resume_webhook(self, webhook_id: int, customer_id: int = CUSTOMER) -> webhook_pb2.Webhook:
        """Resumes one webhook."""
        return await self.stub.ResumeWebhook(
            service_pb2.ResumeWebhookRequest(customer_id=customer_id, webhook_id=webhook_id)
        )

    async def delete_webhook(self, webhook_id: int, etag: str = "", customer_id: int = CUSTOMER) -> None:
        """Deletes one webhook."""
        await self.stub.DeleteWebhook(
            service_pb2.DeleteWebhookRequest(customer_id=customer_id, webhook_id=webhook_id, etag=etag)
        )

    async def event(self, event_id: str, customer_id: int = CUSTOMER) -> event_pb2.Event:
        """Looks at one event."""
        return await self.stub.GetEvent(service_pb2.GetEventRequest(customer_id=customer_id, event_id=event_id))

    async def replay(self, replay_id: int, customer_id: int = CUSTOMER) -> replay_pb2.Replay:
        """Looks at one replay."""
        return await self.stub.GetReplay(service_pb2.GetReplayRequest(customer_id=customer_id, replay_id=replay_id))

    async def cancel_replay(self, replay_id: int, customer_id: int = CUSTOMER) -> replay_pb2.Replay:
        """Cancels one replay."""
        return await self.stub.CancelReplay(
            service_pb2.CancelReplayRequest(customer_id=customer_id, replay_id=replay_id)
        )

    async def delivery(self, delivery_id: str, customer_id: int = CUSTOMER) -> delivery_pb2.Delivery:
        """Looks at one delivery."""
        return await self.stub.GetDelivery(
            service_pb2.GetDeliveryRequest(customer_id=customer_id, delivery_id=delivery_id)
        )

    @contextlib.asynccontextmanager
    async def watching(self, **request: Any) -> AsyncGenerator[Watch]:
        """Watches deliveries; it has joined the stream when the block begins."""
        values: dict[str, Any] = {"customer_id": CUSTOMER, **request}
        call = self.stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(**values))
        watch = Watch(call)
        if not request.get("snapshot"):
            await watch.next_message()
        try:
            yield watch
        finally:
            call.cancel()


class Watch:
    """A client of the stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.cursor = b""
        self.deliveries: list[delivery_pb2.Delivery] = []

    async def next_message(self, seconds: float = 20) -> service_pb2.WatchDeliveriesResponse:
        """The next message of the stream."""
        async with slowness.timeout(seconds):
            message = await self.call.read()
        assert isinstance(message, service_pb2.WatchDeliveriesResponse), "the stream ended"
        self.cursor = message.cursor
        self.deliveries.extend(message.deliveries)
        return message

    async def until(
        self, enough: Callable[[list[delivery_pb2.Delivery]], bool], seconds: float = 20
    ) -> list[delivery_pb2.Delivery]:
        """Reads until what has been told is enough."""
        async with slowness.timeout(seconds):
            while not enough(self.deliveries):
                await self.next_message(seconds)
        return self.deliveries

    async def until_ended(self, count: int = 1, seconds: float = 20) -> list[delivery_pb2.Delivery]:
        """Reads until so many deliveries have ended, and returns those endings."""
        await self.until(lambda seen: len(ended(seen)) >= count, seconds)
        return ended(self.deliveries)


def ended(deliveries: list[delivery_pb2.Delivery]) -> list[delivery_pb2.Delivery]:
    """Those that say how a delivery ended."""
    return [delivery for delivery in deliveries if delivery.status != delivery_pb2.DELIVERY_STATUS_PENDING]


class ServiceFactory:
    """Starts and stops services."""

    def __init__(self, database_url: str, data_dir: Path) -> None:
        self.database_url = database_url
        self._data_dir = data_dir
        self._running: list[Service] = []

    async def start(self, keys: Sequence[bytes] = (SECRET_KEY,), /, **overrides: Any) -> Service:
        """Starts one that has these secret keys."""
        url = roles.of_service(self.database_url)
        app = App(test_settings(url, self._data_dir, **overrides), url, keys, lambda: 0)
        await app.start()
        service = Service(app)
        self._running.append(service)
        return service

    async def stop(self) -> None:
        """Stops those that still run."""
        for service in self._running:
            with contextlib.suppress(Exception):
                await service.close()
        self._running.clear()

    async def stop_one(self, service: Service) -> None:
        """Stops one before the test ends."""
        self._running.remove(service)
        await service.close()


async def until_shared(*services: Service) -> None:
    """Returns once each of these processes owns its share of the shards.

    Before that a shard may still change hands, so a test that names its owner waits for it.
    """
    share = 64 // len(services)
    async with slowness.timeout(20):
        while any(len(service.app.engine.shards.owned) != share for service in services):
            await asyncio.sleep(0.01)


def seconds(value: float) -> Duration:
    """A protobuf Duration."""
    return Duration(seconds=int(value), nanos=int(value % 1 * 1e9))


def error_details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of an error by their type's name."""
    metadata: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata[DETAILS_KEY])
    assert status.code == error.code().value[0]
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in DETAIL_TYPES:
            message = kind()
            if packed.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found
