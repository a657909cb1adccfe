"""`make check-platforms`: what counts as installable. The table, of what a registry has, is in `make test-long`."""

from __future__ import annotations

import re
import tarfile
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from scripts import install
from scripts.check_platforms import SETS, UNREACHED, Place, exit_status, problem_of

from tests.support.distribution import missing
from tests.support.full import in_full
from tests.support.process import ROOT

METADATA = "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n"


def test_each_extra_that_people_install_is_looked_at_and_packages_of_clients_need_nothing_else() -> None:
    service = project_of("pyproject.toml")
    assert {extra for extras in SETS.values() for extra in extras} == service["optional-dependencies"].keys() - {"dev"}
    looked_at = names_in(service)
    for package in ("generated/python", "clients/python", "clients/cli"):
        assert names_in(project_of(f"{package}/pyproject.toml")) <= looked_at, package


def project_of(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())["project"]


def names_in(project: dict[str, Any]) -> set[str]:
    extras = project.get("optional-dependencies", {})
    required = [*project["dependencies"], *(one for name, more in extras.items() if name != "dev" for one in more)]
    return {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in required}


def test_an_index_that_does_not_answer_is_not_taken_for_a_wheel_that_is_missing() -> None:
    missing_wheel, unreached = "× No solution found when resolving dependencies", "error: Failed to fetch"
    assert [exit_status(found) for found in ((), (unreached,), (unreached, missing_wheel))] == [0, UNREACHED, 1]


def add_wheel(folder: Path, tags: str) -> None:
    with ZipFile(folder / f"shop-1.0-{tags}.whl", "w") as wheel:
        wheel.writestr("shop-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("shop-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("shop-1.0.dist-info/RECORD", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tags", "places"),
    in_full(
        (
            ("py3-none-any", {Place("Linux arm64", "3.14"): True}),
            (
                "cp311-cp311-manylinux_2_28_x86_64",
                {
                    Place("Linux x86-64", "3.11"): True,
                    Place("Linux x86-64", "3.14"): False,
                    Place("Linux arm64", "3.11"): False,
                },
            ),
            (
                "cp311-abi3-macosx_11_0_arm64",
                {Place("macOS arm64", "3.14"): True, Place("macOS x86-64", "3.14"): False},
            ),
            ("", {Place("Linux x86-64", "3.11"): False}),
        ),
        short=(("", {Place("Linux x86-64", "3.11"): False}),),
    ),
)
def test_only_a_wheel_for_that_system_and_python_will_do(tmp_path: Path, tags: str, places: dict[Place, bool]) -> None:
    """Nor will source: a package that has nothing else can't be installed."""
    if install.uv() is None:
        missing("uv", "make setup")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'\nversion = '1.0'\n")
    with tarfile.open(tmp_path / "shop-1.0.tar.gz", "w:gz") as source:
        source.add(tmp_path / "pyproject.toml", "shop-1.0/pyproject.toml")
    if tags:
        add_wheel(tmp_path, tags)
    (tmp_path / "requirements.in").write_text("shop==1.0\n")
    offline = ("--no-index", f"--find-links={tmp_path}")
    for place, fits in places.items():
        problem = problem_of(place, tmp_path / "requirements.in", *offline)
        assert exit_status([problem] if problem else []) == (0 if fits else 1), (place, problem)
