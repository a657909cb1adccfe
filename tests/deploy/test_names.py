"""The names of settings in what is deployed are settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts import dist

from webhook_grpc.settings import unknown_variables

ROOT = dist.ROOT
FILES = [
    *(path for path in dist.tracked("deploy") if path.suffix in {".yaml", ".tpl", ".txt", ".service", ".md"}),
    *map(Path, ("Dockerfile", "compose.yaml")),
]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_variable_that_is_named_is_a_setting(path: Path) -> None:
    names = re.findall(r"\bWEBHOOK_[A-Z][A-Z_]*[A-Z]\b", (ROOT / path).read_text())
    assert unknown_variables(dict.fromkeys(names, "")) == []


def test_there_is_something_to_look_at() -> None:
    with_names = [path for path in FILES if "WEBHOOK_" in (ROOT / path).read_text()]
    assert len(with_names) >= 6
