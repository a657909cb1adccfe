"""Earlier versions of this program: their own code from the history, run with today's dependencies.

A test that needs one is skipped where there is no history (a tarball), and fails there with `CI=true`.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import slowness
from tests.support.process import ROOT, environment

# The last commits whose newest migration is the one named; abb2400 is the last that yoyo migrated.
WITH_0001 = "7085029"
WITH_0002 = "1542c2d"
WITH_0004 = "abb2400"

_MIGRATE_AND_RUN = """
import os
from webhook_grpc.cli import main
from webhook_grpc.store.migrate import migrate
migrate(os.environ["WEBHOOK_DATABASE_URL"])
main()
"""


@dataclass(frozen=True)
class Earlier:
    """A checkout of an earlier version."""

    path: Path

    @property
    def python_path(self) -> str:
        """What makes Python import this version, and the stubs of its API."""
        return f"{self.path / 'src'}:{self.path / 'generated' / 'python'}"

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of this version, with `python_path` as PYTHONPATH; it migrates the database first."""
        return (sys.executable, "-c", _MIGRATE_AND_RUN)

    @property
    def migrations(self) -> Path:
        """The folder of its migrations."""
        return self.path / "src" / "webhook_grpc" / "store" / "migrations"

    def run(self, script: str, *arguments: str) -> str:
        """Runs a Python script with this version and returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=environment(PYTHONPATH=self.python_path),
            capture_output=True,
            text=True,
            timeout=slowness.scaled(60),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def checkout(commit: str, without: Iterable[str] = ()) -> Generator[Earlier]:
    """The version of a commit in a folder of its own; `without` names migrations that are left out."""
    archive = _archive(commit)
    path = Path(tempfile.mkdtemp(prefix="webhook-grpc-earlier-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(path, filter="data")
        earlier = Earlier(path)
        for name in without:
            (earlier.migrations / f"{name}.sql").unlink()
        yield earlier
    finally:
        shutil.rmtree(path)


@functools.cache
def _archive(commit: str) -> bytes:
    done = (
        subprocess.run(
            ["git", "archive", commit, "src", "generated/python"],
            cwd=ROOT,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)},
            capture_output=True,
            check=False,
        )
        if shutil.which("git")
        else None
    )
    if done is not None and done.returncode == 0:
        return done.stdout
    if os.environ.get("CI") == "true":
        pytest.fail(f"commit {commit} is missing; the whole history has to be checked out")
    pytest.skip(f"needs git and the commit {commit}")
