"""What `make dist` builds: it ships all of its code, installs into empty environments from there alone, and runs.

The clients with the oldest runtime of gRPC and protobuf that they allow, the service with the newest that there is.
"""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from scripts import dist, install
from webhook.v1 import service_pb2, webhook_pb2

from tests.support.distribution import missing
from tests.support.full import IS_FULL, in_full
from tests.support.process import ROOT, Process, run
from tests.support.receiver import Receiver
from tests.support.service import CUSTOMER

pytestmark = [
    pytest.mark.slow(15),
    pytest.mark.timeout(in_full(1800, short=300)),
    pytest.mark.xdist_group("packages"),  # one process builds
]

# The folders whose content each wheel ships.
SHIPPED = {
    "webhook_grpc": ("src", "generated/python", "clients/python", "clients/cli"),
    "webhook_grpc_stubs": ("generated/python",),
    "webhook_grpc_client": ("clients/python",),
    "webhook_grpc_cli": ("clients/cli",),
}
OLDEST = ("grpcio==1.74.0", "protobuf==6.31.1")
KIND = in_full(".tar.gz", short="-py3-none-any.whl")  # sdists are built again where they are installed

# Run where there is the client: publishes an event, and prints its id.
PUBLISH = """
import sys
from importlib.util import find_spec

from webhook_grpc_client import Client

of_server = ["webhook_grpc", "psycopg", "aiohttp", "pydantic", "orjson", "structlog"]
assert not [name for name in of_server if find_spec(name)]
with Client(sys.argv[1]) as client:
    print(client.publish("job.completed", {"n": 1}, customer_id=int(sys.argv[2])).event_id)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, certificates: None) -> Path:
    """The folder with what is built."""
    if install.uv() is None:
        missing("uv", "make setup")
    folder = tmp_path_factory.mktemp("packages") / "dist"
    dist.build(folder, with_sdists=IS_FULL)
    return folder


def installed(folder: Path, *packages: Path, pins: tuple[str, ...] = ()) -> Path:
    """The programs of an environment that has nothing but these packages and what a registry has for them."""
    venv.create(folder, symlinks=True)
    python, uv = folder / "bin" / "python", install.uv()
    dist.uv_install(python, *packages, *pins)
    assert uv is not None
    dist.run(uv, "pip", "check", "--quiet", f"--python={python}")
    return folder / "bin"


def package(built: Path, name: str) -> Path:
    [found] = built.glob(f"{name}-[0-9]*{KIND}")
    return found


@pytest.fixture(scope="module")
def of_server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("packages") / "server", package(built, "webhook_grpc"))


@pytest.fixture(scope="module")
def of_clients(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the command line, and the two that it needs."""
    named = [package(built, f"webhook_grpc_{name}") for name in ("stubs", "client", "cli")]
    return installed(tmp_path_factory.mktemp("packages") / "clients", *named, pins=OLDEST)


def shipped_in(built: Path, name: str) -> set[str]:
    [wheel] = built.glob(f"{name}-*.whl")
    return {path for path in ZipFile(wheel).namelist() if ".dist-info/" not in path}


def test_each_wheel_ships_all_files_of_its_folders_and_nothing_else(built: Path) -> None:
    """Migrations, the page, `py.typed`; no test, no cache, nothing of another build."""
    for name, folders in SHIPPED.items():
        known = {path.relative_to(folder) for folder in folders for path in dist.tracked(folder)}
        assert shipped_in(built, name) == {path.as_posix() for path in known if len(path.parts) > 1}, name


async def test_the_service_of_a_wheel_delivers_what_the_client_of_a_wheel_publishes(
    of_server: Path, of_clients: Path, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    said = await run(str(of_server / "webhook-grpc"), "--version", settings={})
    assert said == (0, f"webhook-grpc, version {dist.version()}\n", "")
    command = (str(of_server / "webhook-grpc"),)
    server = await Process.start(tmp_path / "log", command, WEBHOOK_DATABASE_URL=database_url)
    webhook = webhook_pb2.Webhook(customer_id=CUSTOMER, name="all", url=receiver.url(), events=["*"])
    await server.stub.CreateWebhook(service_pb2.CreateWebhookRequest(webhook=webhook))

    python = (str(of_clients / "python"), "-I", "-W", "error:::webhook_grpc_client", "-c", PUBLISH)
    published = await run(*python, server.address, str(CUSTOMER), settings={})

    assert published[0] == 0, published[2]
    [request] = await receiver.wait_for(1)
    assert request.event_id == published[1].strip()
    assert await server.terminate() == 0
    assert "PublishEvent" in (await run(str(of_clients / "webhook-grpc"), "call", "--list", settings={}))[1]


async def test_the_command_line_without_the_server_names_no_package_of_a_registry(of_clients: Path) -> None:
    program = str(of_clients / "webhook-grpc")
    assert await run(program, "--version", settings={}) == (0, f"webhook-grpc, version {dist.version()}\n", "")
    status, stdout, stderr = await run(program, "serve", settings={})
    sentence = "error: `serve` comes with the server, which is not installed here: install a clone, by its path"
    assert (status, stdout, stderr.splitlines()[0]) == (2, "", sentence)


def test_what_a_package_needs_of_ours_is_found_beside_it(built: Path, of_clients: Path) -> None:
    """With no registry at all: each of ours names the others, in exactly its own version."""
    python = of_clients / "python"
    ours = ("webhook_grpc_stubs", "webhook_grpc_client", "webhook_grpc_cli")
    uv = install.uv()
    assert uv is not None
    dist.run(uv, "pip", "uninstall", "--quiet", f"--python={python}", *ours)
    [wheel] = built.glob("webhook_grpc_cli-*.whl")
    dist.run(uv, "pip", "install", f"--python={python}", "--no-index", f"--find-links={built}", wheel)
    listed = dist.run(uv, "pip", "list", f"--python={python}", "--format=freeze")
    assert {f"{name.replace('_', '-')}=={dist.version()}" for name in ours} <= set(listed.split())


def test_the_oldest_runtime_is_the_one_that_the_stubs_require() -> None:
    required = (ROOT / "generated/python/pyproject.toml").read_text()
    assert all(pin.replace("==", ">=") in required for pin in OLDEST)


@pytest.mark.skipif(not IS_FULL, reason="builds the service once more: make test-long")
def test_a_clone_is_installed_by_its_path_with_all_that_is_in_the_wheel(built: Path, tmp_path: Path) -> None:
    """From a copy, without what this clone's environment and earlier builds left."""
    for path in dist.tracked(*dist.PACKAGES["."]):
        copy = tmp_path / "clone" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    programs = installed(tmp_path / "environment", tmp_path / "clone")
    dist.run(programs / "webhook-grpc", "keys", "new")
    [packages] = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    assert [path for path in shipped_in(built, "webhook_grpc") if not (packages / path).exists()] == []


@pytest.mark.skipif(not IS_FULL, reason="builds everything once more: make test-long")
def test_make_dist_leaves_everything_in_one_folder_with_its_checksums() -> None:
    printed = dist.run("make", "--silent", "-C", ROOT, "dist")
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", dist.CHECKSUMS], cwd=dist.DIST, check=True)
    listed = {line.split()[1] for line in (dist.DIST / dist.CHECKSUMS).read_text().splitlines()}
    assert {path.name for path in dist.DIST.iterdir()} == {*listed, dist.CHECKSUMS}
    assert all(name in printed for name in listed)
