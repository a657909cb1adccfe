"""The reports of rounds that have ended, in a file: a call that was stopped is continued by the next one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tests.invariants.violation import Violation

from .checker import Report

Reports = dict[str, list[Report]]


class FinishedRounds:
    """Reports by fault. They are of one `run`: a file of another one, or of one that is complete, is begun again."""

    def __init__(self, file: Path | None, run: str, round_count: int) -> None:
        self._file = file
        self._run = run
        self.reports = {} if file is None else _read(file, run, round_count)

    def add(self, name: str, report: Report) -> None:
        """Keeps a report. A process that is killed here leaves the old file or the new one."""
        self.reports.setdefault(name, []).append(report)
        if self._file is not None:
            write(self._file, self.reports, self._run)


def write(file: Path, reports: Reports, run: str) -> None:
    """Writes all reports as JSON."""
    plain = {name: [asdict(report) for report in rows] for name, rows in reports.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"run": run, "reports": plain}, indent=1))
    draft.replace(file)


def _read(file: Path, run: str, round_count: int) -> Reports:
    if not file.exists():
        return {}
    known = json.loads(file.read_text())
    reports = {name: [_report(**row) for row in rows] for name, rows in known["reports"].items()}
    is_complete = sum(map(len, reports.values())) >= round_count
    return {} if known["run"] != run or is_complete else reports


def _report(*, violations: list[dict[str, object]], **figures: object) -> Report:
    return Report(**figures, violations=tuple(Violation(**one) for one in violations))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - as asdict() wrote them
