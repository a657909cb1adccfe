"""docs/security.md names tests and attacks: each of them is there."""

from __future__ import annotations

import re
from typing import Final

from tests.attack.__main__ import ATTACKS
from tests.support.process import ROOT

TEXT: Final = (ROOT / "docs/security.md").read_text("utf-8")


def test_each_file_of_tests_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", TEXT))
    assert len(named) > 20
    assert not [path for path in named if not (ROOT / path).exists()]


def test_each_attack_that_the_document_names_is_one() -> None:
    cells = re.findall(r"`make attack`: ([a-z_2, ]+?)(?: \||;)", TEXT)
    named = {name for cell in cells for name in cell.split(", ")}
    assert len(named) > 15
    assert not named - ATTACKS.keys()


def test_each_attack_on_http2_names_its_test_and_what_attacks_so() -> None:
    rows = (
        TEXT.partition("shown by `tests/unit/test_http2.py`, `make attack` |")[2].partition("\n\n")[0].splitlines()[2:]
    )
    assert len(rows) > 10
    tests = set(
        re.findall(
            r"def test_(\w+)",
            "".join((ROOT / f"tests/unit/test_{name}.py").read_text("utf-8") for name in ("http2", "beginnings")),
        )
    )
    for row in rows:
        shown, _, attacks = row.split(" | ")[-1].removesuffix(" |").partition("; ")
        assert set(shown.split(", ")) <= tests, row
        assert set(filter(None, attacks.split(", "))) <= ATTACKS.keys(), row
