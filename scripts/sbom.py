"""Writes what the service is made of: a bill of materials (CycloneDX, JSON) and a list of licences. For `make dist`.

The versions are those that the image has (deploy/image/requirements.txt). The licence of each is what its package says
of itself, where it is installed: in the environment that runs this, which `make setup` made.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scripts import dist, lock

LICENCES: Final = "LICENCES"
SERVICE: Final = "webhook-grpc"
_LOCKED: Final = re.compile(r"^(\S+)==(\S+)(?: ; ([^\\\n]*?))? \\$", re.MULTILINE)
_IMAGE: Final = {"sys_platform": "linux", "implementation_name": "cpython", "python_full_version": "3.12.0"}
# What packages say that do not use the words of SPDX yet.
_WORDS: Final = {
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
}
_EXPRESSION: Final = re.compile(r"\(?[A-Za-z0-9.-]+(?: (?:AND|OR) \(?[A-Za-z0-9.-]+\)?)*")


class LicenceUnknown(Exception):
    """A package does not say its licence in words that are known here."""


@dataclass(frozen=True, slots=True)
class Package:
    """One of those that the image has."""

    name: str
    version: str
    licence: str
    needs: tuple[str, ...]

    @property
    def reference(self) -> str:
        """Returns its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def write(out: Path) -> list[Path]:
    """Writes both into a folder; returns the files. Raises LicenceUnknown."""
    packages = installed_in_the_image()
    bill, licences = out / f"{SERVICE}-{dist.version()}.cdx.json", out / LICENCES
    bill.write_text(json.dumps(bill_of_materials(packages), indent=2) + "\n")
    licences.write_text(list_of_licences(packages))
    return [bill, licences]


def installed_in_the_image() -> list[Package]:
    """Returns what is locked, without what is for other systems. Raises LicenceUnknown."""
    extras: dict[str, set[str]] = {canonicalize_name(one.name): one.extras for one in direct_requirements()}
    found = _LOCKED.findall(lock.SERVICE.read_text())
    versions = {name: version for name, version, marker in found if not marker or Marker(marker).evaluate(_IMAGE)}
    return [
        Package(name, version, licence_of(name, metadata.metadata(name).json), _needs(name, versions, extras))
        for name, version in versions.items()
    ]


def licence_of(name: str, said: Mapping[str, Any]) -> str:
    """Returns what a package says of its licence, as an expression of SPDX. Raises LicenceUnknown."""
    words = str(said.get("license_expression") or said.get("license") or "").strip()
    expression = _WORDS.get(words, words)
    if not _EXPRESSION.fullmatch(expression):
        raise LicenceUnknown(f"{name} says {words[:60]!r} of its licence: add the words to scripts/sbom.py")
    return expression


def direct_requirements() -> list[Requirement]:
    """Returns what the service itself names, with what the image has beside it."""
    said: dict[str, Any] = dict(dist.project("."))
    return [Requirement(text) for text in (*said["dependencies"], *said["optional-dependencies"]["otel"])]


def bill_of_materials(packages: Iterable[Package]) -> dict[str, Any]:
    """Returns the document. The same packages give the same one."""
    direct = {canonicalize_name(one.name) for one in direct_requirements()}
    known = {package.name: package for package in packages}
    service = {"type": "application", "bom-ref": SERVICE, "name": SERVICE, "version": dist.version()}
    needs = [{"ref": SERVICE, "dependsOn": [known[name].reference for name in sorted(direct)]}]
    needs += [
        {"ref": package.reference, "dependsOn": [known[name].reference for name in package.needs]}
        for package in known.values()
    ]
    content = " ".join([dist.version(), *(package.reference for package in known.values())])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {**service, "licenses": [{"expression": dist.project(".")["license"]}]}},
        "components": [
            {
                "type": "library",
                "bom-ref": package.reference,
                "name": package.name,
                "version": package.version,
                "purl": package.reference,
                "licenses": [{"expression": package.licence}],
            }
            for package in known.values()
        ],
        "dependencies": needs,
    }


def list_of_licences(packages: Iterable[Package]) -> str:
    """Returns a line for each package."""
    lines = [f"{package.name:44}{package.version:20}{package.licence}" for package in packages]
    head = f"What {SERVICE} {dist.version()} is installed with, and the licence that each package says it has.\n\n"
    return head + "".join(f"{line}\n" for line in lines)


def _needs(name: str, versions: Mapping[str, str], extras: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Returns those of these that a package names, of its extras those that the service names."""
    required = [Requirement(text) for text in metadata.requires(name) or []]
    wanted = ["", *extras.get(name, ())]
    needed = [one for one in required if any(_is_meant(one, extra) for extra in wanted)]
    return tuple(sorted({found for one in needed if (found := canonicalize_name(one.name)) in versions}))


def _is_meant(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**_IMAGE, "extra": extra})
