"""What the played database keeps, and what a statement is. Nothing here is late or lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.simulation.loop import SimulatedLoop
from webhook_grpc.domain.ids import SHARD_COUNT, shard_of
from webhook_grpc.domain.model import Danger, Webhook, WebhookStatus

Row = tuple[Any, ...]
Params = Mapping[str, Any]
CommandKey = tuple[int, UUID, str]  # the webhook, the event, what is asked for
EPOCH: Final = datetime(2030, 1, 1, tzinfo=UTC)
OFF: Final = frozenset({WebhookStatus.DISABLED, WebhookStatus.DELETED})


@dataclass(frozen=True, slots=True)
class Statement:
    """Runs at one instant. It is given its parameters and when its transaction began, and returns its rows."""

    run: Callable[[Params, datetime], list[Row]]
    is_write: bool  # a write is done when it commits; a read sees what was committed when it began


def reads(run: Callable[[Params, datetime], list[Row]]) -> Statement:
    return Statement(run, is_write=False)


def writes(run: Callable[[Params, datetime], list[Row]]) -> Statement:
    return Statement(run, is_write=True)


@dataclass(slots=True)
class Shard:
    owner: UUID | None = None
    epoch: int = 0
    last_seq: int = 0
    abandoned_at: datetime | None = None
    tenure: int = 0  # how often it was taken: it had one owner throughout exactly while this is the same


@dataclass(slots=True)
class Worker:
    lease_until: datetime
    lease_seconds: float
    retiring: bool = False
    isolated: tuple[int, UUID] | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether its lease runs, and does not end later than it can."""
        return now < self.lease_until <= now + timedelta(seconds=2 * self.lease_seconds)

    def is_long_dead(self, now: datetime) -> bool:
        """Whether it is forgotten."""
        day = timedelta(days=1)
        return not now - day <= self.lease_until <= now + timedelta(seconds=2 * self.lease_seconds) + day


@dataclass(slots=True)
class Pending:
    """A row of the outbox."""

    webhook_id: int
    event_id: UUID
    due_at: datetime
    customer_id: int
    attempt: int = 0
    danger: int = Danger.NONE
    trigger: str | None = None
    replay_id: int | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the log."""

    seq: int
    at: datetime
    webhook_id: int
    event_id: UUID
    status: str
    attempt_count: int
    next_due_at: datetime | None
    outcome: str | None
    reason: str | None
    response_status: int | None
    trigger: str = "scheduled"
    by_command: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A row of the commands."""

    customer_id: int
    created_at: datetime
    replay_id: int | None = None


@dataclass(slots=True)
class Tables:
    """Everything that is stored, and the history of how it came to be. Its times are `now()`; the loop's are floats."""

    loop: SimulatedLoop
    shards: list[Shard] = field(default_factory=lambda: list[Shard](Shard() for _ in range(SHARD_COUNT)))
    workers: dict[UUID, Worker] = field(default_factory=dict[UUID, Worker])
    webhooks: dict[int, Webhook] = field(default_factory=dict[int, Webhook])
    deliveries: dict[int, dict[UUID, Pending]] = field(default_factory=lambda: defaultdict(dict))
    events: dict[UUID, tuple[str, datetime, bytes]] = field(default_factory=dict[UUID, tuple[str, datetime, bytes]])
    log: list[list[Logged]] = field(default_factory=lambda: list[list[Logged]]([] for _ in range(SHARD_COUNT)))
    commands: dict[CommandKey, Asked] = field(default_factory=dict[CommandKey, Asked])
    health: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    published: set[tuple[int, UUID]] = field(default_factory=set[tuple[int, UUID]])
    refused: set[UUID] = field(default_factory=set[UUID])  # events whose results the database refuses
    asked: Counter[CommandKey] = field(default_factory=Counter[CommandKey])  # how often, answered or not
    skipped: Counter[int | None] = field(default_factory=Counter[int | None])  # of each replay
    trace: list[str] = field(default_factory=list[str])
    on_changed: Callable[[Webhook], None] = lambda _: None
    on_logged: Callable[[Logged], None] = lambda _: None
    on_wrong: Callable[[str], None] = lambda _: None

    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=self.loop.now)

    def note(self, *words: object) -> None:
        """A line of the history."""
        self.trace.append(f"{self.loop.now:.6f} " + " ".join(map(str, words)))

    def shard(self, number: int) -> Shard:
        return self.shards[number]

    def log_of(self, number: int) -> list[Logged]:
        """The log of a shard."""
        return self.log[number]

    def rows_of(self, webhook_id: int) -> list[Pending]:
        """What is pending of a webhook, as the index has it."""
        return sorted(self.deliveries[webhook_id].values(), key=lambda row: (row.due_at, row.event_id))

    def pending_count(self) -> int:
        """How much is still to be done."""
        return sum(map(len, self.deliveries.values())) + len(self.commands)

    def last_logged(self, webhook_id: int, event_id: UUID) -> Logged | None:
        """Where a delivery stands, if the log knows it."""
        rows = self.log[shard_of(webhook_id)]
        return next((row for row in reversed(rows) if (row.webhook_id, row.event_id) == (webhook_id, event_id)), None)

    def ask(self, key: CommandKey, replay_id: int | None = None) -> None:
        """Inserts a command. Asking twice is asking once, until it is carried out."""
        webhook_id, event_id, command = key
        self.asked[key] += 1
        customer_id = self.webhooks[webhook_id].customer_id
        self.commands.setdefault(key, Asked(customer_id, self.now(), replay_id))
        self.note("asked", command, webhook_id, event_id, replay_id)

    def change(self, webhook: Webhook) -> Webhook:
        """Commits a change."""
        webhook = replace(webhook, version=webhook.version + 1, update_time=self.now())
        self.webhooks[webhook.webhook_id] = webhook
        self.note("webhook", webhook.webhook_id, webhook.status, webhook.version)
        self.on_changed(webhook)
        return webhook
