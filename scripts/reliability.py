"""`make reliability`: writes the tables of docs/reliability.md.

Runs the fault suite, the hostile receivers and the isolation benchmark, about twenty minutes in all. Every figure in
the tables is of this run; a table that is measured by itself says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reliability.md"
SECONDS_MAX = 3600


def run(*arguments: str) -> list[str]:
    """Runs a Python program to its end, shows its output, and returns the lines. Ends this one if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
    print("$ python", *arguments, flush=True)
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    print(finished.stdout, flush=True)
    if finished.returncode:
        sys.exit(f"failed: python {' '.join(arguments)}")
    return finished.stdout.splitlines()


def table(lines: list[str]) -> str:
    """The Markdown table in an output."""
    return "\n".join(line for line in lines if line.startswith("|"))


def put(document: str, name: str, text: str) -> str:
    """Puts what was measured into its place."""
    pattern = rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)"
    replaced, count = re.subn(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", document, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{TARGET.name} has no place for `{name}`")
    return replaced


def faults(rounds: int) -> str:
    """The table of the fault suite."""
    return table(run("-m", "tests.faults", "--rounds", str(rounds)))


def hostile() -> str:
    """The table of the hostile receivers."""
    return table(run("-m", "tests.engine.hostile"))


def isolation() -> str:
    """The table of the isolation benchmark, and its ratios."""
    lines = run("benchmarks/isolation.py")
    ratios = "\n".join(f"- {line}" for line in lines if "with trouble / without" in line)
    return f"{table(lines)}\n\n{ratios}"


def main() -> None:
    """Measures first and writes afterwards, so that a failure leaves the document as it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    parser.add_argument("--only", choices=("faults", "hostile", "isolation"), help="one of the tables")
    arguments = parser.parse_args()
    measures = {"faults": lambda: faults(arguments.rounds), "hostile": hostile, "isolation": isolation}
    chosen = [arguments.only] if arguments.only else list(measures)
    measured = {name: measures[name]() for name in chosen}
    run_on = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}."
    if arguments.only:
        measured[arguments.only] += f"\n\nMeasured later than the other tables: {run_on}"
    else:
        measured["run"] = run_on
    document = TARGET.read_text()
    for name, text in measured.items():
        document = put(document, name, text)
    TARGET.write_text(document)
    print(f"wrote {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
