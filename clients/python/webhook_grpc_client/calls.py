"""How often a call is made, and with what: the same for threads and for asyncio. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .backoff import pause_seconds
from .errors import Unavailable, WebhookError

BATCH_SECONDS_MAX: Final = 30.0  # for one try: as long as the service takes for a call at most


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try of a call may take, and for how long a call that may be repeated is tried."""

    try_seconds: float = 10.0
    seconds: float = 60.0


class Tries:
    """The tries of one call. `now` is in monotonic seconds."""

    def __init__(self, patience: Patience, now: float, *, may_repeat: bool) -> None:
        self._until = now + patience.seconds
        self._may_repeat = may_repeat
        self._failures = 0

    def failed(self, error: WebhookError, now: float, jitter: float) -> float:
        """Returns in how many seconds to try again. Raises the error if that would not help, or is not allowed."""
        self._failures += 1
        pause = pause_seconds(self._failures, error.problem.retry_seconds, jitter)
        if not (isinstance(error, Unavailable) and self._may_repeat and now + pause < self._until):
            raise error
        return pause
