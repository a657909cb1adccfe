"""A collector of spans: a real OTLP/HTTP server that reads the protobuf messages and keeps the spans."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support import slowness


@dataclass
class Collector:
    """Takes spans at `url`. While `status` is another than 200, takes none."""

    status: int = 200
    port: int = 0
    spans: list[Span] = field(default_factory=list[Span])
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    raw: bytes = b""
    refused_count: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)  # no request is answered before
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens, on a free port the first time."""
        self.opened.set()
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listens no more; connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT has to say."""
        return f"http://127.0.0.1:{self.port}"

    async def wait_for(self, count: int) -> list[Span]:
        """Waits until so many spans have come; returns them in the order in which they began."""
        async with slowness.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.spans) >= count)
        return sorted(self.spans, key=lambda span: span.start_time_unix_nano)

    async def wait_until_refused(self) -> None:
        """Waits until a request was answered with another status than 200."""
        async with slowness.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.refused_count > 0)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.opened.wait()
        if self.status == 200:
            self._keep(body)
        else:
            self.refused_count += 1
        async with self._changed:
            self._changed.notify_all()
        return web.Response(status=self.status)

    def _keep(self, body: bytes) -> None:
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(values(of_resource.resource.attributes))
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)


def values(attributes: Any) -> dict[str, Any]:
    """Returns attributes by their names."""
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def links(span: Span) -> list[tuple[str, str]]:
    """Returns the trace and the span of each link, as a `traceparent` writes them."""
    return [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]


def traceparent_of(span: Span) -> Mapping[str, str]:
    """Returns the parts of a `traceparent` that name a span."""
    return {"trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()}
