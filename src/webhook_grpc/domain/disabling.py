"""When a webhook is disabled because its receiver has done nothing but fail, and the record of failures behind it.

One answer that disables a webhook at once (410 Gone) is decided in retry.py. Times are monotonic
seconds of the caller's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .model import DisableReason
from .record import record

_DAY_SECONDS: Final = 86_400.0
_COUNT_MAX: Final = 1_000_000


@record
class DisablePolicy:
    """When a webhook is disabled: after days of nothing but failures, or when its address is a blocked one."""

    failing_seconds: float = 5 * _DAY_SECONDS
    failures_min: int = 20
    blocked_count: int = 3
    blocked_apart_seconds: float = 600.0


@dataclass(slots=True)
class FailureRecord:
    """The failures since the last success."""

    failing_since: float | None = None
    failure_count: int = 0
    blocked_count: int = 0
    blocked_at: float | None = None

    @property
    def has_any(self) -> bool:
        """Returns whether there is a failure."""
        return self.failure_count > 0 or self.blocked_count > 0 or self.failing_since is not None

    def failed(self, now: float) -> None:
        """Counts a failure."""
        if self.failing_since is None:
            self.failing_since = now
        self.failure_count = min(self.failure_count + 1, _COUNT_MAX)

    def blocked(self, now: float, apart_seconds: float) -> None:
        """Counts a blocked address. Those in quick succession count once: a name may be wrong for a moment."""
        if self.blocked_at is None or now - self.blocked_at >= apart_seconds:
            self.blocked_count += 1
            self.blocked_at = now

    def verdict(self, policy: DisablePolicy, now: float) -> DisableReason | None:
        """Returns why the webhook should be disabled, None if it should not."""
        if self.blocked_count >= policy.blocked_count:
            return DisableReason.BLOCKED
        if self.failing_since is None or self.failure_count < policy.failures_min:
            return None
        return DisableReason.FAILING if now - self.failing_since >= policy.failing_seconds else None
