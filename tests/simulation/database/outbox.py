"""The outbox: events are published into it, and what is due is looked up in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg

from webhook_grpc.domain.ids import shard_of
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.store import clock
from webhook_grpc.store.outbox import danger, expiry, misdated, publishing
from webhook_grpc.store.outbox import due as due_rows

from .tables import Params, Pending, Row, Statement, Tables, reads, writes

_TAKING: Final = frozenset({WebhookStatus.ACTIVE, WebhookStatus.PAUSED})


@dataclass(frozen=True, slots=True)
class Outbox:
    """The statements of `store.outbox` and `store.backlog`. Each webhook takes every type of event."""

    tables: Tables

    def statements(self) -> dict[str, Statement]:
        return {
            publishing.PUBLISH: writes(self._publish),
            publishing.SELECT_STORED_EVENTS: reads(self._stored),
            due_rows.SELECT_PENDING_WEBHOOKS: reads(self._discover),
            due_rows.SELECT_DUE_ROWS: reads(self._fetch),
            due_rows.SELECT_REPLAYING_WEBHOOKS: reads(self._replaying),
            due_rows.SELECT_DUE_REPLAYS: reads(self._fetch_replays),
            due_rows.SELECT_BODIES: reads(self._bodies),
            due_rows.SELECT_TYPES: reads(self._types),
            clock.SELECT_BELIEVED_TIME: reads(lambda _, now: [(now,)]),
            expiry.SELECT_OVERDUE_EXIST: reads(self._overdue_exist),
            expiry.SELECT_OVERDUE_ROWS: reads(self._overdue),
            danger.SET_DANGER: writes(self._set_danger),
            misdated.SELECT_MISDATED_MAY_EXIST: reads(self._nothing_is_misdated),
        }

    def _publish(self, params: Params, began_at: datetime) -> list[Row]:
        own, rows = set(params["own_shards"]), list[Row]()
        columns = (params["customer_id"], params["event_id"], params["event_type"], params["body"])
        if not self.tables.events.keys().isdisjoint(params["event_id"]):
            raise psycopg.errors.UniqueViolation("sent once more, and the first one has stored them")
        for number, (customer_id, event_id, event_type, body) in enumerate(zip(*columns, strict=True), start=1):
            self.tables.events[event_id] = (event_type, began_at, body)
            matched = [
                w.webhook_id
                for w in self.tables.webhooks.values()
                if w.customer_id == customer_id and w.status in _TAKING
            ]
            for webhook_id in matched:
                self.tables.deliveries[webhook_id][event_id] = Pending(webhook_id, event_id, began_at, customer_id)
                self.tables.published.add((webhook_id, event_id))
                self.tables.note("published", webhook_id, event_id)
            ours = [webhook_id for webhook_id in matched if shard_of(webhook_id) in own]
            others = sorted({shard_of(webhook_id) for webhook_id in matched} - own)
            rows.append((number, began_at, len(matched), ours, others))
        return rows

    def _stored(self, params: Params, _: datetime) -> list[Row]:
        rows = list[Row]()
        for number, event_id in enumerate(params["event_id"], start=1):
            if event_id in self.tables.events:
                count = sum(published == event_id for _, published in self.tables.published)
                rows.append((number, event_id, self.tables.events[event_id][1], count))
        return rows

    def _discover(self, params: Params, now: datetime) -> list[Row]:
        shards, found = set(params["shards"]), list[Row]()
        for webhook_id, rows in self.tables.deliveries.items():
            if rows and shard_of(webhook_id) in shards:
                first = min(rows.values(), key=lambda row: (row.due_at, row.event_id))
                webhook = self.tables.webhooks[webhook_id]
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
            rows = [
                r
                for r in self.tables.rows_of(webhook_id)
                if floor <= r.due_at <= until and r.trigger != "replay"
                and (not fresh or (not r.attempt and r.trigger is None))
            ]  # fmt: skip
            found += [(number, *_columns(row)) for row in rows[:room]]
        return found

    def _replaying(self, params: Params, now: datetime) -> list[Row]:
        shards = set(params["shards"])
        rows = [row for of in self.tables.deliveries.values() for row in of.values() if row.trigger == "replay"]
        due = [row for row in rows if shard_of(row.webhook_id) in shards and row.due_at <= now]
        return sorted({(row.webhook_id, row.customer_id) for row in due})

    def _fetch_replays(self, params: Params, now: datetime) -> list[Row]:
        found: list[Row] = []
        for number, (webhook_id, room) in enumerate(zip(params["webhook_id"], params["room"], strict=True), start=1):
            rows = [r for r in self.tables.rows_of(webhook_id) if r.trigger == "replay" and r.due_at <= now]
            found += [(number, *_columns(row)) for row in rows[:room]]
        return found

    def _bodies(self, params: Params, _: datetime) -> list[Row]:
        return [
            (event_id, *self.tables.events[event_id], None)
            for event_id in params["ids"]
            if event_id in self.tables.events
        ]

    def _types(self, params: Params, now: datetime) -> list[Row]:
        return [(*rest, b"", None) for *rest, _, _ in self._bodies(params, now)]

    def _overdue_exist(self, params: Params, _: datetime) -> list[Row]:
        return [(any(event_id < params["bound"] for event_id in self.tables.events),)]

    def _overdue(self, params: Params, _: datetime) -> list[Row]:
        after = params["after_webhook"], params["after_due_at"], params["after_event"]
        rows = [
            row
            for webhook_id in sorted(self.tables.deliveries)
            if shard_of(webhook_id) == params["shard"]
            for row in self.tables.rows_of(webhook_id)
            if row.event_id < params["bound"] and (webhook_id, row.due_at, row.event_id) > after
        ]
        return [_columns(row) for row in rows[: params["limit"]]]

    def _nothing_is_misdated(self, _: Params, __: datetime) -> list[Row]:
        return [(False,)]  # the played clock does not step

    def _set_danger(self, params: Params, _: datetime) -> list[Row]:
        changed: list[Row] = []
        names = ("shard", "epoch", "webhook_id", "due_at", "event_id", "attempt")
        for number, epoch, webhook_id, due_at, event_id, attempt in zip(*(params[name] for name in names), strict=True):
            shard = self.tables.shard(number)
            row = self.tables.deliveries[webhook_id].get(event_id)
            is_ours = shard.epoch == epoch and shard.owner == params["worker"]
            if is_ours and row is not None and row.due_at == due_at and row.attempt == attempt:
                row.danger = int(params["danger"])
                changed.append((webhook_id, event_id))
        return changed


def _columns(row: Pending) -> Row:
    return (
        row.webhook_id, row.event_id, row.due_at, row.customer_id, row.attempt, row.danger, row.trigger, row.replay_id
    )  # fmt: skip
