"""WatchDeliveries: complete, once, in order, resumable, and deaf to slow readers."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from datetime import datetime
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, service_pb2, service_pb2_grpc

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.receiver import Gate, Receiver, Valve, answer, answers
from tests.support.service import CUSTOMER, Service, ServiceFactory, Watch, error_details, seconds
from webhook_grpc.domain.cursor import Position, encode_cursor
from webhook_grpc.hub.log.history import History
from webhook_grpc.hub.log.shared_reads import SharedReads
from webhook_grpc.store.db import Database
from webhook_grpc.store.log import feed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
FAILED = delivery_pb2.DELIVERY_STATUS_FAILED
# Of a client: what it does not read stays with the service.
READS_NOTHING_AHEAD = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]


async def refusal(service: Service, **request: Any) -> grpc.aio.AioRpcError:
    """The error that a request for the stream is refused with."""
    fields: dict[str, Any] = {"customer_id": CUSTOMER, **request}
    call = service.stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(**fields))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value


async def test_the_first_message_comes_at_once_with_a_cursor(service: Service) -> None:
    request = service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER, heartbeat_interval=seconds(60))
    call = service.stub.WatchDeliveries(request)
    message = await Watch(call).next_message()  # before a heartbeat could come
    assert not message.deliveries
    assert message.cursor
    assert message.server_time.seconds > 0
    call.cancel()


async def test_an_idle_stream_sends_heartbeats(service: Service) -> None:
    async with service.watching(heartbeat_interval=seconds(1)) as watch:
        for _ in range(2):
            message = await watch.next_message()
            assert not message.deliveries
            assert message.cursor


@pytest.mark.parametrize("beginning", ["start_time", "snapshot"])
async def test_heartbeats_go_on_while_a_watcher_waits_for_its_turn_to_read(
    service: Service, monkeypatch: pytest.MonkeyPatch, beginning: str
) -> None:
    monkeypatch.setattr("webhook_grpc.api.deliveries.watch.HEARTBEAT_SECONDS_MIN", 0.05)
    may_read, read, share = asyncio.Event(), History.read, SharedReads.read

    async def read_later(*arguments: Any) -> Any:
        await may_read.wait()
        return await read(*arguments)

    async def share_later(reads: SharedReads, whose: Hashable, key: Hashable, make: Any) -> Any:
        if isinstance(cast("object", key), tuple):  # a page of a snapshot
            await may_read.wait()
        return await share(reads, whose, key, make)

    monkeypatch.setattr(History, "read", read_later)
    monkeypatch.setattr(SharedReads, "read", share_later)
    published = await service.publish()
    begin: dict[str, Any] = {"start_time": {"start_time": published.create_time}, "snapshot": {"snapshot": True}}
    async with service.watching(heartbeat_interval=seconds(0.05), **begin[beginning]) as watch:
        for _ in range(2):
            message = await watch.next_message()
            assert (list(message.deliveries), message.snapshot_complete) == ([], False)
        may_read.set()
        while not (await watch.next_message()).cursor:
            pass  # ends when what was waited for is read


async def test_changes_that_are_filtered_out_still_move_the_cursor(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as all_of_it:
        async with service.watching(event_types=["alert.*"], heartbeat_interval=seconds(1)) as watch:
            before = watch.cursor
            await service.publish()
            await all_of_it.until_ended()
            while watch.cursor == before:  # the first heartbeats may be of a moment before
                assert not (await watch.next_message()).deliveries


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {("job.completed", SUCCEEDED), ("alert.triggered", SUCCEEDED)}),
        ({"event_types": ["job.*"]}, {("job.completed", SUCCEEDED)}),
        ({"event_types": ["alert.triggered"]}, {("alert.triggered", SUCCEEDED)}),
        ({"customer_id": 0, "event_types": ["quota.*", "alert.*"]}, {("alert.triggered", SUCCEEDED)}),
    ],
)
async def test_filters_choose_what_is_told(
    service: Service, receiver: Receiver, wanted: dict[str, Any], expected: set[tuple[str, int]]
) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as all_of_it, service.watching(**wanted) as watch:
        await service.publish(event_type="job.completed")
        await service.publish(event_type="alert.triggered")
        await all_of_it.until_ended(2)
        await watch.until_ended(len(expected))
    assert {(d.event_type, d.status) for d in watch.deliveries} == expected


async def test_webhook_event_and_status_filters(service: Service, receiver: Receiver) -> None:
    first = await service.create_webhook(receiver.on("/1", answers(500, 200)))
    await service.create_webhook(receiver.url("/2"))
    async with (
        service.watching() as all_of_it,
        service.watching(webhook_ids=[first.webhook_id], statuses=[PENDING]) as failures,
    ):
        published = await service.publish()
        await all_of_it.until_ended(2)
        await failures.until(lambda seen: len(seen) == 1)
        async with service.watching(event_id=published.event_id, start_time=published.create_time) as one_event:
            await one_event.until_ended(2)
    assert {(d.webhook_id, d.attempt_count) for d in failures.deliveries} == {(first.webhook_id, 1)}


async def test_another_customers_deliveries_are_not_told(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url(), customer_id=CUSTOMER + 1)
    await service.create_webhook(receiver.url())
    async with service.watching(customer_id=0) as all_of_it, service.watching() as watch:
        await service.publish(customer_id=CUSTOMER + 1)
        await service.publish()
        await all_of_it.until_ended(2)
        await watch.until_ended()
    assert [delivery.customer_id for delivery in watch.deliveries] == [CUSTOMER]


async def test_a_watcher_that_resumes_from_each_cursor_sees_everything_once(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(retry_delays_seconds=(0.05, 0.05))
    await service.create_webhook(receiver.on("/1", answer(500)))
    await service.create_webhook(receiver.url("/2"))
    async with service.watching() as complete:
        cursor = complete.cursor
        publishing = asyncio.create_task(service.publish_many(100))
        pieces: list[delivery_pb2.Delivery] = []
        while len(pieces) < 400:  # 3 attempts and 1 attempt of each event
            async with slowness.timeout(20):
                call = service.stub.WatchDeliveries(
                    service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER, cursor=cursor)
                )
                watch = Watch(call)
                while not watch.deliveries:
                    await watch.next_message()
                pieces += watch.deliveries
                cursor = watch.cursor
                call.cancel()
        await publishing
        await complete.until(lambda seen: len(seen) == 400)
    for webhook_id in {delivery.webhook_id for delivery in pieces}:
        assert [d for d in pieces if d.webhook_id == webhook_id] == [
            d for d in complete.deliveries if d.webhook_id == webhook_id
        ]


async def test_a_cursor_of_one_process_is_good_in_another(services: ServiceFactory, receiver: Receiver) -> None:
    first = await services.start()
    await first.create_webhook(receiver.url())
    async with first.watching() as watch:
        await first.publish()
        await watch.until_ended()
        await first.publish()
    second = await services.start()
    async with second.watching(cursor=watch.cursor) as resumed:
        await resumed.until_ended()
    assert resumed.deliveries[0].event_id != watch.deliveries[0].event_id


async def test_a_cursor_ahead_of_the_tail_of_another_process_is_told_nothing_twice(
    services: ServiceFactory, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has a watcher already, and its tail has not read yet what the cursor has seen."""
    first = await services.start()
    second = await services.start()
    await first.create_webhook(receiver.url())
    tail: Any = second.app._tail  # pyright: ignore[reportPrivateUsage]
    read, held_back = tail._read, True

    async def slowly() -> bool:
        return False if held_back else await read()

    monkeypatch.setattr(tail, "_read", slowly)
    async with second.watching(), first.watching() as watch:
        await first.publish()
        await watch.until_ended()
        async with second.watching(cursor=watch.cursor) as resumed:
            held_back = False
            await first.publish()
            await resumed.until_ended()
    assert [delivery.event_id for delivery in resumed.deliveries] != [watch.deliveries[0].event_id]
    assert len(resumed.deliveries) == 1


async def test_a_snapshot_tells_what_is_pending_and_then_what_changes(service: Service, receiver: Receiver) -> None:
    gate = Gate()
    await service.create_webhook(receiver.on("/gate", gate))
    await service.publish_many(120)
    async with service.watching(snapshot=True) as watch:
        message = await watch.next_message()
        while not message.snapshot_complete:
            assert not message.cursor, "a snapshot is not resumable"
            message = await watch.next_message()
        assert message.cursor
        assert len({delivery.delivery_id for delivery in watch.deliveries}) == 120
        assert {delivery.status for delivery in watch.deliveries} == {PENDING}
        gate.opened.set()
        await watch.until_ended(120)


async def test_nothing_is_missed_between_a_snapshot_and_the_changes(service: Service, receiver: Receiver) -> None:
    """Every delivery is either still pending in the snapshot or told as a change after it, or was over before."""
    valve = Valve(100)  # while the snapshot is taken deliveries end, and never all of them
    await service.create_webhook(receiver.on("/valve", valve))
    async with service.watching() as complete:
        publishing = asyncio.create_task(service.publish_many(300))
        await receiver.wait_for(20)
        async with service.watching(snapshot=True) as watch:
            valve.let(100)
            await watch.next_message()  # the snapshot has begun
            valve.let(100)
            await publishing
            await complete.until_ended(300)
            pending_or_told = await watch.until(
                lambda seen: (
                    all(d.status == PENDING or d.status == SUCCEEDED for d in seen)
                    and {d.delivery_id for d in seen if d.status == PENDING}
                    <= {d.delivery_id for d in seen if d.status == SUCCEEDED}
                    and any(d.status == SUCCEEDED for d in seen)
                )
            )
            assert pending_or_told


async def test_a_crowd_that_comes_together_has_its_begin_read_once(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand come back after a restart, and each of them gets what is there when it comes."""
    await service.create_webhook(receiver.url())
    asked, read, may_read = asyncio.Semaphore(0), list[datetime](), asyncio.Event()
    share, position_at = SharedReads.read, feed.position_at

    async def noted(reads: SharedReads, whose: Hashable, key: Hashable, make: Any) -> Any:
        if isinstance(key, datetime):
            asked.release()
        return await share(reads, whose, key, make)

    async def held(database: Database, start_time: datetime) -> Position:
        read.append(start_time)
        await may_read.wait()
        return await position_at(database, start_time)

    monkeypatch.setattr(SharedReads, "read", noted)
    monkeypatch.setattr(feed, "position_at", held)
    published = await service.publish()

    async def told() -> list[delivery_pb2.Delivery]:
        async with service.watching(start_time=published.create_time) as watch:
            return await watch.until_ended()

    crowd = [asyncio.create_task(told()) for _ in range(10)]
    async with slowness.timeout(20):
        for _ in crowd:
            await asked.acquire()
    may_read.set()
    found = [[delivery.event_id for delivery in deliveries] for deliveries in await asyncio.gather(*crowd)]
    assert found == [[published.event_id]] * len(crowd)
    assert len(read) <= 2, "those who come while the first read is under way share the next one"


async def test_a_start_time_goes_back_in_the_log(service: Service, receiver: Receiver) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        await service.publish()
        await watch.until_ended()
        [first] = watch.deliveries
        await service.publish()
        [_, second] = await watch.until_ended(2)
    async with service.watching(start_time=first.update_time) as from_first:
        assert [d.delivery_id for d in await from_first.until_ended(2)] == [first.delivery_id, second.delivery_id]
    later = Timestamp(seconds=first.update_time.seconds, nanos=first.update_time.nanos + 1000)
    async with service.watching(start_time=later) as after_first:
        assert [d.delivery_id for d in await after_first.until_ended(1)] == [second.delivery_id]


@pytest.mark.parametrize(
    ("request_fields", "reason", "field"),
    [
        ({"cursor": b"garbage"}, "CURSOR_INVALID", "cursor"),
        ({"cursor": b"\0" * 200}, "CURSOR_INVALID", "cursor"),
        ({"cursor": b"x" * 5000}, "CURSOR_INVALID", "cursor"),
        ({"heartbeat_interval": seconds(0.5)}, "FIELD_INVALID", "heartbeat_interval"),
        ({"heartbeat_interval": seconds(61)}, "FIELD_INVALID", "heartbeat_interval"),
        ({"start_time": Timestamp(seconds=-1)}, "FIELD_INVALID", "start_time"),
        ({"webhook_ids": [0]}, "FIELD_INVALID", "webhook_ids[0]"),
        ({"webhook_ids": [1] * 101}, "FIELD_INVALID", "webhook_ids"),
        ({"event_types": ["Job.*"]}, "FIELD_INVALID", "event_types[0]"),
        ({"statuses": [0]}, "FIELD_INVALID", "statuses"),
        ({"statuses": [99]}, "FIELD_INVALID", "statuses"),
        ({"event_id": "evt_1"}, "FIELD_INVALID", "event_id"),
        ({"customer_id": -1}, "FIELD_INVALID", "customer_id"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(
    services: ServiceFactory, request_fields: dict[str, Any], reason: str, field: str
) -> None:
    error = await refusal(await services.start(), **request_fields)
    details = error_details(error)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == reason
    assert [violation.field for violation in details["BadRequest"].field_violations] == [field]


async def test_a_cursor_that_is_older_than_the_log_has_expired(
    service: Service, receiver: Receiver, postgres: TestPostgres
) -> None:
    await service.create_webhook(receiver.url())
    async with service.watching() as watch:
        start = watch.cursor
        await service.publish_many(3)
        await watch.until_ended(3)
    postgres.rows("DELETE FROM attempts WHERE seq = 1")
    error = await refusal(service, cursor=start)
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert error_details(error)["ErrorInfo"].reason == "CURSOR_EXPIRED"
    assert error_details(error)["ErrorInfo"].metadata["oldest_time"].startswith("20")


async def test_a_cursor_of_before_a_restore_is_refused_and_who_watches_is_told(
    service: Service, postgres: TestPostgres
) -> None:
    async with service.watching() as watch:
        postgres.rows("UPDATE meta SET log_incarnation = gen_random_uuid()")
        with pytest.raises(grpc.aio.AioRpcError) as told:
            while True:
                await watch.next_message()
        assert error_details(told.value)["ErrorInfo"].reason == "CURSOR_OF_OTHER_LOG"
    error = await refusal(service, cursor=watch.cursor)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    [(incarnation,)] = postgres.rows("SELECT log_incarnation FROM meta")
    ahead = encode_cursor(incarnation, (5,) * 64)  # of a log that had gone further than the restored one
    assert (await refusal(service, cursor=ahead)).code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.slow(6)
async def test_a_reader_that_falls_behind_catches_up_from_the_log(services: ServiceFactory, receiver: Receiver) -> None:
    """Its buffer overruns, and still it is told everything, once, in order."""
    service = await services.start(stream_buffer_max=100, stream_write_seconds_max=300)
    for number in range(3):
        await service.create_webhook(receiver.url(f"/{number}"))
    async with grpc.aio.insecure_channel(service.address, options=READS_NOTHING_AHEAD) as channel:
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        watch = Watch(stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER)))
        await watch.next_message()
        for _ in range(3):
            await service.publish_many(200)  # and nobody reads meanwhile
        subscriptions = service.app._tail._subscriptions  # pyright: ignore[reportPrivateUsage]
        async with slowness.timeout(60):
            while not any(subscription.overrun for subscription in subscriptions):
                await asyncio.sleep(0.05)  # an overrun gives no signal
        told = await watch.until_ended(1800, seconds=60)
    assert len({delivery.delivery_id for delivery in told}) == len(watch.deliveries) == 1800


@pytest.mark.slow(3)
async def test_a_reader_that_stops_reading_is_let_go_and_may_resume(
    services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start(stream_write_seconds_max=slowness.scaled(0.5))
    await service.create_webhook(receiver.on("/large", answer(200, "x" * 16_000)))
    async with grpc.aio.insecure_channel(service.address, options=READS_NOTHING_AHEAD) as channel:
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        call = stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER))
        watch = Watch(call)
        await watch.next_message()
        async with service.watching() as other:
            reading = asyncio.create_task(other.until_ended(1000, seconds=60))
            for _ in range(4):
                await service.publish_many(250)
            await reading
            async with slowness.timeout(60):
                while len(service.app._tail._subscriptions) > 1:  # pyright: ignore[reportPrivateUsage]
                    await asyncio.sleep(0.05)  # that it is let go gives no signal to one that does not read
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await watch.next_message()
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert error_details(caught.value)["ErrorInfo"].reason == "WATCHER_TOO_SLOW"
        told = [delivery.delivery_id for delivery in watch.deliveries]
        async with service.watching(cursor=watch.cursor) as resumed:
            await resumed.until_ended(1000 - len(told), seconds=60)
    assert len({*told, *(delivery.delivery_id for delivery in resumed.deliveries)}) == 1000


async def test_a_stopping_server_lets_its_watchers_go(services: ServiceFactory) -> None:
    service = await services.start()
    async with service.watching() as watch:
        stopping = asyncio.create_task(service.app.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await watch.next_message()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_details(caught.value)["ErrorInfo"].reason == "SERVER_STOPPING"
        assert error_details(caught.value)["RetryInfo"].retry_delay.nanos > 0
        await stopping


async def test_streams_have_a_bound_and_a_place_that_is_left_is_free(services: ServiceFactory) -> None:
    service = await services.start(streams_max=2)
    async with service.watching():
        async with service.watching():
            error = await refusal(service)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_details(error)["ErrorInfo"].reason == "TOO_MANY_STREAMS"
            assert "RetryInfo" in error_details(error)
        async with slowness.timeout(10):
            while True:
                try:
                    async with service.watching():
                        break
                except (grpc.aio.AioRpcError, AssertionError):
                    await asyncio.sleep(0.01)  # the server hears of the cancellation a little later
