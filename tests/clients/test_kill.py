"""A server that is killed while programs of a few lines publish and watch: each event once, each change seen."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from queue import SimpleQueue

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

pytestmark = [pytest.mark.slow(8), pytest.mark.timeout(in_full(7200, short=300))]


def publish_all(address: str, numbers: Iterable[int]) -> set[str]:
    """The whole program of a producer."""
    with Client(address) as client:
        with client.publisher() as publisher:
            futures = [publisher.publish("job.completed", {"n": n}, customer_id=CUSTOMER) for n in numbers]
        return {future.result().event_id for future in futures}


def paced(reached: SimpleQueue[int], killed: SimpleQueue[int]) -> Generator[int]:
    """Numbers the events. At each kill it says that so many are published, and goes on when the server is away."""
    kills = {EVENTS * kill // (KILLS + 1) for kill in range(1, KILLS + 1)}
    for number in range(EVENTS):
        if number in kills:
            reached.put(number)
            killed.get(timeout=slowness.scaled(120))
        yield number


async def watch_all(address: str, ended: set[str], file: Path, count: int) -> None:
    """The whole program of a consumer."""
    async with AsyncClient(address) as client, client.watch(customer_id=CUSTOMER, cursor_file=file) as watcher:
        async for delivery in watcher:
            if delivery.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED:
                ended.add(delivery.event_id)
            if len(ended) == count:
                return


@pytest.mark.parametrize("program", [publish_all, watch_all])
def test_the_programs_of_a_producer_and_a_consumer_are_short(program: Callable[..., object]) -> None:
    assert len(inspect.getsource(program).splitlines()) <= 15


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
    reached, killed = SimpleQueue[int](), SimpleQueue[int]()
    publishing = asyncio.create_task(asyncio.to_thread(publish_all, server.address, paced(reached, killed)))
    for _ in range(KILLS):
        await asyncio.to_thread(reached.get, timeout=slowness.scaled(120))
        await server.end()  # with the last batches on their way
        killed.put(server.process.pid)
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
