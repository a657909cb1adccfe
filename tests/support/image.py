"""The image without Docker: runs the steps of the Dockerfile in a folder, each as it stands there.

Paths of the image (`/build`, `/wheels`, `/opt`) are those below the folder. `python` and `pip` are of an environment of
the distribution's Python, which every user can read. Only what makes the user is left out: a number needs no name.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from scripts import dist

from tests.support import slowness

_STEP: Final = re.compile(r"^([A-Z]+) (.*)$", re.MULTILINE)
_OF_IMAGE: Final = re.compile(r"(?<![\w./-])/(build|wheels|opt)\b")
_MAKES_USER: Final = "groupadd "
_STEP_SECONDS: Final = 300
# Run as root in mounts of its own, of which nothing can be written.
_READ_ONLY: Final = """
mount --make-rprivate /
while read -r _ place kind _; do
    case "$kind" in
        proc|sysfs|cgroup*|devpts|mqueue) ;;
        *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;;
    esac
done </proc/self/mounts
exec setpriv --reuid="$1" --regid="$1" --clear-groups --no-new-privs --bounding-set=-all "${@:2}"
"""


class Step(NamedTuple):
    """An instruction of the Dockerfile, in one line."""

    word: str
    rest: str


def steps(dockerfile: str) -> list[Step]:
    """The instructions, without comments."""
    lines = "".join(line for line in dockerfile.splitlines(keepends=True) if not line.startswith("#"))
    return [Step(*found) for found in _STEP.findall(lines.replace("\\\n", ""))]


class Image:
    """A folder that has what the image has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment: dict[str, str] = {}
        self._at = folder
        self._user = 0
        self._command: list[str] = []

    @property
    def settings(self) -> dict[str, str]:
        """The environment that the image sets."""
        return {**self._environment, "HOME": "/nonexistent"}

    def build(self) -> None:
        """Runs all steps."""
        python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
        if python is None or os.geteuid() != 0:
            pytest.skip("needs root, and a Python that every user can read")
        subprocess.run([python, "-m", "venv", self._folder / "usr"], check=True, timeout=slowness.scaled(_STEP_SECONDS))
        for step in steps((dist.ROOT / "Dockerfile").read_text()):
            self._take(step)

    def command(self, *arguments: str) -> tuple[str, ...]:
        """A program of the image, as its user, where nothing can be written."""
        return ("unshare", "--mount", "bash", "-c", _READ_ONLY, "read-only", str(self._user), *arguments)

    @property
    def program(self) -> str:
        """The path of the program that the image runs."""
        [word] = self._command
        found = shutil.which(word, path=self._environment["PATH"])
        assert found is not None
        return found

    def _take(self, step: Step) -> None:
        match step.word:
            case "FROM":
                self._environment = {"PATH": f"{self._folder}/usr/bin:/usr/bin:/bin"}
            case "WORKDIR":
                self._at = Path(self._here(step.rest))
                self._at.mkdir(parents=True, exist_ok=True)
            case "ENV":
                pairs = dict(word.split("=", 1) for word in shlex.split(self._here(step.rest)))
                path = self._environment["PATH"]
                self._environment |= {name: value.replace("$PATH", path) for name, value in pairs.items()}
            case "COPY" if not step.rest.startswith("--from="):
                self._copy(*step.rest.split())
            case "RUN" if not step.rest.startswith(_MAKES_USER):
                self._run(self._here(step.rest))
            case "USER":
                self._user = int(step.rest.split(":")[0])
            case "ENTRYPOINT":
                self._command = re.findall(r'"(.*?)"', step.rest)
            case _:  # of the registry, of Docker alone, or from another stage, which is in the same folder
                assert step.word in {"COPY", "RUN", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "CMD"}, step

    def _here(self, text: str) -> str:
        return _OF_IMAGE.sub(lambda found: f"{self._folder}{found[0]}", text)

    def _copy(self, *words: str) -> None:
        """Copies what git knows: the image has no caches either. What .dockerignore leaves out can't be copied."""
        let_in = [line[1:] for line in (dist.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        *sources, target = words
        for source in sources:
            assert any(source == one or source.startswith(f"{one}/") for one in let_in), f"{source}: .dockerignore"
            for path in dist.tracked(source):
                copy = self._at / target / (path.relative_to(source) if path != Path(source) else path.name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(dist.ROOT / path, copy)

    def _run(self, line: str) -> None:
        ended = subprocess.run(
            ["sh", "-ec", line],
            cwd=self._at,
            env={**os.environ, **self._environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=slowness.scaled(_STEP_SECONDS),
            check=False,
        )
        assert ended.returncode == 0, f"RUN {line}\n{ended.stdout}"
