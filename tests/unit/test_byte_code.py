"""What tests.support.byte_code makes is what pytest takes, as long as the source is the same."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests.support import byte_code


def test_what_is_made_is_taken_as_it_is_until_the_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest would put a file of its own in the place of one that it does not take."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    module = tmp_path / "test_made.py"
    module.write_text("def equal(one, other):\n    assert one == other\n")
    byte_code.make([tmp_path])
    [made] = (tmp_path / "__pycache__").iterdir()
    number = made.stat().st_ino
    imported = importlib.import_module("test_made")
    monkeypatch.delitem(sys.modules, "test_made")
    with pytest.raises(AssertionError, match="assert 1 == 2"):  # the values are known: it was rewritten
        imported.equal(1, 2)
    assert made.stat().st_ino == number
    assert byte_code.is_made(module)
    module.write_text("def equal(one, other):\n    assert one is other\n    # longer\n")
    assert not byte_code.is_made(module)
