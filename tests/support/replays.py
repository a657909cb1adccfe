"""For tests of replays: events of any time, deliveries that stand anywhere, who stands in for owners, and a runner."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tests.support.postgres import TestPostgres
from tests.support.store import AUDIT, CUSTOMER
from webhook_grpc.domain.ids import first_event_id
from webhook_grpc.domain.matching import matches
from webhook_grpc.domain.model import DeliveryStatus, WebhookStatus
from webhook_grpc.domain.replay import DEFAULT_STATUSES, ReplaySpec
from webhook_grpc.store.db import Database
from webhook_grpc.store.replays import progress, selection
from webhook_grpc.store.replays import rows as replays
from webhook_grpc.store.replays.progress import ReplayWebhook, UnsettledReplay
from webhook_grpc.store.replays.selection import Choice

ALL_SHARDS: Final = range(64)
ENDED: Final = ("succeeded", "failed", "cancelled", "expired")


def spec(**fields: Any) -> ReplaySpec:
    """A replay of everything of the last day."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "webhook_ids": (),
        "event_types": (),
        "statuses": DEFAULT_STATUSES,
        "include_undelivered": False,
        "start_time": now - timedelta(days=1),
        "end_time": now + timedelta(seconds=5),
        **fields,
    }
    return ReplaySpec(**values)


@dataclass
class PastEvent:
    """An event as it was stored, and where its deliveries stand."""

    event_id: UUID
    customer_id: int
    event_type: str
    create_time: datetime
    is_test: bool
    standings: dict[int, DeliveryStatus] = field(default_factory=dict[int, DeliveryStatus])


@dataclass
class Past:
    """Events, webhooks and deliveries of two customers. What is written here directly, the service writes in time."""

    postgres: TestPostgres
    random: random.Random
    webhooks: dict[int, tuple[int, WebhookStatus, tuple[str, ...]]] = field(
        default_factory=dict[int, tuple[int, WebhookStatus, tuple[str, ...]]]
    )
    events: list[PastEvent] = field(default_factory=list[PastEvent])
    seq: int = 0

    def add_webhook(
        self,
        customer_id: int = CUSTOMER,
        status: WebhookStatus = WebhookStatus.ACTIVE,
        patterns: Sequence[str] = ("*",),
    ) -> int:
        [(webhook_id,)] = self.postgres.rows(
            "INSERT INTO webhooks (customer_id, name, url, secret, secret_hint, secret_generated, events, status)"
            " VALUES (%s, 'n', 'https://example.com/', '', '', false, %s, %s) RETURNING id",
            [customer_id, list(patterns), status.value],
        )
        self.webhooks[webhook_id] = (customer_id, status, tuple(patterns))
        return webhook_id

    def add_event(
        self,
        ago_seconds: float,
        customer_id: int = CUSTOMER,
        event_type: str = "job.completed",
        id_ahead_seconds: float = 0.01,
        *,
        is_test: bool = False,
    ) -> PastEvent:
        """An event of so long ago, whose id was made a little before it was stored."""
        create_time = datetime.now(UTC) - timedelta(seconds=ago_seconds)
        first = first_event_id(create_time - timedelta(seconds=id_ahead_seconds))
        event = PastEvent(
            UUID(int=first.int | self.random.getrandbits(70)), customer_id, event_type, create_time, is_test
        )
        self.postgres.rows(
            "INSERT INTO events (event_id, customer_id, event_type, occurred_at, created_at, body, data_start,"
            " test_webhook_id) VALUES (%s, %s, %s, now(), %s, '{}', 0, %s)",
            [event.event_id, customer_id, event_type, create_time, 1 if is_test else None],
        )
        self.events.append(event)
        return event

    def stands(self, event: PastEvent, webhook_id: int, *history: str) -> None:
        """The log of a delivery: one row for each status. `unlogged`: it waits in the outbox for its first attempt."""
        if history != ("unlogged",):
            for status in history:
                self.log(event, webhook_id, status)
        if history[-1] in {"unlogged", "pending"}:
            self.postgres.rows(
                "INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt)"
                " VALUES (%s %% 64, %s, %s, %s, %s, %s)",
                [
                    webhook_id, webhook_id,
                    event.create_time + timedelta(seconds=0 if history[-1] == "unlogged" else 3600),
                    event.event_id, event.customer_id, 0 if history[-1] == "unlogged" else 1,
                ],
            )  # fmt: skip
            event.standings[webhook_id] = DeliveryStatus.PENDING
        else:
            event.standings[webhook_id] = DeliveryStatus(history[-1])

    def log(self, event: PastEvent, webhook_id: int, status: str, replay_id: int | None = None) -> None:
        """One row of the log."""
        self.seq += 1
        self.postgres.rows(
            "INSERT INTO attempts (shard, seq, created_at, customer_id, webhook_id, event_id, event_type,"
            " event_created_at, status, attempt_count, replay_id)"
            " VALUES (%s %% 64, %s, now(), %s, %s, %s, %s, %s, %s, 1, %s)",
            [
                webhook_id, self.seq, event.customer_id, webhook_id, event.event_id, event.event_type,
                event.create_time, status, replay_id,
            ],
        )  # fmt: skip

    def chosen(self, wanted: ReplaySpec) -> list[tuple[UUID, int]]:
        """What a replay has to choose, told in other words than the store's."""
        return [
            (event.event_id, webhook_id)
            for event in sorted(self.events, key=lambda event: event.event_id)
            for webhook_id in sorted(self.webhooks)
            if _is_of_window(wanted, event) and self._is_chosen(wanted, event, webhook_id)
        ]

    def _is_chosen(self, wanted: ReplaySpec, event: PastEvent, webhook_id: int) -> bool:
        customer_id, status, patterns = self.webhooks[webhook_id]
        if customer_id != wanted.customer_id or (wanted.webhook_ids and webhook_id not in wanted.webhook_ids):
            return False
        if status not in {WebhookStatus.ACTIVE, WebhookStatus.PAUSED}:
            return False
        if webhook_id in event.standings:
            return event.standings[webhook_id] in wanted.statuses
        return wanted.include_undelivered and matches(event.event_type, patterns)

    def carry_out(self, count: int | None = None) -> None:
        """Stands in for the owners: carries out commands, as `store/outbox/commands.py` does, one after the other."""
        commands = self.postgres.rows(
            "SELECT webhook_id, event_id, command, replay_id FROM commands ORDER BY created_at, webhook_id, event_id"
        )
        events = {event.event_id: event for event in self.events}
        for webhook_id, event_id, command, replay_id in commands[:count]:
            event = events[event_id]
            self.postgres.rows(
                "DELETE FROM commands WHERE webhook_id = %s AND event_id = %s AND command = %s",
                [webhook_id, event_id, command],
            )
            if command == "cancel":
                if self.postgres.rows(
                    "DELETE FROM deliveries WHERE webhook_id = %s AND event_id = %s AND replay_id = %s RETURNING 1",
                    [webhook_id, event_id, replay_id],
                ):
                    self.log(event, webhook_id, "cancelled", replay_id)
                continue
            self.log(event, webhook_id, "pending", replay_id)
            self.postgres.rows(
                "INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger, replay_id)"
                " VALUES (%s %% 64, %s, now(), %s, %s, 1, 'replay', %s)",
                [webhook_id, webhook_id, event_id, event.customer_id, replay_id],
            )

    def end(self, status: str, count: int | None = None) -> None:
        """Stands in for the owners: what replays have begun anew ends."""
        events = {event.event_id: event for event in self.events}
        rows = self.postgres.rows(
            "SELECT webhook_id, event_id, replay_id FROM deliveries WHERE replay_id IS NOT NULL ORDER BY 2, 1"
        )
        for webhook_id, event_id, replay_id in rows[:count]:
            self.postgres.rows("DELETE FROM deliveries WHERE webhook_id = %s AND event_id = %s", [webhook_id, event_id])
            self.log(events[event_id], webhook_id, status, replay_id)

    def commanded(self, command: str = "replay") -> list[tuple[UUID, int]]:
        """The commands that wait."""
        rows = self.postgres.rows(
            "SELECT event_id, webhook_id FROM commands WHERE command = %s ORDER BY 1, 2", [command]
        )
        return [(event_id, webhook_id) for event_id, webhook_id in rows]


def _is_of_window(wanted: ReplaySpec, event: PastEvent) -> bool:
    if event.is_test or event.customer_id != wanted.customer_id:
        return False
    if wanted.event_types and not matches(event.event_type, wanted.event_types):
        return False
    return wanted.start_time <= event.create_time < wanted.end_time


async def started(database: Database, wanted: ReplaySpec) -> UnsettledReplay:
    """A new replay, as its runner sees it."""
    replay = await replays.create(database, wanted, None, None, 10, audit=AUDIT)
    return await unsettled(database, replay.replay_id)


async def unsettled(database: Database, replay_id: int) -> UnsettledReplay:
    """A replay that is attended to."""
    [found] = [r for r in await progress.unsettled(database, ALL_SHARDS, 0) if r.replay_id == replay_id]
    return found


async def turns(database: Database, replay: UnsettledReplay, pending_max: int = 10**6) -> list[ReplayWebhook]:
    """The webhooks whose turn it is."""
    return await progress.webhooks_with_room(database, replay, pending_max)


async def step(database: Database, turn: ReplayWebhook, events_max: int = 500, room: int = 10**6) -> int | None:
    """What a runner does in a turn, once."""
    choice = Choice([], None)
    if turn.is_switched_on:
        choice = await selection.choose(database, turn.spec, [turn.webhook_id], turn.position, events_max)
    return await progress.advance(database, turn, choice.fitting(room))


async def run_through(
    database: Database, replay: UnsettledReplay, events_max: int = 500, room: int = 10**6
) -> UnsettledReplay:
    """Carries a replay on to the end of its window, to all of its webhooks."""
    while found := await turns(database, replay):
        for turn in found:
            assert await step(database, turn, events_max, room) is not None
    replay = await unsettled(database, replay.replay_id)
    assert replay.is_exhausted
    return replay
