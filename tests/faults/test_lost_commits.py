"""The database comes back older than it was: a standby that lacked what the primary had acknowledged.

What the new primary has is delivered, whatever the processes remember; and nobody who watches misses anything silently.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from webhook.v1 import service_pb2 as pb

from tests.support import slowness
from tests.support.full import in_full
from tests.support.postgres import query
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory, Watch, ended, error_details
from tests.support.symptoms import recording

from .groups import group
from .replicated import ReplicatedServer

pytestmark = [pytest.mark.slow(6), group(1)]
WEBHOOKS = 3
LOST = 5  # events that only the old primary has; fewer follow, so that the new log does not outgrow the old one


@pytest.mark.parametrize(
    "is_long",
    in_full(
        (pytest.param(False, id="short"), pytest.param(True, id="longer than the lease")),
        short=(pytest.param(False, id="short"),),
    ),
)
async def test_after_a_failover_that_lost_commits_nothing_stands_still_and_watchers_are_told(
    replicated_server: ReplicatedServer,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_long: bool,
) -> None:
    server = replicated_server
    url = await asyncio.to_thread(server.new_database)
    services = ServiceFactory(url, tmp_path)
    try:
        with recording(monkeypatch) as lines:
            lease_seconds = slowness.lengthened(2.0 if is_long else 8.0)
            service = await services.start(database_timeout_seconds=slowness.scaled(2.0), lease_seconds=lease_seconds)
            webhooks = [await service.create_webhook(receiver.url(f"/{number}")) for number in range(WEBHOOKS)]
            async with service.watching() as watch:
                kept = await service.publish_many(2)
                await watch.until_ended(2 * WEBHOOKS)
                await asyncio.to_thread(server.cut_off)
                # only the old primary knows that this one is paused
                await service.pause_webhook(webhooks[0].webhook_id)
                await service.publish_many(LOST)
                await watch.until_ended(2 * WEBHOOKS + LOST * (WEBHOOKS - 1))
                held = watch.cursor

                await asyncio.to_thread(server.crash)
                if is_long:
                    await until_lease_is_lost(service)
                await asyncio.to_thread(server.promote)
                after = [await published(service) for _ in range(LOST - 2)]

                assert await reason_of_end(watch) == "CURSOR_OF_OTHER_LOG"
            resumed = service.stub.WatchDeliveries(pb.WatchDeliveriesRequest(customer_id=CUSTOMER, cursor=held))
            assert await reason_of_end(Watch(resumed)) == "CURSOR_OF_OTHER_LOG"
            async with service.watching(snapshot=True) as again:
                await again.next_message()  # it has joined
                last = await published(service)
                await again.until(lambda seen: sum(one.event_id == last for one in ended(seen)) == WEBHOOKS)
            async with slowness.timeout(30):
                for number in range(WEBHOOKS):
                    while not {*kept, *after, last} <= {request.event_id for request in receiver.at(f"/{number}")}:
                        await asyncio.sleep(0.05)
                while query(url, "SELECT 1 FROM deliveries"):
                    await asyncio.sleep(0.05)
        assert [line for line in lines if str(line["event"]).startswith("the database has lost")]
        assert not [line for line in lines if line["event"] == "hole in the log"]
    finally:
        await services.stop()
        await asyncio.to_thread(server.drop_database, url)


async def until_lease_is_lost(service: Service) -> None:
    async with slowness.timeout(30):
        while service.app.engine.shards.may_send:
            await asyncio.sleep(0.02)


async def published(service: Service) -> str:
    """Publishes an event, again until the service takes it."""
    async with slowness.timeout(30):
        while True:
            try:
                return (await service.publish(request_id=uuid4().hex)).event_id
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def reason_of_end(watch: Watch) -> str:
    """Reads until the service ends the stream; returns why."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with slowness.timeout(30):
            while True:
                await watch.next_message(30)
    return error_details(caught.value)["ErrorInfo"].reason
