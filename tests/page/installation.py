"""An installation as a person finds it: a process of the service with tokens, which can be killed, and receivers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from webhook.v1 import delivery_pb2, event_pb2, service_pb2, token_pb2, webhook_pb2

from tests.support import slowness
from tests.support.authority import Authority, MountedSecret
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.service import CUSTOMER, SECRET_KEY
from webhook_grpc.domain.access_tokens import AccessClaims, signed
from webhook_grpc.domain.sealing import Sealer

OPERATOR, READER = "wk_operator_of_the_walk", "wk_reader_of_the_walk"
BEARER = (("authorization", f"Bearer {OPERATOR}"),)


def entry(name: str, token: str, **fields: Any) -> dict[str, Any]:
    """Returns an entry of WEBHOOK_TOKENS."""
    return {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), **fields}


class Installation:
    """One process on fixed ports, so that a page finds it again after a restart, and what people do with it."""

    def __init__(self, database_url: str, log: Path, authority: Authority | None = None) -> None:
        """Serves TLS if there is an authority, which makes the certificate."""
        self.log = log
        self._credentials = None if authority is None else authority.channel_credentials()
        self.url = f"{'http' if authority is None else 'https'}://127.0.0.1:{(http_port := free_port())}"
        self.settings = {
            "WEBHOOK_DATABASE_URL": database_url,
            "WEBHOOK_GRPC_ADDRESS": f"127.0.0.1:{free_port()}",
            "WEBHOOK_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
            "WEBHOOK_TOKENS": json.dumps(
                [entry("operator", OPERATOR), entry("reader", READER, customer_id=CUSTOMER, permissions=["read"])]
            ),
            "WEBHOOK_RETRY_JITTER": "0",
            "WEBHOOK_OVERLOAD_DELAY_SECONDS_MIN": "0",
            "WEBHOOK_BREAKER_FAILURES": "5",
            "WEBHOOK_DRAIN_SECONDS": "1",
        }
        if authority is not None:
            secret = MountedSecret(log.with_name("secret"), *authority.issue())
            self.settings |= {f"WEBHOOK_{name.upper()}": str(path) for name, path in secret.settings.items()}
        self.process: Process | None = None

    async def start(self) -> None:
        """Starts the process, also after it was killed."""
        self.process = await Process.start(self.log, **self.settings)
        if self._credentials is not None:
            await self.process.call_over_tls(self._credentials)

    async def kill(self) -> None:
        """Kills the process as `kill -9` does."""
        assert self.process is not None
        await self.process.kill()

    async def end(self) -> None:
        """Ends the process, if it runs."""
        if self.process is not None:
            await self.process.end()

    async def _call(self, method: str, request: Any) -> Any:
        assert self.process is not None
        return await getattr(self.process.stub, method)(request, metadata=BEARER, timeout=slowness.scaled(20))

    async def access_token(self) -> str:
        """Makes a token as a product's backend does for a browser: of the customer, for an hour."""
        permissions = [
            token_pb2.ACCESS_PERMISSION_READ,
            token_pb2.ACCESS_PERMISSION_PUBLISH,
            token_pb2.ACCESS_PERMISSION_MANAGE,
        ]
        request = service_pb2.CreateAccessTokenRequest(customer_id=CUSTOMER, permissions=permissions)
        return (await self._call("CreateAccessToken", request)).bearer_token

    def ending_token(self) -> str:
        """Makes one that ends in some seconds: CreateAccessToken makes none that ends so soon."""
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=slowness.lengthened(5))
        return signed(AccessClaims("operator", CUSTOMER, frozenset({"read"}), end), Sealer([SECRET_KEY]))

    async def create(self, url: str, delays: Sequence[float] = (1.0,), **fields: Any) -> webhook_pb2.Webhook:
        """Registers a webhook of the customer."""
        policy = webhook_pb2.RetryPolicy(delays=[Duration(seconds=int(delay)) for delay in delays])
        values: dict[str, Any] = {
            "customer_id": CUSTOMER,
            "name": "test",
            "url": url,
            "events": ["*"],
            "retry_policy": policy,
        }
        webhook = webhook_pb2.Webhook(**{**values, **fields})
        return await self._call("CreateWebhook", service_pb2.CreateWebhookRequest(webhook=webhook))

    async def publish(self, event_type: str = "job.completed", data_json: str = "{}", **fields: Any) -> str:
        """Publishes an event and returns its id."""
        event = event_pb2.Event(customer_id=CUSTOMER, event_type=event_type, data_json=data_json, **fields)
        return (await self._call("PublishEvent", service_pb2.PublishEventRequest(event=event))).event_id

    async def publish_many(self, count: int, event_type: str) -> None:
        """Publishes events in one batch."""
        event = event_pb2.Event(customer_id=CUSTOMER, event_type=event_type, data_json="{}")
        requests = [service_pb2.PublishEventRequest(event=event)] * count
        await self._call("BatchPublishEvents", service_pb2.BatchPublishEventsRequest(requests=requests))

    async def pause(self, webhook_id: int) -> None:
        """Pauses a webhook."""
        request = service_pb2.PauseWebhookRequest(customer_id=CUSTOMER, webhook_id=webhook_id)
        await self._call("PauseWebhook", request)

    async def deliveries(self, **filter_: Any) -> list[delivery_pb2.Delivery]:
        """Returns the newest deliveries of the log, at most 1,000."""
        request = service_pb2.ListDeliveriesRequest(customer_id=CUSTOMER, page_size=1000, **filter_)
        return list((await self._call("ListDeliveries", request)).deliveries)
