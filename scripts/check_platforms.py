"""Checks that what we need can be installed from wheels alone, on each system and Python that people have.

Resolves, and installs nothing: what the service needs, and what `make demo` needs. Prints a table, and ends with 1
where something would have to be built from source, or does not exist; with UNREACHED if pip's index did not answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from scripts import dist, install

PLATFORMS: Final = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x86-64": "x86_64-apple-darwin",
}
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
# What people install of the clone, and the extras that each of it is. The clients need less than the service.
SETS: Final = {"service": ("otel", "cli"), "make demo": ("embedded", "demo")}
UNREACHED: Final = 75  # EX_TEMPFAIL of sysexits.h
_SECONDS_MAX: Final = 300.0
_NO_WHEEL: Final = "No solution found"  # uv's words, if the index answered and has no such file


class Place(NamedTuple):
    """Where somebody installs."""

    platform: str
    python: str


def main() -> None:
    """Prints the table."""
    places = [Place(platform, python) for platform in PLATFORMS for python in PYTHONS]
    with ThreadPoolExecutor(max_workers=2) as pool:
        problems = dict(zip(places, pool.map(_problems_at, places), strict=True))
    print(f"{'from wheels alone':28}" + "".join(f"{python:>6}" for python in PYTHONS))
    for what in SETS:
        for platform in PLATFORMS:
            row = ["-" if what in problems[Place(platform, python)] else "yes" for python in PYTHONS]
            print(f"{what:14}{platform:14}" + "".join(f"{word:>6}" for word in row))
    for place, found in problems.items():
        for what, problem in found.items():
            print(f"\n{what} on {place.platform} with Python {place.python}:\n{problem}")
    sys.exit(exit_status([problem for found in problems.values() for problem in found.values()]))


def exit_status(problems: Iterable[str]) -> int:
    """Returns 0 without problems, 1 if one of them is that something is not there, UNREACHED if none is."""
    problems = list(problems)
    if any(_NO_WHEEL in problem for problem in problems):
        return 1
    return UNREACHED if problems else 0


def _problems_at(place: Place) -> dict[str, str]:
    """Returns why which of the sets can't be installed. All together first: mostly that is the only look."""
    of_clone = dist.ROOT / "pyproject.toml"
    if not problem_of(place, of_clone, *_extras(name for names in SETS.values() for name in names)):
        return {}
    found = {what: problem_of(place, of_clone, *_extras(names)) for what, names in SETS.items()}
    return {what: problem for what, problem in found.items() if problem}


def _extras(names: Iterable[str]) -> list[str]:
    return [f"--extra={name}" for name in names]


def problem_of(place: Place, requirements: Path, *options: str) -> str:
    """Returns why what a file requires can't be installed there from wheels alone; empty if it can."""
    settings = install.settings_for_uv()
    command = (
        *(dist.uv(), "pip", "compile", "--quiet", "--only-binary=:all:", "--no-header", "--no-annotate"),
        *(f"--python-platform={PLATFORMS[place.platform]}", f"--python-version={place.python}"),
        *(*settings.arguments, *options, requirements),
    )
    ended = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **settings.variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS_MAX,
    )
    return ended.stderr.strip() if ended.returncode else ""


if __name__ == "__main__":
    main()
