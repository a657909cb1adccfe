"""How far a watcher is, and what it does when its stream ends. Pure: no I/O; `now` is in monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypedDict

from google.protobuf.duration_pb2 import Duration
from webhook.v1 import delivery_pb2, service_pb2

from .backoff import pause_seconds
from .errors import CursorExpired, Unavailable, WebhookError

_HEARTBEAT_SECONDS: Final = 15.0
_STATUS_PREFIX: Final = "DELIVERY_STATUS_"


class WatchFields(TypedDict, total=False):
    """Which deliveries to watch, where to start, and when to end. Without a start: from now on.

    Filters: `customer_id`, `webhook_ids`, `event_types` (`job.*`), `statuses` ("failed", or values of the enum),
    `event_id`, `replay_id`. Start: one of `cursor`, `start_time`, `snapshot` (what is pending first). `cursor_file`
    holds the cursor from run to run; a start beside it is that of the first run. `until_idle`: the watch ends after so
    many seconds without a delivery, at least 1, while it is connected. `on_gap`: "raise" CursorExpired, or go on with a
    "snapshot".
    """

    customer_id: int
    webhook_ids: Iterable[int]
    event_types: Iterable[str]
    statuses: Iterable[str | delivery_pb2.DeliveryStatus.ValueType]
    event_id: str
    replay_id: int
    cursor: bytes
    start_time: datetime
    snapshot: bool
    cursor_file: Path | str
    until_idle: float
    on_gap: Literal["raise", "snapshot"]


def _request(fields: WatchFields) -> service_pb2.WatchDeliveriesRequest:
    heartbeat = min(_HEARTBEAT_SECONDS, max(1.0, fields.get("until_idle", _HEARTBEAT_SECONDS) / 2))
    request = service_pb2.WatchDeliveriesRequest(
        customer_id=fields.get("customer_id", 0),
        webhook_ids=fields.get("webhook_ids", ()),
        event_types=fields.get("event_types", ()),
        statuses=[_status(status) for status in fields.get("statuses", ())],
        event_id=fields.get("event_id", ""),
        replay_id=fields.get("replay_id", 0),
        heartbeat_interval=Duration(seconds=int(heartbeat)),
    )
    starts = [name for name in ("cursor", "start_time", "snapshot") if fields.get(name)]
    if len(starts) > 1:
        raise ValueError(f"one start, not {' and '.join(starts)}")
    if start_time := fields.get("start_time"):
        if start_time.tzinfo is None:
            raise ValueError("start_time has no time zone")
        request.start_time.FromDatetime(start_time)
    elif fields.get("snapshot"):
        request.snapshot = True
    return request


def _status(status: str | delivery_pb2.DeliveryStatus.ValueType) -> delivery_pb2.DeliveryStatus.ValueType:
    if not isinstance(status, str):
        return status
    return delivery_pb2.DeliveryStatus.Value(_STATUS_PREFIX + status.upper().removeprefix(_STATUS_PREFIX))


class Following:
    """The way of one watcher through the log."""

    def __init__(self, fields: WatchFields, now: float) -> None:
        """Raises ValueError for fields that contradict one another."""
        self._first = _request(fields)
        self._until_idle = fields.get("until_idle")
        self._goes_on_with_snapshot = fields.get("on_gap") == "snapshot"
        self._failures = 0
        self._delivered_at = now
        self.cursor = fields.get("cursor", b"")
        """After which message the watch goes on: everything up to it is finished."""

    def request(self) -> service_pb2.WatchDeliveriesRequest:
        """Returns the request that goes on after the cursor, or begins where the watch was to begin."""
        request = service_pb2.WatchDeliveriesRequest()
        request.CopyFrom(self._first)
        if self.cursor:
            request.cursor = self.cursor
        return request

    def received(self, message: service_pb2.WatchDeliveriesResponse, now: float) -> None:
        """Notes that a message came."""
        self._failures = 0
        if message.deliveries:
            self._delivered_at = now

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Moves the cursor behind a message whose deliveries are all finished. A snapshot has none until its end."""
        self.cursor = message.cursor or self.cursor

    def is_idle(self, now: float) -> bool:
        """Returns whether there was no delivery for as long as the caller wants to wait."""
        return self._until_idle is not None and now - self._delivered_at >= self._until_idle

    def failed(self, error: WebhookError, jitter: float) -> float:
        """Returns in how many seconds to watch again. Raises the error if that would not help."""
        if isinstance(error, CursorExpired) and self._goes_on_with_snapshot:
            self.cursor = b""
            self._first.snapshot = True
        elif not isinstance(error, Unavailable):
            raise error
        return self.ended(jitter, error.problem.retry_seconds)

    def ended(self, jitter: float, asked_seconds: float | None = None) -> float:
        """Returns in how many seconds to watch again after the stream ended."""
        self._failures += 1
        return pause_seconds(self._failures, asked_seconds, jitter)
