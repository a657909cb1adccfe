"""A server that is killed while programs of a few lines publish and watch: each event once, each change seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from webhook.v1 import delivery_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.full import in_full
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER
from webhook_grpc_client import AsyncClient, Client

EVENTS = in_full(100_000, short=2_000)
KILLS = in_full(10, short=2)

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(in_full(1800, short=300))]


def publish_all(address: str, futures: list[Future[service_pb2.PublishEventResponse]]) -> set[str]:
    """The whole program of a producer."""
    with Client(address) as client:
        with client.publisher() as publisher:
            futures.extend(publisher.publish("job.completed", {"n": n}, customer_id=CUSTOMER) for n in range(EVENTS))
        return {future.result().event_id for future in futures}


async def watch_all(address: str, ended: set[str], file: Path, count: int) -> None:
    """The whole program of a consumer."""
    async with AsyncClient(address) as client, client.watch(customer_id=CUSTOMER, cursor_file=file) as watcher:
        async for delivery in watcher:
            if delivery.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED:
                ended.add(delivery.event_id)
            if len(ended) == count:
                return


async def test_each_event_is_published_once_and_each_ending_is_seen_while_the_server_is_killed(
    database_url: str, postgres: TestPostgres, receiver: Receiver, tmp_path: Path
) -> None:
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_GRPC_ADDRESS": f"127.0.0.1:{free_port()}"}
    server = await Process.start(tmp_path / "log", **settings)
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"])
    await server.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    ended, file = set[str](), tmp_path / "cursor"
    watching = asyncio.create_task(watch_all(server.address, ended, file, EVENTS))
    async with slowness.timeout(20):
        while not file.exists():
            await asyncio.sleep(0.01)  # it has joined the stream
    futures: list[Future[service_pb2.PublishEventResponse]] = []
    publishing = asyncio.create_task(asyncio.to_thread(publish_all, server.address, futures))
    for kill in range(1, KILLS + 1):
        while sum(future.done() for future in futures) < EVENTS * kill // (KILLS + 2):
            await asyncio.sleep(0.001)  # the next batches are on their way
        assert not publishing.done()
        await server.end()
        server = await Process.start(tmp_path / "log", **settings)
    event_ids = await publishing
    await watching

    assert len(event_ids) == EVENTS
    [(count, distinct)] = postgres.rows("SELECT count(*), count(DISTINCT event_id) FROM events")
    assert (count, distinct) == (EVENTS, EVENTS), "each in the log once"
    assert ended == event_ids
    received = Counter(request.event_id for request in receiver.requests)
    assert received.keys() == event_ids
    await server.end()
