"""Checks the Go code that people wrote: its form, and what `go vet` finds. Run by `make check`.

A machine without Go checks nothing, and says so. What is generated: check_protos.py.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
WRITTEN: Final = ("clients/go", "examples/go", "tests/clients/go", "benchmarks/workers/golang")
# Not tests/clients/go: the test builds that one, which lacks a file here.
VETTED: Final = ("clients/go", "examples/go", "benchmarks/workers/golang")


def main() -> None:
    """Runs both checks, and exits with 1 if one of them found something."""
    if shutil.which("go") is None:
        print("go: not checked: Go is absent")
        return
    found = _output("gofmt", "-l", *WRITTEN) + "".join(_vetted(ROOT / module) for module in VETTED)
    if found:
        sys.exit(f"go: FAILED: run gofmt -w on files that are named alone, and correct the rest\n{found}")
    print("go: formatted and vetted")


def _vetted(module: Path) -> str:
    return _output("go", "vet", "./...", folder=module)


def _output(*command: str, folder: Path = ROOT) -> str:
    ended = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    is_silent_failure = ended.returncode != 0 and not ended.stdout
    return f"{command[0]} failed with {ended.returncode}\n" if is_silent_failure else ended.stdout


if __name__ == "__main__":
    main()
