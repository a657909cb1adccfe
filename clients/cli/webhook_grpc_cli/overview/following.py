"""The two threads behind `top`: one follows the stream of changes, one reads figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from typing import Any, Final

import grpc
from webhook.v1 import delivery_pb2, service_pb2

from webhook_grpc_cli.session import Session
from webhook_grpc_cli.watching.observing import ObservedStream
from webhook_grpc_client import CursorExpired, Unavailable, Watcher, WebhookError
from webhook_grpc_client.connecting import Token

from .figures import Figures
from .tally import Rate, Tally, behind_seconds

_HEARTBEAT_SECONDS: Final = 5.0
_FIGURES_PAUSE_SECONDS: Final = 1.0


class Changes:
    """Follows the stream, and counts what comes. The thread in `follow` writes the state; any thread may ask."""

    def __init__(self, session: Session, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._token = Token(*session.place.token())
        self._stream = ObservedStream(session.stub.WatchDeliveries, _HEARTBEAT_SECONDS, self)
        self._lock = threading.Lock()
        self._tally = Tally(time.monotonic())
        self._watcher = self._opened()
        self._is_closed = False
        self.state = "connecting"
        self.behind_seconds = 0.0

    def follow(self) -> None:
        """Counts until `close`. After a gap that the log cannot fill it goes on from now. Raises WebhookError."""
        while not self._is_closed:
            try:
                self._count(self._watcher)
            except CursorExpired:
                self._watcher = self._opened()

    def _opened(self) -> Watcher:
        return Watcher(self._stream, self._token, self._fields)  # pyright: ignore[reportArgumentType]

    def _count(self, deliveries: Iterable[delivery_pb2.Delivery]) -> None:
        for delivery in deliveries:
            with self._lock:
                self._tally.note(delivery)

    def end_round(self) -> tuple[dict[int, Rate], list[float]]:
        """Returns the rates of the round, and the total of each of the last rounds. Ends a call that is silent."""
        now = time.monotonic()
        self._stream.end_if_silent(now)
        with self._lock:
            return self._tally.end_round(now), list(self._tally.totals)

    def last_of(self, webhook_id: int) -> Sequence[delivery_pb2.Delivery]:
        """Returns the last changes of a webhook's deliveries, the newest first."""
        with self._lock:
            return self._tally.last_of(webhook_id)

    def close(self) -> None:
        """Ends `follow`, whatever thread it runs on."""
        self._is_closed = True
        self._watcher.close()

    # --- what the stream says ----------------------------------------------------------------------------------------

    def received(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Notes that the stream is live, and how far it is behind."""
        self.state = "live"
        self.behind_seconds = 0.0
        if message.deliveries:
            newest, server = message.deliveries[-1].update_time, message.server_time
            self.behind_seconds = behind_seconds(newest.ToDatetime(UTC), server.ToDatetime(UTC))

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Nothing is kept of it."""

    def lost(self, gap: str) -> None:
        """Notes that the stream broke off; the watcher goes on after its cursor, or from now."""
        del gap
        self.state = "resuming"


class Worker:
    """A thread whose failure is raised where somebody waits for it."""

    def __init__(self, name: str, run: Callable[[], None], failed: threading.Event) -> None:
        """`failed` is set when the thread ends by an exception."""
        self._run = run
        self._failed = failed
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self) -> None:
        """Waits for its end."""
        self._thread.join()

    def raise_failure(self) -> None:
        """Raises what the thread has failed with, if it has."""
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised by the thread that shows
            self._error = error
            self._failed.set()


def keep_reading(figures: Figures, ended: threading.Event) -> None:
    """Reads figures until the end. While nobody answers the old ones stay. Raises WebhookError."""
    while not ended.wait(_FIGURES_PAUSE_SECONDS):
        try:
            figures.read()
        except Unavailable:
            continue
        except (WebhookError, ValueError, grpc.RpcError):  # ValueError: the connection is closed, as the line ends
            if ended.is_set():
                return
            raise
