"""The stubs for TypeScript as a package, and its examples: compiled strictly, and run with Node against the service."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tarfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.support import slowness
from tests.support.distribution import missing
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER, ServiceFactory

pytestmark = [pytest.mark.slow(8), pytest.mark.xdist_group("typescript")]

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ROOT / ".venv" / "generate" / "npm" / "node_modules"  # from `make generate` and `make check`
NODE_MIN: Final = 20
SECONDS_MAX: Final = 15.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project beside the service: the examples, compiled, with the package as npm packs it."""
    node = shutil.which("node") or missing("Node", ".ci/packages")
    version = subprocess.check_output([node, "--version"], text=True)
    if int(version.removeprefix("v").split(".")[0]) < NODE_MIN:
        pytest.skip(f"needs Node {NODE_MIN}: this is {version.strip()}")
    if not (TOOLS / "typescript").exists():
        pytest.skip("needs what npm installs: make generate")
    project = tmp_path_factory.mktemp("typescript")
    modules = project / "node_modules"
    modules.mkdir()
    for package in TOOLS.iterdir():
        (modules / package.name).symlink_to(package)
    run("npm", "pack", "--silent", "--pack-destination", project, at=ROOT / "generated" / "ts")
    [packed] = project.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(project, filter="data")
    (modules / "@webhook-grpc").mkdir()
    (project / "package").rename(modules / "@webhook-grpc" / "stubs")
    for source in (ROOT / "examples" / "typescript").glob("*.*"):
        shutil.copy(source, project)
    run(TOOLS / ".bin" / "tsc", at=project)
    return project / "built"


def run(*command: str | Path, at: Path) -> None:
    done = subprocess.run(command, cwd=at, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@asynccontextmanager
async def node(*command: str | Path) -> AsyncGenerator[asyncio.StreamReader]:
    """A program's output, while the program runs."""
    process = await asyncio.create_subprocess_exec("node", *command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with slowness.timeout(SECONDS_MAX):
            yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_a_program_publishes_and_sees_the_delivery(
    built: Path, services: ServiceFactory, receiver: Receiver
) -> None:
    service = await services.start()
    await service.create_webhook(receiver.url())
    async with node(built / "publish.js", service.address, str(CUSTOMER)) as output:
        [line] = (await output.read()).decode().splitlines()
    assert line.startswith("dlv_")
    assert line.endswith(": SUCCEEDED")


async def test_what_is_refused_is_said_with_its_reason(built: Path, services: ServiceFactory) -> None:
    service = await services.start()
    check = built / "check.mjs"
    check.write_text(
        """import { problemOf, webhookClient } from "@webhook-grpc/stubs";
        const client = webhookClient(process.argv[2]);
        const event = { customerId: -1n, eventType: "job.completed" };
        const { code, reason, violations } = await client.publishEvent({ event }).catch(problemOf);
        console.log(code, reason, violations.map(({ field }) => field).join());
        """
    )
    async with node(check, service.address) as output:
        assert (await output.read()).decode().split() == ["3", "FIELD_INVALID", "event.customer_id,event.data_json"]


async def test_the_event_stream_is_watched_on_after_a_restart(
    built: Path, services: ServiceFactory, receiver: Receiver
) -> None:
    port = free_port()  # which nobody is given while the service is away
    service = await services.start(http_address=f"127.0.0.1:{port}")
    await service.create_webhook(receiver.url())
    since = datetime.now(UTC) - timedelta(minutes=1)
    async with node(built / "show.js", f"http://127.0.0.1:{port}", str(CUSTOMER), since.isoformat()) as output:
        shown: list[str] = []
        for _ in range(2):
            published = await service.publish()
            shown.append((await output.readline()).decode())
            assert shown[-1].startswith(published.event_id.replace("evt", "dlv"))
            assert shown[-1].endswith(": succeeded\n")
            await services.stop_one(service)
            service = await services.start(http_address=f"127.0.0.1:{port}")
    assert len(set(shown)) == 2
