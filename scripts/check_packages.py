"""Checks the packages of this clone: the service with its stubs; the stubs alone; the client; the command line.

The service is installed with `pip install .` into a fresh environment, and used there. The stubs' wheel is typed and
installed into two together with the client's and the command line's, with the oldest supported runtime and with the
newest that its requirements allow. All at once, in environments of their own. Needs pip's index. `--keep` leaves the
folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from scripts import install

ROOT: Final = Path(__file__).resolve().parent.parent
STUBS: Final = ROOT / "generated" / "python"
CLIENT: Final = ROOT / "clients" / "python"
CLI: Final = ROOT / "clients" / "cli"
# The Dockerfile copies the same.
SERVICE_PARTS: Final = ("pyproject.toml", "README.md", "LICENSE", "src", "generated/python", "clients")
RUNTIMES: Final = {
    "oldest": ("grpcio==1.74.0", "protobuf==6.31.1"),
    "newest": ("grpcio", "protobuf"),  # in a fresh environment pip takes the newest that fit
}
LEFT_OUT: Final = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")

# Run in an environment that has the service and what it requires.
SERVICE_PROGRAM: Final = """
from importlib.metadata import metadata, requires
from importlib.resources import files

import webhook.v1.service_pb2 as stubs
import webhook_grpc.app

assert "site-packages" in stubs.__file__ and "site-packages" in webhook_grpc.app.__file__
assert (files("webhook.v1") / "py.typed").is_file() and (files("webhook.v1") / "service_pb2.pyi").is_file()
assert list((files("webhook_grpc") / "store" / "schema" / "migrations").iterdir())
assert metadata("webhook-grpc")["License-Expression"] == "Apache-2.0"
ours = [name for name in requires("webhook-grpc") if name.startswith("webhook-grpc")]
assert not ours, f"{ours} would be looked for on a registry"
print("works, with the stubs, from one wheel")
"""

# Run in an environment that has nothing but the stubs, the client and what they require.
PROGRAM: Final = """
from importlib.metadata import version
from importlib.util import find_spec

import grpc
import webhook_grpc_client
from webhook.v1 import event_pb2, service_pb2, service_pb2_grpc

event = event_pb2.Event(customer_id=1, event_type="job.completed", data_json="{}")
request = service_pb2.PublishEventRequest(event=event, request_id="one")
assert service_pb2.PublishEventRequest.FromString(request.SerializeToString()) == request
with grpc.insecure_channel("127.0.0.1:1") as channel:  # connects when it is used, which it is not
    assert callable(service_pb2_grpc.WebhookServiceStub(channel).PublishEvent)
with webhook_grpc_client.Client("127.0.0.1:1") as client:
    assert callable(client.publish) and "site-packages" in webhook_grpc_client.__file__
assert find_spec("webhook_grpc") is None, "the server was installed with the stubs"
print(f"works with grpcio {version('grpcio')}, protobuf {version('protobuf')}; webhook_grpc cannot be imported there")
"""


def main() -> None:
    """Builds, looks into the wheels, and tries each runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder for a look")
    keep: bool = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="check-packages-"))
    try:
        with ThreadPoolExecutor() as pool:
            checks = {"service: pip install .": pool.submit(_check_service, folder / "service")}
            wheels = [_build_wheel(folder / package.name, package) for package in (CLIENT, CLI)]
            stubs = _build_wheel(folder / "stubs", STUBS)
            print(f"stubs: wheel: {_check_contents(stubs)}", flush=True)
            for name, pins in RUNTIMES.items():
                checks[f"stubs, client, cli: {name}"] = pool.submit(
                    _check_runtime, folder / name, (stubs, *wheels), pins
                )
        for name, check in checks.items():
            print(f"{name}: {check.result()}", flush=True)
    finally:
        if keep:
            print(f"left in {folder}")
        else:
            shutil.rmtree(folder)


def _check_service(folder: Path) -> str:
    """From a copy, without what this clone's environment and earlier builds left."""
    for part in SERVICE_PARTS:
        target = folder / "clone" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_OUT)
        else:
            shutil.copy(source, target)
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _run(*install.PIP, "--python", python, "install", "--quiet", folder / "clone")
    _run(python.with_name("webhook-grpc"), "keys", "new")
    return _run(python, "-I", "-c", SERVICE_PROGRAM)


def _build_wheel(folder: Path, package: Path) -> Path:
    """From a copy without what earlier builds left, which would hide that a file is not shipped."""
    source = shutil.copytree(package, folder / "source", ignore=LEFT_OUT)
    _run(*install.PIP, "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", source)
    [wheel] = folder.glob("*.whl")
    return wheel


def _check_contents(wheel: Path) -> str:
    """Everything that was generated is in the wheel, and nothing else is."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (STUBS / "webhook").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    generated = {path.relative_to(STUBS).as_posix() for path in files}
    if shipped != generated:
        sys.exit(f"stubs: wheel: FAILED: differs from generated/python in {', '.join(sorted(shipped ^ generated))}")
    untyped = [name for name in generated if name.endswith("_pb2.py") and f"{name}i" not in shipped]
    if untyped or "webhook/v1/py.typed" not in shipped or "webhook/v1/service_pb2_grpc.pyi" not in shipped:
        sys.exit("stubs: wheel: FAILED: it is not typed; run `make generate`")
    return f"{wheel.name} ships py.typed and {sum(name.endswith('.pyi') for name in shipped)} .pyi files"


def _check_runtime(folder: Path, wheels: tuple[Path, ...], pins: tuple[str, ...]) -> str:
    """Installs the wheels with a runtime into a fresh environment, and uses it there."""
    venv.create(folder)
    python = folder / "bin" / "python"
    if (uv := install.uv()) is not None:  # which has these packages, or most of them
        settings = install.settings_for_uv()
        options = (*settings.arguments, "--python", python)
        _run(uv, "pip", "install", "--quiet", *options, *wheels, *pins, **settings.variables)
        _run(uv, "pip", "check", "--quiet", "--python", python)
    else:
        _run(*install.PIP, "--python", python, "install", "--quiet", *wheels, *pins)
        _run(*install.PIP, "--python", python, "check")
    listed = _run(python.with_name("webhook-grpc"), "call", "--list")
    assert "PublishEvent" in listed, listed
    return _run(python, "-I", "-W", "error", "-c", PROGRAM)


def _run(*command: str | Path, **variables: str) -> str:
    """Runs a command away from the repository, and returns what it printed; ends everything if it fails."""
    words = [str(part) for part in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    completed = subprocess.run(
        words, cwd=tempfile.gettempdir(), env=environment, capture_output=True, text=True, check=False
    )
    if completed.returncode:
        print(completed.stdout + completed.stderr, file=sys.stderr)
        sys.exit(f"FAILED: {' '.join(words[:4])} …")
    return completed.stdout.strip()


if __name__ == "__main__":
    main()
