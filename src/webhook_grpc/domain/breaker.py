"""The circuit breaker of one webhook: a receiver that is down is left alone, and costs its deliveries no attempts.

Closed, all is well. It opens when the receiver looks down; while it is open everything that is due waits. From time to
time one delivery is sent as a probe, less and less often. When a probe is answered the breaker is half-open: one
request at a time, then two, then four, until the webhook's own limit is reached and it is closed. So neither a receiver
that hangs nor one that has just come back is buried in requests. Times are monotonic seconds of the caller's clock.

Half-open it is judged by the same share as closed, or a receiver that answers four of five could never be closed: an
answer is a step up of 1, a failure a step down of so much that a receiver which fails just as often as would open a
closed breaker gets nowhere. See docs/decisions/0022-breaker-by-share.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from .record import record
from .window import Window

_WINDOW_SLICES: Final = 10
_ROUNDING: Final = 1e-6  # of a score, which is a sum of fractions
_FAILURES_AT_ONE_SLOT: Final = 2  # in a row, and it is still tried with one request at a time; more than these open it


class BreakerState(StrEnum):
    """Whether requests pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@record
class BreakerPolicy:
    """When a receiver is taken to be down, and how it is tried again."""

    consecutive_failures: int = 10
    failure_share: float = 0.7
    window_attempts_min: int = 20
    window_seconds: float = 300.0
    probe_seconds_min: float = 30.0
    probe_seconds_max: float = 3600.0
    successes_per_step: int = 5


@dataclass(slots=True)
class Breaker:
    """The state of one webhook. The sender reads `slots` and reports each result with `answered` or `failed`."""

    policy: BreakerPolicy
    state: BreakerState = BreakerState.CLOSED
    probe_at: float = 0.0
    probe_count: int = 0  # times that it opened since it was closed, less the answers since
    _opened_at: float = -math.inf
    _score: float = 0.0  # half-open: what answers have brought, less what failures have cost
    _consecutive: int = 0
    _attempts: Window = field(init=False)
    _failures: Window = field(init=False)

    def __post_init__(self) -> None:
        self._forget()

    def slots(self, limit: int, now: float) -> int:
        """Returns how many requests may be in flight now, of the `limit` that the webhook allows."""
        if self.state is BreakerState.CLOSED:
            return limit
        if self.state is BreakerState.HALF_OPEN:
            return min(self._allowed, limit)
        return 1 if now >= self.probe_at else 0

    def answered(self, limit: int, now: float) -> None:
        """Takes in that the receiver answered, with whatever status: it is there."""
        self._consecutive = 0
        self._attempts.add(now)
        if self.state is BreakerState.CLOSED:
            return
        self.probe_count = max(0, self.probe_count - 1)
        if self.state is BreakerState.OPEN:
            self.half_open()
        else:
            self._step_up(limit)

    def failed(self, now: float, jitter: float, *, started_at: float = math.inf) -> bool:
        """Takes in a failure as of a receiver that is down, and returns whether the breaker opened.

        `jitter` is uniform in [0, 1). A request that was started before the breaker opened says nothing about the time
        since.
        """
        if self.state is not BreakerState.CLOSED and started_at < self._opened_at:
            return False
        if self.state is BreakerState.OPEN and now < self.probe_at:
            return False
        if self.state is not BreakerState.OPEN and not self._looks_down(now) and not self._step_down():
            return False
        self._open(now, jitter)
        return True

    def half_open(self) -> None:
        """Lets one request at a time through, and more when they are answered."""
        self.state = BreakerState.HALF_OPEN
        self._score = 0.0
        self._forget()

    def _looks_down(self, now: float) -> bool:
        self._consecutive += 1
        self._attempts.add(now)
        self._failures.add(now)
        if self._consecutive >= self.policy.consecutive_failures:
            return True
        attempts = self._attempts.total(now)
        if attempts < self.policy.window_attempts_min:
            return False
        return self._failures.total(now) >= self.policy.failure_share * attempts

    def _open(self, now: float, jitter: float) -> None:
        doublings = min(self.probe_count, 30)  # beyond that the upper bound holds anyway
        seconds = min(self.policy.probe_seconds_min * 2**doublings, self.policy.probe_seconds_max)
        self.state = BreakerState.OPEN
        self.probe_at = now + seconds * (0.8 + 0.4 * jitter)
        self._opened_at = now
        self.probe_count += 1

    @property
    def _allowed(self) -> int:
        """One request at a time, and twice as many for each step that has been climbed."""
        return 2 ** int(max(0.0, self._score + _ROUNDING) / self.policy.successes_per_step)

    def _step_up(self, limit: int) -> None:
        self._score += 1
        if self._score + _ROUNDING >= self.policy.successes_per_step and self._allowed >= limit:
            self.state = BreakerState.CLOSED
            self.probe_count = 0
            self._forget()

    def _step_down(self) -> bool:
        """Takes back what a failure costs. True if too little is left to go on: it has failed at one slot as well."""
        if self.state is BreakerState.CLOSED:
            return False
        share = self.policy.failure_share
        cost = (1 - share) / share
        self._score -= cost
        return self._score + _ROUNDING < -_FAILURES_AT_ONE_SLOT * cost

    def _forget(self) -> None:
        self._consecutive = 0
        self._attempts = Window(self.policy.window_seconds, _WINDOW_SLICES)
        self._failures = Window(self.policy.window_seconds, _WINDOW_SLICES)
