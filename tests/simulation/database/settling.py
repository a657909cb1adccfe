"""Results of attempts: the log they are written to, and the outbox they change."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_grpc.domain.model import Danger, DeliveryStatus, PendingDelivery, Trigger
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.outbox import settlement

from .results import refuse_if_any, result_of
from .statements import Params, Row, Statement, fence_of, writes
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Settling:
    """The statement of `store.settlement`: all of a batch, or nothing if a shard is not owned or a value refused."""

    stored: Stored

    def statements(self) -> dict[str, Statement]:
        return {settlement.SETTLE: writes(self._settle)}

    def _settle(self, params: Params) -> list[Row]:
        worker, owned = fence_of(params)
        refuse_if_any(self.stored.refused, params)
        batch = [self._item(params, at) for at in range(len(params["event_id"]))]
        for item in batch:
            row = self.stored.model.as_it_was(item.delivery)
            if row is not None and item.delivery.trigger != (row.trigger or Trigger.SCHEDULED):
                self.stored.on_wrong(f"settled as {item.delivery.trigger}: {row}")
        answer = self.stored.model.settle(worker, owned, batch)
        self.stored.logged(answer.logged)
        count = params["shard_count"] if answer.ours else -1
        numbers = [row.shard for row in answer.logged]
        return [
            (count, None, None, 1),
            *((count, shard, last_seq, numbers.count(shard)) for shard, last_seq in answer.last_seqs.items()),
        ]

    @staticmethod
    def _item(params: Params, at: int) -> Settlement:
        names = ("webhook_id", "event_id", "due_at", "attempt", "event_type", "event_created_at", "trigger")
        webhook_id, event_id, due_at, attempt, event_type, create_time, trigger = (params[name][at] for name in names)
        delivery = PendingDelivery(
            webhook_id, event_id, due_at, 0, attempt, event_type, create_time, b"",
            Danger(params["danger"][at]), trigger=Trigger(trigger), replay_id=params["replay_id"][at],
        )  # fmt: skip
        decision = Decision(DeliveryStatus(params["status"][at]), params["retry_in"][at])
        return Settlement(delivery, decision, result_of(params, at))
