"""`make faults` goes on where its last call stopped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.invariants.history import History
from tests.invariants.violation import Violation
from tests.support.process import ROOT

from .__main__ import possible, table
from .checker import Report, check
from .database import DatabaseServer
from .finished import FinishedRounds
from .scenarios import BY_NAME
from .stepped import SteppedServer

pytestmark = pytest.mark.fast
WELL = check(History())
BROKEN = replace(WELL, violations=(Violation("I3", "twice"), Violation("I1", "lost", count=2)))


def finished(file: Path, *reports: tuple[str, Report], run: str = "of this commit") -> FinishedRounds:
    """What a call that runs three rounds finds, and adds."""
    rounds = FinishedRounds(file, run, round_count=3)
    for name, report in reports:
        rounds.add(name, report)
    return rounds


def test_a_call_that_was_stopped_is_continued(tmp_path: Path) -> None:
    file = tmp_path / "new" / "faults.json"
    finished(file, ("kill -9", WELL), ("SIGTERM", BROKEN))
    assert finished(file).reports == {"kill -9": [WELL], "SIGTERM": [BROKEN]}


def test_after_the_last_round_and_for_another_run_it_begins_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    finished(file, ("kill -9", WELL), ("SIGTERM", WELL))
    assert finished(file, run="of another commit").reports == {}
    finished(file, ("SIGSTOP", WELL))
    assert finished(file).reports == {}


def test_the_table_says_what_passed_and_which_invariants_failed() -> None:
    *_, passed, failed = table({"kill -9": [WELL, WELL], "SIGTERM": [WELL, BROKEN]}).splitlines()
    assert passed.endswith("| passed |")
    assert failed.endswith("| FAILED: 2 violations of I1, I3 |")


def test_a_fault_that_cannot_be_injected_here_is_left_out_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def need() -> None:
        pytest.skip("needs libfaketime")

    monkeypatch.setattr(SteppedServer, "need", need)
    chosen = [BY_NAME[name] for name in ("kill -9", "clock steps", "SIGTERM")]
    assert [one.name for one in possible(chosen, DatabaseServer)] == ["kill -9", "SIGTERM"]
    assert capsys.readouterr().out == "clock steps: skipped, needs libfaketime\n"


def test_the_table_of_the_documents_has_every_fault_and_no_violation() -> None:
    rows = re.findall(
        r"^\| ([^|]+?) \| \d+ \|.*\| ([^|]+) \|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
    )
    results = {name: result for name, result in rows if name in BY_NAME}
    assert results.keys() == BY_NAME.keys(), "`make reliability` runs them, and writes the table"
    assert set(results.values()) == {"passed"}
