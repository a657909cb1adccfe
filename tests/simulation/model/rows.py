"""The rows of the tables, as the model keeps them and as the tests read them; and what statements answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.ids import SHARD_COUNT
from webhook_grpc.domain.model import Danger, DeliveryStatus, Trigger, Webhook, WebhookStatus
from webhook_grpc.store.ownership.marks import ProcessMark

Key = tuple[int, UUID]
"""Names a delivery: webhook and event."""
CommandKey = tuple[int, UUID, Kind]
SHARDS: Final = range(SHARD_COUNT)
TAKING: Final = frozenset({WebhookStatus.ACTIVE, WebhookStatus.PAUSED})  # webhooks that get what is published


class EventRow(NamedTuple):
    customer_id: int
    event_type: str
    create_time: datetime
    body: bytes
    traceparent: str | None = None


class OutboxRow(NamedTuple):
    """The first three are the order in which a webhook's rows are read. `trigger` is that of a restart, or None."""

    webhook_id: int
    due_at: datetime
    event_id: UUID
    attempt: int
    customer_id: int
    danger: Danger = Danger.NONE
    trigger: str | None = None
    replay_id: int | None = None

    @property
    def key(self) -> Key:
        return self.webhook_id, self.event_id

    @property
    def is_replay(self) -> bool:
        return self.trigger == Trigger.REPLAY


class LogRow(NamedTuple):
    shard: int
    seq: int
    at: datetime
    customer_id: int
    webhook_id: int
    event_id: UUID
    event_type: str
    event_create_time: datetime
    status: DeliveryStatus
    attempt_count: int
    next_due_at: datetime | None
    outcome: str | None
    start_time: datetime | None
    reason: str | None
    response_status: int | None
    trigger: str
    replay_id: int | None

    @property
    def key(self) -> Key:
        return self.webhook_id, self.event_id


class CommandRow(NamedTuple):
    """The first three name it."""

    webhook_id: int
    event_id: UUID
    kind: Kind
    customer_id: int
    replay_id: int | None
    created_at: datetime


class ShardRow(NamedTuple):
    owner: UUID | None = None
    epoch: int = 0
    last_seq: int = 0
    abandoned_at: datetime | None = None


class WorkerRow(NamedTuple):
    lease_until: datetime
    lease_seconds: float
    retiring: bool = False
    isolated: Key | None = None
    mark: ProcessMark | None = None


class HealthRow(NamedTuple):
    breaker: BreakerState
    probe_at: datetime | None
    probe_count: int
    failing_since: datetime | None
    failure_count: int
    blocked_count: int
    blocked_at: datetime | None
    hold_until: datetime | None
    throttled_until: datetime | None
    throttle_rate: float | None
    throttle_ceiling: float | None
    updated_at: datetime


class Standing(NamedTuple):
    """A delivery as somebody who asks must see it. The first three say its place in a list."""

    create_time: datetime
    event_id: UUID
    webhook_id: int
    customer_id: int
    event_type: str
    status: DeliveryStatus
    attempt_count: int
    next_due_at: datetime | None
    update_time: datetime
    outcome: str | None
    start_time: datetime | None


class PublishAnswer(NamedTuple):
    event_id: UUID
    delivery_count: int
    duplicate: bool
    create_time: datetime


class SettleAnswer(NamedTuple):
    """Whether all shards of the batch were the worker's, and the rows that the log got."""

    ours: bool
    logged: list[LogRow]

    @property
    def last_seqs(self) -> dict[int, int]:
        """The last `seq` that was written in each shard."""
        return {row.shard: row.seq for row in self.logged}


class ExecuteAnswer(NamedTuple):
    """The same of commands."""

    ours: bool
    logged: list[LogRow]


@dataclass
class State:
    """All that the tables say."""

    webhooks: dict[int, Webhook] = field(default_factory=dict[int, Webhook])
    health: dict[int, HealthRow] = field(default_factory=dict[int, HealthRow])
    events: dict[UUID, EventRow] = field(default_factory=dict[UUID, EventRow])
    keys: dict[tuple[int, str], tuple[UUID, int]] = field(default_factory=dict[tuple[int, str], tuple[UUID, int]])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    log: list[LogRow] = field(default_factory=list[LogRow])
    commands: list[CommandRow] = field(default_factory=list[CommandRow])
    skipped: dict[int, int] = field(default_factory=dict[int, int])  # restarts of each replay that did nothing
    shards: dict[int, ShardRow] = field(default_factory=dict[int, ShardRow])
    workers: dict[UUID, WorkerRow] = field(default_factory=dict[UUID, WorkerRow])
