"""What the service says of the temporary webhook: when it tries again, and that it is still there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from webhook_grpc_cli.output.look import span_text
from webhook_grpc_cli.session import Session
from webhook_grpc_cli.values import enum_words
from webhook_grpc_cli.watching.observing import ObservedStream
from webhook_grpc_client import Watcher, WebhookError
from webhook_grpc_client.connecting import Token

HEARTBEAT_SECONDS: Final = 5.0
SILENT_HEARTBEATS: Final = 2
_PENDING: Final = delivery_pb2.DELIVERY_STATUS_PENDING
_SUCCEEDED: Final = delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED


class Follower:
    """Watches the deliveries of one webhook on a thread of its own, until `close`."""

    def __init__(self, session: Session, webhook: webhook_pb2.Webhook, report: Callable[[str], None]) -> None:
        """`report` takes what a person should know of an attempt; it is called on the thread."""
        self._say = session.say
        self._report = report
        self._silence = Silence(time.monotonic())
        self._stream = ObservedStream(session.stub.WatchDeliveries, HEARTBEAT_SECONDS, self)
        self._watcher = Watcher(
            self._stream,
            Token(*session.place.token()),
            {"customer_id": webhook.customer_id, "webhook_ids": [webhook.webhook_id]},
        )
        self._thread = threading.Thread(target=self._follow, name="listen-watch", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for delivery in self._watcher:
                if text := what_comes_next(delivery):
                    self._report(text)
        except WebhookError as error:
            self._say(f"── what the service does next is not shown: {error.message} ──")

    def received(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Notes that the service is there."""
        del message
        if text := self._silence.heard(time.monotonic()):
            self._say(text)

    def finished(self, message: service_pb2.WatchDeliveriesResponse) -> None:
        """Does nothing: no cursor is kept."""

    def lost(self, gap: str) -> None:
        """Does nothing: a connection that comes back at once is no silence."""
        del gap

    def check(self) -> None:
        """Says so if the service has been silent for more than two heartbeats; opens a dead stream again."""
        self._stream.end_if_silent(time.monotonic())
        if text := self._silence.check(time.monotonic()):
            self._say(text)

    def close(self) -> None:
        """Ends the thread."""
        self._watcher.close()
        self._thread.join()


class Silence:
    """Notices a silence of more than two heartbeats, and its end. `now` is in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._is_said = False

    def heard(self, now: float) -> str:
        """Notes a message. Returns what to say if a silence ends with it."""
        silent, was_said = now - self._heard_at, self._is_said
        self._heard_at, self._is_said = now, False
        return f"── the service is back after {span_text(silent)} ──" if was_said else ""

    def check(self, now: float) -> str:
        """Returns what to say if a silence has become too long, once."""
        silent = now - self._heard_at
        if self._is_said or silent <= SILENT_HEARTBEATS * HEARTBEAT_SECONDS:
            return ""
        self._is_said = True
        return f"── the service has said nothing for {span_text(silent)}: nothing comes in until it is back ──"


def what_comes_next(delivery: delivery_pb2.Delivery) -> str:
    """Returns what the service does after a failed attempt, empty after any other change."""
    attempt = delivery.last_attempt
    if not delivery.HasField("last_attempt") or attempt.outcome == _SUCCEEDED:
        return ""
    outcome = enum_words(delivery_pb2.AttemptOutcome.DESCRIPTOR).get(attempt.outcome, str(attempt.outcome))
    what = f"answered {attempt.response_status}" if attempt.response_status else outcome
    if delivery.status != _PENDING:
        return f"{what}: that was the last attempt"
    wait = (delivery.next_attempt_time.ToDatetime() - delivery.update_time.ToDatetime()).total_seconds()
    return f"{what}: the service tries again in about {span_text(max(0.0, wait))}"
