"""What the store must do, said once more in plain Python: no SQL, no asyncio, no database.

Each method is one statement of the store and returns what that must answer. Whatever else must be true afterwards is in
`state()`, which is compared with the tables row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from webhook_grpc.domain.command import Command, Kind
from webhook_grpc.domain.model import DeliveryStatus, NewEvent, WebhookStatus
from webhook_grpc.domain.settlement import Settlement

Key = tuple[int, UUID]
"""Names a delivery: webhook and event."""
SHARDS = range(64)
ACTIVE, PAUSED = WebhookStatus.ACTIVE, WebhookStatus.PAUSED


class WebhookRow(NamedTuple):
    customer_id: int
    patterns: tuple[str, ...]
    status: WebhookStatus
    version: int


class EventRow(NamedTuple):
    customer_id: int
    event_type: str
    create_time: datetime
    body: bytes
    traceparent: str | None = None


class OutboxRow(NamedTuple):
    webhook_id: int
    due_at: datetime
    event_id: UUID
    attempt: int
    customer_id: int


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
    ours: bool
    changed_count: int
    last_seqs: dict[int, int]


class Asked(NamedTuple):
    """A row of the commands: the first three name it."""

    webhook_id: int
    event_id: UUID
    kind: Kind
    customer_id: int
    replay_id: int | None


class Cause(NamedTuple):
    """What causes the next attempt of a delivery, or caused a row of its log."""

    trigger: str
    replay_id: int | None


SCHEDULED: Final = Cause("scheduled", None)


class ExecuteAnswer(NamedTuple):
    ours: bool
    changes: list[tuple[int, int, int, UUID, DeliveryStatus]]
    """Shard, seq, webhook, event and where the delivery stands."""


@dataclass
class State:
    """All that the tables say."""

    webhooks: dict[int, WebhookRow] = field(default_factory=dict[int, WebhookRow])
    events: dict[UUID, EventRow] = field(default_factory=dict[UUID, EventRow])
    keys: dict[tuple[int, str], tuple[UUID, int]] = field(default_factory=dict[tuple[int, str], tuple[UUID, int]])
    outbox: list[OutboxRow] = field(default_factory=list[OutboxRow])
    log: list[LogRow] = field(default_factory=list[LogRow])
    commands: list[Asked] = field(default_factory=list[Asked])
    causes_pending: dict[Key, Cause] = field(default_factory=dict[Key, Cause])  # of those that are not scheduled
    causes_logged: dict[tuple[int, int], Cause] = field(default_factory=dict[tuple[int, int], Cause])
    shards: dict[int, tuple[UUID | None, int]] = field(default_factory=dict[int, tuple[UUID | None, int]])
    leases: dict[UUID, datetime] = field(default_factory=dict[UUID, datetime])


class StoreModel:
    """The store. `now` is the database's clock, which stands still between two steps."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.webhooks: dict[int, WebhookRow] = {}
        self.events: dict[UUID, EventRow] = {}
        self.kept: set[UUID] = set()  # events whose body is still there
        self.matched: dict[UUID, frozenset[int]] = {}  # the webhooks that an event matched when it was published
        self.keys: dict[tuple[int, str], tuple[UUID, int]] = {}
        self.pending: dict[Key, OutboxRow] = {}
        self.log: dict[int, list[LogRow]] = {shard: [] for shard in SHARDS}
        self.commands: dict[tuple[int, UUID, Kind], Asked] = {}
        self.causes_pending: dict[Key, Cause] = {}
        self.causes_logged: dict[tuple[int, int], Cause] = {}
        self.shards: dict[int, tuple[UUID | None, int]] = dict.fromkeys(SHARDS, (None, 0))
        self.leases: dict[UUID, datetime] = {}
        self.lengths: dict[UUID, timedelta] = {}

    def state(self) -> State:
        """What the tables must say."""
        return State(
            webhooks=self.webhooks,
            events={event_id: row for event_id, row in self.events.items() if event_id in self.kept},
            keys=self.keys,
            outbox=sorted(self.pending.values()),
            log=[row for rows in self.log.values() for row in rows],
            commands=sorted(self.commands.values()),
            causes_pending=self.causes_pending,
            causes_logged=self.causes_logged,
            shards=self.shards,
            leases=self.leases,
        )

    # --- webhooks --------------------------------------------------------------------------------------------------

    def create_webhook(self, webhook_id: int, customer_id: int, patterns: tuple[str, ...]) -> None:
        self.webhooks[webhook_id] = WebhookRow(customer_id, patterns, ACTIVE, 1)

    def change_webhook(
        self,
        webhook_id: int,
        version: int | None,
        from_statuses: Collection[WebhookStatus],
        *,
        status: WebhookStatus | None = None,
        patterns: tuple[str, ...] | None = None,
    ) -> str | None:
        """Says which error is due, or changes status or patterns."""
        now = self.webhooks[webhook_id]
        is_other_version = version is not None and version != now.version
        if now.status is WebhookStatus.DELETED:
            return "NotFound"
        if now.status not in from_statuses:
            return "FailedPrecondition"
        if is_other_version:
            return "Conflict"
        self.webhooks[webhook_id] = WebhookRow(
            now.customer_id, patterns or now.patterns, status or now.status, now.version + 1
        )
        return None

    # --- publishing ------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[NewEvent]) -> list[PublishAnswer | None]:
        """The answer for each event; None if its request id was used for something else."""
        new = [self._publish_new(event) for event in events]
        return [answer or self._published_before(event) for event, answer in zip(events, new, strict=True)]

    def _publish_new(self, event: NewEvent) -> PublishAnswer | None:
        if event.request_id is not None:
            key = event.customer_id, event.request_id
            if key in self.keys:
                return None
            self.keys[key] = event.event_id, event.fingerprint
        self.events[event.event_id] = EventRow(
            event.customer_id, event.event_type, self.now, event.body, event.traceparent
        )
        self.kept.add(event.event_id)
        matched = {
            webhook_id
            for webhook_id, webhook in self.webhooks.items()
            if webhook.customer_id == event.customer_id
            and webhook.status in {ACTIVE, PAUSED}
            and any(is_match(event.event_type, pattern) for pattern in webhook.patterns)
        }
        self.matched[event.event_id] = frozenset(matched)
        for webhook_id in matched:
            self.pending[webhook_id, event.event_id] = OutboxRow(
                webhook_id, self.now, event.event_id, 0, event.customer_id
            )
        return PublishAnswer(event.event_id, len(matched), False, self.now)

    def _published_before(self, event: NewEvent) -> PublishAnswer | None:
        event_id, fingerprint = self.keys[event.customer_id, event.request_id or ""]
        if fingerprint != event.fingerprint:
            return None
        known = {webhook_id for webhook_id, of in self.deliveries() if of == event_id}
        count = len(known) if event_id in self.kept else 0  # of a dropped event nothing is known
        return PublishAnswer(event_id, count, True, self.events[event_id].create_time)

    def drop_event(self, event_id: UUID) -> None:
        """Retention drops the partition of an event."""
        self.kept.remove(event_id)

    # --- ownership -------------------------------------------------------------------------------------------------

    def register(self, worker: UUID, ttl_seconds: float) -> None:
        self.lengths[worker] = timedelta(seconds=ttl_seconds)
        self.leases[worker] = self.now + self.lengths[worker]
        day = timedelta(days=1)
        self.leases = {
            w: until
            for w, until in self.leases.items()
            if self.now - day <= until <= self.now + 2 * self.lengths[w] + day
        }

    def renew(self, worker: UUID, ttl_seconds: float) -> bool:
        """Whether it was renewed: a lease that ran out never is. One that ends too late is, by its own worker."""
        if worker not in self.leases or self.leases[worker] <= self.now:
            return False
        self.leases[worker] = self.now + timedelta(seconds=ttl_seconds)
        return True

    def unregister(self, worker: UUID) -> None:
        self.leases.pop(worker, None)

    def is_alive(self, worker: UUID) -> bool:
        """Whether its lease is still running, and does not end later than it can."""
        return worker in self.leases and self.now < self.leases[worker] <= self.now + 2 * self.lengths[worker]

    def takeable(self) -> set[int]:
        """The shards that belong to nobody alive."""
        return {shard for shard, (owner, _) in self.shards.items() if owner is None or not self.is_alive(owner)}

    def owned(self, worker: UUID) -> dict[int, int]:
        """The shards of a worker and their epochs."""
        return {shard: epoch for shard, (owner, epoch) in self.shards.items() if owner == worker}

    def take(self, worker: UUID, shards: Iterable[int]) -> dict[int, tuple[int, int]]:
        """The epoch and the end of the log of each shard. An owner's new epoch is higher than any before."""
        taken = set(shards) & self.takeable()
        for shard in taken:
            self.shards[shard] = worker, self.shards[shard][1] + 1
        return {shard: (self.shards[shard][1], len(self.log[shard])) for shard in taken}

    def readopt(self, worker: UUID, shards: Collection[int]) -> dict[int, tuple[int, int]]:
        """The same for what is the worker's already; the rest is missing."""
        readopted = self.owned(worker).keys() & set(shards)
        for shard in readopted:
            self.shards[shard] = worker, self.shards[shard][1] + 1
        return {shard: (self.shards[shard][1], len(self.log[shard])) for shard in readopted}

    def release(self, worker: UUID, epochs: Mapping[int, int]) -> None:
        for shard, epoch in epochs.items():
            if self.shards[shard] == (worker, epoch):
                self.shards[shard] = None, epoch

    # --- what is due -----------------------------------------------------------------------------------------------

    def discover(self, shards: Collection[int]) -> set[tuple[int, int, WebhookStatus, UUID, bool]]:
        """Every webhook with something pending, the event of its earliest row, and whether that is due."""
        first: dict[int, OutboxRow] = {}
        for row in sorted(self.pending.values()):
            if row.webhook_id % 64 in shards:
                first.setdefault(row.webhook_id, row)
        return {
            (row.webhook_id, webhook.customer_id, webhook.status, row.event_id, row.due_at <= self.now)
            for row in first.values()
            for webhook in [self.webhooks[row.webhook_id]]
        }

    def fetch(self, webhook_id: int, room: int, floor: datetime, ahead_seconds: float) -> list[OutboxRow]:
        """The next rows in order of their due times. None is due later than that."""
        until = self.now + timedelta(seconds=ahead_seconds)
        return sorted(
            row
            for key, row in self.pending.items()
            if row.webhook_id == webhook_id and floor <= row.due_at <= until and not self.is_replay(key)
        )[:room]

    def fetch_replays(self, webhook_id: int, room: int) -> list[OutboxRow]:
        """The same for replays, which are not among the others."""
        return sorted(
            row
            for key, row in self.pending.items()
            if row.webhook_id == webhook_id and row.due_at <= self.now and self.is_replay(key)
        )[:room]

    def is_replay(self, key: Key) -> bool:
        return self.causes_pending.get(key, SCHEDULED).trigger == "replay"

    # --- settling --------------------------------------------------------------------------------------------------

    def settle(self, worker: UUID, epochs: Mapping[int, int], batch: Sequence[Settlement]) -> SettleAnswer:
        """All of the batch that is still as it was sent; nothing, if a single shard is not the worker's any more."""
        touched = {item.delivery.webhook_id % 64 for item in batch}
        if any(self.shards[shard] != (worker, epochs[shard]) for shard in touched):
            return SettleAnswer(False, 0, {})
        changed = [row for row in map(self._settle_one, batch) if row is not None]
        return SettleAnswer(True, len(changed), {row.shard: len(self.log[row.shard]) for row in changed})

    def _settle_one(self, item: Settlement) -> LogRow | None:
        key = item.delivery.webhook_id, item.delivery.event_id
        row = self.pending.get(key)
        if row is None or (row.due_at, row.attempt) != (item.delivery.due_at, item.delivery.attempt):
            return None
        retry_in, result = item.decision.retry_in_seconds, item.result
        is_off = self.webhooks[row.webhook_id].status in {WebhookStatus.DISABLED, WebhookStatus.DELETED}
        if item.decision.status is DeliveryStatus.CANCELLED and result is None and not is_off:
            return None
        attempt_count = row.attempt + (result is not None)
        next_due_at = None if retry_in is None else self.now + timedelta(seconds=retry_in)
        if next_due_at is None:
            del self.pending[key]
            self.causes_pending.pop(key, None)
        else:
            self.pending[key] = row._replace(due_at=next_due_at, attempt=attempt_count)
        shard = row.webhook_id % 64
        logged = LogRow(
            shard,
            len(self.log[shard]) + 1,
            self.now,
            row.customer_id,
            row.webhook_id,
            row.event_id,
            item.delivery.event_type,
            self.events[row.event_id].create_time,
            item.decision.status,
            attempt_count,
            next_due_at,
            result.outcome.value if result else None,
            result.start_time if result else None,
        )
        self._log(logged, Cause(item.delivery.trigger.value, item.delivery.replay_id))
        return logged

    def _log(self, row: LogRow, cause: Cause) -> None:
        self.log[row.shard].append(row)
        self.causes_logged[row.shard, row.seq] = cause

    # --- commands --------------------------------------------------------------------------------------------------

    def ask(self, kind: Kind, customer_id: int, key: Key, replay_id: int | None = None) -> None:
        """Asking twice is asking once."""
        self.commands.setdefault((*key, kind), Asked(*key, kind, customer_id, replay_id))

    def waiting(self, shards: Collection[int]) -> set[tuple[int, UUID, Kind]]:
        return {name for name in self.commands if name[0] % 64 in shards}

    def execute(self, worker: UUID, epochs: Mapping[int, int], batch: Sequence[Command]) -> ExecuteAnswer:
        """All of the batch that still waits, by where each delivery stood before; nothing if a shard is not ours."""
        if any(self.shards[command.shard] != (worker, epochs[command.shard]) for command in batch):
            return ExecuteAnswer(False, [])
        taken = [
            (command, asked, self.standing((command.webhook_id, command.event_id)))
            for command in batch
            if (asked := self.commands.pop((command.webhook_id, command.event_id, command.kind), None)) is not None
        ]
        changes, restarted = list[tuple[int, int, int, UUID, DeliveryStatus]](), set[Key]()
        for command, asked, standing in taken:
            row = self._execute_one(command, asked, standing, restarted)
            if row is not None:
                changes.append((row.shard, row.seq, row.webhook_id, row.event_id, row.status))
        return ExecuteAnswer(True, changes)

    def _execute_one(
        self, command: Command, asked: Asked, standing: Standing | None, restarted: set[Key]
    ) -> LogRow | None:
        key = command.webhook_id, command.event_id
        if command.event_id not in self.kept:
            return None
        is_pending = standing is not None and standing.status is DeliveryStatus.PENDING
        attempt_count, next_due_at, result = standing.attempt_count if standing else 0, None, None
        if command.kind is Kind.TEST:
            if standing is not None or command.status is None:
                return None
            status, cause, result = command.status, Cause("test", None), command.result
            attempt_count = int(result is not None)
        elif command.kind is Kind.CANCEL:
            cause = self.causes_pending.get(key, SCHEDULED)
            if not is_pending or asked.replay_id not in {None, cause.replay_id}:
                return None
            status = DeliveryStatus.CANCELLED
            del self.pending[key]
            self.causes_pending.pop(key, None)
        else:
            if is_pending or key in restarted or self.webhooks[key[0]].status not in {ACTIVE, PAUSED}:
                return None
            restarted.add(key)
            cause = Cause("manual" if command.kind is Kind.RETRY else "replay", asked.replay_id)
            status, next_due_at = DeliveryStatus.PENDING, self.now
            self.pending[key] = OutboxRow(key[0], self.now, key[1], attempt_count, asked.customer_id)
            self.causes_pending[key] = cause
        event, shard = self.events[command.event_id], command.shard
        row = LogRow(
            shard, len(self.log[shard]) + 1, self.now, asked.customer_id, key[0], key[1], event.event_type,
            event.create_time, status, attempt_count, next_due_at, result.outcome.value if result else None,
            result.start_time if result else None,
        )  # fmt: skip
        self._log(row, cause)
        return row

    # --- looking ---------------------------------------------------------------------------------------------------

    def rows_of(self, key: Key) -> list[LogRow]:
        """What the log has of a delivery, oldest first."""
        return [row for row in self.log[key[0] % 64] if (row.webhook_id, row.event_id) == key]

    def standing(self, key: Key) -> Standing | None:
        """Where a delivery stands: as its last row in the log says, or else it has not been tried."""
        rows = self.rows_of(key)
        if rows:
            last = rows[-1]
            return Standing(
                last.event_create_time, last.event_id, last.webhook_id, last.customer_id, last.event_type, last.status,
                last.attempt_count, last.next_due_at, last.at, last.outcome, last.start_time,
            )  # fmt: skip
        if key not in self.pending or key[1] not in self.kept:
            return None
        event = self.events[key[1]]
        return Standing(
            event.create_time, key[1], key[0], event.customer_id, event.event_type, DeliveryStatus.PENDING,
            0, event.create_time, event.create_time, None, None,
        )  # fmt: skip

    def standings(self) -> list[Standing]:
        """Every delivery, newest event first."""
        return sorted((found for key in self.deliveries() if (found := self.standing(key)) is not None), reverse=True)

    def deliveries(self) -> set[Key]:
        """Every delivery that there is or was."""
        return self.pending.keys() | {(row.webhook_id, row.event_id) for rows in self.log.values() for row in rows}


def is_match(event_type: str, pattern: str) -> bool:
    """Whether an event of this type goes to a webhook with this pattern."""
    if pattern.endswith(".*"):
        return event_type.startswith(pattern.removesuffix("*"))
    return pattern in {"*", event_type}
