"""The table of what was tried on which Postgres is as the program writes it, with its date and versions."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from tests.field.matrix import DOCUMENT, MARKS, WAYS, Row, table, with_table

ROWS = [Row("18.1 (the embedded one)", ("ok",) * len(WAYS)), Row("16, npm's: not here", ("not tried",) * len(WAYS))]


def test_the_table_is_put_where_the_one_before_was() -> None:
    text = table(ROWS, "1.18.0", datetime(2026, 11, 30, tzinfo=UTC))
    lines = text.splitlines()
    assert lines[0] == "Tried on 2026-11-30 by `python -m tests.field.matrix`; PgBouncer is 1.18.0:"
    assert lines[4] == "| 18.1 (the embedded one) " + "| ok " * len(WAYS) + "|"
    once = with_table(f"above\n{MARKS[0]}\nold\n{MARKS[1]}\nbelow\n", text)
    assert once == f"above\n{MARKS[0]}\n{text}\n{MARKS[1]}\nbelow\n"
    assert with_table(once, text) == once
    with pytest.raises(AssertionError):
        with_table("no marks", text)


def test_the_document_has_what_the_program_wrote() -> None:
    written = DOCUMENT.read_text().partition(MARKS[0])[2].partition(MARKS[1])[0].strip().splitlines()
    assert re.fullmatch(r"Tried on \d{4}-\d\d-\d\d by `python -m tests\.field\.matrix`; PgBouncer is .*:", written[0])
    head, _, *rows = written[2:]
    assert head == f"| Postgres | {' | '.join(WAYS)} |"
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == len(WAYS) + 1
        assert not [cell for cell in cells if "fails" in cell]
