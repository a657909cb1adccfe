"""The limit of calls: the service's gRPC server with handlers that do nothing. Streams send the messages in a file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from webhook.v1 import service_pb2

from webhook_grpc.server.grpc.call import Call, Peer
from webhook_grpc.server.grpc.http2.stream import Stream
from webhook_grpc.server.grpc.listening import Listener, TransportLimits

from .commands import run, serve

EVENT_ID = "evt_" + "0" * 26
LENGTH_BYTES = 4
LIMITS = TransportLimits(  # the defaults of the settings
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


async def publish(call: Call) -> bytes:
    """Answers PublishEvent, and stores nothing."""
    service_pb2.PublishEventRequest.FromString(await call.read() or b"")
    return service_pb2.PublishEventResponse(event_id=EVENT_ID).SerializeToString()


async def watch(messages: list[bytes], call: Call) -> None:
    """Answers WatchDeliveries from memory."""
    for message in messages:
        await call.write(message)


async def main(path: Path | None) -> None:
    """Serves on a port of loopback."""
    watching = partial(watch, messages_in(path) if path is not None else [])

    def begin(stream: Stream, peer: Peer) -> None:
        call = Call(stream, peer)
        task = call.serve(publish if stream.head.path.endswith(b"/PublishEvent") else watching)
        in_progress.add(task)
        task.add_done_callback(in_progress.discard)

    in_progress = set[object]()
    listener = Listener("127.0.0.1:0", LIMITS, None, begin)
    port = listener.bind(is_shared=False)
    await listener.start()
    await serve({}, f"127.0.0.1:{port}")
    await listener.stop(0)
    await listener.close()


if __name__ == "__main__":
    run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
