"""Results of attempts: the log they are written to, and the outbox they change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.store.outbox import settlement

from .tables import OFF, Logged, Params, Row, Statement, Tables, writes


@dataclass(frozen=True, slots=True)
class Settling:
    """The statement of `store.decision`: all of a batch, or nothing if a shard is not owned or a value refused."""

    tables: Tables

    def statements(self) -> dict[str, Statement]:
        return {settlement.SETTLE: writes(self._settle)}

    def _settle(self, params: Params, began_at: datetime) -> list[Row]:
        owned = owned_of(self.tables, params)
        if len(owned) < params["shard_count"]:
            return [(len(owned), None, None, 1)]
        names = (
            "shard", "webhook_id", "due_at", "event_id", "attempt", "status", "attempt_count", "retry_in", "outcome",
            "reason", "response_status", "danger", "trigger",
        )  # fmt: skip
        items = [
            dict[str, Any](zip(names, item, strict=True))
            for item in zip(*(params[name] for name in names), strict=True)
        ]
        if any(item["event_id"] in self.tables.refused and item["outcome"] is not None for item in items):
            raise errors.UntranslatableCharacter("the database refuses this value")
        counts: dict[int, int] = defaultdict(int)
        logged: list[Logged] = []
        for item in items:
            if not self._is_as_it_was(item):
                continue
            shard, webhook_id, event_id = item["shard"], item["webhook_id"], item["event_id"]
            retry_in = item["retry_in"]
            next_due_at = None if retry_in is None else began_at + timedelta(seconds=retry_in)
            counts[shard] += 1
            row = Logged(
                owned[shard] + counts[shard], began_at, webhook_id, event_id, item["status"], item["attempt_count"],
                next_due_at, item["outcome"], item["reason"], item["response_status"], item["trigger"],
            )  # fmt: skip
            logged.append(row)
            if next_due_at is None:
                del self.tables.deliveries[webhook_id][event_id]
            else:
                pending = self.tables.deliveries[webhook_id][event_id]
                pending.due_at, pending.attempt = next_due_at, item["attempt_count"]
                pending.danger = int(item["danger"])
        write_log(self.tables, logged)
        total = [(len(owned), None, None, 1)]
        return total + [(len(owned), shard, owned[shard] + count, count) for shard, count in counts.items()]

    def _is_as_it_was(self, item: Params) -> bool:
        row = self.tables.deliveries[item["webhook_id"]].get(item["event_id"])
        if row is None or row.due_at != item["due_at"] or row.attempt != item["attempt"]:
            return False
        if item["trigger"] != (row.trigger or "scheduled"):
            self.tables.on_wrong(f"settled as {item['trigger']}: {row}")
        if item["retry_in"] is None and item["status"] == "cancelled" and item["outcome"] is None:
            return self.tables.webhooks[item["webhook_id"]].status in OFF
        return True


def owned_of(tables: Tables, params: Params) -> dict[int, int]:
    """Which of the shards are still those of the caller, at its epochs, and how far it says that their logs reach."""
    return {
        number: last_seq
        for number, epoch, last_seq in zip(params["shards"], params["epochs"], params["last_seqs"], strict=True)
        if tables.shard(number).owner == params["worker"] and tables.shard(number).epoch == epoch
    }


def write_log(tables: Tables, rows: list[Logged]) -> None:
    """Appends rows to the logs of their shards."""
    for row in rows:
        tables.log[shard_of(row.webhook_id)].append(row)
        words = row.webhook_id, row.event_id, row.seq, row.status, row.attempt_count, row.reason, row.trigger
        tables.note("logged", *words)
        tables.on_logged(row)
