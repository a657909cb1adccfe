"""A process of the version before can be started during a migration and after it, and does its work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.earlier import WITH_0004, checkout
from tests.support.process import environment
from tests.support.receiver import Receiver
from webhook_grpc.store.schema.migrate import check_schema, migrate
from webhook_grpc.store.schema.migration_files import read_migrations
from webhook_grpc.store.schema.migration_steps import run_step

from .database import DatabaseServer
from .groups import group

pytestmark = [pytest.mark.slow, group(2)]

MIGRATE = "import sys; from webhook_grpc.store.migrate import migrate; migrate(sys.argv[1])"
# For each line: starts the service as `serve` does, publishes an event, waits until it is delivered, and stops.
RESTART = """
import asyncio, sys
import grpc, psycopg
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc, webhook_pb2
from webhook_grpc.app import App
from webhook_grpc.logs import configure_logging
from webhook_grpc.settings import load_settings
from webhook_grpc.store.migrate import check_schema

async def restart(database_url, webhook_url):
    check_schema(database_url)
    app = App(load_settings(), database_url, [bytes(32)])
    await app.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        stub = service_pb2_grpc.WebhookServiceStub(channel)
        webhook = webhook_pb2.Webhook(customer_id=42, name="name", url=webhook_url, events=["*"])
        webhook = await stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
        event = event_pb2.Event(customer_id=42, event_type="job.completed", data_json="{}")
        await stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            while await (await connection.execute("SELECT 1 FROM deliveries")).fetchone():
                await asyncio.sleep(0.01)
        await stub.DeleteWebhook(service_pb2.DeleteWebhookRequest(customer_id=42, webhook_id=webhook.webhook_id))
    await app.stop()

configure_logging(load_settings())  # to stderr
for line in sys.stdin:
    webhook_url, _, database_url = line.strip().partition(" ")
    asyncio.run(asyncio.wait_for(restart(database_url, webhook_url), 60))
    print("restarted", flush=True)
"""


@contextmanager
def restarting(path: str, log: Path, url: str, receiver: Receiver) -> Generator[Callable[[], None]]:
    """What it gives starts the earlier version, has it do its work, and stops it."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", RESTART],
            env=environment(PYTHONPATH=path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def restart() -> None:
        stdin.write(f"{receiver.url()} {url}\n")
        stdin.flush()
        assert stdout.readline() == "restarted\n", log.read_text()

    try:
        yield restart
    finally:
        stdin.close()
        stdout.close()
        process.kill()
        process.wait()


async def test_the_version_before_restarts_after_each_step(
    server: DatabaseServer, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.empty_database()
    restarts = 0
    with checkout(WITH_0004) as earlier:
        await asyncio.to_thread(earlier.run, MIGRATE, url)
        with restarting(earlier.python_path, tmp_path / "log", url, receiver) as restart:

            def run_and_restart(*arguments: Any) -> None:
                nonlocal restarts
                run_step(*arguments)
                restart()
                restarts += 1

            monkeypatch.setattr("webhook_grpc.store.schema.migrate.run_step", run_and_restart)
            applied = await asyncio.to_thread(partial(migrate, url, before_deployment=True))
    assert applied
    assert restarts == sum(len(migration.steps) for migration in read_migrations() if migration.name in applied)
    assert len(receiver.requests) == restarts
    check_schema(url)
    server.drop_database(url)
