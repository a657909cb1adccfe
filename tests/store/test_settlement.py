"""Settling: the fence, the compare-and-set, and a log without holes."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import new_event, new_webhook, new_worker, pending, publish, succeeded, to_retry
from webhook_grpc.domain.model import DeliveryStatus, PendingDelivery
from webhook_grpc.domain.retry import Decision
from webhook_grpc.domain.settlement import Settlement
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.ownership.leases import OwnedShard

pytestmark = pytest.mark.fast

LOG = "SELECT shard, seq, status, attempt_count, outcome, next_due_at FROM attempts ORDER BY shard, seq"


class Owner:
    """A process that owns every shard."""

    def __init__(self, worker: UUID, shards: dict[int, OwnedShard], connection: LoopConnection) -> None:
        self.worker = worker
        self.shards = shards
        self._connection = connection

    async def settle(self, *batch: Settlement) -> bool:
        answer = await settle(self._connection, self.worker, self.shards, batch)
        for shard, last_seq in answer.last_seqs.items():
            self.shards[shard].last_seq = last_seq
        return answer.ours


@pytest.fixture
async def owner(connection: LoopConnection) -> Owner:
    worker = new_worker()
    await leases.register(connection, worker, 60)
    return Owner(worker, await leases.take(connection, worker, 64), connection)


@pytest.fixture
async def deliveries(database: Database, connection: LoopConnection) -> list[PendingDelivery]:
    """Six deliveries of two webhooks."""
    for _ in range(2):
        await new_webhook(database)
    return pending(await publish(connection, *(new_event() for _ in range(3))))


async def test_an_ended_delivery_leaves_the_outbox_and_stands_in_the_log(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    assert await owner.settle(*map(succeeded, deliveries))
    assert postgres.rows("SELECT * FROM deliveries") == []
    log = postgres.rows(LOG)
    assert {row[2:] for row in log} == {("succeeded", 1, "succeeded", None)}
    assert len(log) == 6


async def test_seq_is_dense_in_each_shard_over_many_batches(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    for delivery in deliveries:
        assert await owner.settle(succeeded(delivery))
    seqs: dict[int, list[int]] = {}
    for shard, seq, *_ in postgres.rows(LOG):
        seqs.setdefault(shard, []).append(seq)
    assert list(seqs.values()) == [[1, 2, 3], [1, 2, 3]]


async def test_a_failed_delivery_moves_to_its_next_due_time_and_the_log_says_when(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    assert await owner.settle(to_retry(deliveries[0], seconds=60))
    [(due_at, attempt, in_time)] = postgres.rows(
        "SELECT due_at, attempt, due_at BETWEEN now() + interval '55 s' AND now() + interval '60 s'"
        " FROM deliveries WHERE attempt > 0"
    )
    assert (attempt, in_time) == (1, True)
    [row] = postgres.rows(LOG)
    assert row[2:] == ("pending", 1, "http_error", due_at)


async def test_the_same_batch_again_changes_nothing(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    batch = [succeeded(deliveries[0]), to_retry(deliveries[1])]
    assert await owner.settle(*batch)
    before = postgres.rows(LOG), postgres.rows("SELECT * FROM deliveries ORDER BY 1, 2, 3, 4")
    assert await owner.settle(*batch)
    assert (postgres.rows(LOG), postgres.rows("SELECT * FROM deliveries ORDER BY 1, 2, 3, 4")) == before


async def test_a_process_whose_shard_was_taken_settles_nothing(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres, connection: LoopConnection
) -> None:
    postgres.rows("UPDATE workers SET lease_until = now() - interval '1 second'")
    heir = new_worker()
    await leases.register(connection, heir, 60)
    assert len(await leases.take(connection, heir, 64)) == 64
    assert not await owner.settle(*map(succeeded, deliveries))
    assert postgres.rows(LOG) == []
    assert postgres.rows("SELECT count(*) FROM deliveries") == [(6,)]


async def test_a_process_that_gave_its_shards_back_settles_nothing(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres, connection: LoopConnection
) -> None:
    await leases.release(connection, owner.worker, owner.shards)
    assert not await owner.settle(*map(succeeded, deliveries))
    assert postgres.rows(LOG) == []


async def test_one_lost_shard_holds_back_the_whole_batch(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    postgres.rows("UPDATE shards SET epoch = epoch + 1 WHERE shard = %s", [deliveries[0].shard])
    assert not await owner.settle(*map(succeeded, deliveries))
    assert postgres.rows(LOG) == []


async def test_after_readoption_the_statement_of_the_old_epoch_is_dead_and_seq_goes_on(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres, connection: LoopConnection
) -> None:
    assert await owner.settle(succeeded(deliveries[0]))
    old = dict(owner.shards)
    owner.shards = await leases.readopt(connection, owner.worker, list(owner.shards))
    answer = await settle(connection, owner.worker, old, [succeeded(deliveries[1])])
    assert not answer.ours
    assert await owner.settle(*map(succeeded, deliveries))
    assert sorted(row[:2] for row in postgres.rows(LOG)) == [
        (shard, seq) for shard in sorted({d.shard for d in deliveries}) for seq in (1, 2, 3)
    ]


async def test_a_delivery_that_was_attempted_meanwhile_is_left_alone(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    stale = replace(deliveries[0], attempt=3)
    assert await owner.settle(succeeded(stale))
    assert postgres.rows(LOG) == []


async def test_a_cancelled_delivery_ends_without_an_attempt(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    postgres.rows("UPDATE webhooks SET status = 'disabled'")
    assert await owner.settle(Settlement(deliveries[0], Decision(DeliveryStatus.CANCELLED), None))
    [row] = postgres.rows(LOG)
    assert row[2:] == ("cancelled", 0, None, None)


async def test_what_was_published_since_a_webhook_was_switched_on_again_is_not_cancelled(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    """By a process that still remembers it as disabled."""
    assert await owner.settle(Settlement(deliveries[0], Decision(DeliveryStatus.CANCELLED), None))
    assert postgres.rows(LOG) == []
    assert postgres.rows("SELECT count(*) FROM deliveries") == [(len(deliveries),)]


async def test_webhook_logs_shows_attempts_with_exactly_the_specified_columns(
    owner: Owner, deliveries: list[PendingDelivery], postgres: TestPostgres
) -> None:
    postgres.rows("UPDATE webhooks SET status = 'disabled'")
    await owner.settle(to_retry(deliveries[0]), Settlement(deliveries[1], Decision(DeliveryStatus.CANCELLED), None))
    columns = postgres.rows(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = 'webhook_logs'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert columns == [
        ("id", "bigint"),
        ("webhook_id", "bigint"),
        ("event_type", "text"),
        ("payload", "jsonb"),
        ("response_status", "integer"),
        ("response_body", "text"),
        ("retry_count", "integer"),
        ("created_at", "timestamp with time zone"),
    ]
    [row] = postgres.rows("SELECT * FROM webhook_logs")
    assert row[1:7] == (
        deliveries[0].webhook_id,
        "job.completed",
        {"event": "job.completed", "timestamp": 1_700_000_000, "data": {}},
        500,
        "no",
        0,
    )


@pytest.mark.parametrize(
    "data", [b'"\\u0000"', b"[1e131071]", b"[1E+99999]", b'{"a":1e200000}'], ids=["nul", "bomb", "bomb E", "overflow"]
)
async def test_webhook_logs_can_be_read_whatever_the_body_is(
    database: Database, connection: LoopConnection, owner: Owner, postgres: TestPostgres, data: bytes
) -> None:
    await new_webhook(database)
    [delivery] = pending(await publish(connection, new_event(data=data)))
    result = succeeded(delivery)
    assert result.result is not None
    hostile = replace(result, result=replace(result.result, response_body=b"\xff\x00<script>"))
    await owner.settle(hostile)
    [(payload, text)] = postgres.rows("SELECT payload, response_body FROM webhook_logs")
    assert payload == delivery.body.decode()
    assert text == "\\377\\000<script>"
