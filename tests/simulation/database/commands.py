"""Commands: what customers ask for, and what carrying it out does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import errors

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.store.outbox import commands, execution

from .settling import owned_of, write_log
from .tables import OFF, Asked, Logged, Params, Pending, Row, Statement, Tables, reads, writes


@dataclass(frozen=True, slots=True)
class Standing:
    """A command that was taken, and how its delivery stood when the statement began."""

    item: Params
    asked: Asked
    row: Pending | None
    last: Logged | None

    @property
    def attempt_count(self) -> int:
        return self.last.attempt_count if self.last else 0


@dataclass(frozen=True, slots=True)
class Commands:
    """The statements of `store.commands` and `store.execution` that the engine runs."""

    tables: Tables

    def statements(self) -> dict[str, Statement]:
        return {commands.SELECT_WAITING_COMMANDS: reads(self._waiting), execution.EXECUTE: writes(self._execute)}

    def _waiting(self, params: Params, now: datetime) -> list[Row]:
        shards = set(params["shards"])
        keys = sorted(key for key in self.tables.commands if shard_of(key[0]) in shards)
        keys.sort(key=lambda key: shard_of(key[0]))
        return [
            (*key, self.tables.commands[key].customer_id, (now - self.tables.commands[key].created_at).total_seconds())
            for key in keys[: params["limit"]]
        ]

    def _execute(self, params: Params, began_at: datetime) -> list[Row]:
        owned = owned_of(self.tables, params)
        nothing: Row = (len(owned), None, None, None, None, None)
        if len(owned) < params["shard_count"]:
            return [nothing]
        names = ("webhook_id", "event_id", "command", "status", "outcome", "reason", "response_status")
        items = [
            dict[str, Any](zip(names, item, strict=True))
            for item in zip(*(params[name] for name in names), strict=True)
        ]
        if any(item["event_id"] in self.tables.refused and item["outcome"] is not None for item in items):
            raise errors.UntranslatableCharacter("the database refuses this value")
        standing = [known for item in items if (known := self._take(item)) is not None]
        restarted = set[tuple[int, UUID]]()
        counts, logged, rows = Counter[int](), list[Logged](), [nothing]
        for known in standing:
            item = known.item
            row = self._carried_out(known, began_at, restarted)
            if row is None:
                self.tables.note("nothing to do", item["command"], item["webhook_id"], item["event_id"])
                self.tables.skipped[known.asked.replay_id] += item["command"] == "replay"
                continue
            shard = shard_of(item["webhook_id"])
            counts[shard] += 1
            status, attempt_count, next_due_at, trigger = row
            seq = owned[shard] + counts[shard]
            logged.append(
                Logged(
                    seq, began_at, item["webhook_id"], item["event_id"], status, attempt_count, next_due_at,
                    item["outcome"], item["reason"], item["response_status"], trigger, by_command=True,
                )
            )  # fmt: skip
            rows.append((len(owned), shard, seq, item["webhook_id"], item["event_id"], status))
        write_log(self.tables, logged)
        return rows

    def _take(self, item: Params) -> Standing | None:
        """Deletes the command."""
        webhook_id, event_id = item["webhook_id"], item["event_id"]
        asked = self.tables.commands.pop((webhook_id, event_id, item["command"]), None)
        if asked is None:
            return None
        row, last = self.tables.deliveries[webhook_id].get(event_id), self.tables.last_logged(webhook_id, event_id)
        if row is not None:
            due_at = last.next_due_at if last else self.tables.events[event_id][1]
            if row.due_at != due_at:
                self.tables.on_wrong(f"a row of the outbox that the log does not lead to: {row}, {last}")
        return Standing(item, asked, row, last)

    def _carried_out(
        self, known: Standing, at: datetime, restarted: set[tuple[int, UUID]]
    ) -> tuple[str, int, datetime | None, str] | None:
        """Status, attempts, due time and trigger of its row in the log; None if there is nothing to do."""
        item, row, last = known.item, known.row, known.last
        webhook_id, event_id = item["webhook_id"], item["event_id"]
        if item["command"] == "test":
            return None if last else (item["status"], int(item["outcome"] is not None), None, "test")
        if item["command"] == "cancel":
            if row is None or known.asked.replay_id not in {None, row.replay_id}:
                return None
            del self.tables.deliveries[webhook_id][event_id]
            return "cancelled", known.attempt_count, None, row.trigger or "scheduled"
        is_off = self.tables.webhooks[webhook_id].status in OFF
        is_repeated = (webhook_id, event_id) in restarted
        restarted.add((webhook_id, event_id))
        if row is not None or is_off or is_repeated:
            return None
        trigger = "manual" if item["command"] == "retry" else "replay"
        self.tables.deliveries[webhook_id][event_id] = Pending(
            webhook_id, event_id, at, known.asked.customer_id, known.attempt_count,
            trigger=trigger, replay_id=known.asked.replay_id,
        )  # fmt: skip
        return "pending", known.attempt_count, at, trigger
