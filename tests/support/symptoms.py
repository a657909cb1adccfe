"""The rows of the table in docs/operations.md, "What to do when", and whether a test has produced their lines.

A test with `@pytest.mark.symptom("id of a row")` must leave the line that the row shows in the log, or it fails.
`tests/e2e/test_symptoms.py` fails if a row has no such test.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## What to do when$(.*?)^##? ", re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\|(?! *you see|---)(.*?)\|", re.MULTILINE)
_ID = re.compile(r"<!-- ([a-z0-9 ]+) -->")
_CODE = re.compile(r"`([^`]+)`")
_FIELD = re.compile(r"(?<=, )`([^`]+)` `([^`]+)`")

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """What the log shows: a message, and what stands in its fields."""

    level: str
    message: str
    fields: Mapping[str, str]

    def is_shown_by(self, line: Line) -> bool:
        """Whether this is such a line."""
        return (
            str(line["event"]).startswith(self.message)
            and line["log_level"] == self.level
            and all(value in str(line.get(name)) for name, value in self.fields.items())
        )


@functools.cache
def cells() -> list[str]:
    """The first cell of each row."""
    section = _SECTION.search((ROOT / "docs/operations.md").read_text() + "\n# ")
    assert section is not None
    return _ROW.findall(section[1])


@functools.cache
def rows() -> dict[str, Row]:
    """The rows by their ids."""
    return dict(map(_row, cells()))


def _row(cell: str) -> tuple[str, Row]:
    """Reads a cell such as: <!-- lease --> warning `lease not renewed`, `sqlstate` `55P03`."""
    found = _ID.search(cell)
    assert found is not None, f"a row without an id: {cell}"
    level = cell[found.end() :].split(maxsplit=1)[0]
    message = _CODE.search(cell)
    assert message is not None, f"a row without a message: {cell}"
    return found[1], Row(level, message[1], dict(_FIELD.findall(cell)))


@contextlib.contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Generator[list[Line]]:
    """Collects what the service inside this process logs, also while a test captures it."""
    lines: list[Line] = []
    capture = LogCapture.__call__

    def record(_: object, method: str, event: Any) -> Any:
        lines.append({**event, "log_level": method})
        return event

    def record_captured(self: LogCapture, logger: Any, method: str, event: Any) -> Any:
        record(logger, method, event)
        return capture(self, logger, method, event)

    monkeypatch.setattr(LogCapture, "__call__", record_captured)
    processors = structlog.get_config()["processors"]
    processors.insert(0, record)
    try:
        yield lines
    finally:
        processors.remove(record)
