"""The Python client against the live service: for threads, and for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from webhook.v1 import delivery_pb2, service_pb2, service_pb2_grpc

from tests.support import slowness
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc_client import (
    AlreadyExists,
    AsyncClient,
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PublisherLimits,
    Unauthorized,
    Unavailable,
)
from webhook_grpc_client.calls import Patience
from webhook_grpc_client.connecting import TLS, credentials, options
from webhook_grpc_client.following import WatchFields

PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
TOKENS = json.dumps([{"name": name, "sha256": token_hash(name)} for name in ("one", "two")])


def past() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=5)


@asynccontextmanager
async def slow_way(address: str) -> AsyncGenerator[str]:
    """An address that leads to the service, by a way on which half a second passes before the first byte."""
    host, port = address.rsplit(":", 1)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)  # this is what the test is about
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def service(services: ServiceFactory) -> Service:
    return await services.start()


@pytest.fixture
async def client(service: Service) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(service.address) as client:
        yield client


async def test_an_event_is_published_once_for_each_request_id(service: Service, client: AsyncClient) -> None:
    with Client(service.address) as threads:
        first = await asyncio.to_thread(
            threads.publish, "job.completed", {"n": 1}, customer_id=CUSTOMER, request_id="order-1"
        )
    again = await client.publish("job.completed", '{"n":1}', customer_id=CUSTOMER, request_id="order-1")
    assert (again.event_id, first.duplicate, again.duplicate) == (first.event_id, False, True)
    event = await service.event(first.event_id)
    assert event.data_json == '{"n":1}'


async def test_errors_say_what_is_wrong(client: AsyncClient) -> None:
    with pytest.raises(FailedPrecondition, match="EVENT_TYPE_UNKNOWN"):
        await client.publish("nobody.knows", {}, customer_id=CUSTOMER)
    with pytest.raises(InvalidArgument) as invalid:
        await client.publish("", {}, customer_id=-1)
    assert {field for field, _ in invalid.value.violations} >= {"event.event_type", "event.customer_id"}
    await client.publish("job.completed", {"n": 1}, customer_id=CUSTOMER, request_id="order-1")
    with pytest.raises(AlreadyExists, match="REQUEST_ID_REUSED"):
        await client.publish("job.completed", {"n": 2}, customer_id=CUSTOMER, request_id="order-1")
    absent = service_pb2.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=10**6)
    with pytest.raises(NotFound, match="WEBHOOK_NOT_FOUND"):
        await client.call(client.stub.GetWebhook, absent, may_repeat=True)


async def test_a_connection_may_take_longer_than_the_pause_before_the_next(service: Service) -> None:
    """Over a long way, with TLS, it takes three times as long as a round trip; on a busy machine longer."""
    async with (
        slow_way(service.address) as address,
        grpc.aio.insecure_channel(address, options=options(address, None)) as channel,
    ):
        request = service_pb2.ListWebhooksRequest(customer_id=CUSTOMER)
        assert not (await service_pb2_grpc.WebhookServiceStub(channel).ListWebhooks(request)).webhooks


async def test_a_service_that_is_away_is_unavailable_when_patience_ends() -> None:
    async with AsyncClient("127.0.0.1:1", patience=Patience(seconds=0.3)) as client:
        with pytest.raises(Unavailable):
            await client.publish("job.completed", {}, customer_id=CUSTOMER)


async def test_a_new_token_in_the_file_is_used_by_the_next_call(services: ServiceFactory, tmp_path: Path) -> None:
    service = await services.start(tokens=TOKENS)
    file = tmp_path / "token"
    async with AsyncClient(service.address, token_file=file) as client:
        with pytest.raises(Unauthorized, match="token file"):
            await client.publish("job.completed", {}, customer_id=CUSTOMER)
        file.write_text("wrong\n")
        with pytest.raises(Unauthorized, match="TOKEN_INVALID"):
            await client.publish("job.completed", {}, customer_id=CUSTOMER)
        file.write_text("one\n")
        assert (await client.publish("job.completed", {}, customer_id=CUSTOMER)).event_id


async def test_many_threads_publish_in_few_calls_and_each_event_is_judged_by_itself(service: Service) -> None:
    sizes: list[int] = []

    def publish() -> list[BaseException | str]:
        with Client(service.address) as client:
            stub = client.stub.BatchPublishEvents

            def counted(request: service_pb2.BatchPublishEventsRequest, **call: object) -> object:
                sizes.append(len(request.requests))
                return stub(request, **call)  # pyright: ignore[reportArgumentType]

            client.stub.BatchPublishEvents = counted  # pyright: ignore[reportAttributeAccessIssue]
            with client.publisher(PublisherLimits(max_waiting=600)) as publisher:
                types = ["nobody.knows" if number == 7 else "job.completed" for number in range(1200)]
                futures = [publisher.publish(name, {}, customer_id=CUSTOMER) for name in types]
                publisher.flush()
                assert all(future.done() for future in futures)
            with pytest.raises(RuntimeError, match="closed"):
                publisher.publish("job.completed", {}, customer_id=CUSTOMER)
        return [future.exception() or future.result().event_id for future in futures]

    results = await asyncio.to_thread(publish)
    assert isinstance(results.pop(7), FailedPrecondition)
    assert len({result for result in results if isinstance(result, str)}) == 1199
    assert sum(sizes) == 1200
    assert len(sizes) < 30, "batches, not single events"


async def test_many_tasks_publish_in_batches(client: AsyncClient) -> None:
    async def task(number: int) -> str:
        future = await publisher.publish("job.completed", {"n": number}, customer_id=CUSTOMER)
        return (await future).event_id

    async with client.publisher(PublisherLimits(max_waiting=50)) as publisher:
        ids = await asyncio.gather(*map(task, range(300)))
        await publisher.flush()
    assert len(set(ids)) == 300
    with pytest.raises(RuntimeError, match="closed"):
        await publisher.publish("job.completed", {}, customer_id=CUSTOMER)


@pytest.mark.slow(4)
async def test_a_watch_ends_after_silence_and_the_next_goes_on_where_it_stopped(
    service: Service, client: AsyncClient, receiver: Receiver, tmp_path: Path
) -> None:
    await service.create_webhook(receiver.url())
    file = tmp_path / "cursor"
    start: WatchFields = {"customer_id": CUSTOMER, "snapshot": True, "until_idle": 2, "cursor_file": file}
    await service.publish_many(3)
    await receiver.wait_for(3)
    async with client.watch(**start) as watcher:
        first = [delivery.event_id async for delivery in watcher if delivery.status != PENDING]
    await service.publish_many(2)
    await receiver.wait_for(5)

    def rest() -> list[str]:
        with Client(service.address) as threads, threads.watch(**start) as watcher:
            return [delivery.event_id for delivery in watcher if delivery.status != PENDING]

    second = await asyncio.to_thread(rest)
    assert len({*first, *second}) == len(first) + len(second)
    assert len(second) >= 2
    with pytest.raises(InvalidArgument, match="CURSOR_INVALID"):
        await anext(client.watch(customer_id=CUSTOMER, cursor=b"none of yours"))


async def test_what_a_watcher_has_not_finished_is_delivered_again(
    service: Service, client: AsyncClient, receiver: Receiver, tmp_path: Path
) -> None:
    await service.create_webhook(receiver.url())
    file = tmp_path / "cursor"
    async with client.watch(customer_id=CUSTOMER, start_time=past(), cursor_file=file) as watcher:
        await service.publish()
        async with slowness.timeout(20):
            broken_off = await anext(watcher)
    async with client.watch(customer_id=CUSTOMER, start_time=past(), cursor_file=file) as watcher:
        async with slowness.timeout(20):
            again = await anext(watcher)
    assert again.delivery_id == broken_off.delivery_id


async def test_closing_ends_a_watch_that_waits_in_another_thread(service: Service) -> None:
    with Client(service.address) as client, client.watch(customer_id=CUSTOMER) as watcher:
        iterating = asyncio.create_task(asyncio.to_thread(list, watcher))
        while not watcher.cursor:
            await asyncio.sleep(0.01)
        watcher.close()
        assert await iterating == []


def test_what_holds_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("-----BEGIN EC PRIVATE KEY-----")
    for tls in (TLS(file), TLS(cert_file=file)):
        with pytest.raises(ValueError, match=r"ca\.pem holds no certificate"):
            credentials("hooks.internal:443", tls)


def test_addresses_beyond_loopback_are_called_with_tls() -> None:
    names = ("hooks.internal:443", "10.0.0.1:50051", "localhost.example.com:443", "127.0.0.1.example.com:443")
    for address, tls in itertools.product(names, (None, True)):
        assert isinstance(credentials(address, tls), grpc.ChannelCredentials)
    for address in ("127.0.0.1:50051", "localhost:1", "[::1]:1", "unix:/run/hooks"):
        assert credentials(address, None) is None
    assert credentials("mesh.internal:50051", tls=False) is None
