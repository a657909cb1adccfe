"""The health of webhooks as rows: what one owner saves, the next one loads, and nobody else writes."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.support.postgres import TestPostgres
from tests.support.store import new_event, new_webhook, new_worker, pending, publish, succeeded
from webhook_grpc.domain.breaker import BreakerState
from webhook_grpc.domain.pace import SavedHealth
from webhook_grpc.domain.throttle import Slowdown
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox import paces
from webhook_grpc.store.outbox.settlement import settle
from webhook_grpc.store.ownership import leases

ILL = SavedHealth(BreakerState.OPEN, 1800.0, 4, 7200.0, 33, 1, 60.0, 900.0, Slowdown(300.0, 2.5, 10.0))
WELL_CLOSED = SavedHealth(BreakerState.CLOSED, 0.0, 0, 90.0, 5, 0, None)
HELD = SavedHealth(BreakerState.CLOSED, 0.0, 0, None, 0, 0, None, 60.0)
SLOWED = SavedHealth(BreakerState.CLOSED, 0.0, 0, None, 0, 0, None, 0.0, Slowdown(60.0, 0.5, 1.0))


@pytest.fixture
async def owner(connection: LoopConnection) -> UUID:
    """The owner of all shards."""
    worker = new_worker()
    await leases.register(connection, worker, 60)
    await leases.take(connection, worker, 64)
    return worker


async def test_what_is_saved_is_loaded_by_whoever_comes_next(connection: LoopConnection, owner: UUID) -> None:
    await paces.save(connection, owner, {1: ILL, 2: WELL_CLOSED}, [])
    loaded = await paces.load(connection, [1, 2, 3])
    assert loaded.keys() == {1, 2}
    assert loaded[1].breaker is BreakerState.OPEN
    assert loaded[1].probe_in_seconds == pytest.approx(1800, abs=30)
    assert loaded[1].failing_seconds == pytest.approx(7200, abs=30)
    assert loaded[1].blocked_seconds == pytest.approx(60, abs=30)
    assert (loaded[1].probe_count, loaded[1].failure_count, loaded[1].blocked_count) == (4, 33, 1)
    assert loaded[1].hold_seconds == pytest.approx(900, abs=30)
    slowdown = loaded[1].slowdown
    assert slowdown is not None
    assert slowdown.seconds == pytest.approx(300, abs=30)
    assert (slowdown.rate, slowdown.ceiling) == (2.5, 10)
    assert (loaded[2].hold_seconds, loaded[2].slowdown) == (0, None)
    assert (loaded[2].breaker, loaded[2].probe_in_seconds, loaded[2].blocked_seconds) == (BreakerState.CLOSED, 0, None)


async def test_saving_again_replaces_and_being_well_removes(connection: LoopConnection, owner: UUID) -> None:
    await paces.save(connection, owner, {1: ILL, 2: ILL}, [])
    await paces.save(connection, owner, {1: WELL_CLOSED}, [2])
    loaded = await paces.load(connection, [1, 2])
    assert loaded.keys() == {1}
    assert loaded[1].failure_count == 5


async def test_only_the_owner_of_the_shard_may_write(connection: LoopConnection, owner: UUID) -> None:
    await paces.save(connection, owner, {1: ILL}, [])
    stranger = new_worker()
    await paces.save(connection, stranger, {1: WELL_CLOSED, 2: ILL}, [])
    await paces.save(connection, stranger, {}, [1])
    loaded = await paces.load(connection, [1, 2])
    assert loaded.keys() == {1}
    assert loaded[1].failure_count == 33


async def test_what_is_over_when_it_is_loaded_is_not_loaded(
    connection: LoopConnection, owner: UUID, postgres: TestPostgres
) -> None:
    await paces.save(connection, owner, {1: ILL}, [])
    postgres.rows("UPDATE webhook_health SET hold_until = now(), throttled_until = now() - interval '1 s'")
    loaded = await paces.load(connection, [1])
    assert (loaded[1].hold_seconds, loaded[1].slowdown) == (0, None)


async def test_what_a_clock_that_was_ahead_saved_lasts_no_longer_than_it_was_to(
    connection: LoopConnection, owner: UUID, postgres: TestPostgres
) -> None:
    await paces.save(connection, owner, {1: ILL}, [])
    postgres.rows(
        "UPDATE webhook_health SET updated_at = updated_at + a, probe_at = probe_at + a, hold_until = hold_until + a,"
        " throttled_until = throttled_until + a FROM (SELECT interval '10 minutes' AS a) ahead"
    )
    loaded = await paces.load(connection, [1])
    slowdown = loaded[1].slowdown
    assert slowdown is not None
    found = (loaded[1].probe_in_seconds, loaded[1].hold_seconds, slowdown.seconds)
    assert found == pytest.approx((1800, 900, 300), abs=30)


@pytest.mark.parametrize(
    ("saved", "is_removed"), [(HELD, True), (SLOWED, True), (ILL, False), (WELL_CLOSED, False)]
)  # fmt: skip
async def test_a_row_goes_when_all_it_says_is_over(
    connection: LoopConnection, owner: UUID, postgres: TestPostgres, saved: SavedHealth, *, is_removed: bool
) -> None:
    await paces.save(connection, owner, {1: saved, 2: HELD, 3: SLOWED}, [])
    postgres.rows(
        "UPDATE webhook_health SET hold_until = hold_until - interval '1 hour',"
        " throttled_until = throttled_until - interval '1 hour' WHERE webhook_id = 1"
    )
    assert await paces.forget_over(connection, new_worker()) == set(), "the owner's to remove"
    assert await paces.forget_over(connection, owner) == ({1} if is_removed else set())
    assert (await paces.load(connection, [1, 2, 3])).keys() == ({2, 3} if is_removed else {1, 2, 3})


@pytest.mark.parametrize("ended", ["hold_until", "throttled_until"])
async def test_a_row_stays_while_one_of_its_two_times_is_to_come(
    connection: LoopConnection, owner: UUID, postgres: TestPostgres, ended: str
) -> None:
    both = SavedHealth(BreakerState.CLOSED, 0.0, 0, None, 0, 0, None, 60.0, SLOWED.slowdown)
    await paces.save(connection, owner, {1: both}, [])
    if ended == "hold_until":
        postgres.rows("UPDATE webhook_health SET hold_until = now() - interval '1 s'")
    else:
        postgres.rows("UPDATE webhook_health SET throttled_until = now() - interval '1 s'")
    assert await paces.forget_over(connection, owner) == set()


@pytest.mark.parametrize(("failing_since", "is_well"), [("1 hour", True), ("-1 hour", False)])
async def test_a_success_counts_only_if_it_came_after_the_failures_that_were_saved(
    database: Database, connection: LoopConnection, postgres: TestPostgres, failing_since: str, *, is_well: bool
) -> None:
    webhook_id = await new_webhook(database)
    worker = new_worker()
    await leases.register(connection, worker, 60)
    shards = await leases.take(connection, worker, 64)
    [delivery] = pending(await publish(connection, new_event()))
    await settle(connection, worker, shards, [succeeded(delivery)])
    postgres.rows(
        "INSERT INTO webhook_health (webhook_id, breaker, failing_since) VALUES (%s, 'closed', now() - %s::interval)",
        [webhook_id, failing_since],
    )
    found = await paces.succeeded_last(connection, {webhook_id: (delivery.shard, 1)})
    assert found == ({webhook_id} if is_well else set())
    assert await paces.succeeded_last(connection, {webhook_id: (delivery.shard, 0)}) == set(), "that is later"
