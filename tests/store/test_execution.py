"""Commands are carried out once, by the owner alone, and each is a row of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import (
    ALL_SHARDS,
    AUDIT,
    CUSTOMER,
    new_event,
    new_event_id,
    new_webhook,
    new_worker,
    pending,
    publish,
    succeeded,
    to_retry,
)
from webhook_grpc.domain.command import Command, Kind, TestEvent
from webhook_grpc.domain.errors import AlreadyExists
from webhook_grpc.domain.model import (
    AttemptResult,
    Delivery,
    DeliveryStatus,
    Outcome,
    PendingDelivery,
    Webhook,
    WebhookStatus,
)
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.engine.attempt import expired
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.log import feed, lookup
from webhook_grpc.store.outbox import (
    commands,
    due,
    execution,
    settlement,
)
from webhook_grpc.store.outbox.due import FetchRequest
from webhook_grpc.store.outbox.execution import ExecuteAnswer
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard
from webhook_grpc.store.registry import webhooks


class Owner:
    """The owner of all shards, as far as these tests need one."""

    def __init__(self, database: Database, connection: LoopConnection) -> None:
        self.database = database
        self.connection = connection
        self.worker = new_worker()
        self.shards: dict[int, OwnedShard] = {}

    async def start(self) -> None:
        await leases.register(self.connection, self.worker, 60)
        self.shards = await leases.take(self.connection, self.worker, 64)

    async def waiting(self) -> list[Command]:
        return await commands.waiting(self.connection, ALL_SHARDS, 100)

    async def execute(self, *batch: Command) -> ExecuteAnswer:
        answer = await execution.execute(self.connection, self.worker, self.shards, batch or await self.waiting())
        for done in answer.executed:
            self.shards[done.shard].last_seq = max(self.shards[done.shard].last_seq, done.seq)
        return answer

    async def settle(self, *batch: Settlement) -> None:
        answer = await settlement.settle(self.connection, self.worker, self.shards, batch)
        assert answer.ours
        assert answer.changed_count == len(batch)
        for shard, last_seq in answer.last_seqs.items():
            self.shards[shard].last_seq = last_seq

    async def ask(self, kind: Kind, delivery: PendingDelivery) -> None:
        await commands.insert(
            self.database, kind, delivery.customer_id, delivery.webhook_id, delivery.event_id, audit=AUDIT
        )


@pytest.fixture
async def owner(database: Database, connection: LoopConnection) -> Owner:
    owner = Owner(database, connection)
    await owner.start()
    return owner


async def new_delivery(owner: Owner, **webhook: Any) -> PendingDelivery:
    await new_webhook(owner.database, **webhook)
    [delivery] = pending(await publish(owner.connection, new_event()))
    return delivery


async def standing(owner: Owner, delivery: PendingDelivery) -> Delivery:
    return await lookup.get_delivery(owner.database, CUSTOMER, delivery.event_id, delivery.webhook_id)


def outbox(postgres: TestPostgres) -> list[tuple[Any, ...]]:
    return postgres.rows("SELECT webhook_id, event_id, attempt, trigger, due_at FROM deliveries")


def log(postgres: TestPostgres) -> list[tuple[Any, ...]]:
    return postgres.rows("SELECT status, attempt_count, outcome, trigger FROM attempts ORDER BY shard, seq")


async def test_a_failed_delivery_begins_anew_with_one_attempt(owner: Owner, postgres: TestPostgres) -> None:
    delivery = await new_delivery(owner)
    await owner.settle(failed(delivery))
    await owner.ask(Kind.RETRY, delivery)

    answer = await owner.execute()

    assert [done.status for done in answer.executed] == [DeliveryStatus.PENDING]
    assert log(postgres) == [("failed", 1, "http_error", "scheduled"), ("pending", 1, None, "manual")]
    now = await standing(owner, delivery)
    assert now.next_attempt_time is not None
    assert outbox(postgres) == [(delivery.webhook_id, delivery.event_id, 1, "manual", now.next_attempt_time)]
    assert await owner.waiting() == []


async def test_what_is_pending_does_not_begin_anew(owner: Owner, postgres: TestPostgres) -> None:
    fresh = await new_delivery(owner)
    await owner.ask(Kind.RETRY, fresh)
    assert not (await owner.execute()).executed
    await owner.settle(to_retry(fresh))
    await owner.ask(Kind.RETRY, fresh)
    assert not (await owner.execute()).executed

    assert len(outbox(postgres)) == 1
    assert await owner.waiting() == [], "a command that found nothing to do is gone too"


async def test_a_command_that_is_executed_twice_is_carried_out_once(owner: Owner, postgres: TestPostgres) -> None:
    """As after an answer that was lost."""
    delivery = await new_delivery(owner)
    await owner.settle(succeeded(delivery))
    await owner.ask(Kind.RETRY, delivery)
    batch = await owner.waiting()

    assert len((await owner.execute(*batch)).executed) == 1
    assert not (await owner.execute(*batch)).executed

    assert len(outbox(postgres)) == 1
    assert len(log(postgres)) == 2


async def test_a_retry_and_a_replay_of_one_delivery_in_one_batch_begin_it_once(
    owner: Owner, postgres: TestPostgres
) -> None:
    delivery = await new_delivery(owner)
    await owner.settle(failed(delivery))
    await owner.ask(Kind.REPLAY, delivery)
    await owner.ask(Kind.RETRY, delivery)

    assert len((await owner.execute()).executed) == 1

    assert len(outbox(postgres)) == 1
    assert await owner.waiting() == []


@pytest.mark.parametrize("status", [WebhookStatus.DISABLED, WebhookStatus.DELETED])
async def test_nothing_begins_anew_for_a_webhook_that_was_switched_off(
    owner: Owner, postgres: TestPostgres, status: WebhookStatus
) -> None:
    delivery = await new_delivery(owner)
    await owner.settle(failed(delivery))
    await owner.ask(Kind.RETRY, delivery)
    await set_status(owner, delivery.webhook_id, status)

    assert not (await owner.execute()).executed

    assert outbox(postgres) == []
    assert await owner.waiting() == []


async def test_an_event_that_nobody_got_begins_with_no_attempt_made(owner: Owner, postgres: TestPostgres) -> None:
    await publish(owner.connection, event := new_event())
    webhook_id = await new_webhook(owner.database)
    await commands.insert(owner.database, Kind.REPLAY, CUSTOMER, webhook_id, event.event_id, audit=AUDIT)

    await owner.execute()

    assert log(postgres) == [("pending", 0, None, "replay")]
    [(_, _, attempt, trigger, due_at)] = outbox(postgres)
    assert (attempt, trigger) == (0, "replay")
    now = await lookup.get_delivery(owner.database, CUSTOMER, event.event_id, webhook_id)
    assert (now.status, now.attempt_count, now.next_attempt_time) == (DeliveryStatus.PENDING, 0, due_at)


@pytest.mark.parametrize("attempts", [0, 1, 2])
async def test_a_pending_delivery_is_cancelled_wherever_it_stands(
    owner: Owner, postgres: TestPostgres, attempts: int
) -> None:
    delivery = await new_delivery(owner)
    for number in range(attempts):
        [(_, _, _, _, due_at)] = outbox(postgres)
        await owner.settle(to_retry(at(delivery, number, due_at)))
    await owner.ask(Kind.CANCEL, delivery)

    answer = await owner.execute()

    assert [done.status for done in answer.executed] == [DeliveryStatus.CANCELLED]
    assert outbox(postgres) == []
    assert log(postgres)[-1] == ("cancelled", attempts, None, "scheduled")


@pytest.mark.parametrize("replay_id", [7, 8])
async def test_the_cancellation_of_a_replay_ends_only_what_that_replay_began(
    owner: Owner, postgres: TestPostgres, replay_id: int
) -> None:
    delivery = await new_delivery(owner)
    await owner.settle(failed(delivery))
    await owner.ask(Kind.REPLAY, delivery)
    postgres.rows("UPDATE commands SET replay_id = 7")
    await owner.execute()
    await owner.ask(Kind.CANCEL, delivery)
    postgres.rows("UPDATE commands SET replay_id = %s", [replay_id])

    await owner.execute()

    assert len(outbox(postgres)) == (replay_id != 7)
    assert postgres.rows("SELECT count(*) FROM commands") == [(0,)]
    assert postgres.rows("SELECT count(*) FROM attempts WHERE replay_id = 7 AND status = 'cancelled'") == [
        (int(replay_id == 7),)
    ]


async def test_what_has_ended_is_not_cancelled(owner: Owner, postgres: TestPostgres) -> None:
    delivery = await new_delivery(owner)
    await owner.settle(succeeded(delivery))
    await owner.ask(Kind.CANCEL, delivery)

    assert not (await owner.execute()).executed

    assert [row[0] for row in log(postgres)] == ["succeeded"]


async def test_an_attempt_that_ends_after_the_cancellation_changes_nothing(
    owner: Owner, postgres: TestPostgres
) -> None:
    delivery = await new_delivery(owner)
    await owner.ask(Kind.CANCEL, delivery)
    await owner.execute()

    answer = await settlement.settle(owner.connection, owner.worker, owner.shards, [succeeded(delivery)])

    assert answer.changed_count == 0
    assert [row[0] for row in log(postgres)] == ["cancelled"]


async def test_only_the_owner_carries_out_commands(owner: Owner, postgres: TestPostgres) -> None:
    delivery = await new_delivery(owner)
    await owner.ask(Kind.CANCEL, delivery)
    stranger = new_worker()
    stale = {shard: OwnedShard(owned.epoch - 1, owned.last_seq) for shard, owned in owner.shards.items()}

    batch = await owner.waiting()
    assert not (await execution.execute(owner.connection, stranger, owner.shards, batch)).ours
    assert not (await execution.execute(owner.connection, owner.worker, stale, batch)).ours

    assert len(outbox(postgres)) == 1
    assert await owner.waiting() == batch


async def test_commands_and_results_share_one_dense_log(owner: Owner, postgres: TestPostgres) -> None:
    webhook_id = await new_webhook(owner.database)
    for _ in range(3):
        [delivery] = pending(await publish(owner.connection, new_event()))
        await owner.settle(failed(delivery))
        await owner.ask(Kind.RETRY, delivery)
        await owner.execute()
        await owner.ask(Kind.CANCEL, delivery)
        await owner.execute()

    shard = webhook_id % 64
    assert [seq for (seq,) in postgres.rows("SELECT seq FROM attempts ORDER BY seq")] == list(range(1, 10))
    changes = await feed.read(owner.database, (0,) * 64, tuple(9 if n == shard else 0 for n in range(64)))
    assert [change.delivery.status.value for change in changes] == ["failed", "pending", "cancelled"] * 3


async def test_the_result_of_a_test_is_logged_once_and_leaves_no_delivery_behind(
    owner: Owner, postgres: TestPostgres
) -> None:
    webhook_id = await new_webhook(owner.database)
    event = TestEvent(new_event_id(), CUSTOMER, webhook_id, "webhook.test", b'{"event":"","data":{}}', 10)
    await commands.insert_test(owner.database, event, audit=AUDIT)
    [asked] = await owner.waiting()
    result = AttemptResult(
        Outcome.SUCCEEDED, datetime.now(UTC), 5, response_status=200, response_headers={"server": "x"}
    )
    tested = Command(
        Kind.TEST, webhook_id, event.event_id, CUSTOMER, asked.age_seconds, DeliveryStatus.SUCCEEDED, result, ("X-Own",)
    )

    assert len((await owner.execute(tested)).executed) == 1
    assert not (await owner.execute(tested)).executed

    assert log(postgres) == [("succeeded", 1, "succeeded", "test")]
    assert outbox(postgres) == []
    now = await lookup.get_delivery(owner.database, CUSTOMER, event.event_id, webhook_id)
    assert now.last_attempt is not None
    assert now.last_attempt.own_headers == ("X-Own",)
    assert now.last_attempt.response_headers == {"server": "x"}


async def test_a_request_id_asks_once_and_is_not_taken_for_something_else(owner: Owner) -> None:
    delivery = await new_delivery(owner)

    async def ask(fingerprint: int, event_id: UUID = delivery.event_id) -> bool:
        return await commands.insert_once(
            owner.database,
            Kind.RETRY,
            CUSTOMER,
            delivery.webhook_id,
            event_id,
            request_id="again",
            fingerprint=fingerprint,
            audit=AUDIT,
        )

    assert await ask(1)
    await owner.execute()
    assert not await ask(1)
    assert await owner.waiting() == []
    with pytest.raises(AlreadyExists):
        await ask(2)


def failed(delivery: PendingDelivery) -> Settlement:
    """The last attempt of the schedule was answered with 500."""
    result = AttemptResult(Outcome.HTTP_ERROR, datetime.now(UTC), 5, response_status=500)
    return Settlement(delivery, Decision(DeliveryStatus.FAILED), result)


def at(delivery: PendingDelivery, attempt: int, due_at: datetime) -> PendingDelivery:
    """The delivery before a later attempt."""
    return PendingDelivery(
        delivery.webhook_id,
        delivery.event_id,
        due_at,
        delivery.customer_id,
        attempt,
        delivery.event_type,
        delivery.event_create_time,
        delivery.body,
    )


async def set_status(owner: Owner, webhook_id: int, status: WebhookStatus) -> Webhook:
    current = await webhooks.get(owner.database, CUSTOMER, webhook_id)
    return await webhooks.set_status(owner.database, current, status, (WebhookStatus.ACTIVE,), audit=AUDIT)


async def test_tests_that_wait_for_slow_receivers_stand_before_nothing_else(
    owner: Owner, postgres: TestPostgres
) -> None:
    """As many of a webhook as anybody likes: only the next one is read, and what others ask for is read too."""
    postgres.rows(
        "INSERT INTO commands (shard, webhook_id, event_id, command, customer_id, created_at)"
        " SELECT 0, 64, gen_random_uuid(), 'test', 1, now() FROM generate_series(1, 300) RETURNING 1"
    )
    delivery = await new_delivery(owner)
    await owner.ask(Kind.CANCEL, delivery)

    waiting = await owner.waiting()

    assert sorted((command.kind, command.webhook_id) for command in waiting) == [
        (Kind.CANCEL, delivery.webhook_id),
        (Kind.TEST, 64),
    ]


async def test_what_began_anew_without_ever_having_been_tried_expires_as_the_delivery_that_it_is(
    owner: Owner, postgres: TestPostgres
) -> None:
    """Its event was dropped in between: what ends must be what the log has as pending."""
    delivery = await new_delivery(owner)
    await owner.ask(Kind.CANCEL, delivery)
    await owner.execute()
    await owner.ask(Kind.RETRY, delivery)
    await owner.execute()
    postgres.rows("DELETE FROM events")

    request = FetchRequest(delivery.shard, delivery.webhook_id, 9, datetime(2000, 1, 1, tzinfo=UTC))
    rows = await due.fetch(owner.connection, [request])
    [found] = await due.with_bodies(owner.connection, rows)
    await owner.settle(expired(found))

    now = await standing(owner, delivery)
    assert (now.status, now.event_type) == (DeliveryStatus.EXPIRED, delivery.event_type)
