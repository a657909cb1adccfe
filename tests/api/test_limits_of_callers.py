"""What one caller, customer or connection can take of a server, and what is left for the others."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import psutil
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from webhook.v1 import service_pb2 as pb
from webhook.v1.event_pb2 import Event
from webhook.v1.webhook_pb2 import Webhook

from tests.api.asking import OTHER_CUSTOMER, ask, code_of, refusal
from tests.attack import target as raw
from tests.support import slowness
from tests.support.process import CLI, Process
from tests.support.raw import first_byte
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET_KEY, Service, ServiceFactory, error_details
from webhook_grpc.api.messages import reading
from webhook_grpc.domain.sealing import Sealer
from webhook_grpc.domain.tokens import token_hash
from webhook_grpc.server.call_limits import UNREAD_ANSWER_BYTES_MIN
from webhook_grpc.server.grpc import reflection
from webhook_grpc.store.registry import webhooks

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKENS = json.dumps([{"name": "one", "sha256": token_hash("one")}, {"name": "two", "sha256": token_hash("two")}])
GUESS = "a-secret-that-somebody-guesses-12"


def bearer(token: str) -> Any:
    return (("authorization", f"Bearer {token}"),)


async def code_with(service: Service, raw: bytes, token: str) -> grpc.StatusCode:
    """What comes of a batch of these bytes, sent on a connection without limits of its own."""
    async with grpc.aio.insecure_channel(service.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        client: Any = channel
        call = client.unary_unary("/webhook.v1.WebhookService/BatchPublishEvents")
        return await code_of(call(raw, metadata=bearer(token), timeout=slowness.scaled(20)))


async def test_nothing_of_a_request_is_received_before_its_caller_is_known(services: ServiceFactory) -> None:
    service = await services.start(tokens=TOKENS)
    beyond_any_bound = b"x" * (6 * 1024 * 1024)

    assert await code_with(service, beyond_any_bound, "unknown") is grpc.StatusCode.UNAUTHENTICATED
    assert await code_with(service, beyond_any_bound, "one") is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_that_does_not_come_whole_is_ended(services: ServiceFactory) -> None:
    service = await services.start(grpc_read_seconds_max=0.1)
    channel: Any = service.channel
    call = channel.stream_unary("/webhook.v1.WebhookService/ListWebhooks")(timeout=slowness.scaled(20))

    refused = await refusal(call)  # of which no message was written

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_SLOW")


# Who holds a place, who gets none then, and whose share that was
PLACES: Final = (
    (("one", 1), ("two", 1), "customer 1 has 1"),
    (("one", 2), ("one", 3), "this token has 2"),
    (("two", 3), ("two", 4), "this server is serving 3"),
)
REASONS: Final = {"calls": "RATE_LIMITED", "streams": "TOO_MANY_STREAMS"}
PATHS: Final = {"calls": "/api/webhooks/7?customer_id=", "streams": "/api/deliveries:watch?customer_id="}


async def test_places_of_customer_token_and_process_are_counted_over_both_doors_and_refused_alike(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {
        f"{kind}{whose}_max": n for kind in PATHS for n, whose in enumerate(("_per_customer", "_per_token", ""), 1)
    }
    service = await services.start(tokens=TOKENS, http_address="127.0.0.1:0", **shares)
    begun = asyncio.Queue[int]()

    async def hang(_: object, customer_id: int, __: int) -> None:
        begun.put_nowait(customer_id)
        await asyncio.Event().wait()

    monkeypatch.setattr(webhooks, "get", hang)
    url = f"http://127.0.0.1:{service.app.http_port}"
    async with aiohttp.ClientSession(url) as session:
        for kind in PATHS:
            async with AsyncExitStack() as opened:
                for number, (holder, refused, words) in enumerate(PLACES):
                    hold = hold_over_http if number % 2 else hold_over_grpc
                    await hold(service, session, opened, kind, holder)
                    if kind == "calls":
                        assert await begun.get() == holder[1]
                    await no_place(service, session, kind, refused, words)


async def hold_over_grpc(
    service: Service, session: aiohttp.ClientSession, opened: AsyncExitStack, kind: str, who: tuple[str, int]
) -> None:
    """Begins a call that does not end, or a stream."""
    del session
    token, customer_id = who
    request: Any = pb.GetWebhookRequest(customer_id=customer_id, webhook_id=7)
    if kind == "calls":
        opened.callback(service.stub.GetWebhook(request, metadata=bearer(token)).cancel)
        return
    request = pb.WatchDeliveriesRequest(customer_id=customer_id)
    watch: Any = service.stub.WatchDeliveries(request, metadata=bearer(token))
    opened.callback(watch.cancel)
    assert (await watch.read()).cursor


async def hold_over_http(
    service: Service, session: aiohttp.ClientSession, opened: AsyncExitStack, kind: str, who: tuple[str, int]
) -> None:
    """Begins a call that does not end, or a stream."""
    del service
    token, customer_id = who
    headers = {"Authorization": f"Bearer {token}"}
    call = asyncio.ensure_future(session.get(f"{PATHS[kind]}{customer_id}", headers=headers))
    opened.callback(call.cancel)
    if kind == "streams":
        answer = await call
        opened.callback(answer.close)
        assert answer.status == 200


async def no_place(
    service: Service, session: aiohttp.ClientSession, kind: str, who: tuple[str, int], words: str
) -> None:
    """Returns when both doors have refused a call, and said when to come back."""
    token, customer_id = who
    method, message = {
        "calls": ("GetWebhook", pb.GetWebhookRequest(customer_id=customer_id, webhook_id=7)),
        "streams": ("WatchDeliveries", pb.WatchDeliveriesRequest(customer_id=customer_id)),
    }[kind]
    refused = await refusal(ask(service, method, message, bearer(token)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, REASONS[kind])
    assert words in refused.message
    assert refused.retry_seconds == 1
    headers = {"Authorization": f"Bearer {token}"}
    async with session.get(f"{PATHS[kind]}{customer_id}", headers=headers) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["reason"], answer.headers["Retry-After"]) == (429, REASONS[kind], "1")
        assert words in problem["detail"]


OF_ONE_CUSTOMER: Final = json.dumps(
    [{"name": str(number), "sha256": token_hash(f"of {number}"), "customer_id": number} for number in (1, 2, 3)]
)


@pytest.mark.parametrize("door", ["grpc", "http"])
async def test_where_all_streams_are_taken_a_customer_without_any_gets_that_of_whoever_has_most(
    services: ServiceFactory, door: str
) -> None:
    """The newest one; whoever had it resumes with its cursor when there is a place."""
    bounds = {"streams_max": 3, "streams_per_customer_max": 2}
    service = await services.start(tokens=OF_ONE_CUSTOMER, http_address="127.0.0.1:0", **bounds)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{service.app.http_port}") as session,
        AsyncExitStack() as opened,
    ):

        async def over_grpc(number: int, cursor: bytes = b"") -> tuple[Any, bytes]:
            request = pb.WatchDeliveriesRequest(cursor=cursor)
            stream: Any = service.stub.WatchDeliveries(request, metadata=bearer(f"of {number}"))
            opened.callback(stream.cancel)
            return stream, (await stream.read()).cursor

        async def over_http(number: int) -> tuple[Any, bytes]:
            headers = {"Authorization": f"Bearer of {number}", "Accept": "application/x-ndjson"}
            answer = await opened.enter_async_context(session.get("/api/deliveries:watch", headers=headers))
            cursor: str = json.loads(await answer.content.readline())["cursor"]
            return answer, base64.urlsafe_b64decode(cursor + "==")

        oldest, _ = await over_grpc(1)
        newest, cursor = await (over_grpc if door == "grpc" else over_http)(1)
        second, _ = await over_grpc(2)
        third, _ = await over_grpc(3)

        assert await why_ended(newest) == "TOO_MANY_STREAMS"
        for number in (1, 2, 3):
            refused = await refusal(over_grpc(number, cursor if number == 1 else b""))
            assert (refused.reason, refused.retry_seconds) == ("TOO_MANY_STREAMS", 1), "each has one"
        assert not any(stream.done() for stream in (oldest, second, third))
        for stream in (second, third):
            stream.cancel()
        async with slowness.timeout(20):
            while await code_of(over_grpc(1, cursor)) is not grpc.StatusCode.OK:
                await asyncio.sleep(0.01)  # the server hears of the cancellation a little later


async def why_ended(stream: Any) -> str:
    """Reads a stream of either door to its end, and returns the reason of that."""
    async with slowness.timeout(20):
        if isinstance(stream, aiohttp.ClientResponse):
            *_, last = [line async for line in stream.content]
            return json.loads(last)["problem"]["reason"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await stream.read():  # the end is false
                pass
        return error_details(caught.value)["ErrorInfo"].reason


async def test_who_reads_no_answers_gets_no_further_ones_and_holds_up_nobody(services: ServiceFactory) -> None:
    service = await services.start(answers_unread_bytes_max=1_000_000)
    own, others = pb.ListWebhooksRequest(customer_id=CUSTOMER), pb.ListWebhooksRequest(customer_id=OTHER_CUSTOMER)
    host, _, port = service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(raw.PREFACE + raw.frame(raw.SETTINGS, 0, 0, raw.NO_WINDOW))
    for number in raw.streams(2 * (1_000_000 // UNREAD_ANSWER_BYTES_MIN)):
        block = raw.head("/webhook.v1.WebhookService/ListWebhooks")
        body = raw.message(own.SerializeToString())
        writer.write(raw.frame(raw.HEADERS, 4, number, block) + raw.frame(raw.DATA, 1, number, body))

    too_much, codes = grpc.StatusCode.RESOURCE_EXHAUSTED, list[grpc.StatusCode]()
    async with slowness.timeout(20):
        while codes[-2:] != [too_much, too_much]:  # until so many of them were carried out that one more is too much
            codes.append(await code_of(service.stub.ListWebhooks(own)))
            await asyncio.sleep(0.01)  # the others are carried out meanwhile
    assert set(codes) <= {grpc.StatusCode.OK, too_much}
    refused = await refusal(service.stub.ListWebhooks(own))
    assert (refused.reason, refused.retry_seconds > 0) == ("RATE_LIMITED", True)
    assert await code_of(service.stub.ListWebhooks(others)) is grpc.StatusCode.OK

    writer.close()
    del reader
    async with slowness.timeout(20):
        while await code_of(service.stub.ListWebhooks(own)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.01)  # until gRPC has noticed the end of the connection


async def test_an_answer_that_is_not_read_over_http_counts_at_both_doors(services: ServiceFactory) -> None:
    service = await services.start(answers_unread_bytes_max=1_000_000, http_address="127.0.0.1:0")
    own = pb.ListWebhooksRequest(customer_id=CUSTOMER)
    for _ in range(5):
        await service.publish(json.dumps("x" * 240_000))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.app.http_port))
        # The system takes the first answers, the one after them stays
        path = f"/api/events?customer_id={CUSTOMER}".encode()
        connection.sendall((b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") * 20)
        async with slowness.timeout(30):
            while (code := await code_of(service.stub.ListWebhooks(own))) is grpc.StatusCode.OK:
                await asyncio.sleep(0.01)  # until an answer is stuck
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with slowness.timeout(20):
        while await code_of(service.stub.ListWebhooks(own)) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.01)  # until the end of the connection was noticed


async def test_connections_beyond_the_bound_are_closed_and_leave_their_place(services: ServiceFactory) -> None:
    """Also those of a burst, which are accepted in one turn of the loop."""
    service = await services.start(grpc_connections_max=3)
    host, _, port = service.address.rpartition(":")
    burst = [socket.create_connection((host, int(port))) for _ in range(10)]
    for each in burst:
        with suppress(ConnectionError):  # the service has closed it
            each.sendall(raw.PREFACE)
    async with slowness.timeout(20):
        begun = [await first_byte(each) for each in burst]
    for each in burst:
        each.close()
    assert sum(map(bool, begun)) == 3, "the others are closed, and nothing is sent on them"

    async with slowness.timeout(20):
        while await code_of(ask(service, "ListWebhooks", b"")) is not grpc.StatusCode.OK:
            await asyncio.sleep(0.01)  # the client of gRPC connects again after a while


@pytest.mark.slow(3)
async def test_doors_that_are_full_leave_deliveries_their_descriptors(
    database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """A process that may open 400 files: of the thousands of connections that it may have it takes some dozens."""
    few = {"WEBHOOK_PROCESS_IN_FLIGHT_MAX": "50", "WEBHOOK_IDLE_CONNECTIONS_MAX": "50"}
    command = ("sh", "-c", 'ulimit -n 400; exec "$0" "$@"', str(CLI))
    settings = {"WEBHOOK_DATABASE_URL": database_url, "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0", **few}
    process = await Process.start(tmp_path / "log", command, **settings)
    webhook = Webhook(customer_id=CUSTOMER, name="n", url=receiver.url(), events=["*"])
    await process.stub.CreateWebhook(pb.CreateWebhookRequest(webhook=webhook))
    held = 0
    async with AsyncExitStack() as opened:
        for address in (process.address, process.http_url):
            port = int(address.rstrip("/").rpartition(":")[2])
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
            for _, writer in idle:
                opened.callback(writer.transport.abort)
            ends = [asyncio.ensure_future(has_ended(reader)) for reader, _ in idle]
            opened.callback(cancel, ends)
            async with slowness.timeout(20):
                while sum(end.done() for end in ends) < 150:
                    held = max(held, psutil.Process(process.process.pid).num_fds())
                    await asyncio.sleep(0.01)  # the number of descriptors gives no signal
        for number in range(20):
            event = Event(customer_id=CUSTOMER, event_type="job.completed", data_json=f"{number}")
            await process.stub.PublishEvent(pb.PublishEventRequest(event=event))
        await receiver.wait_for(20)
    assert 0 < held < 260, "fifty at each door, and some forty of its own"
    assert await process.terminate() == 0
    assert "Too many open files" not in (tmp_path / "log").read_text()


async def has_ended(reader: asyncio.StreamReader) -> None:
    """Returns at the end of a connection."""
    with suppress(ConnectionError):
        while await reader.read(1000):
            pass


def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize(
    ("setting", "without", "with_token"),
    [
        ("auto", grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK),
        ("callers", grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.OK),
        ("true", grpc.StatusCode.OK, grpc.StatusCode.OK),
        ("false", grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_where_there_are_tokens_reflection_takes_one(
    services: ServiceFactory, setting: str, without: grpc.StatusCode, with_token: grpc.StatusCode
) -> None:
    service = await services.start(tokens=TOKENS, reflection=setting)

    assert await _reflection_code(service, ()) is without
    assert await _reflection_code(service, bearer("one")) is with_token


async def test_calls_that_send_no_request_take_the_share_of_their_customer_with_whichever_token(
    services: ServiceFactory,
) -> None:
    customers = {"first": CUSTOMER, "second": CUSTOMER, "theirs": OTHER_CUSTOMER}
    tokens = [
        {"name": name, "sha256": token_hash(name), "customer_id": customer_id}
        for name, customer_id in customers.items()
    ]
    service = await services.start(
        tokens=json.dumps(tokens), calls_max=4, calls_per_token_max=2, calls_per_customer_max=2
    )
    channel: Any = service.channel
    half = [
        channel.stream_unary("/webhook.v1.WebhookService/ListWebhooks")(
            metadata=bearer(name), timeout=slowness.scaled(20)
        )
        for name in ("first", "second", "second")
    ]
    ended, waiting = await asyncio.wait(
        [asyncio.ensure_future(code_of(call)) for call in half], return_when=asyncio.FIRST_COMPLETED
    )

    assert [task.result() for task in ended] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert (await ask(service, "ListWebhooks", pb.ListWebhooksRequest(), bearer("theirs"))) is not None
    for call in half:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_customer_cannot_take_all_streams_of_reflection_with_many_tokens(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflection, "STREAMS_OF_ONE_MAX", 1)
    customers = {"first": CUSTOMER, "second": CUSTOMER, "theirs": OTHER_CUSTOMER}
    tokens = [
        {"name": name, "sha256": token_hash(name), "customer_id": customer_id}
        for name, customer_id in customers.items()
    ]
    service = await services.start(tokens=json.dumps(tokens))
    channel: Any = service.channel
    opened = channel.stream_stream(f"/{reflection.SERVICES[0]}/ServerReflectionInfo")
    held = opened(metadata=bearer("first"))
    await held.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    await held.read()

    for name in ("first", "second"):  # and write nothing: what is written to an ended call is INTERNAL by itself
        assert await opened(metadata=bearer(name)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await _reflection_code(service, bearer("theirs")) is grpc.StatusCode.OK
    await held.done_writing()
    assert await held.code() is grpc.StatusCode.OK
    assert await _reflection_code(service, bearer("second")) is grpc.StatusCode.OK


async def _reflection_code(service: Service, metadata: Any) -> grpc.StatusCode:
    channel: Any = service.channel
    call = channel.unary_stream(
        f"/{reflection.SERVICES[0]}/ServerReflectionInfo"
    )  # to grpc.aio a late write is INTERNAL
    request: Any = reflection_pb2.ServerReflectionRequest(list_services="")
    made = call(request.SerializeToString(), metadata=metadata, timeout=slowness.scaled(20))

    async def read_all() -> None:
        async for _ in made:
            pass

    return await code_of(read_all())


async def test_what_is_stored_of_a_creation_confirms_no_guess_of_its_secret(services: ServiceFactory) -> None:
    service = await services.start()
    chosen = Webhook(customer_id=CUSTOMER, name="n", url="http://127.0.0.1:9999/", events=["*"], secret=GUESS)
    request = pb.CreateWebhookRequest(webhook=chosen, request_id="once")
    made = await service.stub.CreateWebhook(request)
    guessed = reading.fingerprint(chosen.SerializeToString(deterministic=True))
    without = Webhook()
    without.CopyFrom(chosen)
    without.ClearField("secret")
    [digest] = Sealer([SECRET_KEY]).digests(b"webhook request" + GUESS.encode())
    with_key = reading.fingerprint(without.SerializeToString(deterministic=True) + digest)

    assert await _stored_fingerprint(service) == with_key
    assert with_key != guessed

    # A row of an older version, and one of which an operator has deleted the fingerprint
    for stored in (guessed, None):
        await service.app.database.rows("UPDATE webhooks SET request_fingerprint = %(f)s::bigint", {"f": stored})
        assert (await service.stub.CreateWebhook(request)).webhook_id == made.webhook_id


async def _stored_fingerprint(service: Service) -> int:
    [[stored]] = await service.app.database.rows("SELECT request_fingerprint FROM webhooks")
    return stored


async def test_a_cursor_of_another_customer_is_refused_as_one_that_nobody_made(services: ServiceFactory) -> None:
    bound = [{"name": n, "sha256": token_hash(n), "customer_id": c} for n, c in (("a", 1), ("b", 2))]
    service = await services.start(tokens=json.dumps(bound))

    async def watched(token: str, cursor: bytes) -> Any:
        watch: Any = service.stub.WatchDeliveries(pb.WatchDeliveriesRequest(cursor=cursor), metadata=bearer(token))
        message = await watch.read()
        watch.cancel()
        return message

    cursor = (await watched("a", b"")).cursor
    assert (await watched("a", cursor)).cursor == cursor
    others, forged = await refusal(watched("b", cursor)), await refusal(watched("b", b"\x02" + bytes(len(cursor) - 1)))
    assert (others.code, others.reason, others.message) == (forged.code, forged.reason, forged.message)
    assert others.reason == "CURSOR_INVALID"


@pytest.mark.parametrize("setting", ["calls_rate_per_token", "calls_rate_per_customer"])
async def test_calls_a_second_are_bounded_at_both_doors_together(services: ServiceFactory, setting: str) -> None:
    settings: dict[str, Any] = {setting: 0.001}  # one at once, the next after a quarter of an hour
    service = await services.start(tokens=TOKENS, http_address="127.0.0.1:0", **settings)
    request = pb.ListWebhooksRequest(customer_id=CUSTOMER)
    await service.stub.ListWebhooks(request, metadata=bearer("one"))

    refused = await refusal(service.stub.ListWebhooks(request, metadata=bearer("one")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 900 < refused.retry_seconds <= 1000
    url = f"http://127.0.0.1:{service.app.http_port}/api/webhooks?customer_id={CUSTOMER}"
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer one"}) as session,
        session.get(url) as answer,
    ):
        assert answer.status == 429
        assert 900 < int(answer.headers["Retry-After"]) <= 1000
    others = pb.ListWebhooksRequest(customer_id=OTHER_CUSTOMER)
    assert await code_of(service.stub.ListWebhooks(others, metadata=bearer("two"))) is grpc.StatusCode.OK


async def test_events_a_second_of_a_token_are_bounded_at_both_doors_together(services: ServiceFactory) -> None:
    service = await services.start(tokens=TOKENS, http_address="127.0.0.1:0", publish_rate_per_token=0.001)
    events = [Event(customer_id=customer_id, event_type="job.completed", data_json="{}") for customer_id in (1, 2)]
    requests = [pb.PublishEventRequest(event=event) for event in events]

    batch = pb.BatchPublishEventsRequest(requests=requests)
    both = await service.stub.BatchPublishEvents(batch, metadata=bearer("one"))
    assert [result.error.reason for result in both.results] == ["", "RATE_LIMITED"]

    refused = await refusal(service.stub.PublishEvent(requests[1], metadata=bearer("one")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 900 < refused.retry_seconds <= 1000
    url = f"http://127.0.0.1:{service.app.http_port}/api/events"
    body: Any = {"event": {"customer_id": 2, "event_type": "job.completed", "data": {}}}
    headers = {"Authorization": "Bearer one"}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert answer.status == 429
        assert 900 < int(answer.headers["Retry-After"]) <= 1000
    assert await code_of(service.stub.PublishEvent(requests[1], metadata=bearer("two"))) is grpc.StatusCode.OK
