"""How fast each customer may publish."""

from __future__ import annotations

import time
from typing import Final

from webhook_grpc.domain.errors import Overloaded
from webhook_grpc.domain.limits import TokenBucket

_BUCKETS_MAX: Final = 10_000


class CustomerRates:
    """A token bucket for each of the customers that published last."""

    def __init__(self, rate_per_second: float) -> None:
        """`rate_per_second` 0 means no limit."""
        self._rate_per_second = rate_per_second
        self._buckets: dict[int, TokenBucket] = {}

    def take(self, customer_id: int) -> None:
        """Counts one event. Raises Overloaded if the customer publishes too fast."""
        if not self._rate_per_second:
            return
        now = time.monotonic()
        bucket = self._buckets.pop(customer_id, None) or TokenBucket.full(self._rate_per_second, now)
        self._buckets[customer_id] = bucket  # the one used last stands last
        if len(self._buckets) > _BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        if wait_seconds := bucket.take(1, now):
            raise Overloaded(
                "RATE_LIMITED",
                f"customer {customer_id} publishes more than {self._rate_per_second:g} events a second; retry later",
                wait_seconds,
            )
