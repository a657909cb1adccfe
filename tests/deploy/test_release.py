"""What a release has beside the packages: the chart, what the image is built from, bill of materials, licences."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from scripts import dist, lock, sbom

from .charts import CHART, template


def names_in(file: Path) -> set[str]:
    with tarfile.open(file) as archive:
        return set(archive.getnames())


@pytest.fixture(scope="module")
def packages() -> list[sbom.Package]:
    return sbom.installed_in_the_image()


def test_the_packed_chart_renders_what_the_folder_does_and_is_the_same_each_time(tmp_path: Path) -> None:
    packed = dist.pack_chart(tmp_path)
    names = names_in(packed)
    assert {"webhook-grpc/Chart.yaml", "webhook-grpc/values.schema.json", "webhook-grpc/templates/NOTES.txt"} <= names
    assert not [name for name in names if "/ci/" in name]
    content = packed.read_bytes()
    assert dist.pack_chart(tmp_path).read_bytes() == content
    found = [template(what, f"--values={CHART}/ci/everything.yaml") for what in (packed, CHART)]
    assert found[0].returncode == 0, found[0].stderr
    assert found[0].stdout == found[1].stdout


def test_the_context_of_the_image_has_all_that_the_dockerfile_copies(tmp_path: Path) -> None:
    names = {name.partition("/")[2] for name in names_in(dist.pack_image_context(tmp_path))}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (dist.ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = " ".join(copied).split()
    assert len(sources) >= 5
    for source in sources:
        assert any(name == source or name.startswith(f"{source}/") for name in names), source
    assert "Dockerfile" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]


@pytest.mark.xdist_group("schemas")  # whose library takes more than a second to import
def test_the_bill_of_materials_is_one_and_has_everything_that_is_locked(
    packages: list[sbom.Package], tmp_path: Path
) -> None:
    from cyclonedx.validation.json import JsonStrictValidator

    [bill, licences] = sbom.write(tmp_path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.read_text()) is None
    said: dict[str, Any] = json.loads(bill.read_text())
    locked = set(re.findall(r"^(\S+==\S+)", lock.SERVICE.read_text(), re.MULTILINE))
    listed = {f"{one['name']}=={one['version']}" for one in said["components"]}
    assert {one.partition("==")[0] for one in locked - listed} == {"tzdata"}, "for Windows"
    assert listed <= locked
    assert all(package.name in licences.read_text() for package in packages)
    known = {one["ref"]: set(one["dependsOn"]) for one in said["dependencies"]}
    reached, new = set[str](), {said["metadata"]["component"]["bom-ref"]}
    while new:
        reached |= new
        new = {needed for one in new for needed in known[one]} - reached
    assert reached == set(known), "nothing is in the image that nobody needs"


def test_each_licence_is_an_expression_of_spdx(packages: list[sbom.Package]) -> None:
    assert [package for package in packages if not is_expression(package.licence)] == []


@pytest.mark.parametrize("said", [{}, {"license": "see LICENSE"}, {"license": "Copyright (c) 2026\n\nPermission is …"}])
def test_a_licence_in_unknown_words_ends_the_release(said: dict[str, str]) -> None:
    with pytest.raises(sbom.LicenceUnknown, match=r"^shop says "):
        sbom.licence_of("shop", said)
