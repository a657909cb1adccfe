"""docs/growth.md: its commands, as far as one machine can run them."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.e2e.test_backup import programs, resumed
from tests.e2e.test_docs import blocks, run
from tests.faults.test_lost_commits import reason_of_end
from tests.support import slowness
from tests.support.cells import CellPostgres
from tests.support.full import IS_FULL
from tests.support.postgres import TestPostgres, query
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, SECRET, Service, ServiceFactory

PAGE: Final = "docs/growth.md"
LIVE: Final = "SELECT count(DISTINCT owner), count(owner) FROM shards"


async def said(commands: str, **given: str) -> str:
    """Runs commands of the page with these variables."""
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items())
    return await run("bash", "-euo", "pipefail", "-c", variables + commands, PATH=programs())


@pytest.fixture
def cell(postgres: TestPostgres) -> Generator[CellPostgres]:
    """The tests' database, where a cell is to be made; that is removed."""
    cell = CellPostgres(postgres.url, "cell_2", None, None)
    cell.drop_database("cell_2")
    yield cell
    cell.drop_database("cell_2")


@pytest.mark.slow(3)
async def test_a_customer_moves_to_another_cell_and_its_receivers_notice_nothing(
    services: ServiceFactory, cell: CellPostgres, receiver: Receiver, tmp_path: Path
) -> None:
    assert "0018" in await said(blocks(PAGE, "cell"), WEBHOOK_DATABASE_URL=services.database_url)
    cells = ServiceFactory(cell.url, tmp_path)
    try:
        old, new = await services.start(), await cells.start()
        webhook = await old.create_webhook(
            receiver.url("/?key=canary"), headers={"X-Own": "value"}, signature_type=webhook_pb2.SIGNATURE_TYPE_ED25519
        )
        async with old.watching() as watch:
            before = await old.publish(request_id="before")
            await watch.until_ended(1)
            await said(blocks(PAGE, "move"), OLD=services.database_url, NEW=cell.url)
            assert await reason_of_end(resumed(new, watch.cursor)) == "CURSOR_OF_OTHER_LOG"

        repeated = await new.publish(request_id="before")
        assert (repeated.duplicate, repeated.event_id) == (True, before.event_id)
        after = await new.publish(request_id="after")
        requests = await receiver.wait_for(2)
        assert [one.event_id for one in requests] == [before.event_id, after.event_id]
        for one in requests:
            one.verify(SECRET)
            assert (one.headers["X-Own"], one.target) == ("value", "/?key=canary")
        assert len(keys := await public_keys(old)) == 1
        assert await public_keys(new) == keys
        assert (await new.webhook(webhook.webhook_id)).webhook_id == webhook.webhook_id
        await old.delete_webhook(webhook.webhook_id)
        made = await new.create_webhook(receiver.url("/new"))
        assert made.webhook_id > 2_000_000_000_000
    finally:
        await cells.stop()


async def public_keys(service: Service) -> list[str]:
    request = service_pb2.GetSigningKeysRequest(customer_id=CUSTOMER)
    return [key.public_key for key in (await service.stub.GetSigningKeys(request)).signing_keys]


@pytest.mark.slow(10)
@pytest.mark.skipif(not IS_FULL, reason="eight programs are started, one after the other: make test-long")
async def test_a_customer_is_moved_by_calls_alone(
    services: ServiceFactory, cell: CellPostgres, receiver: Receiver, tmp_path: Path
) -> None:
    query(services.database_url, "CREATE SCHEMA cell_2")
    await said("webhook-grpc migrate", WEBHOOK_DATABASE_URL=cell.url)
    (tmp_path / "moved.secret").write_text(SECRET)
    commands = blocks(PAGE, "move_by_calls").replace("moved.secret", str(tmp_path / "moved.secret"))
    cells = ServiceFactory(cell.url, tmp_path)
    try:
        old, new = await services.start(), await cells.start()
        await old.create_webhook(receiver.url("/"), secret="")
        addresses = {"OLD_ADDRESS": old.address, "NEW_ADDRESS": new.address}
        await said(commands, **addresses, URL=receiver.url("/"))
        await new.publish()
        [request] = await receiver.wait_for(1)
        request.verify(SECRET)
        webhooks = service_pb2.ListWebhooksRequest(customer_id=CUSTOMER)
        assert not (await old.stub.ListWebhooks(webhooks)).webhooks
    finally:
        await cells.stop()


@pytest.mark.slow(8)
@pytest.mark.skipif(not IS_FULL, reason="starts five processes: make test-long")
async def test_services_that_are_started_as_shown_share_the_work(
    database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """What two machines would do; `machines` has `auto`, which is as many as there are cores here."""
    started: list[Process] = []
    for block in ("one_process", "processes", "machines"):
        *_, line = blocks(PAGE, block).strip().splitlines()
        program, serve, *options = line.split()
        assert (program, serve) == ("webhook-grpc", "serve")
        processes = {"WEBHOOK_PROCESSES": options[1]} if options else {}
        started.append(await Process.start(tmp_path / block, WEBHOOK_DATABASE_URL=database_url, **processes))
    async with slowness.timeout(60):
        while (found := query(database_url, LIVE))[0][1] != 64 or found[0][0] < 4:
            await asyncio.sleep(0.1)
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"], secret=SECRET)
    await started[0].stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
    for process in started:
        await process.stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
    await receiver.wait_for(len(started))
    for process in started:
        assert await process.terminate() == 0
