"""A store with deliveries of every kind, made by the statements that make them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, LiteralString

from psycopg import sql

from tests.support.postgres import connected
from tests.support.store import (
    AUDIT,
    CUSTOMER,
    new_event,
    new_webhook,
    new_worker,
    pending,
    publish,
    succeeded,
    to_retry,
)
from webhook_grpc.domain.command import Kind
from webhook_grpc.domain.filters import DeliveryFilter
from webhook_grpc.domain.model import Delivery, DeliveryStatus, PendingDelivery, Trigger
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.lists import deliveries
from webhook_grpc.store.lists.deliveries import DeliveryKey, list_deliveries
from webhook_grpc.store.lists.pages import PageBounds
from webhook_grpc.store.outbox import commands, execution
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases

TYPES: Final = ("job.completed", "job.failed", "alert.triggered")
FATES: Final = (
    "untried", "retry", "succeeded", "retried", "failed", "cancelled", "begun anew", "begun anew and succeeded",
    "failed twice", "cancelled and begun anew",
)  # fmt: skip
ALL: Final = PageBounds(1000, 10**9)
_TABLES: Final = (
    "webhooks",
    "events",
    "deliveries",
    "attempts",
    "commands",
    "idempotency_keys",
    "audit_entries",
    "workers",
)
_COLUMNS: Final[LiteralString] = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
_OWNED: Final[LiteralString] = """
UPDATE shards SET owner = %s, epoch = %s, last_seq = %s, abandoned_at = %s WHERE shard = %s
"""
_scenes: Final = dict[str, "Rows"]()  # by their database: the statements that make one are 300


class Owner:
    """Owns every shard, and does with a delivery what it is told."""

    def __init__(self, database: Database, connection: LoopConnection) -> None:
        self._database = database
        self._connection = connection
        self._worker = new_worker()
        self._shards: dict[int, leases.OwnedShard] = {}

    async def start(self) -> None:
        await leases.register(self._connection, self._worker, 60)
        self._shards = await leases.take(self._connection, self._worker, 64)

    async def meet(self, delivery: PendingDelivery, fate: str) -> None:
        """Makes a fate of FATES of an untried delivery."""
        match fate:
            case "untried":
                pass
            case "retry":
                await self._settle(to_retry(delivery))
            case "succeeded":
                await self._settle(succeeded(delivery))
            case "retried":
                await self._settle(to_retry(delivery, seconds=-1))
                await self._settle(succeeded(await self._again(delivery)))
            case "cancelled" | "cancelled and begun anew":
                await self._cancel(delivery)
                await self._begin_anew(delivery, fate)
            case _:
                await self._settle(failed(delivery))
                await self._begin_anew(delivery, fate)

    async def _begin_anew(self, delivery: PendingDelivery, fate: str) -> None:
        if fate in {"failed", "cancelled"}:
            return
        await commands.insert(
            self._database, Kind.RETRY, delivery.customer_id, delivery.webhook_id, delivery.event_id, audit=AUDIT
        )
        waiting = await commands.waiting(self._connection, range(64), 100)
        answer = await execution.execute(self._connection, self._worker, self._shards, waiting)
        [done] = answer.executed
        self._shards[done.shard].last_seq = done.seq
        again = await self._again(delivery)
        if fate == "begun anew and succeeded":
            await self._settle(succeeded(again))
        elif fate == "failed twice":
            await self._settle(failed(again))

    async def _again(self, delivery: PendingDelivery) -> PendingDelivery:
        [(due_at, attempt, trigger)] = await self._database.rows(
            "SELECT due_at, attempt, trigger FROM deliveries WHERE event_id = %s AND webhook_id = %s",
            (delivery.event_id, delivery.webhook_id),
        )
        return replace(delivery, due_at=due_at, attempt=attempt, trigger=Trigger(trigger or "scheduled"))

    async def _cancel(self, delivery: PendingDelivery) -> None:
        for status in ("disabled", "active"):
            await self._database.rows("UPDATE webhooks SET status = %s WHERE id = %s", (status, delivery.webhook_id))
            if status == "disabled":
                await self._settle(Settlement(delivery, Decision(DeliveryStatus.CANCELLED), None))

    async def _settle(self, *batch: Settlement) -> None:
        answer = await settle(self._connection, self._worker, self._shards, batch)
        assert answer.changed_count == len(batch)
        for shard, last_seq in answer.last_seqs.items():
            self._shards[shard].last_seq = last_seq


def is_logged(delivery: Delivery) -> bool:
    """Whether the log knows it: it was tried, has ended or was begun anew."""
    return delivery.status is not DeliveryStatus.PENDING or (
        delivery.attempt_count > 0 or delivery.trigger is not Trigger.SCHEDULED
    )


def failed(delivery: PendingDelivery) -> Settlement:
    """Its last attempt failed."""
    return Settlement(delivery, Decision(DeliveryStatus.FAILED), to_retry(delivery).result)


class Rows:
    """The rows of a scene, to be put into the empty tables of the same database again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._copies: dict[str, tuple[list[sql.Identifier], bytes]] = {}
        with connected(url) as connection, connection.cursor() as cursor:
            for table in _TABLES:
                columns = [sql.Identifier(name) for (name,) in connection.execute(_COLUMNS, [table])]
                select = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT")
                with cursor.copy(select.format(sql.SQL(", ").join(columns), sql.Identifier(table))) as copy:
                    self._copies[table] = columns, b"".join(bytes(part) for part in copy)
            owned = "SELECT owner, epoch, last_seq, abandoned_at, shard FROM shards"
            self._shards: list[tuple[Any, ...]] = connection.execute(owned).fetchall()

    def put(self) -> None:
        """Puts them there."""
        with connected(self._url) as connection, connection.cursor() as cursor:
            for table, (columns, rows) in self._copies.items():
                into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), sql.SQL(", ").join(columns))
                with cursor.copy(into) as copy:
                    copy.write(rows)
            cursor.executemany(_OWNED, self._shards)


async def set_scene(database: Database, connection: LoopConnection) -> list[Delivery]:
    """Ninety deliveries to six webhooks of two customers; returns them as they stand, newest event first."""
    url = database.options.conninfo
    if url in _scenes:
        _scenes[url].put()
    else:
        await _play(database, connection)
        _scenes[url] = Rows(url)
    page = await list_deliveries(database, DeliveryFilter(None), deliveries.DELIVERIES_START, ALL)
    return list(page.items)


async def _play(database: Database, connection: LoopConnection) -> None:
    """Makes the scene, by the statements that make such deliveries."""
    chance = random.Random(7)
    for number in range(6):
        await new_webhook(database, customer_id=CUSTOMER + number % 2)
    owner = Owner(database, connection)
    await owner.start()
    fates = [fate for fate in FATES for _ in range(9)]
    chance.shuffle(fates)
    for _ in range(15):
        events = [new_event(customer_id=CUSTOMER + n, event_type=chance.choice(TYPES)) for n in range(2)]
        for delivery in pending(await publish(connection, *events)):
            await owner.meet(delivery, fates.pop())
    assert not fates


async def listed(
    database: Database, wanted: DeliveryFilter, page_size: int = 1000, before: DeliveryKey | None = None
) -> Sequence[Delivery]:
    """All deliveries of a list, in pages."""
    before = before or deliveries.DELIVERIES_START
    found: list[Delivery] = []
    while before is not None:
        page = await list_deliveries(database, wanted, before, PageBounds(page_size, 10**9))
        assert len(page.items) <= page_size
        found += page.items
        before = page.next_key
    return found
