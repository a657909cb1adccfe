"""How much a test tries: few things in `make test`, all of them in `make test-long`, whose part "suite" says so."""

from __future__ import annotations

import os
from typing import Final, TypeVar

IS_FULL: Final = bool(os.environ.get("WEBHOOK_TEST_FULL"))

Value = TypeVar("Value")


def in_full(full: Value, *, short: Value) -> Value:
    """Returns the first in `make test-long`, the other in `make test`."""
    return full if IS_FULL else short
