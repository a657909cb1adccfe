"""The Go modules as they will be fetched: from a proxy that has what git knows, by a module that replaces nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from scripts import dist

from tests.support import slowness
from tests.support.full import IS_FULL
from tests.support.golang import GO
from tests.support.process import ROOT

MODULES = ("generated/go", "clients/go")
BASE = "github.com/webhook-grpc/webhook-grpc"
PROGRAM = f"""package main

import (
	"fmt"

	"{BASE}/clients/go/client"
	webhookv1 "{BASE}/generated/go/webhook/v1"
)

func main() {{
	fmt.Println(client.New != nil, (&webhookv1.Event{{EventType: "job.completed"}}).EventType)
}}
"""
_SECONDS = 900.0

pytestmark = [
    pytest.mark.slow(60),
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("go"),
    pytest.mark.skipif(not IS_FULL, reason="compiles gRPC once more, in a cache of modules of its own: make test-long"),
    pytest.mark.skipif(GO is None and "CI" not in os.environ, reason="Go is not installed"),
]


def publish(proxy: Path, module: str, version: str) -> None:
    """Puts a module into the folder of a proxy, as the command `go` asks for it."""
    folder = proxy / BASE / module / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{version}\n")
    (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
    (folder / f"{version}.mod").write_text((ROOT / module / "go.mod").read_text())
    with ZipFile(folder / f"{version}.zip", "w") as archive:
        for path in dist.tracked(module):
            archive.write(ROOT / path, f"{BASE}/{module}@{version}/{path.relative_to(module)}")


def test_a_program_outside_needs_no_replace(tmp_path: Path) -> None:
    version = f"v{dist.version()}"
    for module in MODULES:
        publish(tmp_path / "proxy", module, version)
    program = tmp_path / "program"
    program.mkdir()
    (program / "main.go").write_text(PROGRAM)
    go_mod = f"module example.com/program\n\ngo 1.24.0\n\nrequire {BASE}/clients/go {version}\n"
    (program / "go.mod").write_text(go_mod)

    def go(*arguments: str, **variables: str) -> str:
        command = [str(GO), *arguments]
        ended = subprocess.run(
            command,
            cwd=program,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=slowness.scaled(_SECONDS),
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    cache, others = go("env", "GOMODCACHE").strip(), go("env", "GOPROXY").strip()
    variables = {
        # First ours; then what this machine has already; a registry last. And nothing of ours stays in its cache.
        "GOPROXY": f"file://{tmp_path / 'proxy'},file://{cache}/cache/download,{others}",
        "GOMODCACHE": str(tmp_path / "modules"),
        "GOFLAGS": "-mod=mod -modcacherw",
        "GONOSUMDB": "*",
    }
    go("build", "-o", "program", ".", **variables)
    assert subprocess.check_output([program / "program"], text=True) == "true job.completed\n"
    assert "replace" not in (program / "go.mod").read_text()
