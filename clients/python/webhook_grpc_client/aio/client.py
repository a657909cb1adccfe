"""The client of a program with asyncio. Made and used in one event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, Unpack

import grpc
from webhook.v1 import service_pb2, service_pb2_grpc

from ..batches import PublisherBounds, PublisherLimits
from ..calls import Patience, Tries
from ..connecting import TLS, Token, credentials, options
from ..errors import error_of
from ..events import EventFields, publish_request
from ..following import WatchFields
from .publisher import AsyncPublisher
from .watcher import AsyncWatcher

Response_co = TypeVar("Response_co", covariant=True)
Request = TypeVar("Request")
Response = TypeVar("Response")
Request_contra = TypeVar("Request_contra", contravariant=True)


class Method(Protocol[Request_contra, Response_co]):
    """A method of the stub that has one answer."""

    def __call__(self, request: Request_contra, /, *, timeout: float, metadata: Any) -> Awaitable[Response_co]:
        """Calls it."""
        ...


class AsyncClient:
    """Publishes, watches and calls the service over one channel, which connects when it is first used."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        token_file: Path | str | None = None,
        tls: TLS | bool | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`address` is `host:port`; `tls` is on by default but for loopback; `token_file` is read for each call."""
        self._token = Token(token, token_file)
        self._patience = patience or Patience()
        secure = credentials(address, tls)
        self._channel = (
            grpc.aio.secure_channel(address, secure, options(address, tls))
            if secure
            else grpc.aio.insecure_channel(address, options(address, tls))
        )
        self.stub = service_pb2_grpc.WebhookServiceStub(self._channel)
        """The generated stub, for `call`."""

    async def publish(
        self, event_type: str, data: Any, **fields: Unpack[EventFields]
    ) -> service_pb2.PublishEventResponse:
        """Publishes one event, and returns when it is on disk. Raises WebhookError.

        It is tried again while the service is away or overloaded; a try whose answer was lost publishes nothing twice.
        """
        return await self.call(self.stub.PublishEvent, publish_request(event_type, data, fields), may_repeat=True)

    def publisher(self, limits: PublisherLimits | None = None, **bounds: Unpack[PublisherBounds]) -> AsyncPublisher:
        """Returns a publisher, which sends what many tasks publish in batches. Use it with `async with`.

        `bounds` are fields of PublisherLimits, such as `max_waiting`; they go before those of `limits`.
        """
        return AsyncPublisher(self._send_batch, replace(limits or PublisherLimits(), **bounds))

    def watch(self, **fields: Unpack[WatchFields]) -> AsyncWatcher:
        """Returns an iterator over deliveries as they stood after each change. It resumes for ever."""
        return AsyncWatcher(self.stub.WatchDeliveries, self._token, fields)

    async def call(self, method: Method[Request, Response], request: Request, *, may_repeat: bool = False) -> Response:
        """Calls a method of `stub`. Raises WebhookError.

        `may_repeat`: the call is made again if nothing is known of the last one; only for reads, and for requests with
        a `request_id`.
        """
        tries = Tries(self._patience, time.monotonic(), may_repeat=may_repeat)
        while True:
            try:
                return await method(request, timeout=self._patience.try_seconds, metadata=self._token.metadata())
            except grpc.RpcError as error:
                pause_seconds = tries.failed(error_of(error), time.monotonic(), random.random())
            await asyncio.sleep(pause_seconds)  # the back-off: no signal says that the service is back

    async def close(self) -> None:
        """Closes the channel. Close publishers first: what waits in them fails."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send_batch(
        self, request: service_pb2.BatchPublishEventsRequest, seconds: float
    ) -> service_pb2.BatchPublishEventsResponse:
        return await self.stub.BatchPublishEvents(request, timeout=seconds, metadata=self._token.metadata())
