"""Everything that is published has one version, and says it wherever it says one."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml
from scripts import dist

from webhook_grpc import __version__
from webhook_grpc_cli import __version__ as of_command_line

ROOT = dist.ROOT


@pytest.mark.parametrize("package", [package for package in dist.PACKAGES if package != "."])
def test_each_package_for_python_has_the_version_of_the_service(package: str) -> None:
    """That of the service is read from its code."""
    assert dist.project(package)["version"] == __version__ == of_command_line == dist.version()


def test_the_package_for_npm_has_it() -> None:
    assert json.loads((ROOT / dist.NPM / "package.json").read_text())["version"] == __version__


def test_the_chart_has_it_and_runs_the_image_of_it() -> None:
    said = yaml.safe_load((ROOT / dist.CHART / "Chart.yaml").read_text())
    assert (said["version"], said["appVersion"]) == (__version__, __version__)


def test_each_go_module_requires_ours_in_it() -> None:
    modules = [ROOT / path for path in dist.tracked("*go.mod")]
    required = {
        (module.parent.relative_to(ROOT).as_posix(), version)
        for module in modules
        for version in re.findall(r"^\s+github\.com/webhook-grpc/\S+ (v\S+)$", module.read_text(), re.MULTILINE)
    }
    users = ("benchmarks/workers/golang", "clients/go", "examples/go", "tests/clients/go")
    assert required == {(module, f"v{__version__}") for module in users}


@pytest.mark.parametrize(
    "path", ["clients/python/webhook_grpc_client/connecting.py", "clients/go/client/connecting.go"]
)
def test_each_client_says_it_to_the_service(path: str) -> None:
    """As its user agent, in the service's log."""
    assert re.findall(r'"webhook-grpc-client(?:-go)?/(.+)"', (ROOT / path).read_text()) == [__version__]


@pytest.mark.parametrize("package", dist.PACKAGES)
def test_a_release_names_what_it_needs_of_ours_and_a_clone_does_not(package: str) -> None:
    """In a clone a name that is missing would be looked up on a registry, where it is not ours."""
    text = (ROOT / package / "pyproject.toml").read_text()
    ours = [f"{dist.project(need)['name']}=={__version__}" for need in dist.needs(package)]
    cloned = tomllib.loads(text)["project"]
    published = tomllib.loads(dist.published(text, ours))["project"]
    assert dist.GUARD in cloned["classifiers"]
    assert [*ours, *cloned["dependencies"]] == published["dependencies"]
    assert not [name for name in cloned["dependencies"] if name.startswith("webhook-grpc")]
    assert [dist.GUARD, *published["classifiers"]] == cloned["classifiers"]
    assert (published["license"], published["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert (ROOT / package / published["readme"]).is_file()
    assert published["requires-python"] == ">=3.11"
    same = ("urls", "description", "name")
    assert [published[key] for key in same] == [cloned[key] for key in same]
