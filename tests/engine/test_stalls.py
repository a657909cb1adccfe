"""Nothing stalls in silence: whatever keeps the service from its work is in health and in the log, with its cause.

Each fault is a real one: a lock, a grant, a limit, a full disk as Postgres reports it. What a test waits for is health.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, LiteralString, TypeVar

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql
from psycopg.conninfo import make_conninfo
from webhook.v1 import event_pb2, webhook_pb2
from webhook.v1 import service_pb2 as pb

from tests.support import slowness
from tests.support.postgres import TestPostgres, query
from tests.support.receiver import Gate, Receiver, answer
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory, error_details
from tests.support.store import new_worker, options, succeeded
from tests.support.symptoms import Line, recording
from tests.unit.test_lanes import make_delivery
from webhook_grpc.domain.errors import Unavailable
from webhook_grpc.domain.progress import Progress
from webhook_grpc.domain.progress import Service as Part
from webhook_grpc.engine.duties import janitor
from webhook_grpc.engine.http.faults import SenderFault
from webhook_grpc.engine.http.sender import Sender
from webhook_grpc.engine.queue.lane import Lane, Turn
from webhook_grpc.engine.queue.lanes import Lanes
from webhook_grpc.engine.queue.reading import Reading
from webhook_grpc.engine.settler import SettleLimits, SettleListeners, Settler
from webhook_grpc.engine.unsettled import EndedTurn, Unsettled
from webhook_grpc.store.db import Database, LoopConnection
from webhook_grpc.store.outbox import settlement
from webhook_grpc.store.ownership import leases
from webhook_grpc.store.upkeep import bloat

T = TypeVar("T")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DELIVERY, WEBHOOKS, ALL = "webhook.v1.Delivery", "webhook.v1.WebhookService", ""
BOUND_SECONDS = 0.3
DEADLINE_SECONDS = 0.25  # of statements; as with the defaults, Postgres speaks before the bound is reached
# Raises what Postgres raises when a file can't grow.
DISK_FULL: LiteralString = """
CREATE OR REPLACE FUNCTION test_disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/5/16384": No space left on device' USING ERRCODE = '53100';
END $$
"""
PHANTOM: LiteralString = """
INSERT INTO workers (worker_id, lease_until, lease_seconds) VALUES (%s, now() + interval '3 seconds', 2)
"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = %s"
ALARMS = ("health changed", "the database fails", "lease not renewed", "deliveries stand still", "shards have no owner")


async def start(services: ServiceFactory, **overrides: Any) -> Service:
    """Starts a service that finds out soon that something stands still."""
    values = {"stall_seconds": slowness.lengthened(BOUND_SECONDS), "database_timeout_seconds": slowness.scaled(0.5)}
    return await answered(lambda: services.start(**{**values, **overrides}))


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Repeats a call, or a start, until it is answered: deadlines are short here, and a slow machine misses one."""
    async with slowness.timeout(20):
        while True:
            try:
                return await call()
            except Unavailable:
                continue
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


async def registered(service: Service, url: str) -> webhook_pb2.Webhook:
    """Registers a webhook, once."""
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="test", url=url, events=["*"], secret=SECRET)
    request = pb.CreateWebhookRequest(webhook=webhook, request_id="once")
    return await answered(lambda: service.stub.CreateWebhook(request))


async def refused(service: Service, reason: str) -> grpc.aio.AioRpcError:
    """Publishes until it is refused for this reason, and returns the error."""
    async with slowness.timeout(20):
        while True:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.publish()
            if error_details(caught.value)["ErrorInfo"].reason == reason:
                return caught.value


async def until_health_is(service: Service, name: str, status: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)  # its types lack the aio form
    async with slowness.timeout(20):
        async for update in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            if update.status == status:
                break
    checked = await stub.Check(health_pb2.HealthCheckRequest(service=ALL))
    assert checked.status == SERVING, "the process lives, whatever the database does: a liveness probe must not kill it"


async def until_said(lines: list[Line], work: str = "", **fields: str) -> None:
    async with slowness.timeout(20):
        while not any(names(line, work) and fields.items() <= line.items() for line in lines):
            await asyncio.sleep(0.02)


def names(line: Line, work: str) -> bool:
    """Whether a line is about this work, perhaps among others."""
    return not work or work in str(line.get("work", "")).split(", ")


async def publishes(service: Service) -> str:
    """Publishes once; returns the reason of the refusal, if it was refused."""
    try:
        await service.publish()
    except grpc.aio.AioRpcError as error:
        return error_details(error)["ErrorInfo"].reason
    return ""


@contextlib.asynccontextmanager
async def publishing(service: Service) -> AsyncGenerator[None]:
    """Somebody publishes all the time."""

    async def publish() -> None:
        while True:
            await publishes(service)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def locked(postgres: TestPostgres, lock: LiteralString) -> AsyncGenerator[None]:
    """Somebody else holds a lock."""
    async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
        await connection.execute(lock)
        yield
        await connection.rollback()


# --- locks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lock:
    """What is locked, which service can't do without it, and which of its work is named."""

    statement: LiteralString
    service: str
    work: str


LOCKS = [
    pytest.param(
        Lock("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE", DELIVERY, "settle results"),
        marks=pytest.mark.symptom("settle", "health lost", "health regained", "recovered"),
        id="attempts: results can't be settled",
    ),
    pytest.param(
        Lock("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE", DELIVERY, "look for what is due"),
        marks=pytest.mark.symptom("look", "lock"),
        id="deliveries: nothing is found",
    ),
    pytest.param(
        Lock("SELECT FROM shards FOR UPDATE", DELIVERY, "settle results"),
        marks=pytest.mark.symptom("settle"),
        id="rows of shards: results can't be settled",
    ),
    pytest.param(
        Lock("LOCK TABLE events IN EXCLUSIVE MODE", WEBHOOKS, "publish"),
        marks=pytest.mark.symptom("publish"),
        id="events: nothing can be published",
    ),
    pytest.param(
        Lock("LOCK TABLE webhooks IN ACCESS EXCLUSIVE MODE", DELIVERY, "follow webhooks"),
        marks=pytest.mark.symptom("follow"),
        id="webhooks: changes can't be followed",
    ),
    pytest.param(
        Lock("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE", DELIVERY, "lease"),
        marks=pytest.mark.symptom("lease"),
        id="workers: the lease is not renewed",
    ),
]


@pytest.mark.parametrize("lock", LOCKS)
async def test_a_lock_is_named_and_the_service_that_waits_for_it_does_not_serve(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, lock: Lock, symptoms: list[Line]
) -> None:
    service = await start(services, database_timeout_seconds=slowness.lengthened(DEADLINE_SECONDS))
    gate = Gate()
    await registered(service, receiver.on("/gate", gate))
    await answered(service.publish)
    await receiver.wait_for(1)
    async with locked(postgres, lock.statement), publishing(service):
        gate.opened.set()
        await until_said(symptoms, work=lock.work, sqlstate="55P03")
        await until_health_is(service, lock.service, NOT_SERVING)
    await until_health_is(service, lock.service, SERVING)
    if "attempts" in lock.statement:
        await until_said(symptoms, event="the database answers again")
    [line] = [line for line in symptoms if names(line, lock.work) and line.get("sqlstate") == "55P03"]
    assert line["text"] == "canceling statement due to lock timeout"
    changes = [line["serving"] for line in symptoms if line.get("service") == lock.service]
    assert changes[:2] == [False, True]


@pytest.mark.symptom("tail", "calls")
async def test_a_watch_and_calls_that_stand_still_keep_the_service_from_serving(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, symptoms: list[Line]
) -> None:
    service = await start(services, database_timeout_seconds=slowness.lengthened(DEADLINE_SECONDS))
    await registered(service, receiver.url())
    async with service.watching() as watch:
        for count in (1, 2):  # what is published after the first was seen comes live: nothing is read for it alone
            await answered(service.publish)
            await watch.until_ended(count)
        async with locked(postgres, "LOCK TABLE attempts, webhooks IN ACCESS EXCLUSIVE MODE"):
            with pytest.raises(grpc.aio.AioRpcError):
                await service.stub.ListWebhooks(pb.ListWebhooksRequest(customer_id=CUSTOMER))
            await until_health_is(service, WEBHOOKS, NOT_SERVING)
            await until_said(symptoms, event="the database fails", work="calls")
            await until_said(symptoms, event="the database fails", work="follow the log")
        await until_health_is(service, WEBHOOKS, SERVING)


LOCKED = [
    pytest.param("LOCK TABLE replay_webhooks IN ACCESS EXCLUSIVE MODE", "background", id="replays"),
    pytest.param("LOCK TABLE webhook_health IN ACCESS EXCLUSIVE MODE", "health", id="health of webhooks"),
]


@pytest.mark.parametrize(("lock", "connection"), LOCKED)
async def test_parts_that_share_a_connection_hold_up_nobody_else_while_one_waits_for_a_lock(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, lock: LiteralString, connection: str
) -> None:
    """Publishing, sending, settling, commands and the lease go on, for longer than the lease."""
    service = await services.start(lease_seconds=slowness.lengthened(1.0), database_timeout_seconds=60.0)
    busy = await service.create_webhook(receiver.on("/busy", answer(429)))
    await service.publish()  # then there is health to be saved
    await receiver.wait_for(1)
    async with locked(postgres, lock):
        await service.publish()
        async with slowness.timeout(20):
            while not postgres.rows(WAITING, [f"webhook-grpc {connection}"]):
                await asyncio.sleep(0.02)
        await asyncio.sleep(slowness.lengthened(1.5))  # the lease would have run out
        async with slowness.timeout(20):
            request = pb.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=busy.webhook_id)
            tested = await service.stub.TestWebhook(request)
        assert tested.delivery.last_attempt.response_status == 429
        async with slowness.timeout(20):
            while not service.app.engine.shards.may_send:
                await asyncio.sleep(0.02)  # a busy machine may renew it late, but while it is locked it would never be


# --- grants and limits -----------------------------------------------------------------------------------------------


@pytest.fixture
def limited(postgres: TestPostgres) -> Iterator[str]:
    """A role that owns nothing and was granted everything."""
    with postgres.role() as role:
        as_admin(postgres, "GRANT ALL ON ALL TABLES IN SCHEMA webhook_grpc TO {}", role)
        as_admin(postgres, "GRANT ALL ON ALL SEQUENCES IN SCHEMA webhook_grpc TO {}", role)
        yield role


def as_admin(postgres: TestPostgres, statement: LiteralString, *names: str) -> None:
    query(postgres.url, sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture
async def limited_services(
    limited: str, database_url: str, postgres: TestPostgres, tmp_path: Path
) -> AsyncGenerator[ServiceFactory]:
    """Services of that role, on a database that has its partitions."""
    first = ServiceFactory(database_url, tmp_path)
    await first.start()
    await first.stop()
    as_admin(postgres, "GRANT ALL ON ALL TABLES IN SCHEMA webhook_grpc TO {}", limited)
    factory = ServiceFactory(make_conninfo(postgres.url, user=limited, password="hush"), tmp_path)
    yield factory
    await factory.stop()


@pytest.mark.parametrize("table", ["deliveries", "webhook_health"])
@pytest.mark.symptom("grant")
async def test_a_grant_that_was_lost_is_named_in_postgres_words(
    limited_services: ServiceFactory,
    limited: str,
    receiver: Receiver,
    postgres: TestPostgres,
    table: str,
    symptoms: list[Line],
) -> None:
    service = await start(limited_services)
    as_admin(postgres, "REVOKE SELECT ON {} FROM {}", table, limited)
    await registered(service, receiver.url())
    await publishes(service)
    await until_said(symptoms, work="look for what is due", sqlstate="42501")
    await until_health_is(service, DELIVERY, NOT_SERVING)
    as_admin(postgres, "GRANT SELECT ON {} TO {}", table, limited)
    await until_health_is(service, DELIVERY, SERVING)
    lines = [line for line in symptoms if names(line, "look for what is due") and line.get("sqlstate") == "42501"]
    assert f"permission denied for table {table}" in {line["text"] for line in lines}  # it may lack other rights, too
    assert "hush" not in repr(symptoms)


@pytest.mark.symptom("read only")
async def test_a_server_that_takes_no_writes_is_named_and_used_again_as_soon_as_it_takes_them(
    limited_services: ServiceFactory, limited: str, postgres: TestPostgres, symptoms: list[Line]
) -> None:
    service = await start(limited_services)
    as_admin(postgres, "ALTER ROLE {} SET default_transaction_read_only = on", limited)
    postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [limited])
    async with publishing(service):
        await until_said(symptoms, event="the database fails", sqlstate="25006")
        await until_health_is(service, WEBHOOKS, NOT_SERVING)
        as_admin(postgres, "ALTER ROLE {} RESET default_transaction_read_only", limited)
        await until_health_is(service, WEBHOOKS, SERVING)
        await until_health_is(service, DELIVERY, SERVING)
    await answered(service.publish)


@pytest.mark.symptom("hints", "connections")
async def test_a_process_that_hears_no_hints_says_why(
    limited_services: ServiceFactory,
    limited: str,
    postgres: TestPostgres,
    monkeypatch: pytest.MonkeyPatch,
    symptoms: list[Line],
) -> None:
    monkeypatch.setattr("webhook_grpc.hub.hints._RECONNECT_SECONDS", 0.1)
    service = await start(limited_services)
    as_admin(postgres, "ALTER ROLE {} CONNECTION LIMIT 0", limited)
    postgres.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'webhook-grpc listen'"
    )
    await until_health_is(service, DELIVERY, NOT_SERVING)
    await until_said(symptoms, work="hear hints", sqlstate="53300")
    as_admin(postgres, "ALTER ROLE {} CONNECTION LIMIT -1", limited)
    await until_health_is(service, DELIVERY, SERVING)


# --- a full disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(postgres: TestPostgres, table: LiteralString) -> Generator[None]:
    """Nothing can be added to a table, and Postgres says so as it does for a full disk."""
    postgres.rows(DISK_FULL)
    postgres.rows(f"CREATE TRIGGER test_full BEFORE INSERT ON {table} EXECUTE FUNCTION test_disk_full()")
    try:
        yield
    finally:
        postgres.rows(f"DROP TRIGGER test_full ON {table}; DROP FUNCTION test_disk_full")


@pytest.mark.symptom("disk full")
async def test_a_full_disk_refuses_what_is_published_with_a_reason_of_its_own(
    services: ServiceFactory, postgres: TestPostgres, symptoms: list[Line]
) -> None:
    service = await start(services)
    with full_disk(postgres, "events"):
        error = await refused(service, "DISK_FULL")
        batch = await service.stub.BatchPublishEvents(
            pb.BatchPublishEventsRequest(requests=[pb.PublishEventRequest(event=event()) for _ in range(2)])
        )
        async with publishing(service):
            await until_health_is(service, WEBHOOKS, NOT_SERVING)
    async with publishing(service):
        await until_health_is(service, WEBHOOKS, SERVING)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_details(error)["RetryInfo"].retry_delay == Duration(seconds=10)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert [(r.error.code, r.error.reason) for r in batch.results] == [(code, "DISK_FULL")] * 2
    [line, *_] = [line for line in symptoms if names(line, "publish") and line.get("sqlstate") == "53100"]
    assert line["text"] == 'could not extend file "base/5/16384": No space left on device'


async def test_results_wait_for_room_on_the_disk_and_are_not_lost(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres
) -> None:
    service = await start(services)
    await registered(service, receiver.url())
    async with service.watching() as watch:
        with full_disk(postgres, "attempts"):
            await answered(partial(service.publish, request_id="once"))
            await until_health_is(service, DELIVERY, NOT_SERVING)
        await watch.until_ended()
    assert len(receiver.requests) == 1


def event() -> event_pb2.Event:
    return event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")


async def test_what_only_gets_ready_to_settle_again_and_again_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each new try the shards move to another epoch, which may succeed each time."""
    progress, tried = Progress(), asyncio.Queue[None]()

    async def fail(*_: object) -> None:
        progress.advance(float(tried.qsize()))  # a second later each time
        tried.put_nowait(None)
        if tried.qsize() == 15:
            await asyncio.Event().wait()
        raise Unavailable("STORAGE_UNAVAILABLE", "away")

    async def succeed(_: object) -> None:
        pass

    monkeypatch.setattr(settlement, "settle", fail)
    monkeypatch.setattr("webhook_grpc.engine.settler._BACKOFF_SECONDS_MAX", 0.001)
    shards = SimpleNamespace(owned={make_delivery().shard: None}, worker=new_worker())
    owner: Any = SimpleNamespace(shards=shards, readopt=succeed)
    connection = LoopConnection(replace(options(""), progress=progress), "settle")
    lane, delivery, unsettled = Lane(1, 1, 1, Reading(1, 1, 0.0)), make_delivery(), Unsettled(bool)
    nobody: Any = None
    listeners = SettleListeners(nobody, nobody)
    settler = Settler(connection, owner, unsettled, SettleLimits(10, 0.0, 0.0), Random(), listeners, nobody)
    unsettled.results.add(EndedTurn(Turn(lane, delivery, host=None), succeeded(delivery)))
    running = asyncio.create_task(settler.run())
    async with slowness.timeout(20):
        while tried.qsize() < 15:
            await asyncio.sleep(0.005)
    assert [work.name for work in progress.stalled(Part.DELIVERY)] == ["settle results"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# --- shards, and deliveries that nobody starts -----------------------------------------------------------------------


@pytest.mark.symptom("shards")
async def test_shards_that_nobody_owns_are_said(
    services: ServiceFactory, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch, symptoms: list[Line]
) -> None:
    service = await start(services, lease_seconds=slowness.lengthened(1.0))
    take, takes_nothing = leases.take, True

    async def broken(*arguments: Any) -> Any:
        return {} if takes_nothing else await take(*arguments)

    monkeypatch.setattr(leases, "take", broken)
    postgres.rows("UPDATE shards SET owner = %s WHERE shard < 5", [new_worker()])
    await until_said(symptoms, event="shards have no owner")
    await until_health_is(service, DELIVERY, NOT_SERVING)
    takes_nothing = False
    await until_health_is(service, DELIVERY, SERVING)


@pytest.mark.symptom("still")
async def test_deliveries_that_could_be_sent_and_are_not_are_said_whatever_the_reason(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, symptoms: list[Line]
) -> None:
    service = await start(services)
    webhook = await registered(service, receiver.url())
    take, is_broken = Lanes.next, True
    monkeypatch.setattr(Lanes, "next", lambda lanes, now: None if is_broken else take(lanes, now))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    await answered(service.publish)
    await until_said(symptoms, event="deliveries stand still")
    await until_health_is(service, DELIVERY, NOT_SERVING)
    is_broken = False
    await answered(service.publish)
    await until_health_is(service, DELIVERY, SERVING)
    [line] = [line for line in symptoms if line["event"] == "deliveries stand still"]
    assert line["text"] == f"1 webhooks, {webhook.webhook_id} is one of them: no reason is known"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("EMFILE", marks=pytest.mark.symptom("paused")),
        pytest.param("resolver", marks=pytest.mark.symptom("resolver")),
    ],
)
async def test_a_fault_of_the_process_that_lasts_is_said_once(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, fault: str, symptoms: list[Line]
) -> None:
    send, is_broken = Sender.send, True

    async def faulty(self: Sender, request: Any) -> Any:
        if is_broken:
            raise SenderFault(fault)
        return await send(self, request)

    monkeypatch.setattr(Sender, "send", faulty)
    monkeypatch.setattr("webhook_grpc.engine.attempt._FAULT_PAUSE_SECONDS", (0.02, 0.04))
    service = await start(services)
    await registered(service, receiver.url())
    await answered(service.publish)
    await until_said(symptoms, event="attempts paused: a fault of this process")
    await until_health_is(service, DELIVERY, NOT_SERVING)
    is_broken = False
    await until_health_is(service, DELIVERY, SERVING)
    assert len([line for line in symptoms if line["event"].startswith("attempts paused")]) == 1


# --- housekeeping ----------------------------------------------------------------------------------------------------


@pytest.mark.symptom("housekeeping")
async def test_housekeeping_that_fails_is_said_and_leaves_health_as_it_is(
    services: ServiceFactory, postgres: TestPostgres, symptoms: list[Line]
) -> None:
    async with locked(postgres, "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"):
        await start(services)
        await until_said(symptoms, event="housekeeping fails", work="delete idempotency keys", sqlstate="55P03")
    # A machine that stood still for longer than the bound has changed it for other reasons
    assert not [line for line in symptoms if "idempotency keys" in str(line.get("why"))]


@pytest.mark.symptom("vacuum")
async def test_a_vacuum_that_our_role_may_not_do_is_said(
    limited_services: ServiceFactory,
    limited: str,
    postgres: TestPostgres,
    monkeypatch: pytest.MonkeyPatch,
    symptoms: list[Line],
) -> None:
    """Postgres skips the table with a warning that nobody reads."""
    as_admin(postgres, "REVOKE MAINTAIN ON deliveries FROM {}", limited)

    async def vacuum(database: Database) -> int:
        return await bloat.vacuum_outbox(database, -1)

    monkeypatch.setattr(janitor, "vacuum_outbox", vacuum)
    await start(limited_services)
    await until_said(symptoms, event="housekeeping fails", work="vacuum the outbox")


# --- no false alarms -------------------------------------------------------------------------------------------------


@pytest.mark.slow(5)
async def test_what_waits_for_a_good_reason_raises_no_alarm(
    services: ServiceFactory, receiver: Receiver, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Webhooks that are paused, limited, full, down or between two attempts; processes that come, share and go.

    A machine that itself stands still for so long is said rightly: what is false is said whatever the bound is.
    """
    for bound_seconds in (0.8, 3.2, 12.8):
        alarms = await alarms_of_what_waits(services, receiver, monkeypatch, slowness.lengthened(bound_seconds))
        if not alarms:
            return
        postgres.empty()
    pytest.fail(f"{alarms}")


async def alarms_of_what_waits(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, bound_seconds: float
) -> list[Line]:
    gate, quick = Gate(), receiver.url("/quick")
    before_count = len(receiver.at("/quick"))
    with recording(monkeypatch) as lines:
        overrides = {
            "stall_seconds": bound_seconds,
            "retry_delays_seconds": (60.0,),
            "breaker_failures": 2,
            "drain_seconds": 0.1,
        }
        first = await services.start(**overrides, breaker_probe_seconds_min=60, breaker_probe_seconds_max=60)
        paused = await first.create_webhook(quick)
        await first.pause_webhook(paused.webhook_id)
        await first.create_webhook(quick, rate_limit_per_second=1)
        await first.create_webhook(receiver.on("/gate", gate), max_in_flight=1)
        await first.create_webhook(receiver.on("/down", answer(500)), max_in_flight=1)
        await first.create_webhook(quick)
        await first.publish_many(20)
        second = await services.start(**overrides)
        await asyncio.sleep(1.5 * bound_seconds)  # time in which an alarm would come
        await second.publish_many(5)
        await services.stop_one(first)
        await asyncio.sleep(1.5 * bound_seconds)
        gate.opened.set()
        await services.stop()
    assert len(receiver.at("/quick")) - before_count >= 25
    return [line for line in lines if line["event"] in ALARMS]


async def test_shards_that_belong_to_nobody_for_some_beats_raise_no_alarm(
    services: ServiceFactory, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash: a process that counts and takes nothing has the share of the other for two beats."""
    with recording(monkeypatch) as lines:
        service = await services.start(lease_seconds=1.0, stall_seconds=slowness.lengthened(3.0))
        owned = service.app.engine.shards.owned
        postgres.rows(PHANTOM, [new_worker()])
        async with slowness.timeout(20):
            while len(owned) == 64:
                await asyncio.sleep(0.02)
            while len(owned) < 64:
                await asyncio.sleep(0.02)
        await services.stop()
    assert not [line for line in lines if line["event"] in ALARMS]
