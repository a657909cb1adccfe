"""Earlier versions of this program: their own code from the history, run with today's dependencies.

In `make test-long` with exactly those that the image of that version was locked with, if it had such a file: an
environment of them is made from the index, which takes a minute. Today's will do for the rest: what an upgrade changes
is the program.

A test that needs one is skipped where there is no history (a tarball), and fails there with `CI=true`.
"""

from __future__ import annotations

import atexit
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

from scripts.lock import SERVICE as LOCK

from tests.support import slowness
from tests.support.distribution import missing
from tests.support.full import IS_FULL
from tests.support.process import ROOT, environment
from webhook_grpc.store.schema.migration_files import FOLDER, POST, migration_names

# The last commits whose newest migration is the one named; abb2400 is the last that yoyo migrated.
WITH_0001 = "7085029"
WITH_0002 = "1542c2d"
WITH_0004 = "abb2400"

_INSTALL_SECONDS_MAX = 300

_MIGRATING = """
import os, sys
try:
    from webhook_grpc.store.schema.migrate import migrate
except ImportError:  # where it was before it had a room of its own
    from webhook_grpc.store.migrate import migrate
"""
_MIGRATE = f"{_MIGRATING}migrate(sys.argv[1])"
_MIGRATE_AND_RUN = f"""
{_MIGRATING}
from webhook_grpc.cli import main
migrate(os.environ["WEBHOOK_DATABASE_URL"])
main()
"""
_RUN = "from webhook_grpc.cli import main; main()"


@dataclass(frozen=True)
class Earlier:
    """A checkout of an earlier version, and the Python that runs it."""

    path: Path
    python: str = sys.executable

    @property
    def python_path(self) -> str:
        """What makes Python import this version, and the stubs of its API."""
        return f"{self.path / 'src'}:{self.path / 'generated' / 'python'}"

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of this version, with `python_path` as PYTHONPATH; it migrates the database first."""
        return (self.python, "-c", _MIGRATE_AND_RUN)

    @property
    def program(self) -> tuple[str, ...]:
        """The command line of this version, which migrates nothing by itself."""
        return (self.python, "-c", _RUN)

    @property
    def migrations(self) -> Path:
        """The folder of its migrations."""
        store = self.path / "src" / "webhook_grpc" / "store"
        return next(path for path in (store / "schema" / "migrations", store / "migrations") if path.exists())

    def migrate(self, url: str) -> None:
        """Migrates a database with this version."""
        self.run(_MIGRATE, url)

    def run(self, script: str, *arguments: str) -> str:
        """Runs a Python script with this version and returns what it printed."""
        done = subprocess.run(
            [self.python, "-c", script, *arguments],
            env=environment(PYTHONPATH=self.python_path),
            capture_output=True,
            text=True,
            timeout=slowness.scaled(60),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@functools.cache
def previous() -> str:
    """The commit before the newest migration came: the last one of the version before. Skips as `checkout`.

    A `.post` makes no version: it only ends the upgrade to one.
    """
    name = [name for name in migration_names() if not name.endswith(POST)][-1]
    newest = f"{FOLDER.relative_to(ROOT)}/{name}.sql"
    # Of the main line: the file may have got its name in a merge, which git shows only so
    came = _git("log", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "-1", "--", newest)
    if came is None:
        return missing(f"the history of {newest}", "the whole history has to be checked out")
    return f"{came.decode().strip()}^" if came else "HEAD"  # it is not committed yet


@contextmanager
def checkout(commit: str, without: Iterable[str] = ()) -> Generator[Earlier]:
    """The version of a commit in a folder of its own; `without` names migrations that are left out."""
    archive = _archive(commit)
    path = Path(tempfile.mkdtemp(prefix="webhook-grpc-earlier-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(path, filter="data")
        earlier = Earlier(path, _python_with(_lock(commit)) if IS_FULL else sys.executable)
        for name in without:
            (earlier.migrations / f"{name}.sql").unlink()
        yield earlier
    finally:
        shutil.rmtree(path)


@functools.cache
def _archive(commit: str) -> bytes:
    return _git("archive", commit, "src", "generated/python") or missing(
        f"git and the commit {commit}", "the whole history has to be checked out"
    )


def _lock(commit: str) -> bytes:
    """What the image of a version was locked with; nothing before there was such a file."""
    return _git("show", f"{commit}:{LOCK.relative_to(ROOT)}") or b""


@functools.cache
def _python_with(locked: bytes) -> str:
    """The Python of an environment that has what is locked, and nothing else."""
    if not locked:
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="webhook-grpc-locked-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file, python = folder / "requirements.txt", folder / "environment" / "bin" / "python"
    file.write_bytes(locked)
    exactly = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:")
    for command in (
        (sys.executable, "-m", "venv", str(python.parent.parent)),
        (str(python), "-m", "pip", "install", *exactly, "-r", str(file)),
    ):
        subprocess.run(command, check=True, timeout=slowness.scaled(_INSTALL_SECONDS_MAX))
    return str(python)


def _git(*arguments: str) -> bytes | None:
    """What git prints, or None where there is no git, no history or no such commit."""
    if not shutil.which("git"):
        return None
    done = subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)},
        capture_output=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None
