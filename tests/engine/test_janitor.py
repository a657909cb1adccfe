"""Housekeeping is done by one process, step by step, and nothing that goes wrong in it stops anything else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import slowness
from tests.support.past import Past
from tests.support.postgres import TestPostgres
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, ServiceFactory
from tests.support.store import options
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.retention import RetentionPolicy
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.engine.duties import janitor
from webhook_grpc.engine.duties.clear_sealing import ClearSealing
from webhook_grpc.engine.duties.janitor import LEADER_SHARD, Janitor, Step
from webhook_grpc.store.db import Database

POLICY = RetentionPolicy(events_days=30, attempts_days=40, idempotency_keys_hours=168, audit_days=400)


class Counted:
    """A step that does as it is told, and counts how often it was run."""

    def __init__(self, *does: bool | Exception) -> None:
        self._does = list(does)
        self.count = 0
        self._changed = asyncio.Condition()

    async def __call__(self) -> bool:
        self.count += 1
        async with self._changed:
            self._changed.notify_all()
        answer = self._does.pop(0) if self._does else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def reached(self, count: int) -> None:
        async with slowness.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.count >= count)


def make(*steps: Step, is_leader: Callable[[], bool] = lambda: True) -> Janitor:
    """One that does these steps only."""
    database: Any = SimpleNamespace(options=options(""))
    made = Janitor(database, POLICY, is_leader, lambda _: None, ClearSealing(database, Sealer([SECRET_KEY])))
    made.steps = steps
    return made


@contextlib.asynccontextmanager
async def running(made: Janitor) -> AsyncGenerator[None]:
    task = asyncio.create_task(made.run())
    yield
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_TICK_SECONDS", 0.005)
    monkeypatch.setattr(janitor, "_RETRY_SECONDS", 0.005)
    monkeypatch.setattr(janitor, "_BATCH_PAUSE_SECONDS", 0.0)


async def test_a_step_that_has_more_goes_on_at_once_and_then_waits() -> None:
    batches, other = Counted(True, True, False), Counted(*[True] * 20)
    async with running(make(Step("batches", 3600, batches), Step("other", 3600, other))):
        await other.reached(20)
    assert batches.count == 3


@pytest.mark.parametrize("error", [Unavailable("STORAGE_UNAVAILABLE", "away"), RuntimeError("a bug")])
async def test_a_step_that_fails_stops_no_other_and_is_tried_again(error: Exception) -> None:
    failing, other = Counted(error, error, error), Counted()
    async with running(make(Step("failing", 0.0, failing), Step("other", 3600, other))):
        await failing.reached(4)
        await other.reached(1)


async def test_a_step_during_which_the_clock_stepped_is_done_again_at_once() -> None:
    """The partitions that it made are those of the days around the time before."""
    done = Counted()

    async def interrupted() -> bool:
        if done.count == 0:
            made.clock_stepped()
        return await done()

    made = make(Step("look", 3600, Counted()), Step("make partitions", 3600, interrupted))
    async with running(made):
        await done.reached(2)


async def test_only_the_leader_does_anything() -> None:
    is_leader = False
    asked = Counted()

    def leads() -> bool:
        looked.set()
        return is_leader

    looked = asyncio.Event()
    async with running(make(Step("asked", 0.0, asked), is_leader=leads)):
        for _ in range(5):
            looked.clear()
            await looked.wait()
        assert asked.count == 0
        is_leader = True
        await asked.reached(2)


def test_each_table_has_its_own_days() -> None:
    assert (POLICY.days_of("events"), POLICY.days_of("attempts")) == (30, 40)


async def test_one_of_many_processes_is_the_leader_and_another_when_it_is_gone(services: ServiceFactory) -> None:
    first, second = await services.start(), await services.start()

    def leaders() -> list[bool]:
        return [LEADER_SHARD in service.app.engine.shards.owned for service in (first, second)]

    async with slowness.timeout(20):
        while sum(leaders()) != 1 or len(first.app.engine.shards.owned) != 32:
            await asyncio.sleep(0.02)
        leader, heir = (first, second) if leaders()[0] else (second, first)
        await services.stop_one(leader)
        while LEADER_SHARD not in heir.app.engine.shards.owned:
            await asyncio.sleep(0.02)


async def test_a_running_service_drops_what_is_too_old_by_itself(
    services: ServiceFactory, past: Past, postgres: TestPostgres
) -> None:
    day = await past.day(40)
    past.event(day)
    await services.start(events_retention_days=39, attempts_retention_days=41)
    async with slowness.timeout(20):
        while past.has(day) != ["attempts"]:
            await asyncio.sleep(0.02)
    assert postgres.rows("SELECT count(*) FROM events") == [(0,)]


async def test_a_running_service_goes_on_with_an_erasure_that_nobody_waits_for(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    """Whoever asked has left, and so has the process that was asked."""
    service = await services.start()
    await service.create_webhook(receiver.url())
    await service.publish()
    await receiver.wait_for(1)
    postgres.rows("INSERT INTO erasures VALUES (%s, now(), NULL)", [CUSTOMER])
    async with slowness.timeout(20):
        while postgres.rows("SELECT completed_at IS NOT NULL FROM erasures") != [(True,)]:
            await asyncio.sleep(0.02)
    for table in ("webhooks", "events"):
        count = postgres.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 # pyright: ignore[reportArgumentType]
        assert count == [(0,)]
    assert postgres.rows("SELECT DISTINCT status FROM attempts") == [("erased",)]


@pytest.mark.symptom("disbelieved")
async def test_a_clock_that_is_not_believed_is_said(database_url: str, postgres: TestPostgres) -> None:
    postgres.rows("UPDATE believed_time SET at = at - interval '40 days'")  # the same as 40 days more of now()
    database = Database(options(database_url))
    await database.open()
    await Janitor(
        database, POLICY, lambda: True, lambda _: None, ClearSealing(database, Sealer([SECRET_KEY]))
    ).look_at_clock()
    await database.close()
