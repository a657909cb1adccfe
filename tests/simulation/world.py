"""The world outside the engine: a database that keeps its promises and breaks its connections, and receivers.

The database is played at the level of statements: the store's own functions, connections and deadlines run, and each
statement does here what its SQL does there, at one instant, in the order of commits. On the way there and back it may
be late or lost, and what was sent may be run after its sender has given up.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from psycopg import errors

from webhook_grpc.domain.ids import SHARD_COUNT, shard_of
from webhook_grpc.domain.model import Danger, Webhook, WebhookStatus
from webhook_grpc.store import backlog, clock, health, hints, outbox, ownership, settlement, webhooks

from .loop import SimulatedLoop

Row = tuple[Any, ...]
Params = Mapping[str, Any]
EPOCH: Final = datetime(2030, 1, 1, tzinfo=UTC)
OFF: Final = frozenset({WebhookStatus.DISABLED, WebhookStatus.DELETED})
TAKING: Final = frozenset({WebhookStatus.ACTIVE, WebhookStatus.PAUSED})
_NOBODYS: Final = Context()  # what the world does is done whoever has died


@dataclass(slots=True)
class Shard:
    owner: UUID | None = None
    epoch: int = 0
    last_seq: int = 0
    tenure: int = 0  # how often it was taken: it had one owner throughout exactly while this is the same


@dataclass(slots=True)
class Worker:
    lease_until: datetime
    retiring: bool = False


@dataclass(slots=True)
class Pending:
    """A row of the outbox."""

    webhook_id: int
    event_id: UUID
    due_at: datetime
    customer_id: int
    attempt: int = 0
    danger: int = Danger.NONE


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


@dataclass(slots=True)
class Weather:
    """How likely each statement meets a fault, and until when the database is away or hangs."""

    lost_answer: float = 0.0
    not_run: float = 0.0
    late: float = 0.0
    late_seconds: float = 0.0
    deadline_seconds: float = 0.0  # of a statement
    late_commit: float = 0.0  # of publications
    lost_hint: float = 0.0
    away_until: float = 0.0
    hangs_until: float = 0.0


@dataclass(slots=True)
class _Connection:
    """What the store takes for a connection."""

    world: World
    closed: bool = False

    async def close(self) -> None:
        self.closed = True

    async def execute(self, statement: str) -> None:
        assert statement == hints.LISTEN
        await asyncio.sleep(self.world.latency())

    async def notifies(self) -> AsyncGenerator[Any]:
        queue = asyncio.Queue[str | None]()
        self.world.listeners.append(queue)
        try:
            while (payload := await queue.get()) is not None:
                yield SimpleNamespace(payload=payload)
        finally:
            self.world.listeners.remove(queue)
        raise errors.AdminShutdown("the database went away")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass(slots=True)
class World:
    """Everything that outlives a process. Times of the database are `now()`; the loop's are floats."""

    loop: SimulatedLoop
    random: random.Random
    weather: Weather = field(default_factory=Weather)
    shards: list[Shard] = field(default_factory=lambda: list[Shard](Shard() for _ in range(SHARD_COUNT)))
    workers: dict[UUID, Worker] = field(default_factory=dict[UUID, Worker])
    webhooks: dict[int, Webhook] = field(default_factory=dict[int, Webhook])
    deliveries: dict[int, dict[UUID, Pending]] = field(default_factory=lambda: defaultdict(dict))
    events: dict[UUID, tuple[str, datetime, bytes]] = field(default_factory=dict[UUID, tuple[str, datetime, bytes]])
    log: list[list[Logged]] = field(default_factory=lambda: list[list[Logged]]([] for _ in range(SHARD_COUNT)))
    health: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    refused: set[UUID] = field(default_factory=set[UUID])  # events whose results the database refuses
    listeners: list[asyncio.Queue[str | None]] = field(default_factory=list[asyncio.Queue[str | None]])
    last_fault_at: float = 0.0
    statement_count: int = 0
    trace: list[str] = field(default_factory=list[str])
    on_changed: Callable[[Webhook], None] = lambda _: None
    on_wrong: Callable[[str], None] = lambda _: None
    on_logged: Callable[[Logged], None] = lambda _: None
    _in_doubt: set[tuple[UUID, int, int]] = field(default_factory=set[tuple[UUID, int, int]])
    _statements: dict[str, tuple[Callable[[Params, datetime], list[Row]], bool]] = field(init=False)

    def __post_init__(self) -> None:
        reads, writes = False, True
        self._statements = {
            clock.NOW: (lambda _, now: [(now,)], reads),
            ownership.REGISTER: (self._register, writes),
            ownership.FORGET_DEAD: (self._forget_dead, writes),
            ownership.RENEW: (self._renew, writes),
            ownership.COUNT_LIVE: (self._count_live, reads),
            ownership.OWNED: (self._owned, reads),
            ownership.TAKE: (self._take, writes),
            ownership.READOPT: (self._readopt, writes),
            ownership.LAST_SEQS: (self._last_seqs, reads),
            ownership.RELEASE: (self._release, writes),
            ownership.UNREGISTER: (self._unregister, writes),
            backlog.DISCOVER: (self._discover, reads),
            backlog.FETCH: (self._fetch, reads),
            backlog.BODIES: (self._bodies, reads),
            backlog.SET_DANGER: (self._set_danger, writes),
            settlement.SETTLE: (self._settle, writes),
            webhooks.BY_IDS: (lambda p, _: [_columns(self.webhooks[i]) for i in p["ids"] if i in self.webhooks], reads),
            webhooks.GET: (self._get, reads),
            webhooks.CHANGED_LATELY: (self._changed_lately, reads),
            webhooks.SET_STATUS: (self._set_status, writes),
            webhooks.REOPEN: (self._reopen, writes),
            webhooks.UPDATE: (self._update, writes),
            health.LOAD: (self._load_health, reads),
            health.SAVE: (self._save_health, writes),
            health.FORGET: (self._forget_health, writes),
            health.SUCCEEDED_LAST: (self._succeeded_last, reads),
            outbox.PUBLISH: (self._publish, writes),
            hints.NOTIFY: (lambda p, _: self._notify(p), writes),
        }

    # --- the way to the database and back --------------------------------------------------------------------------

    def now(self) -> datetime:
        """The database's clock."""
        return EPOCH + timedelta(seconds=self.loop.now)

    def latency(self) -> float:
        """Half a round trip."""
        return 0.0002 + self.random.expovariate(400.0)

    def note(self, *words: object) -> None:
        """A line of the history."""
        self.trace.append(f"{self.loop.now:.6f} " + " ".join(map(str, words)))

    def fault_until(self, at: float) -> None:
        """Until then nobody need know what is in the database."""
        self.last_fault_at = max(self.last_fault_at, at)

    async def connect(self, *_: object, **__: object) -> _Connection:
        """Stands for `AsyncConnection.connect`."""
        await asyncio.sleep(self.latency())
        if self.loop.now < self.weather.away_until:
            self.fault_until(self.loop.now)
            raise psycopg.OperationalError("connection refused")
        return _Connection(self)

    async def run(self, _: Any, statement: str, params: Any) -> list[Row]:
        """Stands for `db.run`."""
        if statement is not settlement.SETTLE:
            return await self._run(statement, params)
        ours = {(params["worker"], *shard) for shard in zip(params["shards"], params["epochs"], strict=True)}
        if ours & self._in_doubt:
            self.on_wrong(f"settled at an epoch at which an earlier statement is in doubt: {ours & self._in_doubt}")
        try:
            return await self._run(statement, params)
        except BaseException as error:
            if not isinstance(error, psycopg.DataError):
                self._in_doubt |= ours
            raise

    async def _run(self, statement: str, params: Any) -> list[Row]:
        """What happens after this is done by the server, whatever becomes of the caller."""
        self.statement_count += 1
        weather, chance = self.weather, self.random.random()
        there = self.latency()
        if self.loop.now < weather.hangs_until:
            there += weather.hangs_until - self.loop.now
        if self.loop.now < weather.away_until or chance < weather.not_run:
            self.fault_until(self.loop.now + there)
            await asyncio.sleep(self.latency())
            raise psycopg.OperationalError("the connection was lost before the statement was run")
        back = self.latency()
        is_lost = chance < weather.not_run + weather.lost_answer
        if is_lost or there > 1.0:
            self.fault_until(self.loop.now + there)
        elif chance < weather.not_run + weather.lost_answer + weather.late:
            self.fault_until(self.loop.now + weather.late_seconds)
            if self.random.random() < 0.3:
                there += self.random.uniform(0, weather.late_seconds)
            elif self.random.random() < 0.5:  # just when whoever sent it has given it up, and sends it again
                there += weather.deadline_seconds + self.random.uniform(0, 0.15)
            else:
                back += self.random.uniform(0, weather.late_seconds)
        answered: asyncio.Future[list[Row]] = self.loop.create_future()
        self.loop.call_later(there, self._arrive, statement, params, back, is_lost, answered, context=_NOBODYS)
        return await answered

    def _arrive(
        self, statement: str, params: Params, back: float, is_lost: bool, answered: asyncio.Future[list[Row]]
    ) -> None:
        if self.loop.is_over:
            return
        handler, is_write = self._statements[statement]
        if not is_write:  # a read sees what was committed when it began
            rows = handler(params, self.now())
            self.loop.call_later(back, _answer, answered, rows, None, is_lost, context=_NOBODYS)
            return
        working = self.random.expovariate(1000.0)
        if statement is outbox.PUBLISH and self.random.random() < self.weather.late_commit:
            working += self.random.uniform(0, 5.0)
        self.loop.call_later(
            working, self._commit, statement, params, self.now(), back, is_lost, answered, context=_NOBODYS
        )

    def _commit(
        self,
        statement: str,
        params: Params,
        began_at: datetime,
        back: float,
        is_lost: bool,
        answered: asyncio.Future[list[Row]],
    ) -> None:
        if self.loop.is_over:
            return
        handler, _ = self._statements[statement]
        rows, error = None, None
        try:
            rows = handler(params, began_at)
        except psycopg.Error as refused:
            error = refused
        self.loop.call_later(back, _answer, answered, rows, error, is_lost, context=_NOBODYS)

    # --- ownership -------------------------------------------------------------------------------------------------

    def _shard(self, number: int) -> Shard:
        return self.shards[number]

    def _log(self, number: int) -> list[Logged]:
        return self.log[number]

    def _is_live(self, owner: UUID | None) -> bool:
        worker = self.workers.get(owner) if owner is not None else None
        return worker is not None and worker.lease_until >= self.now()

    def _register(self, params: Params, now: datetime) -> list[Row]:
        self.workers[params["worker"]] = Worker(now + timedelta(seconds=params["ttl"]))
        return []

    def _forget_dead(self, _: Params, now: datetime) -> list[Row]:
        for worker_id in [i for i, w in self.workers.items() if w.lease_until < now - timedelta(days=1)]:
            del self.workers[worker_id]
        return []

    def _renew(self, params: Params, now: datetime) -> list[Row]:
        worker = self.workers.get(params["worker"])
        if worker is None or worker.lease_until <= now:
            return []
        worker.lease_until = now + timedelta(seconds=params["ttl"])
        worker.retiring = params["retiring"]
        return [(self.now(),)]

    def _count_live(self, _: Params, now: datetime) -> list[Row]:
        return [(sum(worker.lease_until > now and not worker.retiring for worker in self.workers.values()),)]

    def _owned(self, params: Params, _: datetime) -> list[Row]:
        return [(number, shard.epoch) for number, shard in enumerate(self.shards) if shard.owner == params["worker"]]

    def _take(self, params: Params, _: datetime) -> list[Row]:
        free = [number for number, shard in enumerate(self.shards) if not self._is_live(shard.owner)]
        self.random.shuffle(free)
        rows: list[Row] = []
        for number in free[: params["count"]]:
            shard = self._shard(number)
            was_abandoned = shard.owner is not None
            shard.owner = params["worker"]
            shard.epoch += 1
            shard.tenure += 1
            self.note("taken", number, shard.epoch, was_abandoned)
            rows.append((number, shard.epoch, self.now() if was_abandoned else None))
        return rows

    def _readopt(self, params: Params, _: datetime) -> list[Row]:
        rows: list[Row] = []
        for number in params["shards"]:
            shard = self._shard(number)
            if shard.owner == params["worker"]:
                shard.epoch += 1
                rows.append((number, shard.epoch))
        return rows

    def _last_seqs(self, params: Params, _: datetime) -> list[Row]:
        return [
            (number, max(self._shard(number).last_seq, max((row.seq for row in self._log(number)[-1:]), default=0)))
            for number in params["shards"]
        ]

    def _release(self, params: Params, _: datetime) -> list[Row]:
        for number, epoch, last_seq in zip(params["shards"], params["epochs"], params["last_seqs"], strict=True):
            shard = self._shard(number)
            if shard.epoch == epoch and shard.owner == params["worker"]:
                shard.owner = None
                shard.last_seq = max(shard.last_seq, last_seq)
                self.note("released", number, epoch)
        return []

    def _unregister(self, params: Params, _: datetime) -> list[Row]:
        self.workers.pop(params["worker"], None)
        return []

    # --- the outbox ------------------------------------------------------------------------------------------------

    def rows_of(self, webhook_id: int) -> list[Pending]:
        """What is pending of a webhook, as the index has it."""
        return sorted(self.deliveries[webhook_id].values(), key=lambda row: (row.due_at, row.event_id))

    def pending_count(self) -> int:
        """How much is still to be done."""
        return sum(map(len, self.deliveries.values()))

    def _discover(self, params: Params, now: datetime) -> list[Row]:
        shards, found = set(params["shards"]), list[Row]()
        for webhook_id, rows in self.deliveries.items():
            if rows and shard_of(webhook_id) in shards:
                first = min(rows.values(), key=lambda row: (row.due_at, row.event_id))
                webhook = self.webhooks[webhook_id]
                found.append(
                    (webhook_id, webhook.customer_id, webhook.status.value, first.event_id, first.due_at <= now)
                )
        return found

    def _fetch(self, params: Params, now: datetime) -> list[Row]:
        found: list[Row] = []
        names = ("shard", "webhook_id", "room", "floor", "ahead", "fresh")
        for number, wanted in enumerate(zip(*(params[name] for name in names), strict=True), start=1):
            _, webhook_id, room, floor, ahead, fresh = wanted
            until = now + timedelta(seconds=ahead)
            rows = [r for r in self.rows_of(webhook_id) if floor <= r.due_at <= until and (not fresh or not r.attempt)]
            found += [
                (number, webhook_id, row.event_id, row.due_at, row.customer_id, row.attempt, row.danger)
                for row in rows[:room]
            ]
        return found

    def _bodies(self, params: Params, _: datetime) -> list[Row]:
        return [(event_id, *self.events[event_id]) for event_id in params["ids"] if event_id in self.events]

    def _set_danger(self, params: Params, _: datetime) -> list[Row]:
        changed: list[Row] = []
        names = ("shard", "epoch", "webhook_id", "due_at", "event_id", "attempt")
        for number, epoch, webhook_id, due_at, event_id, attempt in zip(*(params[name] for name in names), strict=True):
            shard = self._shard(number)
            row = self.deliveries[webhook_id].get(event_id)
            is_ours = shard.epoch == epoch and shard.owner == params["worker"]
            if is_ours and row is not None and row.due_at == due_at and row.attempt == attempt:
                row.danger = int(params["danger"])
                changed.append((webhook_id, event_id))
        return changed

    def _publish(self, params: Params, began_at: datetime) -> list[Row]:
        own, rows = set(params["own_shards"]), list[Row]()
        columns = (params["customer_id"], params["event_id"], params["event_type"], params["body"])
        for number, (customer_id, event_id, event_type, body) in enumerate(zip(*columns, strict=True), start=1):
            self.events[event_id] = (event_type, began_at, body)
            matched = [
                w.webhook_id for w in self.webhooks.values() if w.customer_id == customer_id and w.status in TAKING
            ]
            for webhook_id in matched:
                self.deliveries[webhook_id][event_id] = Pending(webhook_id, event_id, began_at, customer_id)
                self.note("published", webhook_id, event_id)
            ours = [webhook_id for webhook_id in matched if shard_of(webhook_id) in own]
            others = sorted({shard_of(webhook_id) for webhook_id in matched} - own)
            rows.append((number, began_at, len(matched), ours, others))
        return rows

    # --- settling --------------------------------------------------------------------------------------------------

    def _settle(self, params: Params, began_at: datetime) -> list[Row]:
        owned = {
            number: last_seq
            for number, epoch, last_seq in zip(params["shards"], params["epochs"], params["last_seqs"], strict=True)
            if self._shard(number).owner == params["worker"] and self._shard(number).epoch == epoch
        }
        if len(owned) < params["shard_count"]:
            return [(len(owned), None, None, 1)]
        names = (
            "shard", "webhook_id", "due_at", "event_id", "attempt", "status", "attempt_count", "retry_in", "outcome",
            "reason", "response_status", "danger",
        )  # fmt: skip
        items = [
            dict[str, Any](zip(names, item, strict=True))
            for item in zip(*(params[name] for name in names), strict=True)
        ]
        if any(item["event_id"] in self.refused and item["outcome"] is not None for item in items):
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
                next_due_at, item["outcome"], item["reason"], item["response_status"],
            )  # fmt: skip
            logged.append(row)
            if next_due_at is None:
                del self.deliveries[webhook_id][event_id]
            else:
                pending = self.deliveries[webhook_id][event_id]
                pending.due_at, pending.attempt = next_due_at, item["attempt_count"]
                pending.danger = int(item["danger"])
        for row in logged:
            self.log[shard_of(row.webhook_id)].append(row)
            self.note("logged", row.webhook_id, row.event_id, row.seq, row.status, row.attempt_count, row.reason)
            self.on_logged(row)
        total = [(len(owned), None, None, 1)]
        return total + [(len(owned), shard, owned[shard] + count, count) for shard, count in counts.items()]

    def _is_as_it_was(self, item: Params) -> bool:
        row = self.deliveries[item["webhook_id"]].get(item["event_id"])
        if row is None or row.due_at != item["due_at"] or row.attempt != item["attempt"]:
            return False
        if item["retry_in"] is None and item["status"] == "cancelled" and item["outcome"] is None:
            return self.webhooks[item["webhook_id"]].status in OFF
        return True

    def _succeeded_last(self, params: Params, _: datetime) -> list[Row]:
        found: list[Row] = []
        for webhook_id, shard, until in zip(params["webhook_id"], params["shard"], params["until"], strict=True):
            log = self.log[int(shard)]
            rows = [row for row in log if until - params["reach"] < row.seq <= until]
            if any(row.webhook_id == webhook_id and row.outcome == "succeeded" for row in rows):
                found.append((webhook_id,))
        return found

    # --- webhooks --------------------------------------------------------------------------------------------------

    def change(self, webhook: Webhook) -> Webhook:
        """Commits a change."""
        webhook = replace(webhook, version=webhook.version + 1, update_time=self.now())
        self.webhooks[webhook.webhook_id] = webhook
        self.note("webhook", webhook.webhook_id, webhook.status, webhook.version)
        self.on_changed(webhook)
        return webhook

    def _get(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.webhooks[params["id"]]
        return [] if webhook.status is WebhookStatus.DELETED else [_columns(webhook)]

    def _changed_lately(self, _: Params, now: datetime) -> list[Row]:
        since = now - timedelta(seconds=15)
        return [_columns(webhook) for webhook in self.webhooks.values() if webhook.update_time > since]

    def _set_status(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.webhooks[params["id"]]
        if webhook.status.value not in params["from_statuses"] or params["version"] not in {None, webhook.version}:
            return []
        status = WebhookStatus(params["status"])
        return [_columns(self.change(replace(webhook, status=status, status_reason=params["reason"])))]

    def _reopen(self, params: Params, now: datetime) -> list[Row]:
        webhook = self.webhooks[params["id"]]
        if webhook.status is not WebhookStatus.DISABLED:
            return []
        self.health[webhook.webhook_id] = {"breaker": "half_open", "at": now}
        return [_columns(self.change(replace(webhook, status=WebhookStatus.ACTIVE, status_reason="")))]

    def _update(self, params: Params, _: datetime) -> list[Row]:
        webhook = self.webhooks[params["id"]]
        if webhook.status is WebhookStatus.DELETED or webhook.version != params["version"]:
            return []
        names = ("url", "timeout_seconds", "max_in_flight", "rate_limit_per_second")
        delays = params["retry_delays_seconds"]
        changes = {name: params[name] for name in names}
        changed = replace(webhook, retry_delays_seconds=None if delays is None else tuple(delays), **changes)
        return [_columns(self.change(changed))]

    # --- health ----------------------------------------------------------------------------------------------------

    def _load_health(self, params: Params, now: datetime) -> list[Row]:
        rows: list[Row] = []
        for webhook_id in params["ids"]:
            known = self.health.get(webhook_id)
            if known is not None:
                passed = (now - known["at"]).total_seconds()
                failing, blocked = known.get("failing"), known.get("blocked")
                rows.append((
                    webhook_id, known["breaker"], max(0.0, (known.get("probe_in") or 0.0) - passed),
                    known.get("probe_count", 0), None if failing is None else failing + passed,
                    known.get("failure_count", 0), known.get("blocked_count", 0),
                    None if blocked is None else blocked + passed,
                ))  # fmt: skip
        return rows

    def _save_health(self, params: Params, now: datetime) -> list[Row]:
        names = ("breaker", "probe_in", "probe_count", "failing", "failure_count", "blocked_count", "blocked")
        for at, webhook_id in enumerate(params["webhook_id"]):
            if self.shards[shard_of(webhook_id)].owner == params["worker"]:
                self.health[webhook_id] = {"at": now, **{name: params[name][at] for name in names}}
        return []

    def _forget_health(self, params: Params, _: datetime) -> list[Row]:
        for webhook_id in params["ids"]:
            if self.shards[shard_of(webhook_id)].owner == params["worker"]:
                self.health.pop(webhook_id, None)
        return []

    # --- hints -----------------------------------------------------------------------------------------------------

    def _notify(self, params: Any) -> list[Row]:
        for queue in list(self.listeners):
            if self.random.random() >= self.weather.lost_hint:
                self.loop.call_later(self.latency(), queue.put_nowait, params[0], context=_NOBODYS)
        return []

    def cut_listeners(self) -> None:
        """Ends the connections on which hints are heard."""
        for queue in list(self.listeners):
            queue.put_nowait(None)


def _answer(
    answered: asyncio.Future[list[Row]], rows: list[Row] | None, error: Exception | None, is_lost: bool
) -> None:
    if answered.done():  # whoever asked has given up
        return
    if is_lost:
        answered.set_exception(psycopg.OperationalError("the connection was lost after the statement was run"))
    elif error is not None:
        answered.set_exception(error)
    else:
        assert rows is not None
        answered.set_result(rows)


def _columns(webhook: Webhook) -> Row:
    return (
        webhook.webhook_id, webhook.customer_id, webhook.name, webhook.url, webhook.sealed_secret, webhook.secret_hint,
        list(webhook.events), webhook.status.value, webhook.status_reason,
        None if webhook.retry_delays_seconds is None else list(webhook.retry_delays_seconds), webhook.timeout_seconds,
        webhook.max_in_flight, webhook.rate_limit_per_second, webhook.headers, webhook.labels, webhook.description,
        webhook.version, webhook.create_time, webhook.update_time,
    )  # fmt: skip
