"""Postgres stops under a running service, and comes back: nothing is lost, and everybody is told the truth."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import slowness
from tests.support.postgres import query
from tests.support.receiver import Gate, Receiver
from tests.support.service import Service, ServiceFactory, error_details
from webhook_grpc.store.schema.embedded import EmbeddedPostgres
from webhook_grpc.store.schema.migrate import migrate

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Postgres:
    """A server of this test's own, which it may stop."""

    def __init__(self, directory: Path) -> None:
        self._embedded = EmbeddedPostgres(directory)
        self.url = self._embedded.start()
        migrate(self.url)
        self._data = directory / "postgres"

    def stop_at_once(self) -> None:
        """As a crash does: no checkpoint, connections are cut."""
        server: Any = self._embedded._server  # pyright: ignore[reportPrivateUsage]
        user = ["runuser", "-u", server.system_user, "--"] if server.system_user else []
        subprocess.run(
            [*user, str(server.bin_path / "pg_ctl"), "-D", str(self._data), "-m", "immediate", "stop"],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start_again(self) -> None:
        server: Any = self._embedded._server  # pyright: ignore[reportPrivateUsage]
        server.ensure_postgres_running()

    def end(self) -> None:
        self._embedded.stop()


async def until_health_is(service: Service, status: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)  # its types lack the aio form
    async with slowness.timeout(20):
        async for update in stub.Watch(health_pb2.HealthCheckRequest(service="webhook.v1.WebhookService")):
            if update.status == status:
                return


@pytest.mark.slow
async def test_a_crash_of_postgres_loses_nothing_and_is_told(receiver: Receiver, data_dir: Path) -> None:
    postgres = await asyncio.to_thread(Postgres, data_dir)
    services = ServiceFactory(postgres.url, data_dir)
    try:
        service = await services.start(database_timeout_seconds=slowness.scaled(2.0))
        gate = Gate()
        await service.create_webhook(receiver.on("/gate", gate))
        await service.create_webhook(receiver.url("/open"))
        event_ids = await service.publish_many(30)
        await receiver.wait_for(10, "/gate")

        await asyncio.to_thread(postgres.stop_at_once)
        gate.opened.set()  # results of attempts in flight have nowhere to go for now
        await until_health_is(service, NOT_SERVING)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.publish()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_details(caught.value)["ErrorInfo"].reason == "STORAGE_UNAVAILABLE"
        assert "RetryInfo" in error_details(caught.value)

        await asyncio.to_thread(postgres.start_again)
        await until_health_is(service, SERVING)
        event_ids.append((await service.publish()).event_id)
        async with slowness.timeout(30):
            while query(postgres.url, "SELECT count(*) FROM webhook_grpc.deliveries") != [(0,)]:
                await asyncio.sleep(0.05)
        received = Counter((request.path, request.event_id) for request in receiver.requests)
        assert not [e for e in event_ids for path in ("/gate", "/open") if not received[path, e]]
        assert query(
            postgres.url,
            "SELECT count(*) FROM webhook_grpc.attempts WHERE status = 'succeeded' HAVING count(*) = 2 * %s",
            [31],
        )
    finally:
        await services.stop()
        await asyncio.to_thread(postgres.end)
