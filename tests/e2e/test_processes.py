"""`serve --processes`: several processes behind one address, as one service."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final, cast

import grpc
import psutil
import pytest
from aiohttp import ClientSession, TCPConnector
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.process import Process, run_cli
from tests.support.receiver import Receiver
from tests.support.service import Watch

CUSTOMER: Final = 42
CALLERS: Final = 20  # each with a connection of its own: that all of them meet one process is a chance of 1 in 500,000
SCRAPES: Final = 20
LEASE_SECONDS: Final = 60.0  # as long as there are: what is taken over within a test was not taken when it ran out
HAS_SHARDS: Final = "SELECT count(*) FROM shards s JOIN workers w ON w.worker_id = s.owner WHERE w.pid = %s"

Figures = dict[tuple[str, ...], float]


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncGenerator[Process]:
    """Two processes on one address, with leases that do not run out."""
    found = await Process.start(
        tmp_path / "log",
        WEBHOOK_PROCESSES="2",
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        WEBHOOK_LEASE_SECONDS=str(LEASE_SECONDS),
        WEBHOOK_PROCESS_RESTART_SECONDS_MIN="0.5",
    )
    yield found
    await found.end()


def children_of(service: Process) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


async def callers(service: Process) -> AsyncGenerator[grpc.aio.Channel]:
    """Which process each of them meets is chance."""
    for _ in range(CALLERS):
        async with grpc.aio.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield channel


async def got(service: Process, path: str, count: int = CALLERS) -> list[str]:
    """Asks so many times, each time on a connection of its own."""
    async with ClientSession(connector=TCPConnector(force_close=True), raise_for_status=True) as session:
        return [await (await session.get(service.http_url + path)).text() for _ in range(count)]


def counters(text: str) -> Figures:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


async def create_webhook(service: Process, url: str) -> None:
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="one", url=url, events=["*"])
    await service.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))


def publication(request_id: str = "") -> service_pb2.PublishEventRequest:
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
    return service_pb2.PublishEventRequest(event=event, request_id=request_id)


async def published(service: Process) -> None:
    """Publishes until a process takes it that lives: a call at a process that dies ends with UNAVAILABLE."""
    while True:
        try:
            async with grpc.aio.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                await service_pb2_grpc.WebhookServiceStub(channel).PublishEvent(publication("once"))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            return


@pytest.mark.slow(10)
async def test_no_answer_depends_on_which_process_was_met(service: Process, receiver: Receiver) -> None:
    for path, expected in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        assert set(await got(service, path)) == {expected}
    for path in ("/", "/api/caller", "/api/openapi.json"):
        assert len(set(await got(service, path))) == 1, path

    await create_webhook(service, receiver.url())
    same, published_ids, watched_ids = set[str](), list[str](), list[str]()
    request = service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER)
    request.start_time.FromJsonString("2026-01-01T00:00:00Z")
    async for channel in callers(service):
        check = health_pb2.HealthCheckRequest(service="webhook.v1.WebhookService")
        health: Any = await cast("Any", health_pb2_grpc).HealthStub(channel).Check(check)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        same.add((await stub.PublishEvent(publication("the same"))).event_id)
        published_ids.append((await stub.PublishEvent(publication())).event_id)
        watch = Watch(stub.WatchDeliveries(request))
        endings = await watch.until_ended(1 if watched_ids else 2)
        watched_ids += [delivery.event_id for delivery in endings]
        watch.call.cancel()
        request = service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER, cursor=watch.cursor)
    assert sorted(watched_ids) == sorted([*same, *published_ids]), "each once, from whoever has the cursor"

    before: Figures = {}
    for text in await got(service, "/metrics", SCRAPES):
        now = counters(text)
        assert not {name for name, value in before.items() if now[name] < value}
        before = now
    for process in ("1", "2"):
        calls = [name for name in before if name[0] == "webhook_rpcs_total" and f"process={process}" in name]
        assert sum(before[name] for name in calls) > 0, "else this test has shown nothing"


@pytest.mark.slow(10)
async def test_when_a_process_is_killed_the_others_deliver_at_once_and_it_is_started_again(
    service: Process, receiver: Receiver, postgres: TestPostgres, tmp_path: Path
) -> None:
    children = children_of(service)
    assert len(children) == 2
    for child in children:
        assert any("cygrpc" in each.path for each in child.memory_maps())
    assert not any("grpc/_cython" in each.path for each in psutil.Process(service.process.pid).memory_maps())

    for number in range(16):  # of many shards, and so of both processes
        await create_webhook(service, receiver.url(f"/{number}"))
    owned, victim = max(
        ((postgres.rows(HAS_SHARDS, [child.pid])[0][0], child) for child in children), key=operator.itemgetter(0)
    )
    assert owned, "at the start one may have all shards"
    os.kill(victim.pid, signal.SIGKILL)
    await published(service)
    await receiver.wait_for(16, seconds=LEASE_SECONDS / 2)
    async with slowness.timeout(20):
        while '"lease of a dead process ended"' not in (tmp_path / "log").read_text():
            await asyncio.sleep(0.05)  # a file gives no signal

    async with slowness.timeout(60):
        while (tmp_path / "log").read_text().count('"a process serves"') < 3:
            await asyncio.sleep(0.05)  # a file gives no signal
    [text] = await got(service, "/metrics", 1)
    assert sum(value for name, value in counters(text).items() if name[0] == "webhook_process_restarts_total") == 1
    assert await service.terminate() == 0
    assert not any(child.is_running() for child in children)


@pytest.mark.slow(5)
async def test_when_the_parent_is_killed_the_others_drain_and_end(service: Process, tmp_path: Path) -> None:
    children = children_of(service)
    await service.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, slowness.scaled(30))
    assert not alive
    assert (tmp_path / "log").read_text().count('"stopped"') == 2


@pytest.mark.slow(5)
async def test_what_is_wrong_at_the_first_start_is_said_once_and_ends_the_service(database_url: str) -> None:
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_LOG_LEVEL": "error"}
    status, _, said = await run_cli("serve", "--processes", "3", WEBHOOK_DATABASE_POOL_SIZE="1000", **settings)
    assert (status, said.count("a process needs 1011 connections")) == (1, 1), said
    assert said.count("\n") == 1, said


@pytest.mark.slow(5)
async def test_an_address_that_is_taken_is_refused_at_once(service: Process, database_url: str) -> None:
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_GRPC_ADDRESS": service.address}
    status, _, said = await run_cli("serve", "--processes", "2", **settings)
    assert status == 1
    assert f"cannot listen on {service.address}" in said
    assert said.count("\n") == 1, said
