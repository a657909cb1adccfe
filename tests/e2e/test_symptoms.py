"""Every line of the log that docs/operations.md explains is produced by a test."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.support.symptoms import ROOT, rows

_MARK = re.compile(r"pytest\.mark\.symptom\(([^)]*)\)")
_NAME = re.compile(r'"([^"]*)"')


def produced() -> Iterator[str]:
    """The rows that tests say they produce; that they do is checked where they run."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for names in _MARK.findall(path.read_text()):
            yield from _NAME.findall(names)


def test_each_row_of_the_table_of_symptoms_has_a_test_that_produces_its_line() -> None:
    assert sorted(set(produced())) == sorted(rows())


def test_rows_show_a_level_and_a_message() -> None:
    assert {row.level for row in rows().values()} <= {"warning", "error", "info"}
    assert len(rows()) >= 20
