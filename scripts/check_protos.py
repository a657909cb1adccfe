"""Checks protos/ and what was generated from them. Run by `make check`; needs no network once the tools are there.

Every check runs, whatever became of the one before, and says one line. The exit status is 1 if any of them failed. A
check that cannot be made here (no Go, no commit to compare with) says so and fails nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUF: Final = ROOT / ".venv" / "bin" / "buf"
GENERATED: Final = ROOT / "generated"
OUTPUT_LINES_MAX: Final = 200
OF_OTHER_TOOLS: Final = {  # what is generated only where these languages have their tools
    "Go": [Path("go/webhook")],
    "TypeScript": [Path("ts/webhook"), Path("ts/google"), Path("ts/openapi.d.ts")],
}


class CheckFailed(Exception):
    """A check failed: what to do about it, and what the tool said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def main() -> None:
    """Runs every check in turn."""
    checks: dict[str, Callable[[], str]] = {
        "lint": _lint,
        "format": _format,
        "breaking changes": _breaking,
        "generated": _generated,
        "go": _go,
    }
    failures = [name for name, check in checks.items() if not _passes(name, check)]
    sys.exit(1 if failures else 0)


def _passes(name: str, check: Callable[[], str]) -> bool:
    try:
        print(f"protos: {name}: {check()}", flush=True)
    except CheckFailed as failure:
        print(f"protos: {name}: FAILED: {failure}", flush=True)
        if failure.output:
            print(_shortened(failure.output), file=sys.stderr, flush=True)
        return False
    return True


def _lint() -> str:
    _run(BUF, "lint", advice="fix what buf lint names")
    return "ok"


def _format() -> str:
    _run(BUF, "format", "--diff", "--exit-code", "--path", "protos/webhook", advice="run `make format`")
    return "ok"


def _breaking() -> str:
    base = _base()
    if base is None:
        return "nothing to compare with: there is no earlier commit here"
    name = base[:12]
    if not _git("ls-tree", "--name-only", base, "--", "protos"):
        return f"nothing to compare with: {name} has no protos"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "protos.tar"  # buf could read .git itself, but not that of a worktree
        _git("archive", "--format=tar", f"--output={archive}", base, "--", "protos")
        against = ("--against", archive, "--against-config", "buf.yaml")
        _run(BUF, "breaking", *against, advice=f"clients of {name} would break; add instead of changing")
    return f"none since {name}"


def _base() -> str | None:
    """The commit whose clients must not break, or None. Raises CheckFailed if BUF_BASE names no commit."""
    if wanted := os.environ.get("BUF_BASE"):
        if commit := _commit(wanted):
            return commit
        raise CheckFailed(f"BUF_BASE is {wanted}, which is no commit here; fetch it, or unset BUF_BASE")
    if not (ROOT / ".git").exists() or _commit("HEAD") is None:
        return None
    if _git("status", "--porcelain", "--", "protos"):
        return _commit("HEAD")
    last_change = _git("log", "-1", "--format=%H", "HEAD", "--", "protos")
    return _commit(f"{last_change}^") if last_change else None


def _commit(name: str) -> str | None:
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", absent_status=1) or None


def _git(*arguments: str, absent_status: int = 0) -> str:
    """What git prints; nothing if it exits with `absent_status`, by which it says that there is no such thing."""
    completed = _call("git", *arguments)
    if completed.returncode not in {0, absent_status}:
        raise CheckFailed(f"git {arguments[0]} failed", completed.stdout)
    return completed.stdout.strip()


def _generated() -> str:
    """Generates once more and compares byte for byte."""
    folders = [Path("python/webhook"), Path("descriptors")]
    absent = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        _run(sys.executable, "scripts/generate.py", "--out", out, advice="scripts/generate.py must work")
        for language, parts in OF_OTHER_TOOLS.items():
            present = [part for part in parts if (out / part).exists()]
            folders += present
            absent += [] if present else [language]
        differences = [line for part in folders for line in _differences(GENERATED / part, out / part, part)]
    if differences:
        raise CheckFailed("generated/ is not what protos/ give; run `make generate`", "\n".join(differences))
    return f"up to date; not checked, for want of tools: {', '.join(absent)}" if absent else "up to date"


def _differences(committed: Path, fresh: Path, part: Path) -> list[str]:
    old, new = _files(committed), _files(fresh)
    return [
        *(f"missing: generated/{part / name}" for name in sorted(new.keys() - old.keys())),
        *(f"not generated: generated/{part / name}" for name in sorted(old.keys() - new.keys())),
        *(f"differs: generated/{part / name}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]),
    ]


def _files(folder: Path) -> dict[Path, bytes]:
    if folder.is_file():
        return {Path(): folder.read_bytes()}
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def _go() -> str:
    if not shutil.which("go"):
        return "not checked: Go is absent"
    for command in ("build", "vet"):
        advice = f"`go {command} ./...` in generated/go must pass; run `make generate`, then look at go.mod"
        _run("go", command, "./...", folder=GENERATED / "go", advice=advice)
    return "builds and vets"


def _run(*command: str | Path, advice: str, folder: Path = ROOT) -> None:
    completed = _call(*command, folder=folder)
    if completed.returncode:
        raise CheckFailed(advice, completed.stdout)


def _call(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    words = [str(part) for part in command]
    try:
        return subprocess.run(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError:
        raise CheckFailed(f"{words[0]} is not installed; run `make setup`") from None


def _shortened(output: str) -> str:
    lines = output.rstrip().splitlines()
    left_off = len(lines) - OUTPUT_LINES_MAX
    return "\n".join([*lines[:OUTPUT_LINES_MAX], *([f"… {left_off} more lines"] if left_off > 0 else [])])


if __name__ == "__main__":
    main()
