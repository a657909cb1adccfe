"""kill -9 under load: nothing that was acknowledged is lost, and a watcher that resumes sees every change once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from aiohttp import web
from webhook.v1 import delivery_pb2, event_pb2, service_pb2, webhook_pb2

from tests.support.postgres import TestPostgres
from tests.support.process import Process
from tests.support.receiver import Behaviour, Received, Receiver, answer
from tests.support.service import CUSTOMER, SECRET
from webhook_grpc.domain.ids import delivery_id_text

KILLS = 5
WEBHOOKS = 6
SECONDS_BETWEEN_KILLS = (0.8, 2.5)

Told = tuple[str, int, str]  # delivery id, attempt count, status


@dataclass
class Cluster:
    """Two processes on one database; either may be dead at any moment."""

    database_url: str
    directory: Path
    processes: list[Process] = field(default_factory=list[Process])
    dead: list[Process] = field(default_factory=list[Process])

    async def start_one(self) -> Process:
        log = self.directory / "service.log"
        process = await Process.start(log, WEBHOOK_DATABASE_URL=self.database_url, WEBHOOK_LOG_LEVEL="warning")
        self.processes.append(process)
        return process

    def any(self) -> Process:
        return random.choice(self.processes)

    async def kill_one(self) -> None:
        victim = self.any()
        self.processes.remove(victim)
        self.dead.append(victim)
        await victim.kill()

    async def end(self) -> None:
        for process in self.processes + self.dead:
            await process.end()


async def publish_until(stopped: asyncio.Event, cluster: Cluster, publisher: int) -> dict[str, str]:
    """Publishes one event after the other, each until it is acknowledged. Returns event id by request id."""
    acknowledged: dict[str, str] = {}
    number = 0
    while not stopped.is_set():
        number += 1
        event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json=f'{{"n":{number}}}')
        request = service_pb2.PublishEventRequest(event=event, request_id=f"{publisher}-{number}")
        while request.request_id not in acknowledged:
            try:
                answered = await cluster.any().stub.PublishEvent(request, timeout=5)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)  # as a client would: the process may be dead
            else:
                acknowledged[request.request_id] = answered.event_id
    return acknowledged


async def watch_for_ever(cluster: Cluster, told: dict[int, list[Told]], joined: asyncio.Event) -> None:
    """Watches, and resumes by cursor with whichever process answers. From when it has joined it must miss nothing."""
    cursor = b""
    while True:
        request = service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER)
        if cursor:
            request.cursor = cursor
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for message in cluster.any().stub.WatchDeliveries(request):
                for delivery in message.deliveries:
                    status = delivery_pb2.DeliveryStatus.Name(delivery.status).removeprefix("DELIVERY_STATUS_").lower()
                    told[delivery.webhook_id].append((delivery.delivery_id, delivery.attempt_count, status))
                cursor = message.cursor
                joined.set()
        await asyncio.sleep(0.05)


async def until_nothing_is_pending(postgres: TestPostgres) -> None:
    async with asyncio.timeout(60):
        while postgres.rows("SELECT count(*) FROM deliveries") != [(0,)]:
            await asyncio.sleep(0.1)


async def until_told_everything(told: dict[int, list[Told]], count: int) -> None:
    with contextlib.suppress(TimeoutError):  # what is missing is compared below
        async with asyncio.timeout(30):
            while sum(map(len, told.values())) < count:
                await asyncio.sleep(0.1)


def one_in_ten_fails() -> Behaviour:
    """Answers 500 to the first request of some events, so that retries are under way when processes die."""
    seen: Counter[str] = Counter()

    async def behave(received: Received) -> web.StreamResponse:
        seen[received.event_id] += 1
        if hash(received.event_id) % 10 == 0 and seen[received.event_id] == 1:
            return await answer(500)(received)
        return await answer(200)(received)

    return behave


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_nothing_is_lost_when_processes_are_killed_under_load(
    postgres: TestPostgres, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    cluster = Cluster(database_url, tmp_path)
    told: dict[int, list[Told]] = defaultdict(list)
    try:
        for _ in range(2):
            await cluster.start_one()
        for number in range(WEBHOOKS):
            url = receiver.on(f"/{number}", one_in_ten_fails())
            webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name=str(number), url=url, events=["*"], secret=SECRET)
            webhook.retry_policy.delays.add(seconds=1)
            webhook.retry_policy.delays.add(seconds=1)
            await cluster.any().stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
        stopped = asyncio.Event()
        joined = asyncio.Event()
        watcher = asyncio.create_task(watch_for_ever(cluster, told, joined))
        await joined.wait()
        publishers = [asyncio.create_task(publish_until(stopped, cluster, number)) for number in range(8)]

        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(*SECONDS_BETWEEN_KILLS))  # the fault's own time
            await cluster.kill_one()
            await cluster.start_one()
        stopped.set()
        acknowledged = [event_id for group in await asyncio.gather(*publishers) for event_id in group.values()]
        await until_nothing_is_pending(postgres)

        log = postgres.rows(
            "SELECT shard, seq, webhook_id, event_id, attempt_count, status FROM attempts ORDER BY shard, seq"
        )
        await until_told_everything(told, len(log))
        assert not watcher.done()
        watcher.cancel()
    finally:
        await cluster.end()

    assert len(acknowledged) > 100
    assert len(set(acknowledged)) == len(acknowledged)
    received = Counter((request.path, request.event_id) for request in receiver.requests)
    for path in (f"/{number}" for number in range(WEBHOOKS)):
        lost = [event_id for event_id in acknowledged if not received[path, event_id]]
        assert not lost, f"{len(lost)} of {len(acknowledged)} never arrived at {path}"

    by_webhook: dict[int, list[Told]] = defaultdict(list)
    seqs: dict[int, list[int]] = defaultdict(list)
    for shard, seq, webhook_id, event_id, attempt_count, status in log:
        seqs[shard].append(seq)
        by_webhook[webhook_id].append((delivery_id_text(event_id, webhook_id), attempt_count, status))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seqs.values()), "the log has a hole"
    assert told == by_webhook, "a resuming watcher is told exactly the log, in order for each webhook"
    succeeded = Counter(row[0] for rows in by_webhook.values() for row in rows if row[2] == "succeeded")
    assert set(succeeded.values()) == {1}
    assert len(succeeded) >= len(acknowledged) * WEBHOOKS
    for request in receiver.requests[:200]:
        request.verify(SECRET)
