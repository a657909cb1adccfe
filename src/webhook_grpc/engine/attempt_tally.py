"""Counts of what this process has sent and settled, for /metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from webhook_grpc.domain.command import Command
from webhook_grpc.domain.model import AttemptResult, DeliveryStatus, DisableReason, Outcome, Trigger
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.domain.tally import LONG_SECONDS, SECONDS, SIZES, Histogram
from webhook_grpc.store.clock import DatabaseClock
from webhook_grpc.store.outbox.execution import Executed

from .unsettled import EndedTurn


class AttemptTally:
    """Counts each result and each ending once, when the database has answered for it. Only the engine adds to it.

    The times from the publication on are those of deliveries that the schedule sends: a redelivery or a replay begins
    later, when somebody wants it.
    """

    def __init__(self, clock: DatabaseClock) -> None:
        self._clock = clock
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.endings = {status: 0 for status in DeliveryStatus if status is not DeliveryStatus.PENDING}
        self.disabled = dict.fromkeys(DisableReason, 0)
        self.attempt_seconds = Histogram(SECONDS)
        self.first_attempt_seconds = Histogram(LONG_SECONDS)
        self.ending_seconds = Histogram(LONG_SECONDS)
        self.settle_sizes = Histogram(SIZES)
        self.command_sizes = Histogram(SIZES)

    def settled(self, batch: Sequence[EndedTurn]) -> None:
        """Counts the results of one statement."""
        now = self._clock.now()
        self.settle_sizes.add(len(batch))
        for ended in batch:
            self._add(ended.settlement, now)

    def executed(self, batch: Sequence[Command], executed: Sequence[Executed]) -> None:
        """Counts the commands of one statement: tests are attempts too, and a cancellation is an ending."""
        self.command_sizes.add(len(batch))
        for command in batch:
            if command.result is not None:
                self._add_result(command.result)
        for change in executed:
            if change.status in self.endings:
                self.endings[change.status] += 1

    def webhook_disabled(self, reason: DisableReason) -> None:
        """Counts a webhook that was disabled because of its receiver."""
        self.disabled[reason] += 1

    def _add(self, settlement: Settlement, now: datetime) -> None:
        delivery, status, result = settlement.delivery, settlement.decision.status, settlement.result
        is_scheduled = delivery.trigger is Trigger.SCHEDULED
        if result is not None:
            self._add_result(result)
            if is_scheduled and not delivery.attempt:
                self.first_attempt_seconds.add((result.start_time - delivery.event_create_time).total_seconds())
        if status is not DeliveryStatus.PENDING:
            self.endings[status] += 1
            if is_scheduled:
                self.ending_seconds.add((now - delivery.event_create_time).total_seconds())

    def _add_result(self, result: AttemptResult) -> None:
        self.outcomes[result.outcome] += 1
        self.attempt_seconds.add(result.latency_ms / 1000)
