"""How fast a webhook may be sent requests: its own limit, and less for a while after its receiver said 429.

Multiplicative decrease, additive increase (Chiu and Jain 1989, as in TCP): each 429 halves the rate, which then grows
back in a straight line. A webhook without a limit of its own is taken to have had the rate at which it was lately sent
requests. Times are monotonic seconds of the caller's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from .record import record
from .token_buckets import TokenBucket
from .window import Window

_METER_SECONDS: Final = 10.0
_METER_SLICES: Final = 10
_METERED_RATE_MIN: Final = 1.0
_RATE_MIN: Final = 0.1


@record
class Slowdown:
    """What 429 answers have done to a rate: for how many seconds more, what it was cut to, what it grows back to."""

    seconds: float
    rate: float
    ceiling: float


@dataclass(slots=True)
class Throttle:
    """Exact, because a webhook has one owner. A new owner begins with no tokens: a hand-over is no second burst."""

    recovery_seconds: float
    bucket: TokenBucket
    own_rate: float | None = None
    _ceiling: float = 0.0  # what the rate grows back to
    _rate_after_cut: float = 0.0
    _cut_at: float = -math.inf
    _starts: Window = field(default_factory=lambda: Window(_METER_SECONDS, _METER_SLICES))

    @classmethod
    def since(cls, owned_since: float, recovery_seconds: float) -> Throttle:
        """Returns the throttle of a webhook that this process has owned since then."""
        return cls(recovery_seconds, TokenBucket(1.0, 1.0, 0.0, owned_since))

    def rate(self, now: float) -> float | None:
        """Returns how many requests a second may be started now, None if there is no limit."""
        since_cut = now - self._cut_at
        if since_cut >= self.recovery_seconds:
            return self.own_rate
        grown = (self._ceiling - self._rate_after_cut) * since_cut / self.recovery_seconds
        slowed = self._rate_after_cut + grown
        return slowed if self.own_rate is None else min(slowed, self.own_rate)

    def wait_seconds(self, now: float) -> float:
        """Returns after how many seconds the next request may be started; 0: now."""
        rate = self.rate(now)
        if rate is None:
            return 0.0
        self._fill(rate, now)
        missing = 1.0 - self.bucket.tokens
        return missing / rate if missing > 1e-9 else 0.0

    def started(self, now: float) -> None:
        """Takes in that a request was started."""
        self._starts.add(now)
        rate = self.rate(now)
        if rate is not None:
            self._fill(rate, now)
            self.bucket.tokens -= 1.0

    def overloaded(self, started_at: float, now: float) -> None:
        """Takes in that a request that was started at `started_at` was answered with 429.

        What was started before the last cut says nothing about the rate since: a volley of answers is one cut.
        """
        if started_at < self._cut_at:
            return
        rate = self.rate(now)
        if rate is None:
            rate = max(self._starts.total(now) / _METER_SECONDS, _METERED_RATE_MIN)
        if now - self._cut_at >= self.recovery_seconds:
            self._ceiling = rate
        self._rate_after_cut = max(rate / 2, _RATE_MIN)
        self._cut_at = now
        self.bucket = TokenBucket(self._rate_after_cut, 1.0, 0.0, now)

    @property
    def cut_at(self) -> float:
        """When the rate was last cut; minus infinity if it never was."""
        return self._cut_at

    def slowdown(self, now: float) -> Slowdown | None:
        """Returns how the webhook is slowed down, None if it is not."""
        since_cut = now - self._cut_at
        if since_cut >= self.recovery_seconds:
            return None
        return Slowdown(self.recovery_seconds - since_cut, self._rate_after_cut, self._ceiling)

    def slow_down(self, slowdown: Slowdown, now: float) -> None:
        """Goes on with the slow-down that another process has saved."""
        self._cut_at = now - max(0.0, self.recovery_seconds - slowdown.seconds)
        self._rate_after_cut, self._ceiling = slowdown.rate, slowdown.ceiling

    def forget(self) -> None:
        """Forgets what was learnt from 429 answers."""
        self._cut_at = -math.inf

    def is_idle(self, now: float) -> bool:
        """Returns whether nothing would be lost if the throttle were dropped and made again."""
        return self.slowdown(now) is None and (self.own_rate is None or self.bucket.is_full(now))

    def _fill(self, rate: float, now: float) -> None:
        self.bucket.refill(now)  # at the rate until now
        self.bucket.rate_per_second = rate
        self.bucket.burst = max(1.0, rate)
