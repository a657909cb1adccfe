"""When a process that ended is started again, and when that is given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .record import record

SECONDS_MIN: Final = 0.1
SECONDS_MAX: Final = 30.0
STARTS_MAX: Final = 5
_LASTED_SECONDS: Final = 60.0  # a process that served for so long begins with the shortest pause


@record
class RestartPolicy:
    """Pauses from `seconds_min`, doubled up to `seconds_max`; `starts_max` failed starts in a row are too many."""

    seconds_min: float = SECONDS_MIN
    seconds_max: float = SECONDS_MAX
    starts_max: int = STARTS_MAX


@dataclass(slots=True)
class Restarts:
    """How often one process was started, and how that went. Only its parent writes."""

    count: int = 0  # starts beside the first
    failed_starts: int = 0  # in a row
    short_lives: int = 0  # in a row

    def note_end(self, served_seconds: float | None) -> None:
        """Notes that the process ended: after how long of serving, or None if it never served."""
        self.failed_starts = self.failed_starts + 1 if served_seconds is None else 0
        lasted = served_seconds is not None and served_seconds >= _LASTED_SECONDS
        self.short_lives = 0 if lasted else self.short_lives + 1

    def pause_seconds(self, policy: RestartPolicy) -> float:
        """Returns how long to wait before the next start."""
        doublings = min(max(0, self.short_lives - 1), 40)
        return min(policy.seconds_max, policy.seconds_min * 2**doublings)

    def are_too_many(self, policy: RestartPolicy) -> bool:
        """Returns whether the process has failed to start too often in a row."""
        return self.failed_starts >= policy.starts_max
