"""The image, made by the steps of the Dockerfile without Docker: serves as its user where nothing can be written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from webhook.v1 import event_pb2, service_pb2, webhook_pb2

from tests.support.distribution import DistributionPostgres
from tests.support.full import IS_FULL
from tests.support.image import Image
from tests.support.process import Process, run
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER

pytestmark = [
    pytest.mark.slow(30),
    pytest.mark.timeout(900),
    pytest.mark.skipif(not IS_FULL, reason="installs everything from a registry, as the image does: make test-long"),
]


@pytest.fixture(scope="module")
def image(certificates: None) -> Generator[Image]:
    """Not below pytest's own folder, which is closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="webhook-grpc-image-"))
    folder.chmod(0o755)
    try:
        image = Image(folder)
        image.build()
        yield image
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database() -> Generator[str]:
    server = DistributionPostgres()
    yield server.new_database("webhook_image")
    server.remove()


async def test_it_has_exactly_what_is_locked_and_is_started_without_a_place_to_write(
    image: Image, database: str, receiver: Receiver, tmp_path: Path
) -> None:
    places = ("/tmp/image", "/var/tmp/image", "/dev/shm/image", str(Path(image.program).parent / "image"))
    for place in places:
        status, _, stderr = await run(*image.command("touch", place), settings=image.settings)
        assert status == 1, f"{place} could be written"
        assert "cannot touch" in stderr
    migrated = await run(
        *image.command(image.program, "migrate"), settings={**image.settings, "WEBHOOK_DATABASE_URL": database}
    )
    assert migrated[0] == 0, migrated[2]
    addresses = {"WEBHOOK_GRPC_ADDRESS": "127.0.0.1:0", "WEBHOOK_HTTP_ADDRESS": "127.0.0.1:0"}
    settings = {**image.settings, **addresses, "WEBHOOK_DATABASE_URL": database}
    server = await Process.start(tmp_path / "log", image.command(image.program), **settings)
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"])
    await server.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))
    event = event_pb2.Event(customer_id=CUSTOMER, event_type="job.completed", data_json="{}")
    published = await server.stub.PublishEvent(service_pb2.PublishEventRequest(event=event))
    [request] = await receiver.wait_for(1)
    assert request.event_id == published.event_id
    _, status, _ = await run("cat", f"/proc/{server.process.pid}/status", settings={})
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    assert "\nCapEff:\t0000000000000000\n" in status
    assert await server.terminate() == 0
