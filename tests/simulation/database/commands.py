"""Commands: what customers ask for, and what carrying it out does."""

from __future__ import annotations

from dataclasses import dataclass

from webhook_grpc.domain.command import Command, Kind
from webhook_grpc.domain.model import DeliveryStatus
from webhook_grpc.store.outbox import commands, execution

from .results import refuse_if_any, result_of
from .statements import Params, Row, Statement, fence_of, reads, rows_of, writes
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Commands:
    """The statements of `store.commands` and `store.execution` that the engine runs."""

    stored: Stored

    def statements(self) -> dict[str, Statement]:
        return {commands.SELECT_WAITING_COMMANDS: reads(self._waiting), execution.EXECUTE: writes(self._execute)}

    def _waiting(self, params: Params) -> list[Row]:
        now = self.stored.model.now
        rows = self.stored.model.waiting(params["shards"], params["limit"])
        return [(*row[:4], (now - row.created_at).total_seconds()) for row in rows]

    def _execute(self, params: Params) -> list[Row]:
        worker, owned = fence_of(params)
        refuse_if_any(self.stored.refused, params)
        batch = [
            Command(Kind(kind), webhook_id, event_id, 0, 0.0, status and DeliveryStatus(status), result_of(params, at))
            for at, (kind, webhook_id, event_id, status) in enumerate(
                rows_of(params, "command", "webhook_id", "event_id", "status")
            )
        ]
        self._check_rows(batch)
        answer = self.stored.model.execute(worker, owned, batch)
        count = params["shard_count"] if answer.ours else -1
        self.stored.logged(answer.logged, by_command=True)
        return [
            (count, None, None, None, None, None),
            *((count, row.shard, row.seq, row.webhook_id, row.event_id, row.status.value) for row in answer.logged),
        ]

    def _check_rows(self, batch: list[Command]) -> None:
        """The statement finds a delivery in the outbox by the time that the log says."""
        for command in batch:
            key = command.webhook_id, command.event_id
            row, standing = self.stored.model.row(key), self.stored.model.standing(key)
            if row is not None and (standing is None or row.due_at != standing.next_due_at):
                self.stored.on_wrong(f"a row of the outbox that the log does not lead to: {row}, {standing}")
