"""Builds what is published into dist/, with checksums. Run by `make dist`.

Sdists, wheels, the package for npm, the chart, what the image is built from, the bill of materials, the licences.

Each is built from a copy that has nothing but what git knows, and each wheel from its sdist. Nothing is fetched but the
build backend, once, into an environment of its own.

In a clone no package names another one of ours, because their names are not ours on a registry, and whoever registers
them would be installed. What is built here is as it will be published: it names what it needs of ours, in exactly its
own version, and may be uploaded. docs/decisions/0072-releases.md
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from scripts import install

ROOT: Final = Path(__file__).resolve().parent.parent
DIST: Final = ROOT / "dist"
TOOLS: Final = ROOT / ".venv" / "dist"
BACKEND: Final = "setuptools==80.9.0"  # what all of our pyprojects name, in the version that generates the stubs, too
SECONDS_MAX: Final = 300.0  # of each command
GUARD: Final = "Private :: Do Not Upload"
CHECKSUMS: Final = "SHA256SUMS"
NPM: Final = "generated/ts"
CHART: Final = "deploy/helm/webhook-grpc"

# The folder of each package: what of ours it is made of (the Dockerfile copies the same for the service).
PACKAGES: Final = {
    ".": ("pyproject.toml", "README.md", "LICENSE", "src", "generated/python", "clients/python", "clients/cli"),
    "generated/python": (),
    "clients/python": (),
    "clients/cli": (),
}
# The folder of each package: those of ours that it needs installed. The service brings all of them along.
NEEDS: Final = {"clients/python": ("generated/python",), "clients/cli": ("generated/python", "clients/python")}


def main() -> None:
    """Builds everything into dist/, which is emptied first, and prints a table."""
    shutil.rmtree(DIST, ignore_errors=True)
    built = build(DIST)
    if shutil.which("npm"):
        built.append(_pack_for_npm(DIST))
    else:
        print("npm is not installed: the package of generated/ts was left out")
    from scripts import sbom  # noqa: PLC0415 - needs what this module has

    built += [pack_chart(DIST), pack_image_context(DIST), *sbom.write(DIST)]
    (DIST / CHECKSUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in built))
    for path in built:
        print(f"{path.name:46}{path.stat().st_size / 1024:8,.0f} KiB  {', '.join(_ours_needed_by(path))}".rstrip())
    print(f"in dist/, with {CHECKSUMS}. Which of them to install together: CONTRIBUTING.md")


def build(out: Path, *, with_sdists: bool = True) -> list[Path]:
    """Builds the packages for Python. Returns the files, sdists first; a test may leave the sdists out."""
    python = backend()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dist-") as folder, ThreadPoolExecutor(max_workers=2) as pool:
        sources = [_as_published(package, Path(folder) / f"{number}") for number, package in enumerate(PACKAGES)]
        kinds = () if with_sdists else ("--wheel",)
        options = ("--quiet", "--no-build-isolation", "--offline", "--no-create-gitignore", f"--python={python}")
        command = (uv(), "build", *options, *kinds, f"--out-dir={out}")
        for building in [pool.submit(run, *command, source) for source in sources]:
            building.result()
    return sorted(out.glob("*.tar.gz")) + sorted(out.glob("*.whl"))


def backend() -> Path:
    """Returns the Python of an environment that has the build backend. Makes it the first time."""
    python, stamp = TOOLS / "bin" / "python", TOOLS / "installed"
    if not (stamp.exists() and stamp.read_text() == BACKEND):
        venv.create(TOOLS, clear=True, symlinks=True)
        uv_install(python, BACKEND)
        stamp.write_text(BACKEND)
    return python


def uv_install(python: Path, *what: str | Path) -> None:
    """Installs with uv into the environment of a Python, from where pip is configured to look."""
    settings = install.settings_for_uv()
    command = (uv(), "pip", "install", "--quiet", f"--python={python}", *settings.arguments, *what)
    run(*command, **settings.variables)


def project(package: str) -> dict[str, str]:
    """Returns what the pyproject of a package says of it."""
    return tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]


def version() -> str:
    """Returns the version of everything here (tests/unit/test_versions.py)."""
    return project("clients/python")["version"]


def tracked(*parts: str) -> list[Path]:
    """Returns the files of these folders that git knows, or would add: nothing that was built or cached."""
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *parts)
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


def _as_published(package: str, target: Path) -> Path:
    """Copies a package, and writes into its pyproject what a release says and a clone does not."""
    for path in tracked(*(PACKAGES[package] or (package,))):
        copy = target / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)
    file = target / "pyproject.toml"
    file.write_text(published(file.read_text(), [f"{project(need)['name']}=={version()}" for need in needs(package)]))
    return target


def needs(package: str) -> tuple[str, ...]:
    """Returns the folders of those of ours that a package needs installed."""
    return NEEDS.get(package, ())


def published(pyproject: str, requirements: list[str]) -> str:
    """Returns a pyproject as it is published: with these requirements too, and without what forbids uploads."""
    lines = [line for line in pyproject.splitlines(keepends=True) if GUARD not in line]
    listed = "".join(f'"{requirement}", ' for requirement in requirements)
    text = re.sub(r"^dependencies = \[", f"dependencies = [{listed}", "".join(lines), count=1, flags=re.MULTILINE)
    said = tomllib.loads(text)["project"]
    assert set(requirements) <= set(said["dependencies"]), "no line begins with `dependencies = [`"
    assert GUARD not in said["classifiers"]
    return text


def _pack_for_npm(out: Path) -> Path:
    """Packs the stubs for TypeScript, without the line that forbids to publish them."""
    with tempfile.TemporaryDirectory(prefix="dist-") as folder:
        for path in tracked(NPM):
            copy = Path(folder) / path.relative_to(NPM)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, copy)
        file = Path(folder) / "package.json"
        file.write_text(file.read_text().replace('  "private": true,\n', ""))
        run("npm", "pack", "--silent", "--offline", f"--pack-destination={out}", folder)
    [packed] = out.glob("*.tgz")
    return packed


def pack_chart(out: Path) -> Path:
    """Packs the chart as `helm package` does, without what only tests need."""
    paths = [path for path in tracked(CHART) if "ci" not in path.relative_to(CHART).parts]
    names = {path: f"webhook-grpc/{path.relative_to(CHART)}" for path in paths}
    return _pack(out / f"webhook-grpc-{version()}.tgz", names)


def pack_image_context(out: Path) -> Path:
    """Packs what `docker build` needs, and nothing else: what .dockerignore lets in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    paths = tracked("Dockerfile", ".dockerignore", *(line[1:] for line in lines if line.startswith("!")))
    folder = f"webhook-grpc-{version()}-image"
    return _pack(out / f"{folder}.tar.gz", {path: f"{folder}/{path}" for path in paths})


def _pack(file: Path, names: Mapping[Path, str]) -> Path:
    """Packs files under other names. The same content gives the same bytes."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode = 0o755 if info.mode & 0o100 else 0o644
        return info

    with (
        file.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(names):
            archive.add(ROOT / path, names[path], filter=plain)
    return file


def _ours_needed_by(path: Path) -> list[str]:
    """Returns what a wheel requires of ours."""
    if path.suffix != ".whl":
        return []
    with ZipFile(path) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        required = HeaderParser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist") or []
    return [f"needs {requirement}" for requirement in required if requirement.startswith("webhook-grpc")]


def uv() -> Path:
    """Returns the uv of this environment; ends the program where there is none."""
    return install.uv() or sys.exit("this needs uv, which `make setup` installs where it can be had")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*command: str | Path, **variables: str) -> str:
    """Runs a command in bounded time, and returns what it printed. Ends everything with its output if it fails."""
    words = [str(part) for part in command]
    ended = subprocess.run(
        words, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    if ended.returncode:
        sys.exit(f"{ended.stdout}{ended.stderr}FAILED: {' '.join(words[:4])} …")
    return ended.stdout


if __name__ == "__main__":
    main()
