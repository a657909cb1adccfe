"""TLS at both doors: what clients of each kind see, what they are refused, and files that change under streams."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from structlog.testing import capture_logs
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2

from tests.e2e.test_cli import health_check_of_the_image
from tests.support import slowness
from tests.support.authority import Authority, MountedSecret
from tests.support.process import ROOT, Process, run, run_cli
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, Service, ServiceFactory, Watch

GRPCURL: Final = Path(sys.executable).with_name("grpcurl")
QUICKLY: Final = {"http_address": "127.0.0.1:0", "tls_look_seconds": 0.05}
LIST: Final = "webhook.v1.WebhookService/ListWebhooks"
Client = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secret(authority: Authority, tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "secret", *authority.issue())


@asynccontextmanager
async def stub_of(service: Service, authority: Authority, client: Client | None = None) -> AsyncGenerator[Any]:
    """A client over gRPC, with a connection of its own."""
    own: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
    credentials = authority.channel_credentials(client)
    async with grpc.aio.secure_channel(service.address, credentials, own) as channel:
        yield service_pb2_grpc.WebhookServiceStub(channel)


async def serial_at(port: int | None, context: ssl.SSLContext) -> bytes:
    """Returns the certificate that a new connection gets, as it is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    del reader
    return bytes(found)


async def until_served(service: Service, authority: Authority, certificate: bytes) -> None:
    """Returns when new connections of both doors get this certificate."""
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    async with slowness.timeout(20):
        for port in (service.app.port, service.app.http_port):
            while await serial_at(port, authority.context()) != der:
                await asyncio.sleep(0.01)


async def status_over_http(service: Service, context: ssl.SSLContext, path: str = "/readyz") -> int:
    url = f"https://127.0.0.1:{service.app.http_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        await response.read()
        return response.status


# --- clients ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_curl_and_grpcurl_are_served_with_the_authority_of_the_certificate(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    http = f"https://localhost:{service.app.http_port}/readyz"
    called = await run("curl", "-sS", "--cacert", str(authority.file), http, settings={})
    assert called[0] == 0, called
    refused = await run("curl", "-sS", http, settings={})
    assert refused[0] == 60, "curl's word for an authority that it does not know"

    target = ("-d", f'{{"customer_id": {CUSTOMER}}}', f"localhost:{service.app.port}", LIST)
    called = await run(str(GRPCURL), "-cacert", str(authority.file), *target, settings={})
    assert called[0] == 0, called
    refused = await run(str(GRPCURL), *target, settings={})
    assert "certificate signed by unknown authority" in refused[2]


@pytest.mark.slow
async def test_the_python_program_of_the_document_is_served(
    services: ServiceFactory, authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    found = re.search(r"<!-- test: tls -->\n```python\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    program = found[1].replace("localhost:50051", f"localhost:{service.app.port}")
    assert program != found[1]
    status, stdout, stderr = await run(sys.executable, "-c", program, settings={}, cwd=tmp_path)
    assert (status, stdout) == (0, "0 webhooks\n"), stderr


async def test_both_doors_speak_tls_1_2_or_newer_and_name_their_protocol(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    for port, protocol in ((service.app.port, "h2"), (service.app.http_port, "http/1.1")):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.context()
            context.set_alpn_protocols(["h2", "http/1.1"])
            context.minimum_version = context.maximum_version = version
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            connection = writer.get_extra_info("ssl_object")
            assert connection.selected_alpn_protocol() == protocol
            cipher, _, _ = connection.cipher()
            assert "GCM" in cipher or "CHACHA20" in cipher
            writer.close()
        context = authority.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA")  # not authenticated with the text
        with pytest.raises(OSError):  # noqa: PT011 - refused by TLS, or closed
            await asyncio.open_connection("127.0.0.1", port, ssl=context)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def test_plain_text_gets_no_answer_at_the_port_of_https(services: ServiceFactory, secret: MountedSecret) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    with capture_logs() as logs:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with slowness.timeout(10):
            answer = await reader.read()
            while not any(line["event"] == "plain text came to a port with TLS" for line in logs):
                await asyncio.sleep(0.01)
    assert not answer.startswith(b"HTTP")
    writer.close()


async def test_a_request_that_comes_together_with_the_end_of_the_handshake_is_answered(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    """As clients of TLS 1.3 send it; several times, because it is a chance how the segments come."""
    service = await services.start(**QUICKLY, **secret.settings)
    for _ in range(10):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = authority.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
        is_done = False
        while not is_done:
            try:
                tls.do_handshake()
                is_done = True
                tls.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            except ssl.SSLWantReadError:
                pass
            writer.write(outgoing.read())
            if not is_done:
                incoming.write(await reader.read(65536))
        answer = b""
        async with slowness.timeout(10):
            while b"\r\n" not in answer:
                incoming.write(await reader.read(65536))
                try:
                    answer += tls.read()
                except ssl.SSLWantReadError:
                    continue
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_connections_count_before_their_handshake_is_done(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    """Whoever begins handshakes and ends none must not take descriptors without a bound."""
    service = await services.start(**QUICKLY, **secret.settings, http_connections_max=2)
    idle = [await asyncio.open_connection("127.0.0.1", service.app.http_port) for _ in range(2)]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.app.http_port)
    async with slowness.timeout(10):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    still_open = [one.exception() is None and not one.at_eof() for one, _ in idle]
    assert still_open == [True, True], "refused at once, not ended when a handshake takes too long"
    for _, other in (*idle, (reader, writer)):
        other.close()
    async with slowness.timeout(10):
        while True:
            try:
                assert await status_over_http(service, authority.context()) == 200
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)


# --- files that change -----------------------------------------------------------------------------------------------


async def test_new_files_are_served_to_new_connections_and_streams_go_on(
    services: ServiceFactory, authority: Authority, secret: MountedSecret, receiver: Receiver
) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    async with AsyncExitStack() as opened:
        stub = await opened.enter_async_context(stub_of(service, authority))
        session = await opened.enter_async_context(aiohttp.ClientSession())
        webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="one", url=receiver.url("/tls"), events=["*"])
        await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
        watch = Watch(stub.WatchDeliveries(service_pb2.WatchDeliveriesRequest(customer_id=CUSTOMER)))
        await watch.next_message()
        url = f"https://localhost:{service.app.http_port}/api/deliveries:watch?customer_id={CUSTOMER}"
        headers = {"Accept": "application/x-ndjson"}
        page = await opened.enter_async_context(session.get(url, headers=headers, ssl=authority.context()))
        assert await page.content.readline()

        new = authority.issue()
        secret.swap(*new)
        await until_served(service, authority, new[0])

        event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
        async with stub_of(service, authority) as other:
            await other.PublishEvent(service_pb2.PublishEventRequest(event=event))
        [delivered] = await watch.until_ended()
        async with slowness.timeout(20):
            while delivered.delivery_id.encode() not in await page.content.readline():
                pass
        watch.call.cancel()


async def test_a_wrong_new_file_changes_nothing_and_shows_in_the_figures(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    service = await services.start(**QUICKLY, **secret.settings)
    first = secret.certificate.read_bytes(), secret.key.read_bytes()
    secret.swap(first[0], b"garbage")
    url = f"https://localhost:{service.app.http_port}/metrics"
    async with aiohttp.ClientSession() as session, slowness.timeout(20):
        text = ""
        while "webhook_tls_files_refused 1.0" not in text:
            async with session.get(url, ssl=authority.context()) as response:
                text = await response.text()
    assert "webhook_tls_certificate_expire_timestamp_seconds " in text
    await until_served(service, authority, first[0])


# --- mTLS ------------------------------------------------------------------------------------------------------------


async def test_with_mtls_a_client_needs_a_certificate_of_the_authority(
    services: ServiceFactory, authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    trusted = {"grpc_client_ca_file": authority.file, "http_client_ca_file": authority.file}
    service = await services.start(**QUICKLY, **secret.settings, **trusted)
    known, stranger = authority.client(), Authority(tmp_path / "stranger").client()
    request = service_pb2.ListWebhooksRequest(customer_id=CUSTOMER)
    async with stub_of(service, authority, known) as stub:
        await stub.ListWebhooks(request)
    assert await status_over_http(service, authority.context(known)) == 200
    for client in (None, stranger):
        async with stub_of(service, authority, client) as stub:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await stub.ListWebhooks(request)
        with pytest.raises((aiohttp.ClientConnectionError, ssl.SSLError)):
            await status_over_http(service, authority.context(client))


async def test_one_door_may_have_mtls_and_the_other_not(
    services: ServiceFactory, authority: Authority, secret: MountedSecret
) -> None:
    service = await services.start(**QUICKLY, **secret.settings, grpc_client_ca_file=authority.file)
    assert await status_over_http(service, authority.context()) == 200
    async with stub_of(service, authority) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))


async def test_new_authorities_hold_for_new_connections(
    services: ServiceFactory, authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    """A client that may call no more does not get in by a session of before."""
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(authority.pem)
    files = {"grpc_client_ca_file": trusted, "http_client_ca_file": trusted}
    service = await services.start(**QUICKLY, **secret.settings, **files)
    other = Authority(tmp_path / "other")
    before, after = authority.context(authority.client()), authority.context(other.client("new.example"))
    assert await status_over_http(service, before) == 200
    trusted.write_bytes(other.pem)
    async with slowness.timeout(20):
        while True:
            try:
                await status_over_http(service, after)
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
    with pytest.raises((aiohttp.ClientConnectionError, ssl.SSLError)):
        await status_over_http(service, before)
    async with stub_of(service, authority, other.client("new.example")) as stub:
        await stub.ListWebhooks(service_pb2.ListWebhooksRequest(customer_id=CUSTOMER))


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_wrong_file_at_the_start_is_one_sentence(authority: Authority, tmp_path: Path) -> None:
    """Before a database is started."""
    secret = MountedSecret(tmp_path / "secret", authority.issue()[0], authority.issue()[1])
    files = {f"WEBHOOK_{name.upper()}": str(path) for name, path in secret.settings.items()}
    status, _, stderr = await run_cli("serve", WEBHOOK_PROCESSES="2", WEBHOOK_DATA_DIR=str(tmp_path / "data"), **files)
    assert status == 1
    said = f"WEBHOOK_TLS_KEY_FILE: {secret.key} is not the key of the first certificate in {secret.certificate}"
    assert stderr == f"webhook-grpc: {said}\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
async def test_several_processes_serve_the_same_new_files(
    database_url: str, authority: Authority, secret: MountedSecret, tmp_path: Path
) -> None:
    """Which process a connection meets is chance: with 12 that all meet one it is 1 in 2,048."""
    process = await Process.start(
        tmp_path / "log",
        WEBHOOK_PROCESSES="2",
        WEBHOOK_DATABASE_URL=database_url,
        WEBHOOK_HTTP_ADDRESS="127.0.0.1:0",
        WEBHOOK_TLS_LOOK_SECONDS="0.05",
        **{f"WEBHOOK_{name.upper()}": str(path) for name, path in secret.settings.items()},
    )
    new = authority.issue()
    der = ssl.PEM_cert_to_DER_cert(new[0].decode())
    secret.swap(*new)
    for address in (process.address, process.http_url):
        port = int(address.rpartition(":")[2])
        async with slowness.timeout(20):
            while {await serial_at(port, authority.context()) for _ in range(12)} != {der}:
                await asyncio.sleep(0.01)
    shown = {"WEBHOOK_HTTP_ADDRESS": process.http_url.removeprefix("https://")}
    assert await health_check_of_the_image(**shown, WEBHOOK_TLS_CERTIFICATE_FILE=str(secret.certificate)) == 0
    assert await process.terminate() == 0
