"""Publishing: what one statement makes, what repetition and bad values do."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import AUDIT, CUSTOMER, new_event, new_webhook, options, pending, publish
from webhook_grpc.domain.errors import AlreadyExists, Unavailable
from webhook_grpc.domain.model import Published, WebhookStatus
from webhook_grpc.store.connection.failures import StoreRefusal
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.registry import webhooks

pytestmark = pytest.mark.fast


async def test_an_event_and_its_deliveries_are_on_disk_when_publish_returns(
    database: Database, connection: LoopConnection, postgres: TestPostgres
) -> None:
    webhook_ids = [await new_webhook(database) for _ in range(3)]
    event = new_event(data=b'{"a": 1}')
    batch = await publish(connection, event)

    [answer] = batch.answers
    assert isinstance(answer, Published)
    assert (answer.event_id, answer.delivery_count, answer.duplicate) == (event.event_id, 3, False)
    assert postgres.rows("SELECT body, created_at FROM events") == [(event.body, answer.create_time)]
    assert sorted(delivery.webhook_id for delivery in pending(batch)) == webhook_ids
    rows = postgres.rows("SELECT webhook_id, shard, due_at, attempt FROM deliveries ORDER BY webhook_id")
    assert rows == [(webhook_id, webhook_id % 64, answer.create_time, 0) for webhook_id in webhook_ids]


async def test_deliveries_of_other_owners_are_told_only_as_shards(
    database: Database, connection: LoopConnection
) -> None:
    own, other = await new_webhook(database), await new_webhook(database)
    batch = await publishing.publish(connection, [new_event()], [own % 64])
    assert list(batch.new[0].own_webhook_ids) == [own]
    assert list(batch.new[0].other_shards) == [other % 64]


async def test_paused_webhooks_get_deliveries_and_disabled_and_deleted_ones_do_not(
    database: Database, connection: LoopConnection
) -> None:
    paused, disabled, deleted = [await new_webhook(database) for _ in range(3)]
    await new_webhook(database, customer_id=CUSTOMER + 1)
    for webhook_id, status in [
        (paused, WebhookStatus.PAUSED),
        (disabled, WebhookStatus.DISABLED),
        (deleted, WebhookStatus.DELETED),
    ]:
        webhook = await webhooks.get(database, CUSTOMER, webhook_id)
        await webhooks.set_status(database, webhook, status, (WebhookStatus.ACTIVE,), audit=AUDIT)
    assert [delivery.webhook_id for delivery in pending(await publish(connection, new_event()))] == [paused]


@pytest.mark.parametrize(
    ("patterns", "event_type", "matches"),
    [
        (("job.completed",), "job.completed", True),
        (("job.completed",), "job.completed.late", False),
        (("job.*",), "job.completed", True),
        (("job.*",), "job.completed.late", True),
        (("job.completed.*",), "job.completed", False),
        (("job.*",), "jobs.completed", False),
        (("*",), "alert.triggered", True),
        (("alert.*", "job.failed"), "job.failed", True),
    ],
)
async def test_sql_matches_patterns_as_the_domain_says(
    database: Database, connection: LoopConnection, patterns: tuple[str, ...], event_type: str, matches: bool
) -> None:
    await new_webhook(database, events=patterns)
    batch = await publish(connection, new_event(event_type=event_type))
    assert bool(pending(batch)) is matches


async def test_a_repeated_request_id_gets_the_first_answer(database: Database, connection: LoopConnection) -> None:
    await new_webhook(database)
    first = await publish(connection, new_event(request_id="order-42-paid"))
    second = await publish(connection, new_event(request_id="order-42-paid"))
    [before], [after] = first.answers, second.answers
    assert isinstance(before, Published)
    assert isinstance(after, Published)
    assert (after.event_id, after.delivery_count, after.create_time) == (before.event_id, 1, before.create_time)
    assert after.duplicate
    assert not pending(second)


async def test_a_request_id_with_other_content_is_refused(connection: LoopConnection) -> None:
    await publish(connection, new_event(request_id="a", fingerprint=1))
    [answer] = (await publish(connection, new_event(request_id="a", fingerprint=2))).answers
    assert isinstance(answer, AlreadyExists)
    assert answer.reason == "REQUEST_ID_REUSED"


async def test_the_same_request_id_of_two_customers_means_two_events(connection: LoopConnection) -> None:
    batch = await publish(
        connection, new_event(request_id="a", customer_id=1), new_event(request_id="a", customer_id=2)
    )
    assert [answer.duplicate for answer in batch.answers if isinstance(answer, Published)] == [False, False]


async def test_a_request_id_twice_in_one_batch_gives_one_event(connection: LoopConnection) -> None:
    batch = await publish(connection, new_event(request_id="a"), new_event(request_id="a"))
    first, second = batch.answers
    assert isinstance(first, Published)
    assert isinstance(second, Published)
    assert first.event_id == second.event_id
    assert [first.duplicate, second.duplicate] == [False, True]


async def test_concurrent_batches_with_the_same_request_ids_neither_deadlock_nor_double(
    database: Database, postgres: TestPostgres
) -> None:
    connections = [LoopConnection(database.options, str(number)) for number in range(4)]
    request_ids = [f"key-{number}" for number in range(50)]

    async def publish_all(connection: LoopConnection, order: list[str]) -> None:
        for _ in range(3):
            await publish(connection, *(new_event(request_id=request_id) for request_id in order))

    orders = [request_ids, request_ids[::-1], request_ids[25:] + request_ids[:25], request_ids]
    await asyncio.gather(*(publish_all(*pair) for pair in zip(connections, orders, strict=True)))
    for connection in connections:
        await connection.close()
    assert postgres.rows("SELECT count(*) FROM events") == [(50,)]


async def test_a_batch_with_a_value_that_postgres_refuses_changes_nothing(
    connection: LoopConnection, postgres: TestPostgres
) -> None:
    with pytest.raises(StoreRefusal):
        await publish(connection, new_event(), new_event(event_type="nul\0"))
    assert postgres.rows("SELECT count(*) FROM events") == [(0,)]


async def test_an_event_without_a_partition_may_be_published_later(connection: LoopConnection) -> None:
    """A clock that is far off is ours to mend: the caller is told to try again, not that its event is bad."""
    import uuid

    with pytest.raises(Unavailable):
        await publish(connection, new_event(event_id=uuid.UUID(int=(2**47) << 80)))


async def test_an_unreachable_database_is_unavailable() -> None:
    connection = LoopConnection(options("host=127.0.0.1 port=1 user=nobody"), "test")
    with pytest.raises(Unavailable):
        await publish(connection, new_event())
