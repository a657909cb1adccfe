"""Sources are parsed whatever is collected meanwhile."""

from __future__ import annotations

import ast
import gc
from collections.abc import Generator

import pytest

SOURCE = "\n".join(f"a{number} = [{number}, (b, c)]" for number in range(500))


class Reported:
    """Garbage that is reported with a traceback when it is collected, as a task that failed is."""

    def __init__(self) -> None:
        self.itself = self  # so that only a collection ends it

    def __del__(self) -> None:
        ast.parse("f(x + y)")  # as traceback.py does to mark the columns


@pytest.fixture
def often() -> Generator[None]:
    """Garbage is collected again and again."""
    gc.collect()  # what the tests before have left is theirs
    before = gc.get_threshold()
    gc.set_threshold(20)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("often")
def test_a_source_is_parsed_while_garbage_is_reported() -> None:
    for _ in range(20):
        for _ in range(10):
            Reported()
        assert len(ast.parse(SOURCE).body) == 500
