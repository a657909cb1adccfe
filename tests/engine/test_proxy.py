"""Requests through a forward proxy: what it sees, what it may answer, and what is still judged here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from random import Random
from typing import Any, Final

import pytest
import uvloop
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from tests.engine.hostile import certificates
from tests.support import slowness
from tests.support.dns import Leading
from tests.support.postgres import TestPostgres
from tests.support.raw import OK, RawServers, read_request
from tests.support.service import ServiceFactory
from webhook_grpc.domain.egress import EgressPolicy
from webhook_grpc.domain.model import AttemptResult, FailureReason, Outcome
from webhook_grpc.domain.proxy import parse_proxy
from webhook_grpc.engine.http.proxy import ProxyDown
from webhook_grpc.engine.http.sender import Request, Sender, SendLimits
from webhook_grpc.settings import Settings, problems_of
from webhook_grpc.store.clock import DatabaseClock

PUBLIC: Final = EgressPolicy(allow_http=True)  # this machine is not: only the proxy may lead to it
USER: Final = "http://user:p%40ss@127.0.0.1"
CREDENTIALS: Final = base64.b64encode(b"user:p@ss").decode()
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\nContent-Length: 0\r\n\r\n"


class ProxyServer:
    """Takes every tunnel to one port of this machine, whatever host is asked for."""

    def __init__(self, port: int, answer: bytes = ESTABLISHED) -> None:
        self.heads: list[bytes] = []
        self.tunnels: list[bytes] = []  # what went through each from our side
        self._port = port
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._answer)
        if not self._answer.startswith(b"HTTP/1.1 2"):
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.tunnels.append(b"")
        number = len(self.tunnels) - 1

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_ours: bool) -> None:
            try:
                while data := await source.read(65_536):
                    self.tunnels[number] += data if is_ours else b""
                    sink.write(data)
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, to_writer, is_ours=True), pump(to_reader, writer, is_ours=False))


async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


@contextlib.asynccontextmanager
async def sending(proxy_url: str) -> AsyncGenerator[Callable[[str], Awaitable[AttemptResult]]]:
    client = ssl.create_default_context()
    certificates.authority().configure_trust(client)
    sender = Sender(
        PUBLIC, DatabaseClock(), Random(), SendLimits(100), resolver=Leading(["127.0.0.1"]),
        ssl_context=client, proxy=parse_proxy(proxy_url),
    )  # fmt: skip
    yield lambda url: sender.send(Request(url, {}, b'{"secret":1}', slowness.scaled(5), webhook_id=1))
    await sender.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_requests_go_through_the_proxy_and_tunnels_are_kept(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], proxy_scheme: str, scheme: str
) -> None:
    async def run() -> None:
        servers, context = RawServers(), certificates.in_order()
        options: dict[str, Any] = {"ssl": context}
        url = await servers(receiver, **(options if scheme == "https" else {}))
        proxy = ProxyServer(int(url.rstrip("/").rpartition(":")[2]))
        proxy_url = await servers(proxy.serve, **(options if proxy_scheme == "https" else {}))
        port = proxy_url.rstrip("/").rpartition(":")[2]
        async with sending(f"{proxy_scheme}://user:p%40ss@{certificates.HOST}:{port}") as send:
            for _ in range(2):
                result = await send(f"{scheme}://{certificates.HOST}:8443/hook")
                assert (result.outcome, result.response_body) == (Outcome.SUCCEEDED, b"ok")
        await servers.stop()
        [head] = proxy.heads
        assert (
            head
            == (
                f"CONNECT {certificates.HOST}:8443 HTTP/1.1\r\nHost: {certificates.HOST}:8443\r\n"
                f"Proxy-Authorization: Basic {CREDENTIALS}\r\n\r\n"
            ).encode()
        )
        [through] = proxy.tunnels
        assert (b'{"secret":1}' in through) == (scheme == "http")
        assert CREDENTIALS.encode() not in through

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (403, Outcome.BLOCKED, FailureReason.BLOCKED_DESTINATION),
        (502, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
        (504, Outcome.CONNECTION_ERROR, FailureReason.CONNECTION_FAILED),
    ],
)
async def test_what_the_proxy_says_of_the_receiver_counts_as_an_attempt(
    raw_server: RawServers, status: int, outcome: Outcome, reason: FailureReason
) -> None:
    proxy = ProxyServer(9, b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\nno!" % status)
    url = await raw_server(proxy.serve)
    async with sending(url) as send:
        result = await send("https://hooks.example.com/")
    assert (result.outcome, result.reason, result.response_status) == (outcome, reason, None)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 X\r\n\r\n", b"SSH-2.0\r\n\r\n"], ids=["407", "no HTTP"])
async def test_a_proxy_that_does_not_work_is_our_fault(raw_server: RawServers, answer: bytes) -> None:
    async with sending(await raw_server(ProxyServer(9, answer).serve)) as send:
        with pytest.raises(ProxyDown):
            await send("https://hooks.example.com/")


async def test_a_proxy_that_is_away_is_our_fault_and_its_password_is_in_no_text() -> None:
    async with sending(f"{USER}:9") as send:
        with pytest.raises(ProxyDown) as caught:
            await send("https://hooks.example.com/")
    assert "p@ss" not in repr(caught.value) + repr(caught.value.__cause__) + repr(parse_proxy(f"{USER}:9"))


async def test_a_service_whose_proxy_is_away_says_so_without_its_password_and_counts_no_attempt(
    services: ServiceFactory, postgres: TestPostgres
) -> None:
    with capture_logs() as logs:
        service = await services.start(egress_proxy_url=f"{USER}:9")
        await service.create_webhook("https://hooks.example.com/")
        await service.publish()
        async with slowness.timeout(20):
            while not any(line["event"].startswith("attempts paused") for line in logs):
                await asyncio.sleep(0.02)
        await services.stop_one(service)
    assert postgres.rows("SELECT attempt FROM deliveries") == [(0,)]
    assert not any(text in repr(logs) for text in ("p@ss", "p%40ss", CREDENTIALS))


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1"])
async def test_an_address_in_a_url_is_judged_here_and_the_proxy_is_not_asked(raw_server: RawServers, host: str) -> None:
    proxy = ProxyServer(9)
    async with sending(await raw_server(proxy.serve)) as send:
        assert (await send(f"http://{host}:8080/")).outcome is Outcome.BLOCKED
    assert not proxy.heads


NO_PROXIES = [
    *["proxy:3128", "socks5://p:1", "http://", "http://u:hunter2@p:99999"],
    *["http://u:hunter2@p/a", "http://u:hunter 2@p"],
]


@pytest.mark.parametrize("url", NO_PROXIES)
def test_a_setting_that_is_no_proxy_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(egress_proxy_url=SecretStr(url))
    said = problems_of(caught.value)
    assert said == "WEBHOOK_EGRESS_PROXY_URL: must be a URL like http://user:password@proxy.example:3128"


def test_the_default_port_of_a_proxy_is_its_schemes() -> None:
    assert (parse_proxy("http://proxy").port, parse_proxy("https://proxy/").port) == (80, 443)
    assert ipaddress.ip_address(parse_proxy("http://[::1]:3128").host).is_loopback
