"""The image's lock: exact versions with hashes, of everything that the service requires."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from scripts import dist, lock

LOCKED = re.compile(r"^(\S+)==(\S+)(?: ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(text: str) -> dict[str, str]:
    return {name: version for name, version, _ in LOCKED.findall(text)}


def test_all_that_the_service_requires_is_locked_in_a_version_that_it_allows() -> None:
    """Otherwise: make lock."""
    said = tomllib.loads((dist.ROOT / "pyproject.toml").read_text())["project"]
    versions = locked(lock.SERVICE.read_text())
    required = [Requirement(text) for text in (*said["dependencies"], *said["optional-dependencies"]["otel"])]
    assert not [str(one) for one in required if not one.specifier.contains(versions[one.name])]


def test_each_line_is_a_version_or_its_hash_and_none_an_address() -> None:
    for file in (lock.SERVICE, lock.BUILD):
        rest = LOCKED.sub("", file.read_text())
        assert [line for line in rest.splitlines() if not line.startswith("#")] == [], file.name


def test_the_image_is_built_by_what_builds_a_release() -> None:
    assert [f"{name}=={version}" for name, version in locked(lock.BUILD.read_text()).items()] == [dist.BACKEND]


def test_the_image_installs_nothing_without_a_hash() -> None:
    steps = (dist.ROOT / "Dockerfile").read_text().replace("\\\n", "")
    installs = re.findall(r"pip [^&\n]*\binstall [^&\n]*", steps)
    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-deps --no-index" in install for install in installs)
