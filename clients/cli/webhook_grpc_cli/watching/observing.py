"""The stream below a watcher: notes what the watcher passes over - heartbeats, interruptions, silence."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any, Final, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from webhook.v1 import service_pb2

from webhook_grpc_client import CursorExpired, Unavailable
from webhook_grpc_client.errors import error_of

SILENT_HEARTBEATS: Final = 3


class StreamListener(Protocol):
    """Hears of what happens on the stream, on the thread that iterates."""

    def received(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """A message came; one without deliveries is a heartbeat."""
        ...

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Everything of a message is printed; the watcher takes the next."""
        ...

    def lost(self, gap: str) -> None:
        """The stream broke off; the watcher goes on after its cursor.

        `gap` is what the service says of changes that can't be had any more, empty if there are none.
        """
        ...


class ObservedStream:
    """Stands for the method WatchDeliveries. The iterating thread calls it; any thread may end a silent call."""

    def __init__(self, method: Any, heartbeat_seconds: float, listener: StreamListener) -> None:
        self._method = method
        self._heartbeat_seconds = heartbeat_seconds
        self._listener = listener
        self._is_stopped = False
        self._call: Any = None
        self._heard_at = time.monotonic()
        self.left = 0
        """How many deliveries of the message are not yet taken: the caller counts them down."""

    def __call__(self, request: service_pb2.WatchDeliveriesRequest, *, metadata: Any) -> _ObservedCall:
        """Opens the stream."""
        request.heartbeat_interval.CopyFrom(Duration(seconds=round(self._heartbeat_seconds)))
        self._heard_at = time.monotonic()
        self._call = self._method(request, metadata=metadata)
        return _ObservedCall(self._messages(self._call), self._call)

    def _messages(self, call: Any) -> Generator[service_pb2.WatchDeliveriesResponse]:
        try:
            for message in call:
                self._heard_at = time.monotonic()
                self._listener.received(message)
                self.left = len(message.deliveries)
                yield message
                self._listener.finished(message)
                if self._is_stopped:  # what has been read ahead is not given
                    return
        except grpc.RpcError as error:
            failure = error_of(error)
            if isinstance(failure, CursorExpired):
                self._lost(failure.message)
            elif isinstance(failure, Unavailable):  # else the service refuses the watch, which ends
                self._lost()
            raise
        self._lost()

    def _lost(self, gap: str = "") -> None:
        if not self._is_stopped:
            self._listener.lost(gap)

    def stop_after_message(self) -> None:
        """Lets the iteration end with the message that was given last."""
        self._is_stopped = True

    def end_if_silent(self, now: float) -> bool:
        """Ends the call if nothing came for three heartbeats: the connection is dead, whatever TCP thinks of it."""
        if self._call is None or now - self._heard_at <= SILENT_HEARTBEATS * self._heartbeat_seconds:
            return False
        self._heard_at = now
        self._call.cancel()
        return True


class _ObservedCall:
    """A call that can be iterated and cancelled."""

    def __init__(self, messages: Iterator[service_pb2.WatchDeliveriesResponse], call: Any) -> None:
        self._messages = messages
        self._call = call

    def __iter__(self) -> Iterator[service_pb2.WatchDeliveriesResponse]:
        return self._messages

    def cancel(self) -> None:
        """Ends the call."""
        self._call.cancel()
