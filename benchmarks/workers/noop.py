"""The limit of calls: the service's gRPC server with handlers that do nothing. Streams send the messages in a file."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
from webhook.v1 import service_pb2

from webhook_grpc.server.grpc import server as ours

from .commands import run, serve

EVENT_ID = "evt_" + "0" * 26
LENGTH_BYTES = 4
LIMITS = ours.TransportLimits(  # the defaults of the settings
    connections_max=2000, streams_per_connection_max=1000, idle_seconds_max=300.0, read_seconds_max=10.0
)


def messages_in(path: Path) -> list[bytes]:
    """Returns the messages in a file, each behind its length."""
    data, messages = path.read_bytes(), list[bytes]()
    while data:
        end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
        messages.append(data[LENGTH_BYTES:end])
        data = data[end:]
    return messages


class Handlers(grpc.GenericRpcHandler):
    """PublishEvent, which stores nothing, and WatchDeliveries, which sends from memory."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method.endswith("/PublishEvent"):
            return grpc.unary_unary_rpc_method_handler(self._publish, None, None)
        return grpc.unary_stream_rpc_method_handler(self._watch, None, None)

    async def _publish(self, raw: bytes, _: Any) -> bytes:
        service_pb2.PublishEventRequest.FromString(raw)
        return service_pb2.PublishEventResponse(event_id=EVENT_ID).SerializeToString()

    async def _watch(self, _: bytes, __: Any) -> AsyncGenerator[bytes]:
        for message in self._messages:
            yield message


async def main(path: Path | None) -> None:
    """Serves on a port of loopback."""
    options = ours._options(LIMITS, is_shared=False)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the same server, so the same options
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers([Handlers(messages_in(path) if path is not None else [])])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await serve({}, f"127.0.0.1:{port}")
    await server.stop(0)


if __name__ == "__main__":
    run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
