"""`ast.parse` that no collection of garbage interrupts, for a Python whose own does not stand it.

Up to CPython 3.11.7 all calls of `ast.parse` share one counter (gh-106905). Garbage that is collected while one makes
its nodes may lead to another call: a task that failed, and that a test left, is reported then with its traceback, in
which Python marks columns by `ast.parse`. The first call finds the counter changed and raises "AST constructor
recursion depth mismatch": in hypothesis or in pytest, which parse sources, whatever the test is about.
"""

from __future__ import annotations

import ast
import gc
import sys
import threading
from typing import Any, Final

_IS_SHARED: Final = sys.version_info < (3, 11, 8)
_lock: Final = threading.RLock()  # else another thread could switch collections on while this one parses
_parse: Final = ast.parse


def install() -> None:
    """Replaces `ast.parse` where Python's own is broken."""
    if _IS_SHARED:
        ast.parse = uninterrupted  # pyright: ignore[reportAttributeAccessIssue] - of fewer overloads


def uninterrupted(*arguments: Any, **options: Any) -> Any:
    """Parses as `ast.parse` does, without a collection meanwhile."""
    with _lock:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return _parse(*arguments, **options)
        finally:
            if was_enabled:
                gc.enable()
