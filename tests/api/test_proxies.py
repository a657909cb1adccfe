"""Behind the proxies that people have, set up as docs/proxies.md shows it, each call comes through as without one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from webhook.v1 import service_pb2 as pb
from webhook.v1 import service_pb2_grpc

from tests.api.asking import refusal
from tests.e2e.test_docs import blocks
from tests.support import slowness
from tests.support.authority import Authority
from tests.support.distribution import need
from tests.support.full import in_full
from tests.support.ports import free_port
from tests.support.service import CUSTOMER, Service, ServiceFactory
from webhook_grpc.domain.envelope import DATA_BYTES_MAX
from webhook_grpc.server.grpc import listening
from webhook_grpc.server.grpc.http2 import lifetime

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_DEBIAN: Final = ("nginx", "haproxy")
PROXIES: Final = in_full((*OF_DEBIAN, "envoy", "caddy"), short=OF_DEBIAN)
CROWD: Final = 200
NGINX: Final = (
    "daemon off; master_process off; pid {0}/pid; error_log stderr; events {{ }} http {{ access_log off; {1}\n}}"
)


def configured(proxy: str, folder: Path, service: Service, authority: Authority, port: int) -> list[str]:
    """Writes the configuration of the document for this service. Returns the command that starts the proxy with it."""
    certificate, key = authority.issue("localhost")
    for name, content in (("crt", certificate), ("key", key), ("pem", certificate + key)):
        (folder / f"webhook.{name}").write_bytes(content)
    host, _, own = service.address.rpartition(":")
    shown = blocks("docs/proxies.md", proxy).replace("10.0.0.1, port_value: 50051", f"{host}, port_value: {own}")
    for name, ours in {
        "/etc/ssl": str(folder),
        "10.0.0.1:50051": service.address,
        "address: 0.0.0.0": "address: 127.0.0.1",
        "8443": str(port),
        "localhost {": f"https://localhost:{port} {{",
    }.items():
        shown = shown.replace(name, ours)
    text = "".join(f"{line}\n" for line in shown.splitlines() if "10.0.0.2" not in line)  # the other process
    file = folder / f"{proxy}.yaml"
    file.write_text(NGINX.format(folder, text) if proxy == "nginx" else text)
    return {
        "nginx": ["-p", str(folder), "-c", str(file)],
        "haproxy": ["-f", str(file)],
        "envoy": ["-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(file)],
    }[proxy]


@contextlib.asynccontextmanager
async def behind(proxy: str, service: Service, folder: Path) -> AsyncGenerator[Any]:
    """Starts a proxy before the service. Yields a stub that calls through it."""
    program = need(proxy) if proxy in OF_DEBIAN else shutil.which(proxy)
    if program is None:
        pytest.skip(f"{proxy} is not installed: PyPI has it as {proxy}-server or {proxy}-bin")
    authority, port = Authority(folder), free_port()
    process = await asyncio.create_subprocess_exec(program, *configured(proxy, folder, service, authority, port))
    try:
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        target = f"localhost:{port}"
        async with grpc.aio.secure_channel(target, authority.channel_credentials(), options) as channel:
            yield service_pb2_grpc.WebhookServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.slow(3)
async def test_calls_come_through_a_proxy_as_they_come_without_one(
    services: ServiceFactory, proxy: str, tmp_path: Path
) -> None:
    service = await services.start()
    async with behind(proxy, service, tmp_path) as stub:
        wait: dict[str, Any] = {"wait_for_ready": True, "timeout": slowness.scaled(20)}
        own = pb.ListWebhooksRequest(customer_id=CUSTOMER)
        await stub.ListWebhooks(own, **wait)

        answers = await asyncio.gather(*(stub.ListWebhooks(own, **wait) for _ in range(CROWD)))
        assert len(answers) == CROWD

        large = pb.PublishEventRequest()
        large.event.customer_id, large.event.event_type = CUSTOMER, "job.completed"
        large.event.data_json = '"' + "x" * (DATA_BYTES_MAX - 2) + '"'
        event_id = (await stub.PublishEvent(large, **wait)).event_id
        event = await stub.GetEvent(pb.GetEventRequest(customer_id=CUSTOMER, event_id=event_id), **wait)
        assert len(event.data_json) == DATA_BYTES_MAX

        refused = await refusal(stub.GetWebhook(pb.GetWebhookRequest(customer_id=CUSTOMER, webhook_id=7), **wait))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "WEBHOOK_NOT_FOUND")

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in stub.WatchDeliveries(pb.WatchDeliveriesRequest(customer_id=CUSTOMER), timeout=0.5):
                pass
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        watch = stub.WatchDeliveries(pb.WatchDeliveriesRequest(customer_id=CUSTOMER), wait_for_ready=True)
        assert (await watch.read()).cursor
        watch.cancel()
        await until_nobody_watches(service)


async def until_nobody_watches(service: Service) -> None:
    calls: Any = service.app._server._calls  # pyright: ignore[reportPrivateUsage]
    async with slowness.timeout(20):
        while calls.stream_count:
            await asyncio.sleep(0.01)  # the service notices the end of a watch a moment later


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.slow(3)
async def test_a_watch_through_a_proxy_whose_connection_is_too_old_ends_with_unavailable(
    services: ServiceFactory, proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INTERNAL or UNKNOWN, which proxies make of a stream that breaks off, is for no client a reason to come again."""
    monkeypatch.setattr(listening, "AGE_SECONDS_MAX", 0.0)
    monkeypatch.setattr(lifetime, "AGE_GRACE_SECONDS", 0.0)
    service = await services.start()
    async with behind(proxy, service, tmp_path) as stub:
        watch = stub.WatchDeliveries(
            pb.WatchDeliveriesRequest(customer_id=CUSTOMER), wait_for_ready=True, timeout=slowness.scaled(20)
        )
        ended = await refusal(until_it_ends(watch))
    assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "CONNECTION_TOO_OLD")
    assert ended.message == "the connection has grown too old; call again"
    assert ended.retry_seconds > 0


async def until_it_ends(watch: Any) -> None:
    async for _ in watch:
        pass
