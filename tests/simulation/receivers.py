"""What customers' endpoints do with a request."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome

SILENCE: Final = -1  # instead of a status: there is no answer in time
NO_CONNECTION: Final = 0

Answer = tuple[float, int, int | None]  # after how many seconds, the status, Retry-After


@dataclass(slots=True)
class Receiver:
    """An endpoint. Its outage is from when to when it is out."""

    behaviour: str
    outage: tuple[float, float] = (0.0, 0.0)

    def behave(self, now: float, faults_until: float, seeded: random.Random) -> Answer:
        """What it does with a request that comes now. Outages are over when faults are."""
        chance = seeded.random()
        quick = 0.005 + seeded.expovariate(20.0)
        is_out = self.outage[0] <= now < min(self.outage[1], faults_until)
        match self.behaviour:
            case "slow":
                return seeded.uniform(0.5, 1.9), 200, None
            case "flaky" if chance < 0.45:
                return _trouble(chance / 0.45, quick)
            case "down":
                return quick, 500, None
            case "hang":
                return 60.0, SILENCE, None
            case "outage" if is_out:
                return (quick, 503, None) if self.outage[0] % 1 < 0.5 else (60.0, SILENCE, None)
            case "overloaded" if chance < 0.3:
                return quick, 429, seeded.choice((None, 2, 7))
            case "busy" if chance < 0.3:
                return quick, 503, seeded.choice((1, 10, 40))
            case "gone" if is_out:
                return quick, 410, None
            case _:
                return quick, 200, None


def result_of(status: int, retry_after: int | None, started: datetime, latency_ms: int) -> AttemptResult:
    """What the sender makes of an answer."""
    if status == SILENCE:
        return AttemptResult(Outcome.TIMEOUT, started, latency_ms, FailureReason.TIMEOUT)
    if status == NO_CONNECTION:
        return AttemptResult(Outcome.CONNECTION_ERROR, started, latency_ms, FailureReason.CONNECTION_FAILED)
    if status < 300:
        return AttemptResult(Outcome.SUCCEEDED, started, latency_ms, FailureReason.NONE, status, b"ok")
    reason = FailureReason.GONE if status == 410 else FailureReason.STATUS
    retry = None if retry_after is None else str(retry_after)
    return AttemptResult(Outcome.HTTP_ERROR, started, latency_ms, reason, status, b"", retry)


def _trouble(chance: float, quick: float) -> Answer:
    if chance < 0.9:
        return quick, 500 if chance < 0.5 else 404 if chance < 0.7 else NO_CONNECTION, None
    return (quick, 404, 12) if chance < 0.96 else (60.0, SILENCE, None)
