"""Finds deliveries that could be sent and are not, whatever the reason: from memory, without a statement.

A delivery that waits for its webhook (paused, an open breaker, its rate, requests in flight, a retry), for its host,
its customer or for room in this process does not count: it should wait.
"""

from __future__ import annotations

from typing import Final

from webhook_grpc.domain.progress import DELIVERIES, Cause, Progress, Service
from webhook_grpc.domain.record import record
from webhook_grpc.engine.dispatcher import Dispatcher

_TURNS_BORNE: Final = 4  # webhooks take turns: with very many of them the last waits for all others


@record
class _Still:
    """Since when a webhook could have been sent something, and the counts of that moment."""

    started_count: int  # of the webhook
    since: float
    all_started_count: int
    startable_count: int

    def waits_its_turn(self, all_started_count: int) -> bool:
        """Returns whether other webhooks were sent something since, and not yet many times each."""
        return 0 < all_started_count - self.all_started_count <= _TURNS_BORNE * self.startable_count


class Stillness:
    """Remembers since when each webhook could have been sent something, and was not."""

    def __init__(self, progress: Progress, dispatcher: Dispatcher) -> None:
        self._progress = progress
        self._dispatcher = dispatcher
        self._moving = progress.work("send what is due", Service.DELIVERY, words=DELIVERIES, patience_seconds=0.0)
        self._still: dict[int, _Still] = {}

    def look(self, now: float) -> None:
        """Takes in what could be started now, in monotonic seconds."""
        at, before, total = self._progress.now, self._still, self._dispatcher.started_count
        startable = list(self._dispatcher.startable(now))
        self._still = {}
        for lane in startable:
            known = before.get(lane.webhook_id)
            if known is None or known.started_count != lane.started_count:
                known = _Still(lane.started_count, at, total, len(startable))
            self._still[lane.webhook_id] = known
        still = [
            webhook_id
            for webhook_id, known in self._still.items()
            if at - known.since >= self._progress.stalled_seconds and not known.waits_its_turn(total)
        ]
        if not still:
            self._moving.succeed()
            return
        why = self._dispatcher.why_not(now)
        self._moving.fail(Cause(f"{len(still)} webhooks, {still[0]} is one of them: {why}", kind=why))
