"""Token buckets: how many a second on average, with a burst."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

BUCKETS_MAX: Final = 10_000  # of one kind: of more keys, those that came last


@dataclass(slots=True)
class TokenBucket:
    """Refilled by the caller's clock; `now` is in monotonic seconds."""

    rate_per_second: float
    burst: float
    tokens: float
    refilled_at: float

    @classmethod
    def full(cls, rate_per_second: float, now: float) -> TokenBucket:
        """Returns a bucket that admits one second's worth at once."""
        burst = max(1.0, rate_per_second)
        return cls(rate_per_second, burst, burst, now)

    def take(self, count: int, now: float) -> float:
        """Takes `count` tokens and returns 0, or takes none and returns after how many seconds to try again.

        A full bucket admits any count, going into debt, so that a batch larger than the burst is possible.
        """
        self.refill(now)
        needed = min(float(count), self.burst)
        if self.tokens < needed:
            return (needed - self.tokens) / self.rate_per_second
        self.tokens -= count
        return 0.0

    def refill(self, now: float) -> None:
        """Adds the tokens of the time that has passed."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.refilled_at) * self.rate_per_second)
        self.refilled_at = now

    def is_full(self, now: float) -> bool:
        """Returns whether the bucket is as good as a new one."""
        self.refill(now)
        return self.tokens >= self.burst


class Buckets:
    """A token bucket for each key that came lately. `rate_per_second` 0 means no limit."""

    def __init__(self, rate_per_second: float) -> None:
        self.rate_per_second = rate_per_second
        self._buckets: dict[Hashable, TokenBucket] = {}

    def take(self, key: Hashable, now: float) -> float:
        """Takes one token and returns 0, or takes none and returns after how many seconds to try again."""
        if not self.rate_per_second:
            return 0.0
        bucket = self._buckets.pop(key, None) or TokenBucket.full(self.rate_per_second, now)
        self._buckets[key] = bucket  # the one used last stands last
        if len(self._buckets) > BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(1, now)

    def give_back(self, key: Hashable) -> None:
        """Gives back one token that was taken a moment ago: what it was taken for did not happen."""
        if bucket := self._buckets.get(key):
            bucket.tokens = min(bucket.burst, bucket.tokens + 1)
