"""`make test-long`: everything in full, in parts. A call continues where the one before it was interrupted.

What is finished stands in `.test-long/state.json`, with the seed of the run and the commit that it is of; the output of
each part beside it. Once all parts are finished, or on another commit, the next call starts from the beginning.
`--list` shows the parts, `--only` runs some of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.scenarios import SCENARIOS

ROOT: Final = Path(__file__).resolve().parents[1]
DIRECTORY: Final = ROOT / ".test-long"

FAULT_ROUNDS: Final = 5
FAULT_SECONDS: Final = 30
CHAOS_SECONDS: Final = 300
SIMULATION_PARTS: Final = 10
SEEDS_PER_PART: Final = 200
MODEL_EXAMPLES: Final = 2000
FUZZ_EXAMPLES: Final = 300


@dataclass(frozen=True)
class Part:
    """A program that is run to its end. `{seed}` in arguments and variables is the seed of the part."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Finished:
    """What came of a part."""

    is_passed: bool
    seed: int
    seconds: float
    figures: str


@dataclass
class State:
    """What is finished of a run."""

    commit: str
    seed: int
    finished: dict[str, Finished] = field(default_factory=dict[str, Finished])


def parts() -> list[Part]:
    """Returns everything there is to run, what fails soonest first."""
    pytest = ("-m", "pytest", "-q")
    simulation = [
        Part(
            f"simulation {number}",
            (*pytest, "-n", "0", "tests/simulation/test_engine_simulation.py", "-k", "many_seeds"),
            {"WEBHOOK_TEST_SEEDS": str(SEEDS_PER_PART), "WEBHOOK_TEST_FIRST_SEED": "{seed}"},
        )
        for number in range(1, SIMULATION_PARTS + 1)
    ]
    rounds = ("--rounds", str(FAULT_ROUNDS), "--seconds", str(FAULT_SECONDS), "--seed", "{seed}")
    return [
        Part("suite", (*pytest, "-n", "auto", "--dist", "loadgroup"), {"WEBHOOK_TEST_FULL": "1"}),
        Part(
            "runtime role",
            (*pytest, "-n", "auto", "--dist", "loadgroup", "tests/api", "tests/engine", "tests/http"),
            {"WEBHOOK_TEST_ROLE": "runtime"},
        ),
        Part("distribution", ("-m", "scripts.test_distribution")),
        Part("any Postgres", ("-m", "tests.field.matrix")),
        Part("platforms", ("-m", "scripts.check_platforms")),
        Part(
            "old data",
            (*pytest, "-n", "0", "tests/field/test_old_data.py"),
            {"WEBHOOK_TEST_OLD_DATA_SCALE": "1"},  # ten million attempts, about 20 GB
        ),
        Part(
            "store model",
            (*pytest, "-n", "0", "tests/simulation/test_store_model.py"),
            {"WEBHOOK_TEST_EXAMPLES": str(MODEL_EXAMPLES)},
        ),
        Part(
            "fuzz over HTTP",
            (*pytest, "-n", "0", "tests/http/test_fuzz.py"),
            {"WEBHOOK_TEST_FUZZ_EXAMPLES": str(FUZZ_EXAMPLES), "WEBHOOK_TEST_FUZZ_SEED": "{seed}"},
        ),
        Part(
            "wrong engines",
            (*pytest, "-n", "0", "tests/simulation/test_wrong_engines.py"),
            {"WEBHOOK_TEST_SEEDS": "1"},
        ),
        *simulation,
        *(
            Part(
                f"fault: {scenario.name}",
                ("-m", "tests.faults", "--scenario", scenario.name, *rounds),
                {"WEBHOOK_TEST_FULL": "1"} if scenario.begins_before else {},  # the version before, as it was locked
            )
            for scenario in SCENARIOS
        ),
        # five minutes of kills: what careful mode costs the innocent
        Part(
            "chaos of 5 minutes",
            ("-m", "tests.faults", "--scenario", "chaos", "--seconds", str(CHAOS_SECONDS), "--seed", "{seed}"),
        ),
        Part("hostile receivers", ("-m", "tests.engine.hostile")),
        Part("attack", ("-m", "tests.attack")),
    ]


class Run:
    """Runs parts one after the other, and remembers which are finished."""

    def __init__(self, directory: Path, commit: str, all_parts: Sequence[Part]) -> None:
        self._directory = directory
        self._file = directory / "state.json"
        self._parts = all_parts
        self.state = self._loaded(commit)

    def left(self) -> list[Part]:
        """Returns the parts that are not finished yet."""
        return [part for part in self._parts if part.name not in self.state.finished]

    def run(self, part: Part) -> Finished:
        """Runs a part to its end and records it. One that is interrupted is not recorded."""
        seed = self.state.seed + self._parts.index(part) * 1_000_000
        log = self._directory / f"{re.sub(r'[^a-z0-9]+', '-', part.name.lower())}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WEBHOOK_")}
        if "WEBHOOK_TEST_DATABASE_URL" in os.environ:
            inherited["WEBHOOK_TEST_DATABASE_URL"] = os.environ["WEBHOOK_TEST_DATABASE_URL"]
        variables = {name: value.format(seed=seed) for name, value in part.variables.items()}
        started_at = time.monotonic()
        with log.open("w") as output:
            ended = subprocess.run(
                [sys.executable, *(argument.format(seed=seed) for argument in part.arguments)],
                cwd=ROOT,
                env={**inherited, **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        seconds = time.monotonic() - started_at
        finished = Finished(ended.returncode == 0, seed, round(seconds, 1), figures(log.read_text()))
        self.state.finished[part.name] = finished
        self._save()
        return finished

    def table(self) -> str:
        """Returns a line for each finished part."""
        lines = ["| part | result | seed | seconds | figures |", "|---|---|---|---|---|"]
        for name, one in self.state.finished.items():
            result = "ok" if one.is_passed else "FAILED"
            lines.append(f"| {name} | {result} | {one.seed} | {one.seconds:.0f} | {one.figures} |")
        return "\n".join(lines)

    def _loaded(self, commit: str) -> State:
        self._directory.mkdir(exist_ok=True)
        if self._file.exists():
            known: dict[str, Any] = json.loads(self._file.read_text())
            finished = {name: Finished(**one) for name, one in known["finished"].items()}
            if known["commit"] == commit and any(part.name not in finished for part in self._parts):
                return State(commit, known["seed"], finished)
        return State(commit, secrets.randbelow(2**31))

    def _save(self) -> None:
        """A call that is killed leaves the old file or the new one, never half of one."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self.state), indent=1))
        draft.replace(self._file)


def figures(output: str) -> str:
    """Returns the line of an output that has the figures: pytest's last one, or the fault suite's sums."""
    if rows := [line for line in output.splitlines() if line.startswith("| ") and not line.startswith("| fault ")]:
        cells = [cell.strip() for cell in rows[-1].strip("| ").split("|")]
        if len(cells) == len(FAULT_FIGURES):
            named = zip(FAULT_FIGURES[1:], cells[1:], strict=True)
            return ", ".join(f"{value} {name}".strip() for name, value in named)
        return f"{len(rows)} rows"
    ends = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed|error).*?)(?: =+)?$", output, flags=re.MULTILINE)
    return ends[-1] if ends else "no figures"


FAULT_FIGURES: Final = (
    "fault", "rounds", "events", "deliveries", "requests", "lost", "duplicated (in flight)", "gaps", "drained at most",
    "late (99 %)", "lost to careful mode", "",
)  # fmt: skip


def commit() -> str:
    """Returns the commit that is checked out, with a mark if files differ from it."""
    described = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Returns 1 if a part failed, in this call or in an earlier one of this run."""
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("--list", action="store_true", help="only say what there is, and what is left")
    parser.add_argument("--only", nargs="+", metavar="PART", help="run these, finished or not")
    arguments = parser.parse_args()
    run = Run(DIRECTORY, commit(), parts())
    left = {part.name for part in run.left()}
    if arguments.list:
        say("\n".join(f"{part.name}{'' if part.name in left else ' (finished)'}" for part in parts()))
        return 0
    chosen = [part for part in parts() if part.name in (arguments.only or left)]
    say(f"seed {run.state.seed}, commit {run.state.commit}, {len(chosen)} parts, logs in {DIRECTORY.name}/")
    for part in chosen:
        finished = run.run(part)
        result = "ok" if finished.is_passed else "FAILED"
        say(f"{part.name}: {result}, {finished.seconds:.0f} s, seed {finished.seed}: {finished.figures}")
    say("\n" + run.table())
    return int(not all(one.is_passed for one in run.state.finished.values()))


def say(text: str) -> None:
    """Prints at once: a run takes long."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
