"""What happens when the database has answered for turns: they end, and the log has one line for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import structlog

from webhook_grpc.domain.ids import delivery_id_text
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.queue.due_hints import DueHints
from webhook_grpc.engine.queue.intake import Starter
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.queue.stale_rows import StaleRows
from webhook_grpc.hub.hints import Hints

from .attempt_tally import AttemptTally
from .poison import PoisonGuard
from .unsettled import EndedTurn

attempt_log = structlog.get_logger("webhook_grpc.attempt")

_ALARM_SECONDS_MAX: Final = 30.0  # what is due later is found by looking
_ALARM_MARGIN_SECONDS: Final = 0.02


class SettledTurns:
    """Ends turns: the listener of `Settler` for results."""

    def __init__(
        self,
        lanes: Lanes,
        stale_rows: StaleRows,
        poison: PoisonGuard,
        due_hints: DueHints,
        starter: Starter,
        hints: Hints,
        tally: AttemptTally,
    ) -> None:
        self._lanes = lanes
        self._stale_rows = stale_rows
        self._poison = poison
        self._due_hints = due_hints
        self._starter = starter
        self._hints = hints
        self._tally = tally

    def note_settled(self, batch: Sequence[EndedTurn]) -> None:
        """Ends turns for whose results the database has answered."""
        now = time.monotonic()
        self._poison.forget_written(ended.turn.delivery for ended in batch)
        for ended in batch:
            self._stale_rows.add(ended.turn.delivery.key)
            self._set_alarm(ended.settlement, now)
            self._lanes.release(ended.turn)
            if self._lanes.is_hungry(ended.turn.lane, now):
                self._due_hints.wake()
            _log_attempt(ended.settlement)
        self._tally.settled(batch)
        self._starter.start_soon()
        self._hints.logged()

    def put_back(self, batch: Sequence[EndedTurn]) -> None:
        """Ends turns whose results are not written: the owner of the shard reads their rows again, and sends again."""
        for ended in batch:
            self._lanes.put_back(ended.turn)

    def _set_alarm(self, settlement: Settlement, now: float) -> None:
        seconds = settlement.decision.retry_in_seconds
        if seconds is not None and seconds < _ALARM_SECONDS_MAX:
            self._lanes.set_alarm(settlement.delivery.webhook_id, now + seconds + _ALARM_MARGIN_SECONDS)


def _log_attempt(settlement: Settlement) -> None:
    """Writes the one line that an attempt leaves in the log. Never a URL, a header or a body."""
    delivery, result, decision = settlement.delivery, settlement.result, settlement.decision
    attempt_log.info(
        "attempt",
        delivery_id=delivery_id_text(delivery.event_id, delivery.webhook_id),
        customer_id=delivery.customer_id,
        webhook_id=delivery.webhook_id,
        event_type=delivery.event_type,
        attempt_number=delivery.attempt + (result is not None),
        outcome=result.outcome.value if result else None,
        response_status=result.response_status if result else None,
        latency_ms=result.latency_ms if result else None,
        status=decision.status.value,
        retry_in_seconds=None if decision.retry_in_seconds is None else round(decision.retry_in_seconds, 3),
    )
