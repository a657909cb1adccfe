"""The chart as helm renders it, without a cluster."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support import slowness
from tests.support.distribution import missing
from tests.support.process import ROOT

CHART: Final = ROOT / "deploy" / "helm" / "webhook-grpc"
VALUES: Final = tuple(sorted(path.stem for path in (CHART / "ci").glob("*.yaml")))
KUBERNETES: Final = ("1.25", "1.37")  # the oldest that the chart says, and the newest that kubernetes-validate knows
_SECONDS_MAX: Final = 30

Document = dict[str, Any]


def helm_path() -> str:
    """The path of helm. Skips the test where there is none; fails it where CI should have built it."""
    program = shutil.which("helm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None and shutil.which("go") is None:
        pytest.skip("Go is not installed, so helm could not be built")
    return program or missing("helm", "make more-tools")


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs helm to its end."""
    command = [helm_path(), *map(str, arguments)]
    timeout = slowness.scaled(_SECONDS_MAX)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def template(chart: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Renders a chart for the newest Kubernetes: a helm that was built with Go believes in an ancient one."""
    return helm("template", "shop", chart, f"--kube-version={KUBERNETES[-1]}", *arguments)


@functools.cache
def rendered(values: str, *arguments: str) -> tuple[Document, ...]:
    """What is sent to Kubernetes for one of the sets of values in `ci/`, hooks included."""
    ended = template(CHART, "--namespace=hooks", f"--values={CHART}/ci/{values}.yaml", *arguments)
    assert ended.returncode == 0, ended.stderr
    return tuple(document for document in yaml.safe_load_all(ended.stdout) if document is not None)


def of_kind(documents: tuple[Document, ...], kind: str) -> list[Document]:
    """Those documents that are of one kind."""
    return [document for document in documents if document["kind"] == kind]


def pods(documents: tuple[Document, ...]) -> Iterator[Document]:
    """The pods of the Deployment and of Jobs."""
    for document in documents:
        if document["kind"] in {"Deployment", "Job"}:
            yield document["spec"]["template"]["spec"]


def service_pod(values: str) -> Document:
    """The pod of the service."""
    [deployment] = of_kind(rendered(values), "Deployment")
    return deployment["spec"]["template"]["spec"]


def variables(pod: Document) -> dict[str, str]:
    """The variables of its container; those from a Secret have its name and key."""
    [container] = pod["containers"]
    return {
        one["name"]: one["value"] if "value" in one else "/".join(one["valueFrom"]["secretKeyRef"].values())
        for one in container["env"]
    }
