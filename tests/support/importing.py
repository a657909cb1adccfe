"""In which order a process of a run imports the modules of the tests: all of them, but each begins elsewhere.

pytest compiles these modules itself, so that a failed `assert` shows what was compared, and keeps what it has compiled.
In a new clone processes that import in one order would each compile everything.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

_NUMBER: Final = "PYTEST_XDIST_WORKER"  # gw0, gw1, …
_COUNT: Final = "PYTEST_XDIST_WORKER_COUNT"


def import_from_elsewhere(arguments: Sequence[str], root: Path) -> None:
    """Imports the modules that pytest is about to import, from those on that are this process's to begin with.

    What can't be imported is left to pytest, which reports it.
    """
    if _NUMBER not in os.environ:
        return
    names = sorted(_modules(arguments, root))
    first = len(names) * int(os.environ[_NUMBER].removeprefix("gw")) // int(os.environ[_COUNT])
    for name in (*names[first:], *names[:first]):
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def _modules(arguments: Sequence[str], root: Path) -> Iterator[str]:
    for argument in arguments:
        path = root / argument.partition("::")[0]
        for module in path.rglob("test_*.py") if path.is_dir() else (path,):
            yield ".".join(module.relative_to(root).with_suffix("").parts)
