"""The default service config that clients may load: gRPC accepts it, and it retries what it says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from webhook.v1 import service_pb2, service_pb2_grpc, webhook_pb2

from tests.support.service import CUSTOMER, ServiceFactory

PATH = Path(__file__).resolve().parents[2] / "protos" / "webhook" / "v1" / "webhook_grpc_service_config.json"
SERVICE = service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
METHODS = {method.name for method in SERVICE.methods}
STREAMS = {method.name for method in SERVICE.methods if method.server_streaming}


class Failing:
    """Answers UNAVAILABLE a number of times, then as asked."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: Counter[str] = Counter()

    def handler(self) -> grpc.GenericRpcHandler:
        """Two of the service's methods."""
        get = grpc.unary_unary_rpc_method_handler(
            self._get_webhook, service_pb2.GetWebhookRequest.FromString, webhook_pb2.Webhook.SerializeToString
        )
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch_deliveries,
            service_pb2.WatchDeliveriesRequest.FromString,
            service_pb2.WatchDeliveriesResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE.full_name, {"GetWebhook": get, "WatchDeliveries": watch})

    async def _get_webhook(self, request: service_pb2.GetWebhookRequest, context: Any) -> webhook_pb2.Webhook:
        await self._count("GetWebhook", context)
        return webhook_pb2.Webhook(webhook_id=request.webhook_id)

    async def _watch_deliveries(self, request: service_pb2.WatchDeliveriesRequest, context: Any) -> None:
        del request
        await self._count("WatchDeliveries", context)

    async def _count(self, method: str, context: Any) -> None:
        self.calls[method] += 1
        if self.calls[method] <= self.failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


@asynccontextmanager
async def stub_of(failing: Failing) -> AsyncGenerator[service_pb2_grpc.WebhookServiceAsyncStub]:
    """A client with the config, of a server that fails."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([failing.handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with configured_channel(f"127.0.0.1:{port}") as channel:
            yield service_pb2_grpc.WebhookServiceStub(channel)
    finally:
        await server.stop(None)


def configured_channel(address: str) -> grpc.aio.Channel:
    """A channel as a client would make it with the config."""
    return grpc.aio.insecure_channel(address, options=[("grpc.service_config", PATH.read_text())])


def test_the_config_retries_what_is_safe_to_repeat_and_nothing_else() -> None:
    """UNAVAILABLE may follow a commit whose answer was lost, so a call that changes something is not repeated unasked.

    Publishing is the exception: with a request_id it is safe, and every publisher should send one.
    """
    config = json.loads(PATH.read_text())
    names = [name for entry in config["methodConfig"] for name in entry["name"]]

    assert {name["service"] for name in names} == {SERVICE.full_name}
    assert len(names) == len({name["method"] for name in names})
    reads = {name for name in METHODS if name.startswith(("Get", "List", "Explain"))}
    assert {name["method"] for name in names} == reads | {"PublishEvent", "BatchPublishEvents"}
    assert {"WatchDeliveries"} == STREAMS


async def test_the_service_is_called_through_a_channel_with_the_config(services: ServiceFactory) -> None:
    """A channel with a config that gRPC refuses fails every call with INVALID_ARGUMENT."""
    service = await services.start()
    async with configured_channel(service.address) as channel:
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        listed = await stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))
        watch: Any = stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER))
        first = await watch.read()
        watch.cancel()

    assert not listed.webhooks
    assert isinstance(first, service_pb2.WatchDeliveriesResponse)


async def test_a_unary_call_survives_three_times_unavailable() -> None:
    """The fourth attempt is the last."""
    failing = Failing(3)
    async with stub_of(failing) as stub:
        webhook = await stub.GetWebhook(service_pb2.GetWebhookRequest(webhook_id=7))

    assert webhook.webhook_id == 7
    assert failing.calls["GetWebhook"] == 4


async def test_a_unary_call_fails_when_it_was_unavailable_four_times() -> None:
    """The client is told after the last attempt."""
    failing = Failing(4)
    async with stub_of(failing) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="not now"):
            await stub.GetWebhook(service_pb2.GetWebhookRequest(webhook_id=7))

    assert failing.calls["GetWebhook"] == 4


async def test_a_watch_is_not_retried_behind_the_clients_back() -> None:
    """Only the client knows the cursor from which to go on."""
    failing = Failing(1)
    async with stub_of(failing) as stub:
        watch: Any = stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER))
        with pytest.raises(grpc.aio.AioRpcError, match="not now"):
            await watch.read()

    assert failing.calls["WatchDeliveries"] == 1
