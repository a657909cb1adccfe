"""The HTTP door: who may enter, what it bounds, and what a call over it does to the rest of the service."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
import re
import socket
import threading
import uuid
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from webhook.v1 import service_pb2
from webhook.v1.webhook_pb2 import WebhookStatus

from tests.support import slowness
from tests.support.postgres import TestPostgres
from tests.support.raw import first_byte
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.api.methods import METHODS
from webhook_grpc.server.http import connection as connection_module
from webhook_grpc.server.http.address import listening as listening_module
from webhook_grpc.server.http.address.listening import HttpAddressInUse
from webhook_grpc.server.http.connection import REQUESTS_AHEAD_MAX
from webhook_grpc.server.http.routes import PREFIXES, routes_of
from webhook_grpc.settings import Settings
from webhook_grpc.store.schema.migrate import migrate

from .client import URL, Http

SPECIFICATION = (
    '{"name": "任务完成通知", "url": "https://example.com/webhook", "secret": "your_secret_key", '
    '"events": ["job.completed","job.failed"]}'
)


# --- the specification -----------------------------------------------------------------------------------------------


def test_every_method_has_a_route_under_both_prefixes() -> None:
    routes = routes_of(service_pb2.DESCRIPTOR.services_by_name["WebhookService"])
    for prefix in PREFIXES:
        assert {route.method for route in routes if route.path.startswith(prefix)} == {one.name for one in METHODS}
    patterns = [(route.verb, route.pattern) for route in routes]
    assert len(set(patterns)) == len(patterns)


async def test_the_body_of_the_specification_is_answered_as_it_says(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=None)
    async with Http(service) as http:
        answer = await http.call("POST", "/api/webhooks", text=SPECIFICATION)
        assert answer.status == 201
        assert answer.body["webhook_id"] > 0
        assert (answer.body["status"], answer.body["customer_id"]) == ("active", 1)
        assert answer.body["name"] == "任务完成通知"
        assert "secret" not in answer.body, "the caller knows it"


async def test_a_caller_who_names_no_customer_acts_for_the_default_one_over_grpc_too(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=7)
    created = await service.create_webhook(URL, customer_id=0)
    assert created.customer_id == 7


async def test_the_data_of_an_event_is_signed_and_shown_byte_for_byte(
    services: ServiceFactory, receiver: Receiver
) -> None:
    data = '{"price": 1.10,  "id": 12345678901234567890123}'
    text = f'{{"event": {{"customer_id": {CUSTOMER}, "event_type": "job.completed", "data": {data} }} }}'
    async with Http(await services.start(http_address="127.0.0.1:0")) as http:
        await http.create(receiver.url())
        published = await http.call("POST", "/api/events", text=text)
        [request] = await receiver.wait_for(1)
        assert request.body.endswith(f'"data":{data}}}'.encode())
        event = await http.get(f"/api/events/{published.body['event_id']}?customer_id={CUSTOMER}")
        assert f'"data":{data}' in event.text


async def test_a_body_that_does_not_come_is_not_waited_for(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", http_read_seconds_max=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    writer.write(
        b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    )
    async with slowness.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_token_is_a_bearer_token_and_without_one_the_answer_is_401(services: ServiceFactory) -> None:
    tokens = json.dumps([{"name": "me", "sha256": hashlib.sha256(b"foo").hexdigest()}])
    service = await services.start(http_address="127.0.0.1:0", tokens=tokens)
    async with Http(service) as http:
        missing = await http.get("/api/webhooks")
        assert (missing.status, missing.reason) == (401, "TOKEN_MISSING")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        assert (await http.get("/api/webhooks", Authorization="Bearer foo")).status == 200
        wrong = await http.call("POST", "/api/events", text="{", headers={"Authorization": "Bearer bar"})
        assert (wrong.status, wrong.reason) == (401, "TOKEN_INVALID"), "nothing is parsed before its caller is known"


async def test_a_server_that_is_full_names_the_seconds_after_which_to_come_back(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", streams_max=1)
    async with (
        Http(service) as http,
        http.watch(f"/api/deliveries:watch?customer_id={CUSTOMER}") as first,
    ):
        assert first.status == 200
        await first.begun()
        second = await http.get(f"/api/deliveries:watch?customer_id={CUSTOMER}")
        assert (second.status, second.reason) == (429, "TOO_MANY_STREAMS")
        assert second.headers["retry-after"] == "1"


async def test_a_page_can_ask_who_calls_and_what_that_caller_may_do(services: ServiceFactory) -> None:
    entry = {"name": "me", "sha256": hashlib.sha256(b"foo").hexdigest(), "customer_id": 7, "permissions": ["read"]}
    service = await services.start(http_address="127.0.0.1:0", tokens=json.dumps([entry]))
    async with Http(service) as http:
        assert (await http.get("/api/caller")).reason == "TOKEN_MISSING"
        caller = (await http.get("/api/caller", Authorization="Bearer foo")).body
        assert {name: caller[name] for name in ("name", "customer_id", "permissions")} == {
            "name": "me",
            "customer_id": 7,
            "permissions": ["read"],
        }
        assert caller["events_retention_days"] == 30


# --- who may enter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Origin": "https://evil.example"}, "ORIGIN_NOT_ALLOWED"),
        ({"Origin": "null"}, "ORIGIN_NOT_ALLOWED"),
        ({"Origin": "http://localhost:1"}, "ORIGIN_NOT_ALLOWED"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "ORIGIN_NOT_ALLOWED"),
        ({"Host": "evil.example"}, "HOST_NOT_ALLOWED"),
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, "HOST_NOT_ALLOWED"),
    ],
)
async def test_a_page_of_another_origin_may_do_nothing(
    services: ServiceFactory, headers: dict[str, str], reason: str
) -> None:
    """Without tokens whoever reaches the door may do everything, and any page reaches loopback addresses."""
    service = await services.start(http_address="127.0.0.1:0")
    webhook = await service.create_webhook(URL)
    async with Http(service) as http:
        answer = await http.call("POST", f"/api/webhooks/{webhook.webhook_id}:pause", headers=headers)
        assert (answer.status, answer.reason) == (403, reason)
        assert (await http.call("GET", "/api/webhooks", headers=headers)).status == 403
    assert (await service.webhook(webhook.webhook_id)).status == WebhookStatus.WEBHOOK_STATUS_ACTIVE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "[::1]:8080", "Origin": "http://[::1]:8080"},
        {"Host": "hooks.localhost", "Origin": "https://hooks.localhost"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_its_own_page_and_programs_may_call(services: ServiceFactory, headers: dict[str, str]) -> None:
    service = await services.start(http_address="127.0.0.1:0", default_customer_id=None)
    async with Http(service) as http:
        answer = await http.call("GET", "/api/webhooks", headers=headers)
        assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)


async def test_a_page_of_a_named_origin_may_call_and_read_the_answer(services: ServiceFactory) -> None:
    origin = "https://console.example.com"
    service = await services.start(http_address="127.0.0.1:0", http_allow_origins=origin, default_customer_id=1)
    async with Http(service) as http:
        asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        preflight = await http.call("OPTIONS", "/api/webhooks/1", headers=asked)
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, origin)
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        answer = await http.call("GET", "/api/webhooks", headers={"Origin": origin})
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert answer.headers["vary"] == "Origin"
        described = await http.call("GET", "/api/openapi.json", headers={"Origin": origin})
        assert described.headers["vary"] == "Origin, Authorization, Accept-Encoding"
        refused = await http.call("OPTIONS", "/api/webhooks", headers={**asked, "Origin": "https://other.example.com"})
        assert refused.status == 403


# --- the first connection --------------------------------------------------------------------------------------------


class Held:
    """What loads a door, but only when it may."""

    def __init__(self, service: Service) -> None:
        self._really = _door(service)._load
        self.began, self.may = threading.Event(), threading.Event()

    def __call__(self) -> Any:
        self.began.set()
        assert self.may.wait(slowness.scaled(30))
        return self._really()


async def first_connection(service: Service) -> tuple[Held, asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns a connection that waits with its request for the door, which is being loaded."""
    _door(service)._load = held = Held(service)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await asyncio.to_thread(held.began.wait, slowness.scaled(30))
    return held, reader, writer


async def test_the_door_is_loaded_for_the_first_connection_which_waits_while_calls_over_grpc_do_not(
    services: ServiceFactory,
) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    assert _door(service)._door is None
    held, reader, writer = await first_connection(service)
    async with Http(service) as http:
        other = asyncio.create_task(http.call("GET", "/readyz"))
        await service.publish()
        assert not other.done()
        held.may.set()
        async with slowness.timeout(20):
            await reader.readuntil(b"ok\n")
            assert (await other).status == 200
    writer.close()


async def test_a_service_stops_while_its_door_is_loaded(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    held, reader, writer = await first_connection(service)
    async with slowness.timeout(20):
        await services.stop_one(service)
        assert await ended(reader)
    held.may.set()
    writer.close()


async def test_a_door_that_cannot_be_loaded_is_loaded_for_who_comes_next(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during an upgrade in place, when the files are of two versions; nothing else ends for that."""
    monkeypatch.setattr(listening_module, "_PAUSE_SECONDS", 0.01)
    service = await services.start(http_address="127.0.0.1:0")
    door, load = _door(service), _door(service)._load
    door._load = lambda: importlib.import_module("webhook_grpc.nothing")
    with capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
        async with slowness.timeout(20):
            assert await ended(reader)
    assert "HTTP can't be served; the next connection tries again" in [line["event"] for line in lines]
    writer.close()
    await service.publish()
    door._load = load
    async with Http(service) as http:
        assert (await http.call("GET", "/readyz")).status == 200


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_connections_have_a_bound_and_one_that_is_left_makes_room(services: ServiceFactory) -> None:
    service = await services.start(http_address="127.0.0.1:0", http_connections_max=2)
    address = ("127.0.0.1", service.app.http_port)
    burst = [socket.create_connection(address) for _ in range(10)]  # in one turn of the loop
    for each in burst:
        each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with slowness.timeout(20):
        begun = [await first_byte(each) for each in burst]
        assert sum(map(bool, begun)) == 2
        burst[begun.index(b"H")].close()
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if not await ended(reader):
                break
            writer.close()
    writer.close()
    for each in burst:
        each.close()


async def test_a_connection_on_which_no_whole_request_comes_is_closed(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.server.http.door.HEAD_SECONDS_MAX", 0.2)
    service = await services.start(http_address="127.0.0.1:0")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: loc")
    async with slowness.timeout(10):
        assert await ended(reader)
    writer.close()


async def test_a_caller_that_takes_nothing_of_an_answer_is_dropped(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_grpc.server.http.connection.UNTAKEN_SECONDS_MAX", 0.2)
    cut, really = list[Any](), connection_module._cut  # pyright: ignore[reportPrivateUsage]

    def noted(transport: Any) -> None:
        cut.append(transport)
        really(transport)

    monkeypatch.setattr(connection_module, "_cut", noted)
    service = await services.start(http_address="127.0.0.1:0")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.app.http_port))
        connection.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        async with slowness.timeout(30):
            while not cut or service.app._http.connection_count:  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
                await asyncio.sleep(0.01)
    async with Http(service) as http:
        assert (await http.call("GET", "/api/openapi.json")).status == 200


async def test_a_caller_that_wants_the_connection_closed_and_takes_nothing_is_dropped(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little is left for asyncio to stop writing; and aiohttp closes the connection by itself."""
    monkeypatch.setattr("webhook_grpc.server.http.connection.UNTAKEN_SECONDS_MAX", 0.2)
    service = await services.start(http_address="127.0.0.1:0")
    await service.publish(json.dumps("x" * 40_000))
    door = service.app._http  # pyright: ignore[reportPrivateUsage]
    assert door is not None
    listening: Any = door._socket  # pyright: ignore[reportPrivateUsage]
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # also of the connections that it accepts
    path = f"/api/events?customer_id={CUSTOMER}"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", service.app.http_port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        async with slowness.timeout(30):
            while not door.connection_count:
                await asyncio.sleep(0.01)
            while door.connection_count:
                await asyncio.sleep(0.01)


async def test_who_sends_a_body_in_crumbs_is_dropped_and_small_chunks_are_taken(services: ServiceFactory) -> None:
    """A chunk of one byte costs as much as a large one; the caller of the first need not even be known."""
    service = await services.start(http_address="127.0.0.1:0")
    event = json.dumps({"event": {"customer_id": CUSTOMER, "event_type": "job.completed", "data": "x" * 200_000}})
    head = (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    crumbs = b"1;name=value\r\n \r\n" * 1000
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    begins = (
        head % b"/api/events",
        head % b"/api/nothing",
        head % b"/api/events" + crumbs * 3,
        head % b"/api/events" + crumbs * 3 + b"0\r\n\r\n" + get,
        get * 2 + head % b"/api/events" + crumbs * 3,
    )
    with capture_logs() as lines:
        for begin in begins:
            _, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
            writer.write(begin)
            async with slowness.timeout(20):
                with contextlib.suppress(ConnectionError):
                    while True:  # until it is dropped
                        await writer.drain()
                        await asyncio.sleep(0)  # drain may return at once, and the service shares this loop
                        writer.write(crumbs)
            writer.transport.abort()
    dropped = [line["chunks"] for line in lines if line["event"] == "a caller that sent a body in crumbs was dropped"]
    assert len(dropped) == len(begins)
    assert max(dropped) <= 20_000, "before the next read of the socket"

    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    pieces = [event[at : at + 80].encode() for at in range(0, len(event), 80)]
    writer.write(head % b"/api/events" + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n")
    async with slowness.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_connection_is_read_little_ahead_of_its_answers(services: ServiceFactory) -> None:
    """Else whoever holds an answer up leaves what it sends behind it in memory: 64 MB, or more of other bytes."""
    service = await services.start(http_address="127.0.0.1:0")
    watch = f"/api/deliveries:watch?customer_id={CUSTOMER}&heartbeat_interval=1s"  # a paused reader misses the end
    stream = f"GET {watch} HTTP/1.1\r\nHost: localhost\r\n"
    long = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + f"X: {'x' * 8000}\r\n" * 7 + "\r\n"
    for head, behind in (
        ("\r\n", long.encode() * 100),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"\x82" * 5_000_000),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
        writer.write(f"{stream}{head}".encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(behind)
        [protocol] = _door(service)._door._runner.server.connections  # the one that is open
        async with slowness.timeout(20):
            while not protocol._buffer_paused:
                await asyncio.sleep(0.01)  # aiohttp gives no signal when it stops to read
        assert len(protocol._messages) <= REQUESTS_AHEAD_MAX
        assert len(protocol._message_tail) <= 1_000_000
        writer.transport.abort()
        async with slowness.timeout(20):
            while _door(service).connection_count:
                await asyncio.sleep(0.01)  # a connection that ends gives no signal


def _door(service: Service) -> Any:
    return service.app._http  # pyright: ignore[reportPrivateUsage] - no caller sees how far it is read


async def ended(reader: asyncio.StreamReader) -> bool:
    """Waits for the first byte or the end, and returns whether it was the end."""
    try:
        return not await reader.read(1)
    except ConnectionError:
        return True


async def test_while_a_large_body_is_read_the_loop_goes_on(services: ServiceFactory) -> None:
    """A body of five mebibytes of small members takes long to read; deliveries must not wait for that."""
    service = await services.start(http_address="127.0.0.1:0")
    event = f'{{"event": {{"customer_id": {CUSTOMER}, "event_type": "job.completed", "data": {{}}}}}}'
    text = f'{{"requests": [{",".join([event] * 50_000)}]}}'
    async with Http(service) as http:
        call = asyncio.create_task(http.call("POST", "/api/events:batchPublish", text=text))
        turns = 0
        while not call.done():
            await asyncio.sleep(0)
            turns += 1
        answer = await call
    assert (answer.status, "more than" in answer.body["detail"]) == (400, True)
    assert turns > 100


# --- the address -----------------------------------------------------------------------------------------------------


async def test_without_an_address_there_is_no_door(services: ServiceFactory) -> None:
    service = await services.start(http_address="")
    assert service.app.http_port is None


async def test_a_taken_address_that_was_set_refuses_the_start(services: ServiceFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HttpAddressInUse, match=rf"cannot listen on 127\.0\.0\.1:{port} for HTTP"):
            await services.start(http_address=f"127.0.0.1:{port}")


async def test_a_taken_default_address_is_a_warning_and_no_door(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "is_http_address_chosen", False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = await services.start(http_address=f"127.0.0.1:{taken.getsockname()[1]}")
    assert service.app.http_port is None
    assert (await service.create_webhook(URL)).webhook_id, "gRPC serves"


# --- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app.js", "webhook-deliveries.js"])
async def test_what_pages_of_others_load_has_an_address_that_does_not_change(
    services: ServiceFactory, name: str
) -> None:
    service = await services.start(http_address="127.0.0.1:0", http_allow_origins="https://console.example.com")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{service.app.http_port}") as session:
        async with session.get(f"/ui/{name}") as answer:
            assert answer.headers["Vary"] == "Origin, Accept-Encoding"  # for a cache between
            found = re.fullmatch(r'export \* from "\./(.+)";\n', await answer.text())
            assert answer.headers["Cache-Control"] == "no-cache"
        assert found
        async with session.get(f"/ui/{found[1]}") as answer:
            assert "customElements.define" in await answer.text()


async def test_the_root_says_where_to_look(services: ServiceFactory) -> None:
    async with Http(await services.start(http_address="127.0.0.1:0")) as http:
        index = await http.get("/")
        assert (index.status, index.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        for path in re.findall(r"(?m)^(/\S+)", index.text):
            if "deliveries:watch" not in path:
                answer = await http.get(f"{path}?customer_id={CUSTOMER}" if path.startswith("/api/") else path)
                assert answer.status == 200, path


@pytest.mark.slow
async def test_without_its_database_a_service_is_alive_but_not_ready(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    name = f"webhook_test_away_{uuid.uuid4().hex[:8]}"
    services.database_url = postgres.create_database(name)
    await asyncio.to_thread(migrate, services.database_url)
    service = await services.start(http_address="127.0.0.1:0", database_timeout_seconds=slowness.scaled(1.0))
    async with Http(service) as http:
        assert (await http.get("/readyz")).status == 200

        postgres.drop_database(name)

        async with slowness.timeout(20):
            while (await http.get("/readyz")).status != 503:
                await asyncio.sleep(0.05)  # the service looks at its database once a second
        assert (await http.get("/healthz")).status == 200, "starting it again would bring no database back"


async def test_readyz_fails_while_calls_cannot_be_answered_and_healthz_never(
    services: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await services.start(http_address="127.0.0.1:0")
    async with Http(service) as http:
        assert [(await http.get(path)).status for path in ("/healthz", "/readyz")] == [200, 200]
        await service.app.readiness.set_serving("webhook.v1.Delivery", False)
        assert (await http.get("/readyz")).status == 200, "that deliveries stall is no reason to send calls elsewhere"
        await service.app.readiness.set_serving("webhook.v1.WebhookService", False)
        assert [(await http.get(path)).status for path in ("/healthz", "/readyz")] == [200, 503]
