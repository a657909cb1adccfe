"""What is stored, and what several statements look up in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import DeliveryStatus, Webhook
from webhook_grpc.store.ownership.leases import OwnedShard

from .rows import (
    SHARDS,
    CommandKey,
    CommandRow,
    EventRow,
    HealthRow,
    Key,
    LogRow,
    OutboxRow,
    ShardRow,
    Standing,
    State,
    WorkerRow,
)


class Tables:
    """The tables. `now` is `now()` of the statement that runs: the state machine's clock stands still between steps.

    `believed_at` is the time that was last believed; None: whatever the clock says is believed.
    """

    def __init__(self, now: datetime, believed_at: datetime | None = None) -> None:
        self.now = now
        self.believed_at = believed_at
        self.webhooks: dict[int, Webhook] = {}
        self.health: dict[int, HealthRow] = {}
        self.events: dict[UUID, EventRow] = {}
        self.kept: set[UUID] = set()  # events whose body is still there
        self.matched: dict[UUID, frozenset[int]] = {}  # the webhooks that an event matched when it was published
        self.keys: dict[tuple[int, str], tuple[UUID, int]] = {}
        self.pending: dict[int, dict[UUID, OutboxRow]] = defaultdict(dict)  # by webhook
        self.log: list[list[LogRow]] = [[] for _ in SHARDS]
        self.commands: dict[CommandKey, CommandRow] = {}
        self.skipped = Counter[int]()
        self.shards: list[ShardRow] = [ShardRow() for _ in SHARDS]
        self.workers: dict[UUID, WorkerRow] = {}
        self._log_of: dict[Key, list[LogRow]] = defaultdict(list)

    def state(self) -> State:
        """What the tables must say."""
        return State(
            webhooks=self.webhooks,
            health=self.health,
            events={event_id: row for event_id, row in self.events.items() if event_id in self.kept},
            keys=self.keys,
            outbox=sorted(self.pending_rows()),
            log=[row for rows in self.log for row in rows],
            commands=sorted(self.commands.values()),
            skipped={replay_id: count for replay_id, count in self.skipped.items() if count},
            shards=dict(enumerate(self.shards)),
            workers=self.workers,
        )

    # --- the outbox ------------------------------------------------------------------------------------------------

    def row(self, key: Key) -> OutboxRow | None:
        """The row of a delivery, if it is pending."""
        return self.pending[key[0]].get(key[1])

    def pending_rows(self) -> list[OutboxRow]:
        """Whatever is pending."""
        return [row for rows in self.pending.values() for row in rows.values()]

    def put(self, row: OutboxRow) -> None:
        self.pending[row.webhook_id][row.event_id] = row

    def delete(self, key: Key) -> None:
        del self.pending[key[0]][key[1]]

    # --- the log ---------------------------------------------------------------------------------------------------

    def append(self, rows: Iterable[LogRow]) -> None:
        for row in rows:
            self.log[row.shard].append(row)
            self._log_of[row.key].append(row)

    def rows_of(self, key: Key) -> list[LogRow]:
        """What the log has of a delivery, oldest first."""
        return self._log_of.get(key, [])

    def deliveries(self) -> set[Key]:
        """Every delivery that there is or was."""
        return {row.key for row in self.pending_rows()} | self._log_of.keys()

    def standing(self, key: Key) -> Standing | None:
        """Where a delivery stands: as its last row in the log says, or else it has not been tried."""
        rows = self.rows_of(key)
        if rows:
            last = rows[-1]
            return Standing(
                last.event_create_time, last.event_id, last.webhook_id, last.customer_id, last.event_type, last.status,
                last.attempt_count, last.next_due_at, last.at, last.outcome, last.start_time,
            )  # fmt: skip
        if self.row(key) is None or key[1] not in self.kept:
            return None
        event = self.events[key[1]]
        return Standing(
            event.create_time, key[1], key[0], event.customer_id, event.event_type, DeliveryStatus.PENDING,
            0, event.create_time, event.create_time, None, None,
        )  # fmt: skip

    def standings(self) -> list[Standing]:
        """Every delivery, newest event first."""
        return sorted((found for key in self.deliveries() if (found := self.standing(key)) is not None), reverse=True)

    # --- owners ----------------------------------------------------------------------------------------------------

    def is_owner(self, worker: UUID, shard: int, epoch: int) -> bool:
        """Whether the shard is still the worker's, at that epoch."""
        return self.shards[shard][:2] == (worker, epoch)

    def own_all(self, worker: UUID, owned: Mapping[int, OwnedShard], shards: Iterable[int]) -> bool:
        """The fence: whether all these shards are still the worker's, each at its epoch."""
        return all(self.is_owner(worker, shard, owned[shard].epoch) for shard in shards)

    def has_webhook(self, worker: UUID, webhook_id: int) -> bool:
        """Whether the webhook's shard is the worker's, at whatever epoch."""
        return self.shards[shard_of(webhook_id)].owner == worker
