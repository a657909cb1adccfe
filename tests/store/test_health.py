"""The health of webhooks as rows: what one owner saves, the next one loads, and nobody else writes."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import new_event, new_webhook, new_worker, pending, publish, succeeded
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.health import SavedHealth
from webhook_grpc.store import health, ownership
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.settlement import settle

ILL = SavedHealth(BreakerState.OPEN, 1800.0, 4, 7200.0, 33, 1, 60.0)
WELL_CLOSED = SavedHealth(BreakerState.CLOSED, 0.0, 0, 90.0, 5, 0, None)


@pytest.fixture
async def owner(connection: LoopConnection) -> UUID:
    """The owner of all shards."""
    worker = new_worker()
    await ownership.register(connection, worker, 60)
    await ownership.take(connection, worker, 64)
    return worker


async def test_what_is_saved_is_loaded_by_whoever_comes_next(connection: LoopConnection, owner: UUID) -> None:
    await health.save(connection, owner, {1: ILL, 2: WELL_CLOSED}, [])
    loaded = await health.load(connection, [1, 2, 3])
    assert loaded.keys() == {1, 2}
    assert loaded[1].breaker is BreakerState.OPEN
    assert loaded[1].probe_in_seconds == pytest.approx(1800, abs=30)
    assert loaded[1].failing_seconds == pytest.approx(7200, abs=30)
    assert loaded[1].blocked_seconds == pytest.approx(60, abs=30)
    assert (loaded[1].probe_count, loaded[1].failure_count, loaded[1].blocked_count) == (4, 33, 1)
    assert (loaded[2].breaker, loaded[2].probe_in_seconds, loaded[2].blocked_seconds) == (BreakerState.CLOSED, 0, None)


async def test_saving_again_replaces_and_being_well_removes(connection: LoopConnection, owner: UUID) -> None:
    await health.save(connection, owner, {1: ILL, 2: ILL}, [])
    await health.save(connection, owner, {1: WELL_CLOSED}, [2])
    loaded = await health.load(connection, [1, 2])
    assert loaded.keys() == {1}
    assert loaded[1].failure_count == 5


async def test_only_the_owner_of_the_shard_may_write(connection: LoopConnection, owner: UUID) -> None:
    await health.save(connection, owner, {1: ILL}, [])
    stranger = new_worker()
    await health.save(connection, stranger, {1: WELL_CLOSED, 2: ILL}, [])
    await health.save(connection, stranger, {}, [1])
    loaded = await health.load(connection, [1, 2])
    assert loaded.keys() == {1}
    assert loaded[1].failure_count == 33


@pytest.mark.parametrize(("failing_since", "is_well"), [("1 hour", True), ("-1 hour", False)])
async def test_a_success_counts_only_if_it_came_after_the_failures_that_were_saved(
    database: Database, connection: LoopConnection, postgres: TestPostgres, failing_since: str, *, is_well: bool
) -> None:
    webhook_id = await new_webhook(database)
    worker = new_worker()
    await ownership.register(connection, worker, 60)
    shards = await ownership.take(connection, worker, 64)
    [delivery] = pending(await publish(connection, new_event()))
    await settle(connection, worker, shards, [succeeded(delivery)])
    postgres.rows(
        "INSERT INTO webhook_health (webhook_id, breaker, failing_since) VALUES (%s, 'closed', now() - %s::interval)",
        [webhook_id, failing_since],
    )
    found = await health.succeeded_last(connection, {webhook_id: (delivery.shard, 1)})
    assert found == ({webhook_id} if is_well else set())
    assert await health.succeeded_last(connection, {webhook_id: (delivery.shard, 0)}) == set(), "that is later"
