"""Finds deliveries that could be sent and are not, for whatever reason: from memory, without a statement.

What waits for its webhook (paused, an open breaker, its rate, requests that are in flight, a retry), for its host, its
customer or for room in this process does not count: that is as it should be.
"""

from __future__ import annotations

from ..domain.progress import DELIVERIES, Cause, Progress, Service
from .dispatcher import Dispatcher


class Stillness:
    """Remembers since when each webhook could have been sent something, and was not."""

    def __init__(self, progress: Progress, dispatcher: Dispatcher) -> None:
        self._progress = progress
        self._dispatcher = dispatcher
        self._moving = progress.work("send what is due", Service.DELIVERY, words=DELIVERIES, patience_seconds=0.0)
        self._still: dict[int, tuple[int, float]] = {}  # of a webhook: starts so far, and since when there are no more

    def look(self, now: float) -> None:
        """Takes in what could be started now, in monotonic seconds."""
        at, before = self._progress.now, self._still
        self._still = {}
        for lane in self._dispatcher.startable(now):
            started_count, since = before.get(lane.webhook_id, (-1, at))
            is_still = started_count == lane.started_count
            self._still[lane.webhook_id] = (lane.started_count, since if is_still else at)
        still = [known for known, (_, since) in self._still.items() if at - since >= self._progress.stalled_seconds]
        if not still:
            self._moving.succeed()
            return
        why = self._dispatcher.why_not(now)
        self._moving.fail(Cause(f"{len(still)} webhooks, {still[0]} is one of them: {why}", kind=why))
