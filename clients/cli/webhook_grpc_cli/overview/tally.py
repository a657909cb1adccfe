"""Counts attempts as they come in, per webhook. Pure; times are in monotonic seconds unless they are datetimes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from webhook.v1 import delivery_pb2

from webhook_grpc_cli.values import plain

WEBHOOKS_MAX: Final = 1000
ROUNDS_SHOWN: Final = 25
CHANGES_SHOWN: Final = 3  # the last ones of a webhook that is opened


@dataclass(slots=True)
class _Counted:
    count: int = 0
    failed_count: int = 0
    problem: dict[str, Any] | None = None
    last: deque[delivery_pb2.Delivery] = field(default_factory=lambda: deque(maxlen=CHANGES_SHOWN))


@dataclass(frozen=True, slots=True)
class Rate:
    """What the stream says of one webhook: attempts of the last round, and the last attempt that failed."""

    per_second: float = 0.0
    failed_count: int = 0
    last_problem: dict[str, Any] | None = None


class Tally:
    """Counts attempts of at most WEBHOOKS_MAX webhooks: beyond them the one that came first is forgotten."""

    def __init__(self, now: float) -> None:
        self._counted: dict[int, _Counted] = {}
        self._round_at = now
        self.totals: deque[float] = deque(maxlen=ROUNDS_SHOWN)
        """Attempts per second of all webhooks, of each round. Only `end_round` writes them."""

    def note(self, delivery: delivery_pb2.Delivery) -> None:
        """Keeps a change for who wants to see it, and counts it if that is an attempt."""
        self._of(delivery.webhook_id).last.append(delivery)
        if not delivery.HasField("last_attempt"):
            return
        counted = self._of(delivery.webhook_id)
        counted.count += 1
        if delivery.last_attempt.outcome != delivery_pb2.ATTEMPT_OUTCOME_SUCCEEDED:
            attempt = plain(delivery.last_attempt)
            at = delivery.update_time.ToDatetime(UTC).isoformat()
            counted.failed_count += 1
            counted.problem = {
                "time": at,
                "outcome": attempt.get("outcome"),
                "response_status": attempt.get("response_status"),
            }

    def last_of(self, webhook_id: int) -> Sequence[delivery_pb2.Delivery]:
        """Returns the last changes of a webhook's deliveries, the newest first."""
        counted = self._counted.get(webhook_id)
        return list(reversed(counted.last)) if counted else []

    def end_round(self, now: float) -> dict[int, Rate]:
        """Returns what each webhook's attempts of the round came to, and begins the next round."""
        seconds = max(now - self._round_at, 1e-3)
        self._round_at = now
        self.totals.append(sum(one.count for one in self._counted.values()) / seconds)
        rates = {
            webhook_id: Rate(one.count / seconds, one.failed_count, one.problem)
            for webhook_id, one in self._counted.items()
        }
        for one in self._counted.values():
            one.count = one.failed_count = 0
        return rates

    def _of(self, webhook_id: int) -> _Counted:
        if webhook_id not in self._counted and len(self._counted) >= WEBHOOKS_MAX:
            del self._counted[next(iter(self._counted))]
        return self._counted.setdefault(webhook_id, _Counted())


def behind_seconds(newest: datetime, server: datetime) -> float:
    """Returns how far a stream is behind: the age of its newest change on the server's clock, never below 0."""
    return max(0.0, (server - newest).total_seconds())
