"""Migrating beside live traffic of the version before: nobody waits long, nothing deadlocks, nothing is lost.

The load is a real process of the earlier version, from a checkout of its commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import grpc
import pytest
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.earlier import WITH_0001, WITH_0002, WITH_0004, Earlier, checkout, previous
from tests.support.full import in_full
from tests.support.postgres import query
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.service import SECRET, ServiceFactory
from webhook_grpc.store.schema.migrate import check_schema, migrate
from webhook_grpc.store.schema.migration_files import POST, migration_names

from .database import DatabaseServer
from .groups import group

pytestmark = [pytest.mark.slow, group(1)]

WEBHOOKS = 4
PUBLISHERS = 6
GAP_SECONDS = 0.01
ANSWERS = 30  # by which the machine is measured
STALL_SECONDS_MAX = 1.0

# History that is of no webhook: so that building an index takes a while.
FILL: LiteralString = """
WITH past AS (
    INSERT INTO idempotency_keys SELECT 7, 'past-' || n, gen_random_uuid(), n, now() FROM generate_series(1, 20000) n
)
INSERT INTO attempts (
    shard, seq, created_at, customer_id, webhook_id, event_id, event_type, event_created_at, status, attempt_count
)
SELECT 63, n, now(), 7, 6399, gen_random_uuid(), 'job.completed', now(), 'succeeded', 1
FROM generate_series(1, 20000) n
"""
DEADLOCKS: LiteralString = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@dataclass
class Load:
    """Calls of PublishEvent, and what came of them."""

    process: Process
    acknowledged: set[str] = field(default_factory=set[str])
    failed: list[grpc.aio.AioRpcError] = field(default_factory=list[grpc.aio.AioRpcError])
    seconds: list[float] = field(default_factory=list[float])
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Publishes until it is ended."""
        async with asyncio.TaskGroup() as publishers:
            for number in range(PUBLISHERS):
                publishers.create_task(self._publish(number))

    async def _publish(self, number: int) -> None:
        count = 0
        while not self.ended.is_set():
            count += 1
            event = event_pb2.Event(customer_id=42, event_type="job.completed", data_json="{}")
            request = service_pb2.PublishEventRequest(event=event, request_id=f"{number}-{count}")
            began_at = time.monotonic()
            try:
                answer = await self.process.stub.PublishEvent(request)
                self.acknowledged.add(answer.event_id)
            except grpc.aio.AioRpcError as error:
                self.failed.append(error)
            self.seconds.append(time.monotonic() - began_at)
            await asyncio.sleep(GAP_SECONDS)

    async def until_answered(self, count: int) -> None:
        """Waits for so many more answers."""
        wanted = len(self.seconds) + count
        async with slowness.timeout(30):
            while len(self.seconds) < wanted:
                await asyncio.sleep(GAP_SECONDS)


_FIRST = pytest.param(lambda: WITH_0001, (), id="0001")
_PREVIOUS = pytest.param(previous, (), id="the version before this one")


@pytest.mark.parametrize(
    ("commit", "without"),
    in_full(
        (
            _FIRST,
            pytest.param(lambda: WITH_0002, (), id="0002"),
            # no commit has 0003 as it was released and not 0004, which this version itself does not use
            pytest.param(lambda: WITH_0004, ("0004-publish-event.pre",), id="0003"),
            pytest.param(lambda: WITH_0004, (), id="0004"),
            _PREVIOUS,
        ),
        short=(_FIRST, _PREVIOUS),
    ),
)
async def test_migrating_beside_the_version_before(
    commit: Callable[[], str], without: Sequence[str], server: DatabaseServer, receiver: Receiver, tmp_path: Path
) -> None:
    slowness.measure_again()
    url = server.empty_database()
    with checkout(commit(), without) as earlier:
        process = await _start(earlier, tmp_path / "log", url)
        try:
            load = Load(process)
            await _register_webhooks(process, receiver)
            query(url, FILL)
            running = asyncio.create_task(load.run())
            await load.until_answered(ANSWERS)
            usual_seconds, load.seconds = max(load.seconds), []
            first = len(list(earlier.migrations.glob("*.sql")))
            wanted = [name for name in migration_names()[first:] if not name.endswith(POST)]
            # The rest waits for the end of the earlier process. By hand: its lease may run out on a slow machine.
            assert await asyncio.to_thread(migrate, url, before_deployment=True) == wanted
            await load.until_answered(ANSWERS)
            load.ended.set()
            await running
            assert await process.terminate() == 0
        finally:
            await process.end()
    left = [name for name in migration_names()[first:] if name.endswith(POST)]
    assert await asyncio.to_thread(migrate, url) == left
    assert not load.failed, load.failed[0]
    assert max(load.seconds) < slowness.scaled(STALL_SECONDS_MAX) + 2 * usual_seconds
    assert query(url, DEADLOCKS) == [(0,)]
    assert "died during this attempt" not in (tmp_path / "log").read_text()
    await _deliver_the_rest(url, tmp_path, receiver, load)
    server.drop_database(url)


async def _start(earlier: Earlier, log: Path, url: str) -> Process:
    return await Process.start(
        log, earlier.command, PYTHONPATH=earlier.python_path, WEBHOOK_DATABASE_URL=url, WEBHOOK_LOG_LEVEL="warning"
    )


async def _register_webhooks(process: Process, receiver: Receiver) -> None:
    for number in range(WEBHOOKS):
        webhook = webhook_pb2.Webhook(
            customer_id=42, name=f"{number}", url=receiver.url(f"/{number}"), events=["*"], secret=SECRET
        )
        await process.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))


async def _deliver_the_rest(url: str, directory: Path, receiver: Receiver, load: Load) -> None:
    """Starts this version, which takes over what the earlier one has not delivered: then each webhook had all."""
    check_schema(url)
    services = ServiceFactory(url, directory)
    await services.start()
    try:
        async with slowness.timeout(60):
            for number in range(WEBHOOKS):
                while not load.acknowledged <= {request.event_id for request in receiver.at(f"/{number}")}:
                    await asyncio.sleep(0.05)
    finally:
        await services.stop()
    assert len(load.acknowledged) > PUBLISHERS
