"""Figures that take a look at the tables: what counts as lag, what is counted, and what an outage does to them."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver
from tests.support.service import Service, ServiceFactory
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.model import WebhookStatus
from webhook_grpc.engine.health.figures import Figures
from webhook_grpc.engine.queue.fetcher import Fetcher
from webhook_grpc.store.outbox import figures as store
from webhook_grpc.store.registry import census

INSERT_DUE = """
INSERT INTO deliveries (shard, webhook_id, due_at, event_id, customer_id, attempt, trigger)
SELECT %(webhook_id)s %% 64, %(webhook_id)s, now() - %(age)s * interval '1 second', gen_random_uuid(), 42, 0,
    %(trigger)s
FROM generate_series(1, %(count)s)
"""
INSERT_HEALTH = """
INSERT INTO webhook_health (webhook_id, breaker, failing_since)
SELECT id, 'closed', now() FROM unnest(%(failing)s::bigint[]) AS f(id)
UNION ALL
SELECT id, 'closed', NULL FROM unnest(%(others)s::bigint[]) AS o(id)
"""


def figures_of(service: Service) -> Figures:
    return service.app._figures


async def looked(service: Service) -> Figures:
    """The figures once the look at the start is over; the next comes after minutes."""
    figures = figures_of(service)
    async with slowness.timeout(20):
        while figures.read_at is None:
            await asyncio.sleep(0.01)  # figures give no signal
    return figures


async def look(service: Service) -> Figures:
    figures = await looked(service)
    await figures.look()
    return figures


@pytest.fixture
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is not read for what is due: as if the fetcher stood still."""

    async def wait(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Fetcher, "run", wait)


def insert(
    postgres: TestPostgres, webhook_id: int, age: float = 100.0, trigger: str | None = None, count: int = 1
) -> None:
    """Rows of the outbox that nobody has heard of."""
    parameters = {"webhook_id": webhook_id, "age": age, "trigger": trigger, "count": count}
    postgres.rows(INSERT_DUE, parameters)


# --- lag -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_fetched")
async def test_a_due_row_that_is_not_fetched_is_lag_but_not_while_its_webhook_holds_it_back(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    webhook = await service.create_webhook(receiver.url())
    assert (await look(service)).due_lag_seconds == 0
    insert(postgres, webhook.webhook_id)
    assert 100 <= (await look(service)).due_lag_seconds < 100 + slowness.scaled(60)

    [known] = await service.app.engine.receivers.load([webhook.webhook_id])
    known.pace.hold(600, time.monotonic())
    assert (await look(service)).due_lag_seconds == 0, "the receiver has requested it"
    known.pace.forget()
    assert (await look(service)).due_lag_seconds >= 100
    await service.pause_webhook(webhook.webhook_id)
    assert (await look(service)).due_lag_seconds == 0, "it is paused"


@pytest.mark.usefixtures("nothing_is_fetched")
async def test_rows_of_replays_and_rows_of_other_processes_are_no_lag(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    webhook = await service.create_webhook(receiver.url())
    insert(postgres, webhook.webhook_id, 100, "replay")
    insert(postgres, webhook.webhook_id, 10)
    assert 10 <= (await look(service)).due_lag_seconds < 100
    monkeypatch.setattr(service.app.engine.shards, "leaving", {webhook.webhook_id % 64})
    assert (await look(service)).due_lag_seconds == 0


async def test_what_waits_for_this_process_is_lag_and_what_waits_for_its_webhook_is_not(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(metrics_poll_seconds=300, process_in_flight_max=1)
    gate = Gate()
    await service.create_webhook(receiver.on("/first", gate), events=["job.completed"], max_in_flight=1)
    await service.publish_many(2)
    await receiver.wait_for(1)
    assert (await look(service)).due_lag_seconds == 0, "one request at a time is what the webhook wants"

    await service.create_webhook(receiver.url("/second"), events=["job.failed"])
    await service.publish(event_type="job.failed")
    first = 0.0
    async with slowness.timeout(5):  # the process has no room for it; its clock agrees to within a round trip
        while first <= 0:
            first = (await look(service)).due_lag_seconds
    await asyncio.sleep(0.2)  # the lag that the test is about
    assert (await look(service)).due_lag_seconds >= first + 0.1
    gate.opened.set()
    await receiver.wait_for(3)


@pytest.mark.usefixtures("nothing_is_fetched")
async def test_while_the_database_is_away_the_lag_grows_and_the_rest_gets_old(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    webhook = await service.create_webhook(receiver.url())
    insert(postgres, webhook.webhook_id)
    before = await look(service)
    lag, read_at = before.due_lag_seconds, before.read_at

    async def fail(*_: object, **__: object) -> Any:
        raise Unavailable("STORAGE_UNAVAILABLE", "away")

    monkeypatch.setattr(before._connection, "rows", fail)
    await asyncio.sleep(0.05)  # so that there is something to grow by
    after = await look(service)
    assert after.due_lag_seconds >= lag + 0.04
    assert after.read_at == read_at
    assert after.pending_count == 1


async def test_a_bug_in_the_figures_stops_neither_them_nor_the_process(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    figures = await look(service)
    with monkeypatch.context() as patched:
        patched.setattr(store, "WEBHOOKS_MAX", "many")
        read_at = figures.read_at
        await figures.look()
        assert figures.read_at == read_at
    await figures.look()
    assert figures.read_at != read_at


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_fetched")
async def test_pending_deliveries_are_counted_up_to_a_bound_and_estimated_beyond_it(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    webhook = await service.create_webhook(receiver.url())
    insert(postgres, webhook.webhook_id, count=7)
    assert (await look(service)).pending_count == 7
    monkeypatch.setattr(store, "COUNTED_ROWS_MAX", 3)
    assert (await look(service)).pending_count >= 3


async def test_webhooks_are_counted_slice_by_slice_by_the_leader(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "SLICE", 2)
    postgres.rows("ALTER SEQUENCE webhooks_id_seq RESTART")  # each look takes one slice, from the first number on
    service = await services.start(metrics_poll_seconds=300)
    figures = await looked(service)
    made = [await service.create_webhook(receiver.url()) for _ in range(3)]
    postgres.rows("ALTER SEQUENCE webhooks_id_seq RESTART WITH 2000000000001")  # as in a second cell
    made += [await service.create_webhook(receiver.url()) for _ in range(2)]
    postgres.rows("ALTER SEQUENCE webhooks_id_seq RESTART WITH 100")
    await service.pause_webhook(made[1].webhook_id)
    await service.delete_webhook(made[2].webhook_id)
    figures.webhooks = None
    for _ in range(2):
        await figures.look()
        assert figures.webhooks is None, "some of them say nothing"
    await figures.look()
    assert figures.webhooks == {WebhookStatus.ACTIVE: 3, WebhookStatus.PAUSED: 1, WebhookStatus.DISABLED: 0}

    others = {shard: owned for shard, owned in service.app.engine.shards.owned.items() if shard}
    monkeypatch.setattr(service.app.engine.shards, "owned", others)
    await figures.look()
    assert figures.webhooks is None
    assert figures.failing_count is None


async def test_webhooks_that_fail_for_long_are_counted_while_they_are_active(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await services.start(metrics_poll_seconds=300)
    failing, paused, well = [(await service.create_webhook(receiver.url())).webhook_id for _ in range(3)]
    await service.pause_webhook(paused)
    postgres.rows(INSERT_HEALTH, {"failing": [failing, paused], "others": [well]})
    assert (await look(service)).failing_count == 1
