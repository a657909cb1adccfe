"""How many requests a process may have in flight in its first seconds: few, and twice as many at each step.

A fleet that is restarted with a backlog would otherwise start everything at once: its connections, its statements, its
customers' receivers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST: Final = 16
DOUBLING_SECONDS: Final = 0.2


@dataclass(slots=True)
class Ramp:
    """Begins when the process takes over work. Times are monotonic seconds."""

    began_at: float
    first: int = FIRST
    doubling_seconds: float = DOUBLING_SECONDS

    def limit(self, limit: int, now: float) -> int:
        """Returns how much of the limit may be used."""
        return min(limit, self.first << self._steps(now))

    def next_step_at(self, limit: int, now: float) -> float | None:
        """Returns when more may be used, None if all may be."""
        if self.limit(limit, now) >= limit:
            return None
        return self.began_at + (self._steps(now) + 1) * self.doubling_seconds

    def _steps(self, now: float) -> int:
        return min(30, max(0, int((now - self.began_at) / self.doubling_seconds)))
