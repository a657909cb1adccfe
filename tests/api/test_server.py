"""The server around the methods: health, reflection, limits, failures of its own, and how it stops."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from webhook.v1 import service_pb2 as pb

from tests.api.asking import (
    METHODS,
    OTHER_CUSTOMER,
    SERVICE,
    all_of,
    ask,
    code_of,
    full_event,
    furnish,
    refusal,
    valid_requests,
)
from tests.attack import target as raw
from tests.engine.test_stalls import answered
from tests.support import slowness
from tests.support.postgres import TestPostgres, query
from tests.support.receiver import Gate, Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc import app
from webhook_grpc.api.events import batch
from webhook_grpc.server.grpc import listening
from webhook_grpc.server.grpc.http2.frames import Kind
from webhook_grpc.server.grpc.listening import AddressInUse
from webhook_grpc.store.lists import deliveries
from webhook_grpc.store.log import lookup
from webhook_grpc.store.outbox import publishing
from webhook_grpc.store.registry import webhooks
from webhook_grpc.store.schema.migrate import migrate

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
health: Any = health_pb2
reflection: Any = reflection_pb2
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


# --- health ----------------------------------------------------------------------------------------------------------


async def check_health(service: Service, name: str) -> int:
    channel: Any = service.channel
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health.HealthCheckRequest.SerializeToString,
        response_deserializer=health.HealthCheckResponse.FromString,
    )
    return (await check(health.HealthCheckRequest(service=name), timeout=slowness.scaled(10))).status


def watch_health(service: Service, name: str = "") -> Any:
    channel: Any = service.channel
    return channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health.HealthCheckRequest.SerializeToString,
        response_deserializer=health.HealthCheckResponse.FromString,
    )(health.HealthCheckRequest(service=name), timeout=slowness.scaled(20))


@pytest.mark.parametrize("name", ["", "webhook.v1.WebhookService", "webhook.v1.Delivery"])
async def test_a_running_server_is_healthy(services: ServiceFactory, name: str) -> None:
    service = await services.start()

    assert await check_health(service, name) == health.HealthCheckResponse.SERVING


async def test_health_of_an_unknown_service_is_not_found(services: ServiceFactory) -> None:
    service = await services.start()

    assert await code_of(check_health(service, "webhook.v1.Other")) is grpc.StatusCode.NOT_FOUND


# --- reflection ------------------------------------------------------------------------------------------------------


def begin_reflection(service: Service, reflection_name: str) -> Any:
    channel: Any = service.channel
    return channel.stream_stream(
        f"/{reflection_name}/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString,
    )(timeout=slowness.scaled(10))


async def reflect(service: Service, reflection_name: str, **request: Any) -> Any:
    call = begin_reflection(service, reflection_name)
    await call.write(reflection.ServerReflectionRequest(**request))
    response = await call.read()
    await call.done_writing()
    return response


@pytest.mark.parametrize("reflection_name", REFLECTIONS)
async def test_reflection_lists_the_services(services: ServiceFactory, reflection_name: str) -> None:
    service = await services.start()

    response = await reflect(service, reflection_name, list_services="")

    assert {found.name for found in response.list_services_response.service} == {
        "webhook.v1.WebhookService",
        "grpc.health.v1.Health",
        *REFLECTIONS,
    }


@pytest.mark.parametrize("reflection_name", REFLECTIONS)
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("webhook.v1.WebhookService", "webhook/v1/service.proto"),
        ("webhook.v1.Delivery", "webhook/v1/delivery.proto"),
        ("google.rpc.BadRequest", "google/rpc/error_details.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("grpc.health.v1.Health", "grpc_health/v1/health.proto"),
    ],
)
async def test_reflection_describes_a_symbol(
    services: ServiceFactory, reflection_name: str, symbol: str, file: str
) -> None:
    service = await services.start()

    response = await reflect(service, reflection_name, file_containing_symbol=symbol)

    [raw, *_] = response.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(raw).name == file


async def test_reflection_can_be_switched_off(services: ServiceFactory) -> None:
    service = await services.start(reflection=False)

    for name in REFLECTIONS:  # nothing is written: a client whose write comes after the answer calls that INTERNAL
        assert await begin_reflection(service, name).code() is grpc.StatusCode.UNIMPLEMENTED


# --- the port --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["the port of a running server", "192.0.2.1:50051"])
async def test_an_address_that_cannot_be_served_is_told_in_one_sentence(services: ServiceFactory, address: str) -> None:
    service = await services.start()
    if address.startswith("the port"):
        address = service.address

    with pytest.raises(AddressInUse) as caught:
        await services.start(grpc_address=address, allow_anonymous=True)

    message = str(caught.value)
    assert address in message
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert await check_health(service, "") == health.HealthCheckResponse.SERVING


# --- failures of its own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GetWebhook", "GetEvent", "GetDelivery", "WatchDeliveries"])
async def test_an_unhandled_exception_does_not_tell_its_text(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    service = await services.start()
    request = valid_requests(await furnish(service))[method]

    async def fail(*_: object) -> None:
        raise RuntimeError("secret dsn")

    monkeypatch.setattr(webhooks, "get", fail)
    monkeypatch.setattr(deliveries, "list_deliveries", fail)
    for name in ("get_event", "get_delivery"):
        monkeypatch.setattr(lookup, name, fail)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(service, method, request, [("x-request-id", "find-me")])

    error = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "internal error" in (error.details() or "")
    assert "find-me" in (error.details() or "")
    everything = f"{error.details()}{error.debug_error_string()}{error.trailing_metadata()}{error.initial_metadata()}"
    for secret in ("secret dsn", "RuntimeError", "Traceback", ".py"):
        assert secret not in everything
    assert (await refusal(ask(service, method, request))).reason == "INTERNAL"


async def test_an_unhandled_exception_in_publishing_does_not_tell_its_text(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens in the loop that publishes for all, which must survive it."""
    service = await services.start()
    healthy = publishing.publish

    async def fail(*_: object) -> None:
        raise RuntimeError("secret dsn")

    monkeypatch.setattr(publishing, "publish", fail)
    for call in (
        service.publish(),
        service.stub.BatchPublishEvents(
            pb.BatchPublishEventsRequest(requests=[pb.PublishEventRequest(event=full_event())])
        ),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INTERNAL
        assert "secret dsn" not in refused.message
    monkeypatch.setattr(publishing, "publish", healthy)

    assert (await service.publish()).event_id


async def test_without_its_database_every_method_is_unavailable(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    name = f"webhook_test_away_{uuid.uuid4().hex[:8]}"
    url = postgres.create_database(name)
    await asyncio.to_thread(migrate, url)
    services.database_url = url
    service = await answered(lambda: services.start(database_timeout_seconds=slowness.scaled(1.0)))
    world = await answered(lambda: furnish(service))

    postgres.drop_database(name)

    requests = valid_requests(world)
    assert (await ask(service, "CreateAccessToken", requests.pop("CreateAccessToken"))).bearer_token, "it takes none"
    [result] = (await ask(service, "BatchPublishEvents", requests.pop("BatchPublishEvents"))).results
    refusals = await all_of([refusal(ask(service, method, request)) for method, request in requests.items()])

    assert result.error.code == UNAVAILABLE.value[0]
    assert result.error.reason == "STORAGE_UNAVAILABLE"
    assert len(refusals) == len(METHODS) - 2
    for refused in refusals:
        assert refused.code is UNAVAILABLE
        assert refused.reason == "STORAGE_UNAVAILABLE"
        assert 0 < refused.retry_seconds <= 60
        assert "webhook_test" not in refused.message


async def test_after_its_connections_were_cut_the_service_goes_on(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await services.start()
    await furnish(service)

    postgres.rows(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """
    )

    listed = await ask(service, "ListWebhooks", pb.ListWebhooksRequest(customer_id=CUSTOMER))
    assert len(listed.webhooks) == 1
    codes = [await code_of(service.publish()) for _ in range(2)]
    assert codes[0] in {grpc.StatusCode.OK, UNAVAILABLE}
    assert codes[1] is grpc.StatusCode.OK


async def test_a_database_that_does_not_answer_is_unavailable_in_time(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    service = await answered(lambda: services.start(database_timeout_seconds=slowness.scaled(0.5)))
    request = pb.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=1)  # to make one may take longer than that

    with psycopg.connect(postgres.url) as blocker:
        blocker.execute("LOCK TABLE webhooks IN ACCESS EXCLUSIVE MODE")
        refused = await refusal(ask(service, "GetWebhook", request))

    assert refused.code is UNAVAILABLE
    assert refused.reason == "STORAGE_UNAVAILABLE"
    assert refused.retry_seconds > 0


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_customer_that_publishes_too_fast_is_asked_to_wait(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # no time passes between the calls
    service = await services.start(publish_rate_per_customer=2.0)
    answers = [await code_of(service.publish()) for _ in range(2)]

    refused = await refusal(service.publish())

    assert answers == [grpc.StatusCode.OK] * 2, "a burst of a second"
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "RATE_LIMITED"
    assert 0 < refused.retry_seconds <= 1
    assert await code_of(service.publish(customer_id=OTHER_CUSTOMER)) is grpc.StatusCode.OK, "others are not"


async def test_a_batch_is_published_as_far_as_the_rate_admits(services: ServiceFactory) -> None:
    service = await services.start(publish_rate_per_customer=3.0)
    items = [pb.PublishEventRequest(event=full_event()) for _ in range(20)]
    items.append(pb.PublishEventRequest(event=full_event(customer_id=OTHER_CUSTOMER)))

    response = await service.stub.BatchPublishEvents(pb.BatchPublishEventsRequest(requests=items))

    reasons = [result.error.reason for result in response.results]
    assert reasons == [""] * 3 + ["RATE_LIMITED"] * 17 + [""]
    assert response.results[3].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_more_streams_than_served_at_once_are_refused(services: ServiceFactory) -> None:
    service = await services.start(streams_max=2)
    async with service.watching(), service.watching():
        refused = await refusal(ask(service, "WatchDeliveries", pb.WatchDeliveriesRequest(customer_id=CUSTOMER)))
        assert await code_of(ask(service, "ListWebhooks", b"")) is grpc.StatusCode.OK, "calls are counted apart"

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "TOO_MANY_STREAMS"
    assert refused.retry_seconds > 0


async def test_a_refused_stream_leaves_its_place(services: ServiceFactory) -> None:
    service = await services.start(streams_max=1)
    for _ in range(3):
        await refusal(ask(service, "WatchDeliveries", pb.WatchDeliveriesRequest(customer_id=-1)))

    async with service.watching():
        pass


async def test_more_calls_than_served_at_once_are_refused(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(calls_max=1)
    world = await furnish(service)
    entered, leave, get = asyncio.Event(), asyncio.Event(), webhooks.get

    async def slow(*arguments: Any) -> Any:
        entered.set()
        await leave.wait()
        return await get(*arguments)

    monkeypatch.setattr(webhooks, "get", slow)
    first = asyncio.ensure_future(ask(service, "GetWebhook", valid_requests(world)["GetWebhook"]))
    await entered.wait()
    async with service.watching():
        refused = await refusal(service.publish())
    leave.set()

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "RATE_LIMITED"
    assert refused.retry_seconds > 0
    assert (await first).webhook_id == world.webhook_id
    assert await code_of(service.publish()) is grpc.StatusCode.OK


async def test_a_customer_that_floods_waits_behind_itself_and_is_refused_first(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(calls_at_once=1, calls_waiting_max=3)
    world, entered, leave = await furnish(service), asyncio.Event(), asyncio.Event()
    served, get = list[int](), webhooks.get

    async def slow(database: Any, customer_id: int, webhook_id: int) -> Any:
        served.append(customer_id)
        entered.set()
        await leave.wait()
        return await get(database, customer_id, webhook_id)

    async def call(customer_id: int) -> str:
        request = pb.GetWebhookRequest(customer_id=customer_id, webhook_id=world.webhook_id)
        return (await code_of(ask(service, "GetWebhook", request))).name

    monkeypatch.setattr(webhooks, "get", slow)
    flood = [asyncio.create_task(call(CUSTOMER)) for _ in range(6)]
    await entered.wait()
    await until_refused(flood, 2)
    other = asyncio.create_task(call(CUSTOMER + 1))
    assert (await service.publish()).event_id, "publishing waits for no other call"
    await until_refused(flood, 3)
    leave.set()

    assert await other == "NOT_FOUND", "it was served: the webhook is another customer's"
    assert sorted([await one for one in flood]) == ["OK"] * 3 + ["RESOURCE_EXHAUSTED"] * 3
    assert served == [CUSTOMER, CUSTOMER, CUSTOMER + 1, CUSTOMER]


async def until_refused(calls: list[asyncio.Task[str]], count: int) -> None:
    """Waits until so many calls have ended, while none of the others can."""
    async with slowness.timeout(10):
        while sum(call.done() for call in calls) < count:
            await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)


async def test_a_call_ends_at_the_deadline_of_the_server(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(call_seconds_max=slowness.scaled(1.0))
    request = pb.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=1)  # to make one may take longer than that

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(webhooks, "get", hang)
    refused = await refusal(ask(service, "GetWebhook", request))

    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused.reason == "DEADLINE_EXCEEDED"


async def test_a_caller_that_leaves_frees_its_place(services: ServiceFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await services.start(calls_max=1)
    world = await furnish(service)
    entered, left, get = asyncio.Event(), asyncio.Event(), webhooks.get

    async def hang(*_: object) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    monkeypatch.setattr(webhooks, "get", hang)
    call = asyncio.ensure_future(ask(service, "GetWebhook", valid_requests(world)["GetWebhook"]))
    await entered.wait()
    call.cancel()
    async with slowness.timeout(10):
        await left.wait()
    monkeypatch.setattr(webhooks, "get", get)

    assert await code_of(ask(service, "GetWebhook", valid_requests(world)["GetWebhook"])) is grpc.StatusCode.OK


# --- request ids -----------------------------------------------------------------------------------------------------


async def trailing_request_id(service: Service, request: bytes, *sent: str) -> str:
    channel: Any = service.channel
    call = channel.unary_unary("/webhook.v1.WebhookService/GetWebhook")(
        request, metadata=[("x-request-id", value) for value in sent], timeout=slowness.scaled(10)
    )
    await call.code()
    [found] = [value for key, value in await call.trailing_metadata() if key == "x-request-id"]
    return found


async def test_the_request_id_of_a_caller_comes_back(services: ServiceFactory) -> None:
    service = await services.start()
    good = valid_requests(await furnish(service))["GetWebhook"].SerializeToString()

    for request in (good, b"", b"\xff"):
        assert await trailing_request_id(service, request, "abc-1.2_Z") == "abc-1.2_Z"
        assert await trailing_request_id(service, request, "x" * 64) == "x" * 64


async def test_a_request_id_that_cannot_be_used_is_replaced(services: ServiceFactory) -> None:
    service = await services.start()

    made = [await trailing_request_id(service, b"", *sent) for sent in ([], ["x" * 65], ["a b"], ["{}"], [""])]

    assert len(set(made)) == len(made)
    assert all(value.isalnum() and len(value) == 32 for value in made)


async def test_a_stream_has_a_request_id_too(services: ServiceFactory) -> None:
    service = await services.start()
    channel: Any = service.channel
    call = channel.unary_stream(f"/{SERVICE.full_name}/WatchDeliveries")(
        b"\xff", metadata=[("x-request-id", "stream-1")], timeout=slowness.scaled(10)
    )

    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ("x-request-id", "stream-1") in list(await call.trailing_metadata())


# --- stopping --------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_being_stopped_says_so_to_every_call(services: ServiceFactory) -> None:
    """The moment between the server's refusal of new calls and the end of the connection, held open."""
    service = await services.start()
    world = await furnish(service)
    server: Any = service.app._server  # pyright: ignore[reportPrivateUsage]
    server._calls.stop()

    refusals = await all_of(
        [refusal(ask(service, method, request)) for method, request in valid_requests(world).items()]
    )

    assert len(refusals) == len(METHODS)
    for refused in refusals:
        assert refused.code is UNAVAILABLE
        assert refused.reason == "SERVER_STOPPING"
        assert 0 < refused.retry_seconds < 5


async def test_watchers_are_let_go_when_the_server_stops(services: ServiceFactory) -> None:
    service = await services.start()
    async with service.watching() as watch:
        stopping = asyncio.ensure_future(service.app.stop())
        refused = await refusal(watch.next_message())
        await stopping

    assert refused.code is UNAVAILABLE
    assert refused.reason == "SERVER_STOPPING"
    assert refused.retry_seconds > 0


async def test_health_says_not_serving_while_calls_are_still_served(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delay lasts until the test has looked."""
    sleep, delay_seconds, looked = asyncio.sleep, 77.0, asyncio.Event()

    async def until_looked(seconds: float) -> None:
        await (looked.wait() if seconds == delay_seconds else sleep(seconds))

    monkeypatch.setattr(asyncio, "sleep", until_looked)
    service = await services.start(shutdown_delay_seconds=delay_seconds)
    watch = watch_health(service)
    assert (await watch.read()).status == health.HealthCheckResponse.SERVING

    stopping = asyncio.ensure_future(service.app.stop())

    assert (await watch.read()).status == health.HealthCheckResponse.NOT_SERVING
    assert await check_health(service, SERVICE.full_name) == health.HealthCheckResponse.NOT_SERVING
    assert await code_of(service.publish()) is grpc.StatusCode.OK
    watch.cancel()
    looked.set()
    await stopping


async def test_a_call_in_progress_ends_well_when_the_server_stops(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start()
    world = await furnish(service)
    entered, leave, get = asyncio.Event(), asyncio.Event(), webhooks.get

    async def slow(*arguments: Any) -> Any:
        entered.set()
        await leave.wait()
        return await get(*arguments)

    monkeypatch.setattr(webhooks, "get", slow)
    async with service.watching() as watch:
        call = asyncio.ensure_future(ask(service, "GetWebhook", valid_requests(world)["GetWebhook"]))
        await entered.wait()
        stopping = asyncio.ensure_future(service.app.stop())
        await refusal(watch.next_message())  # now it stops
    leave.set()

    assert (await call).webhook_id == world.webhook_id
    await stopping


async def test_a_call_that_outlasts_the_stop_is_ended_with_its_reason(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_CALL_GRACE_SECONDS", 0.0)
    service = await services.start()
    world = await furnish(service)
    entered = asyncio.Event()

    async def for_ever(*_: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(webhooks, "get", for_ever)
    call = asyncio.ensure_future(refusal(ask(service, "GetWebhook", valid_requests(world)["GetWebhook"])))
    await entered.wait()
    await service.app.stop()

    refused = await call
    assert (refused.code, refused.reason) == (UNAVAILABLE, "SERVER_STOPPING")
    assert refused.retry_seconds > 0


async def test_a_call_that_began_before_its_client_heard_of_the_stop_is_served(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy nobody would try it again."""
    monkeypatch.setattr(listening, "HEARD_SECONDS_MAX", slowness.scaled(20))
    monkeypatch.setattr(app, "_CALL_GRACE_SECONDS", slowness.scaled(20))
    service = await services.start()
    host, _, port = service.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(raw.PREFACE + raw.frame(Kind.SETTINGS, 0, 0))
    async with slowness.timeout(20):
        await until_frame(reader, Kind.SETTINGS)
        stopping = asyncio.ensure_future(service.app.stop())
        await until_frame(reader, Kind.GOAWAY)
        ping = await until_frame(reader, Kind.PING)

        request = raw.message(pb.ListWebhooksRequest(customer_id=CUSTOMER).SerializeToString())
        head = raw.head("/webhook.v1.WebhookService/ListWebhooks")
        writer.write(raw.frame(Kind.HEADERS, 4, 1, head) + raw.frame(Kind.DATA, 1, 1, request))

        await until_frame(reader, Kind.HEADERS)
        assert b"grpc-status\x010" in await until_frame(reader, Kind.HEADERS)
        writer.write(raw.frame(Kind.PING, 1, 0, ping))
        writer.close()
        await stopping


async def until_frame(reader: asyncio.StreamReader, wanted: int) -> bytes:
    """Returns what the next frame of this kind carries."""
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == wanted:
            return payload


async def test_what_is_in_flight_is_finished_and_settled_when_the_server_stops(
    services: ServiceFactory, receiver: Receiver
) -> None:
    gate = Gate()
    first = await services.start(drain_seconds=slowness.scaled(30))
    await first.create_webhook(receiver.on("/gate", gate))
    published = await first.publish()
    await receiver.wait_for(1)

    async with first.watching() as watch:
        stopping = asyncio.ensure_future(first.app.stop())
        await refusal(watch.next_message())
    gate.opened.set()
    await stopping

    [(status, attempts)] = query(
        services.database_url, "SELECT status, attempt_count FROM attempts ORDER BY created_at"
    )
    assert published.delivery_count == 1
    assert (status, attempts) == ("succeeded", 1)
    assert len(receiver.requests) == 1
