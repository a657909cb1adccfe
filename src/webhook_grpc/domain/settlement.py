"""What became of a delivery, before it is written to the database."""

from __future__ import annotations

from .model import AttemptResult, FailureReason, PendingDelivery
from .record import record
from .retry import Decision


@record
class Settlement:
    """A delivery, what was decided, and the attempt that led to it (None if it ended without one)."""

    delivery: PendingDelivery
    decision: Decision
    result: AttemptResult | None
    own_headers: tuple[str, ...] = ()  # names of the webhook's own headers that were sent

    @property
    def shard(self) -> int:
        """The shard whose owner settles it."""
        return self.delivery.shard

    @property
    def is_interrupted(self) -> bool:
        """Whether a process died during the attempt: perhaps of it."""
        return self.result is not None and self.result.reason is FailureReason.INTERRUPTED
