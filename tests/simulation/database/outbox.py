"""The outbox: events are published into it, and what is due is looked up in it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import psycopg

from tests.simulation.model.outbox import EventTakenError
from tests.simulation.model.rows import OutboxRow
from webhook_grpc.domain.ids import SHARD_COUNT, shard_of
from webhook_grpc.domain.model import Danger, NewEvent, PendingDelivery
from webhook_grpc.store import clock
from webhook_grpc.store.outbox import due as due_rows
from webhook_grpc.store.outbox import expiry, misdated, poison_marks, publishing
from webhook_grpc.store.ownership.leases import OwnedShard

from .statements import Params, Row, Statement, reads, rows_of, writes
from .stored import EPOCH, Stored


@dataclass(frozen=True, slots=True)
class Outbox:
    """The statements of `store.outbox` by which is published, and what is due is found, and marked."""

    stored: Stored

    def statements(self) -> dict[str, Statement]:
        return {
            publishing.PUBLISH: writes(self._publish),
            publishing.PUBLISH_ONE: writes(self._publish_one),
            publishing.SELECT_STORED_EVENTS: reads(self._stored),
            due_rows.SELECT_PENDING_WEBHOOKS: reads(self._discover),
            due_rows.SELECT_DUE_ROWS: reads(self._fetch),
            due_rows.SELECT_REPLAYING_WEBHOOKS: reads(self._replaying),
            due_rows.SELECT_DUE_REPLAYS: reads(self._fetch_replays),
            due_rows.SELECT_BODIES: reads(self._bodies),
            due_rows.SELECT_TYPES: reads(lambda params: [(*row[:-2], b"", None) for row in self._bodies(params)]),
            clock.SELECT_BELIEVED_TIME: reads(lambda _: [(self.stored.model.now,)]),
            expiry.SELECT_OVERDUE_EXIST: reads(lambda params: [(self.stored.model.overdue_exist(params["bound"]),)]),
            expiry.SELECT_OVERDUE_ROWS: reads(self._overdue),
            poison_marks.SET_DANGER: writes(self._set_danger),
            misdated.SELECT_MISDATED_MAY_EXIST: reads(lambda _: [(False,)]),  # the played clock does not step
        }

    def _publish(self, params: Params) -> list[Row]:
        names = ("event_id", "customer_id", "event_type", "body")
        events = [
            NewEvent(event_id, customer_id, event_type, EPOCH, body, 0, {}, request_id=None, fingerprint=0)
            for event_id, customer_id, event_type, body in rows_of(params, *names)
        ]  # nobody uses request ids here
        try:
            answers = self.stored.model.publish(events)
        except EventTakenError:
            raise psycopg.errors.UniqueViolation("sent once more, and the first one has stored them") from None
        rows = list[Row]()
        for number, answer in enumerate(answers, start=1):
            assert answer is not None
            rows.append(self._published(number, answer.event_id, set(params["own_shards"])))
        return rows

    def _publish_one(self, params: Params) -> list[Row]:
        [(_, create_time, _, webhook_ids, _)] = self._publish(
            {name: [value] for name, value in params.items()} | {"own_shards": range(SHARD_COUNT)}
        )
        return [(create_time, webhook_id) for webhook_id in webhook_ids or [None]]

    def _published(self, number: int, event_id: UUID, own: set[int]) -> Row:
        matched = sorted(self.stored.model.matched[event_id])
        for webhook_id in matched:
            self.stored.note("published", webhook_id, event_id)
        ours = [webhook_id for webhook_id in matched if shard_of(webhook_id) in own]
        others = sorted({shard_of(webhook_id) for webhook_id in matched} - own)
        return number, self.stored.model.events[event_id].create_time, len(matched), ours, others

    def _stored(self, params: Params) -> list[Row]:
        answers = [self.stored.model.stored(event_id) for event_id in params["event_id"]]
        return [
            (number, answer.event_id, answer.create_time, answer.delivery_count)
            for number, answer in enumerate(answers, start=1)
            if answer is not None
        ]

    def _discover(self, params: Params) -> list[Row]:
        found = self.stored.model.discover(set(params["shards"]))
        return [
            (webhook_id, customer_id, status.value, event_id, is_due)
            for webhook_id, customer_id, status, event_id, is_due in found
        ]

    def _fetch(self, params: Params) -> list[Row]:
        requests = rows_of(params, "webhook_id", "room", "floor", "ahead", "fresh")
        return [
            (number, *_columns(row))
            for number, (*request, fresh) in enumerate(requests, start=1)
            for row in self.stored.model.fetch(*request, is_fresh=fresh)
        ]

    def _replaying(self, params: Params) -> list[Row]:
        return [*self.stored.model.replaying(set(params["shards"]))]

    def _fetch_replays(self, params: Params) -> list[Row]:
        return [
            (number, *_columns(row))
            for number, request in enumerate(rows_of(params, "webhook_id", "room"), start=1)
            for row in self.stored.model.fetch_replays(*request)
        ]

    def _bodies(self, params: Params) -> list[Row]:
        events = [(event_id, self.stored.model.events.get(event_id)) for event_id in params["ids"]]
        return [(event_id, *event[1:]) for event_id, event in events if event is not None]

    def _overdue(self, params: Params) -> list[Row]:
        after = OutboxRow(params["after_webhook"], params["after_due_at"], params["after_event"], 0, 0)
        rows = self.stored.model.overdue(params["shard"], params["bound"], after, params["limit"])
        return [_columns(row) for row in rows]

    def _set_danger(self, params: Params) -> list[Row]:
        names = ("webhook_id", "event_id", "due_at", "attempt")
        deliveries = [
            PendingDelivery(webhook_id, event_id, due_at, 0, attempt, "", EPOCH, b"")
            for webhook_id, event_id, due_at, attempt in rows_of(params, *names)
        ]
        owned = {number: OwnedShard(epoch, 0) for number, epoch in rows_of(params, "shard", "epoch")}
        mark = Danger(params["danger"])
        return sorted(self.stored.model.set_danger(params["worker"], owned, deliveries, mark))


def _columns(row: OutboxRow) -> Row:
    return (
        row.webhook_id, row.event_id, row.due_at, row.customer_id, row.attempt, row.danger, row.trigger, row.replay_id
    )  # fmt: skip
