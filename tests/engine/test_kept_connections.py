"""Kept connections: none hands an answer to another webhook, none that died costs an attempt, none is kept for ever."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import AsyncGenerator
from random import Random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from webhook.v1 import delivery_pb2, replay_pb2, service_pb2, webhook_pb2

from tests.support import slowness
from tests.support.dns import Leading
from tests.support.raw import OK, RawServers, Serve, read_request, says, until_closed
from tests.support.service import CUSTOMER, ServiceFactory
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.engine.http.pool import UNKEPT_SECONDS, UNKEPT_WEBHOOKS_MAX, KeptLimits, Pool
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.store.clock import DatabaseClock

LOCAL = EgressPolicy(allow_http=True, allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
PENDING = delivery_pb2.DELIVERY_STATUS_PENDING
SUCCEEDED = delivery_pb2.DELIVERY_STATUS_SUCCEEDED
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
CONTEXT = ssl.create_default_context()  # takes longer to make than most of these tests


@pytest.fixture
async def sender() -> AsyncGenerator[Sender]:
    sender = Sender(LOCAL, DatabaseClock(), Random(), SendLimits(100), ssl_context=CONTEXT)
    yield sender
    await sender.close()


async def send(sender: Sender, url: str, webhook_id: int = 1, timeout_seconds: float = 5.0) -> AttemptResult:
    request = Request(url, {}, b"{}", slowness.scaled(timeout_seconds), webhook_id=webhook_id)
    return await sender.send(request)


def by_connection(*serves: Serve) -> Serve:
    """Each connection is served by the next; the last serves all that follow."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await serves[min(count, len(serves)) - 1](reader, writer)

    return serve


def always(answer: bytes) -> Serve:
    """Answers every request of a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await says(answer)(reader, writer)

    return serve


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a RST."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


# --- whose answer it is ----------------------------------------------------------------------------------------------


async def test_webhooks_that_lead_to_one_place_share_no_connection(sender: Sender, raw_server: RawServers) -> None:
    url = await raw_server(always(OK))
    for webhook_id in (1, 2, 1, 2):
        assert (await send(sender, url, webhook_id)).outcome is Outcome.SUCCEEDED
    assert raw_server.connections == 2


@pytest.mark.parametrize("late", [OK, GONE], ids=["200", "410"])
async def test_a_late_answer_never_counts_for_another_webhook(
    sender: Sender, raw_server: RawServers, late: bytes
) -> None:
    """A receiver answers once more, in the moment in which the next request arrives: whosever it is.

    The answer comes together with the request on the connection, so that no look at it beforehand can help.
    """

    async def answers_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(OK)(reader, writer)
        await reader.readexactly(1)  # the next request is under way
        writer.write(late)
        await writer.drain()
        await until_closed(reader, writer)

    url = await raw_server(by_connection(answers_twice, always(BUSY)))
    assert (await send(sender, url, webhook_id=1)).response_status == 200
    assert (await send(sender, url, webhook_id=2)).response_status == 503


async def test_bytes_on_an_idle_connection_end_it(sender: Sender, raw_server: RawServers) -> None:
    answered, closed = asyncio.Event(), asyncio.Event()

    async def answers_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(OK)(reader, writer)
        await answered.wait()
        writer.write(OK)
        await until_closed(reader, writer)
        closed.set()

    url = await raw_server(by_connection(answers_unasked, always(BUSY)))
    await send(sender, url)
    answered.set()
    async with slowness.timeout(10):
        await closed.wait()
    assert (await send(sender, url)).response_status == 503


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        OK + b"HTTP/1.1 4",
        OK + BUSY,
        b"HTTP/1.1 204 X\r\n\r\nx",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 4",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + BUSY,
    ],
    ids=["a byte", "half an answer", "an answer", "after 204", "half an answer after chunks", "an answer after chunks"],
)
async def test_more_bytes_than_the_answers_length_end_the_connection(
    sender: Sender, raw_server: RawServers, answer: bytes
) -> None:
    closed = asyncio.Event()

    async def says_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(answer, until_closed)(reader, writer)
        closed.set()

    url = await raw_server(by_connection(says_more, always(BUSY)))
    assert (await send(sender, url)).outcome is Outcome.SUCCEEDED
    async with slowness.timeout(10):
        await closed.wait()
    assert (await send(sender, url)).response_status == 503


async def test_a_connection_whose_request_timed_out_is_never_used_again(sender: Sender, raw_server: RawServers) -> None:
    """Its answer may still come, and would be taken for the next one's."""
    closed = asyncio.Event()

    async def is_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(OK)(reader, writer)
        await read_request(reader)
        await until_closed(reader, writer)
        closed.set()

    url = await raw_server(by_connection(is_late, always(BUSY)))
    await send(sender, url)
    request = Request(url, {}, b"{}", 0.2, webhook_id=1)
    assert (await sender.send(request)).outcome is Outcome.TIMEOUT
    async with slowness.timeout(10):
        await closed.wait()
    assert (await send(sender, url)).response_status == 503


async def test_a_410_of_a_connections_first_answer_is_believed(sender: Sender, raw_server: RawServers) -> None:
    result = await send(sender, await raw_server(always(GONE)))
    assert (result.reason, raw_server.connections) == (FailureReason.GONE, 1)


@pytest.mark.parametrize(
    ("second", "status", "reason"),
    [
        (always(GONE), 410, FailureReason.GONE),
        (always(OK), 200, FailureReason.NONE),
        (always(BUSY), 503, FailureReason.STATUS),
        (says(b"", close), None, FailureReason.DISCONNECTED),
    ],
    ids=["410", "200", "503", "nothing"],
)
async def test_a_410_of_a_later_answer_counts_only_if_a_new_connection_repeats_it(
    sender: Sender, raw_server: RawServers, second: Serve, status: int | None, reason: FailureReason
) -> None:
    """It may have been meant for an earlier request; it would disable the webhook."""
    first = says(OK, says(GONE, until_closed))
    url = await raw_server(by_connection(first, second))
    await send(sender, url)
    result = await send(sender, url)
    assert (result.response_status, result.reason) == (status, reason)
    assert raw_server.connections == 2


# --- one that died ---------------------------------------------------------------------------------------------------


def dies_at_the_second_request(how: Serve) -> Serve:
    """Closes when the next request arrives, without having read it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(OK)(reader, writer)
        await reader.readexactly(1)
        await how(reader, writer)

    return serve


@pytest.mark.parametrize("how", [close, reset], ids=["FIN", "RST"])
async def test_a_kept_connection_that_dies_as_it_is_used_again_is_no_failure(
    sender: Sender, raw_server: RawServers, how: Serve
) -> None:
    url = await raw_server(by_connection(dies_at_the_second_request(how), always(OK)))
    results = [await send(sender, url) for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 2


async def test_it_is_sent_once_more_and_not_twice(sender: Sender, raw_server: RawServers) -> None:
    url = await raw_server(by_connection(dies_at_the_second_request(close), says(b"", close)))
    await send(sender, url)
    assert (await send(sender, url)).reason is FailureReason.DISCONNECTED
    assert raw_server.connections == 2


async def test_it_is_sent_once_more_on_a_new_connection_not_on_another_kept_one(
    sender: Sender, raw_server: RawServers
) -> None:
    """Which is most likely just as dead."""
    both = asyncio.Barrier(2)

    async def dies_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await both.wait()
        writer.write(OK)
        await reader.readexactly(1)
        writer.close()

    url = await raw_server(by_connection(dies_late, dies_late, always(OK)))
    await asyncio.gather(send(sender, url), send(sender, url))
    assert (await send(sender, url)).outcome is Outcome.SUCCEEDED
    assert raw_server.connections == 3
    assert sender.pool.idle_count == 0


async def test_a_new_connection_that_dies_is_a_failure_at_once(sender: Sender, raw_server: RawServers) -> None:
    result = await send(sender, await raw_server(says(b"", close)))
    assert (result.reason, raw_server.connections) == (FailureReason.DISCONNECTED, 1)


async def test_what_was_answered_in_part_is_not_sent_again(sender: Sender, raw_server: RawServers) -> None:
    """The receiver has seen it."""
    url = await raw_server(by_connection(says(OK, says(b"HTTP/1.1 2", close)), always(OK)))
    await send(sender, url)
    assert (await send(sender, url)).outcome is not Outcome.SUCCEEDED
    assert raw_server.connections == 1


async def test_both_requests_have_one_deadline(sender: Sender, raw_server: RawServers) -> None:
    url = await raw_server(by_connection(dies_at_the_second_request(close), says(b"", until_closed)))
    await send(sender, url)
    async with slowness.timeout(20):
        result = await sender.send(Request(url, {}, b"{}", slowness.lengthened(1.0), webhook_id=1))
    assert (result.outcome, raw_server.connections) == (Outcome.TIMEOUT, 2)


async def test_nothing_is_kept_to_a_receiver_after_an_unexpected_close(sender: Sender, raw_server: RawServers) -> None:
    """Each further request would be sent twice as well."""
    url = await raw_server(by_connection(dies_at_the_second_request(close), always(OK)))
    for _ in range(4):
        await send(sender, url)
    assert raw_server.connections == 1 + 3


@pytest.mark.parametrize("delay_seconds", [0, 0.0005, 0.005])
async def test_a_server_that_closes_after_each_answer_gets_100_of_100(
    sender: Sender, raw_server: RawServers, delay_seconds: float
) -> None:
    """Four at a time, of several webhooks, so that connections are reused as they are being closed."""

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_seconds)
        writer.close()

    url = await raw_server(says(OK, closes))

    async def worker(webhook_id: int) -> list[AttemptResult]:
        return [await send(sender, url, webhook_id + n // 5, timeout_seconds=20) for n in range(25)]

    results = await asyncio.gather(*(worker(10 * number) for number in range(4)))
    failures = [result for part in results for result in part if result.outcome is not Outcome.SUCCEEDED]
    assert not failures
    assert sum(map(len, results)) == 100


def test_what_is_remembered_of_unexpected_closes_ends_and_is_bounded() -> None:
    pool = Pool(KeptLimits())
    pool.closed_unexpectedly(1, now=0.0)
    assert not pool.keeps(1, now=UNKEPT_SECONDS - 1)
    assert pool.keeps(1, now=UNKEPT_SECONDS)
    for webhook_id in range(2, UNKEPT_WEBHOOKS_MAX + 2):
        pool.closed_unexpectedly(webhook_id, now=1.0)
    assert pool.keeps(1, now=1.0)  # the oldest is forgotten first
    assert not pool.keeps(2, now=1.0)


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "connections"), [("timeout=0", 2), ("max=5, timeout=0", 2), ("timeout=60", 1)])
async def test_a_connection_is_not_used_longer_than_the_receiver_keeps_it(
    sender: Sender, raw_server: RawServers, said: str, connections: int
) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: {said}\r\n\r\n".encode()
    url = await raw_server(always(answer))
    for _ in range(2):
        await send(sender, url)
    assert raw_server.connections == connections


async def test_a_connection_is_not_used_beyond_its_number_of_requests(sender: Sender, raw_server: RawServers) -> None:
    sender.pool.limits.requests_max = 2
    url = await raw_server(always(OK))
    for _ in range(5):
        await send(sender, url)
    assert raw_server.connections == 3


async def test_a_name_that_moves_is_followed_while_events_flow(raw_server: RawServers) -> None:
    """A connection that is never idle used to be kept for ever."""
    url = await raw_server(always(OK))
    port = url.rstrip("/").rpartition(":")[2]
    moved = await asyncio.start_server(always(BUSY), "127.0.0.2", int(port))
    names = Leading(["127.0.0.1"], ["127.0.0.2"])
    sender = Sender(
        LOCAL,
        DatabaseClock(),
        Random(),
        SendLimits(100, kept=KeptLimits(seconds_max=0.3, requests_max=1_000_000)),
        resolver=names,
        ssl_context=CONTEXT,
    )
    async with slowness.timeout(20):
        while (await send(sender, f"http://hooks.example.com:{port}/")).response_status != 503:
            pass
    await sender.close()
    moved.close()
    assert raw_server.connections == 1


@pytest.mark.slow
async def test_retries_and_replays_to_a_server_that_closes_after_each_answer_all_succeed(
    services: ServiceFactory, raw_server: RawServers
) -> None:
    """What somebody asked for by hand is sent once: a connection that died in between was its end."""

    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.0005)
        writer.close()

    service = await services.start()
    await service.create_webhook(await raw_server(says(OK, closes)), max_in_flight=4)
    async with service.watching() as watch:
        await service.publish_many(100)
        deliveries = await watch.until_ended(100, seconds=60)
    assert {delivery.attempt_count for delivery in deliveries} == {1}
    names = [delivery.delivery_id for delivery in deliveries]
    retries = [service_pb2.RetryDeliveryRequest(customer_id=CUSTOMER, delivery_id=name) for name in names]
    await asyncio.gather(*map(service.stub.RetryDelivery, retries))
    async with slowness.timeout(60):
        for delivery in deliveries:
            while (found := await service.delivery(delivery.delivery_id)).status == PENDING:
                await asyncio.sleep(0.02)
            assert (found.status, found.attempt_count) == (SUCCEEDED, 2)
    wanted = replay_pb2.Replay(
        customer_id=CUSTOMER, start_time=Timestamp(seconds=int(time.time()) - 600), statuses=[SUCCEEDED]
    )
    started = await service.stub.CreateReplay(service_pb2.CreateReplayRequest(replay=wanted))
    request = service_pb2.GetReplayRequest(customer_id=CUSTOMER, replay_id=started.replay_id)
    async with slowness.timeout(60):
        while (found := await service.stub.GetReplay(request)).status != replay_pb2.REPLAY_STATUS_COMPLETED:
            await asyncio.sleep(0.02)
    assert (found.succeeded_count, found.failed_count) == (100, 0)


async def test_a_late_410_disables_no_webhook_of_another_customer(
    services: ServiceFactory, raw_server: RawServers
) -> None:
    """Two customers' webhooks lead to one place, which answers the first one's request twice."""
    is_shared = False

    async def answers_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal is_shared
        await says(OK)(reader, writer)
        await reader.readexactly(1)  # with one pool for all, the second customer's request
        is_shared = True
        writer.write(GONE)
        await until_closed(reader, writer)

    url = await raw_server(by_connection(answers_twice, always(OK)))
    service = await services.start()
    await service.create_webhook(url)
    victim = await service.create_webhook(url, customer_id=CUSTOMER + 1)
    for customer_id in (CUSTOMER, CUSTOMER + 1):
        async with service.watching(customer_id=customer_id) as watch:
            await service.publish(customer_id=customer_id)
            [delivery] = await watch.until_ended()
        assert delivery.status == SUCCEEDED
    request = service_pb2.GetWebhookRequest(customer_id=CUSTOMER + 1, webhook_id=victim.webhook_id)
    assert (await service.stub.GetWebhook(request)).status == webhook_pb2.WEBHOOK_STATUS_ACTIVE
    assert (raw_server.connections, is_shared) == (2, False)
