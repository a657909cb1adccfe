"""Behind the real PgBouncer: everything works as declared, or the service says at the start what is missing."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, LiteralString, cast

import grpc
import pytest
from click.testing import CliRunner
from psycopg import AsyncConnection
from webhook.v1 import service_pb2 as pb

from tests.field.conftest import Field
from tests.support import slowness
from tests.support.full import in_full
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import query
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, Service, ServiceFactory
from tests.support.store import options
from webhook_grpc.cli import main
from webhook_grpc.commands.doctor import findings
from webhook_grpc.commands.findings import Finding
from webhook_grpc.store.connection.poolers import check_sessions
from webhook_grpc.store.connection.server_checks import UnsuitableServer
from webhook_grpc.store.connection.session import Pooling
from webhook_grpc.store.schema.migrate import check_schema, migrate

Start = Callable[[str], ServiceFactory]

ROUNDS = 30  # of twelve calls
PUBLISHERS = 8
STORED: LiteralString = "SELECT webhook_grpc.event_id_text(event_id) FROM webhook_grpc.events"
RESTARTS = in_full(20, short=3)
BETWEEN_RESTARTS = 60  # events that are acknowledged


@contextmanager
def pgbouncer(field: Field, mode: str) -> Generator[PgBouncer]:
    pooler = PgBouncer(field.url, mode)
    try:
        yield pooler
    finally:
        pooler.stop()


async def check(url: str, pooling: Pooling) -> None:
    """Looks at the server as the start does."""
    await asyncio.to_thread(check_schema, url, pooling)
    await check_sessions(replace(options(url), pooling=pooling))


def run_lines(field: Field, refusal: UnsuitableServer) -> None:
    """Runs the statements that the refusal printed, as an operator would paste them."""
    lines = re.findall("^ALTER ROLE .*;$", str(refusal), re.MULTILINE)
    assert lines, refusal
    for line in lines:
        query(field.admin_url, cast("LiteralString", line))


async def round_of_calls(service: Service, receiver: Receiver, number: int) -> None:
    """Twelve calls of all kinds: writes, reads, lists, a batch, an action that its owner carries out."""
    stub = service.stub
    webhook = await service.create_webhook(receiver.url(f"/{number}"), name=f"n{number}")
    same: dict[str, Any] = {"customer_id": CUSTOMER, "webhook_id": webhook.webhook_id}
    published = await service.publish(request_id=f"r{number}")
    repeated = await service.publish(request_id=f"r{number}")
    assert repeated.event_id == published.event_id
    await service.publish_many(3)
    calls: list[Awaitable[Any]] = [
        stub.GetWebhook(pb.GetWebhookRequest(**same)),
        stub.GetEvent(pb.GetEventRequest(customer_id=CUSTOMER, event_id=published.event_id)),
        stub.ListWebhooks(pb.ListWebhooksRequest(customer_id=CUSTOMER)),
        stub.ListDeliveries(pb.ListDeliveriesRequest(customer_id=CUSTOMER)),
        stub.GetWebhookStats(pb.GetWebhookStatsRequest(**same)),
        stub.ExplainEvent(pb.ExplainEventRequest(customer_id=CUSTOMER, event_id=published.event_id)),
        stub.TestWebhook(pb.TestWebhookRequest(**same)),
    ]
    await asyncio.gather(*calls)
    await stub.DeleteWebhook(pb.DeleteWebhookRequest(**same))


async def settings_that_clients_left(url: str) -> set[str]:
    """What is set in the shared sessions, beside what PgBouncer itself keeps for each client."""
    statement = "SELECT name FROM (SELECT pg_sleep(0.1) OFFSET 0) p, pg_settings WHERE source = 'session'"

    async def read() -> set[str]:
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            return {name for (name,) in await (await connection.execute(statement)).fetchall()}

    found = await asyncio.gather(*(read() for _ in range(8)))
    return set[str]().union(*found) - {"application_name", "client_encoding", "DateStyle", "TimeZone"}


async def test_a_transaction_pooler_that_was_not_declared_is_noticed(field: Field) -> None:
    with pgbouncer(field, "transaction") as pooler:
        for pooling in (Pooling.NONE, Pooling.SESSION):
            with pytest.raises(UnsuitableServer, match="set WEBHOOK_DATABASE_POOLER=transaction"):
                await check(pooler.url, pooling)
        assert await settings_that_clients_left(pooler.url) == set(), "looking sets nothing"


async def test_migrating_through_a_transaction_pooler_is_refused(field: Field) -> None:
    with pgbouncer(field, "transaction") as pooler:
        with pytest.raises(UnsuitableServer, match="migrate needs a session of its own"):
            await asyncio.to_thread(migrate, pooler.url)


async def test_where_a_transaction_pooler_is_declared_and_none_is_there_the_role_must_have_the_settings_too(
    field: Field,
) -> None:
    for pooling in (Pooling.NONE, Pooling.SESSION):
        await check(field.url, pooling)
    with pytest.raises(UnsuitableServer, match='SET "jit" = '):
        await check(field.url, Pooling.TRANSACTION)


async def test_a_session_pooler_works_without_a_word_of_it(
    field: Field, receiver: Receiver, services_on: Start
) -> None:
    with pgbouncer(field, "session") as pooler:
        service = await services_on(pooler.url).start(database_pool_size=4)
        await round_of_calls(service, receiver, 1)
        await services_on(pooler.url).stop()


@pytest.mark.parametrize(
    "setting",
    [
        {"synchronous_commit": "off"},
        {"synchronous_commit": "local"},
        {"jit": "on"},
        {"datestyle": "German"},
        {"array_nulls": "off"},
        {"bytea_output": "escape"},
        {"default_transaction_isolation": "repeatable read"},
        {"statement_timeout": "50"},  # less than looking takes
        {"lock_timeout": "1000"},
    ],
    ids=lambda setting: " ".join(*setting.items()),
)
async def test_behind_a_transaction_pooler_a_role_with_the_wrong_settings_is_refused(
    field: Field, setting: dict[str, str]
) -> None:
    field.alter(jit="off")
    field.alter(**setting)
    with pgbouncer(field, "transaction") as pooler:
        with pytest.raises(UnsuitableServer, match="run the following") as caught:
            await check(pooler.url, Pooling.TRANSACTION)
        assert f'SET "{next(iter(setting))}" = ' in str(caught.value)
        run_lines(field, caught.value)
        pooler.reconnect()
        await check(pooler.url, Pooling.TRANSACTION)


@pytest.mark.slow
async def test_doctor_and_commands_say_what_a_transaction_pooler_lacks_and_set_nothing_in_its_sessions(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    field.alter(jit="on", statement_timeout="5s")
    with pgbouncer(field, "transaction") as pooler:
        settings = {"URL": pooler.url, "POOLER": "transaction"}
        for name, value in settings.items():
            monkeypatch.setenv(f"WEBHOOK_DATABASE_{name}", value)
        monkeypatch.setenv("WEBHOOK_SECRET_KEYS", base64.b64encode(SECRET_KEY).decode())

        def found() -> dict[str, Finding]:
            return {one.check: one for one in findings()}

        async def ran(line: str) -> tuple[int, str]:
            result = await asyncio.to_thread(CliRunner().invoke, main, line.split())
            return result.exit_code, result.output

        before = await asyncio.to_thread(found)
        assert before["database"].state == "problem"
        assert "statement_timeout=5s (user); they have to be right" in before["session settings"].detail
        status, said = await ran("keys list")
        assert (status, 'SET "jit" = ' in said) == (1, True), said
        run_lines(field, UnsuitableServer(before["database"].detail))
        pooler.reconnect()
        after = await asyncio.to_thread(found)
        assert not [one for one in after.values() if one.state == "problem"]
        assert after["pooler"].detail == "one between, taken for one in transaction mode"
        for line in ("keys list", "keys rotate", "tokens create --database --role publisher --customer-id 1"):
            status, said = await ran(line)
            assert status == 0, (line, said)
        assert await settings_that_clients_left(pooler.url) == set(), "looking sets nothing"


async def test_what_another_client_set_in_a_shared_session_is_noticed(field: Field) -> None:
    field.alter(jit="off")
    with pgbouncer(field, "transaction") as pooler:
        query(pooler.url, "SET jit = on")
        with pytest.raises(UnsuitableServer, match='SET "jit" = '):
            await check(pooler.url, Pooling.TRANSACTION)


async def test_all_calls_work_behind_a_transaction_pooler(field: Field, receiver: Receiver, services_on: Start) -> None:
    field.alter(jit="off")
    with pgbouncer(field, "transaction") as pooler:
        factory = services_on(pooler.url)
        services = [await factory.start(database_pooler="transaction") for _ in range(2)]
        rounds = [round_of_calls(services[number % 2], receiver, number) for number in range(ROUNDS)]
        at_once = asyncio.Semaphore(4)

        async def run(round_: Awaitable[None]) -> None:
            async with at_once:
                await round_

        async with services[0].watching() as watch:
            await asyncio.gather(*(run(round_) for round_ in rounds))
            await services[1].create_webhook(receiver.url("/last"))
            last = await services[0].publish()
            await watch.until(lambda seen: any(delivery.event_id == last.event_id for delivery in seen), 60)
        assert await settings_that_clients_left(pooler.url) == set(), "no other client sees a setting of ours"
        [(prepared,)] = query(pooler.url, "SELECT count(*) FROM pg_prepared_statements")
        assert prepared == 0
        await factory.stop()


class Acknowledged:
    """Producers that publish until they are stopped, and what they were acknowledged: event ids by request id."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.events: dict[str, str] = {}
        self._services = services
        self._is_over = False

    async def publish(self, number: int) -> None:
        """Calls again with the same request id until it is acknowledged, as clients do."""
        for event in itertools.count():
            request_id = f"{number}-{event}"
            while request_id not in self.events:
                service = self._services[event % len(self._services)]
                try:
                    published = await service.publish(request_id=request_id)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.01)  # the pause of a client
                else:
                    self.events[request_id] = published.event_id
            if self._is_over:
                return

    async def until(self, count: int) -> None:
        """Returns when so many are acknowledged."""
        async with slowness.timeout(60):
            while len(self.events) < count:
                await asyncio.sleep(0.01)  # a dict gives no signal

    def stop(self) -> None:
        """Lets each producer end with the event that it is about."""
        self._is_over = True


@pytest.mark.slow(4)
async def test_a_transaction_pooler_that_is_killed_under_load_and_comes_back_loses_nothing_acknowledged(
    field: Field, receiver: Receiver, services_on: Start
) -> None:
    field.alter(jit="off")
    with pgbouncer(field, "transaction") as pooler:
        factory = services_on(pooler.url)
        services = [await factory.start(database_pooler="transaction") for _ in range(2)]
        await services[0].create_webhook(receiver.url(), max_in_flight=50)
        acknowledged = Acknowledged(services)
        async with asyncio.TaskGroup() as producers:
            for number in range(PUBLISHERS):
                producers.create_task(acknowledged.publish(number))
            for restart in range(RESTARTS):
                await acknowledged.until((2 * restart + 1) * BETWEEN_RESTARTS)
                await asyncio.to_thread(pooler.restart)
                await acknowledged.until((2 * restart + 2) * BETWEEN_RESTARTS)
            acknowledged.stop()
        events = set(acknowledged.events.values())
        assert len(events) == len(acknowledged.events), "one event for each request id"
        assert {event_id for (event_id,) in query(field.url, STORED)} == events, "and no other is stored"
        async with slowness.timeout(60):
            while not events <= {request.event_id for request in receiver.requests}:
                await asyncio.sleep(0.05)  # each of them is sent, whatever was in flight
        await factory.stop()
