"""Which rounds follow one another in one process of pytest, and which may run at the same time in others.

A group has a Postgres and a nursery of its own. One group for all was the longest part of a run: its rounds wait for
most of their time. A round measures how slow the machine is, with the other groups at work on it.
"""

from __future__ import annotations

from typing import Final

import pytest

GROUPS: Final = 3


def group(number: int) -> pytest.MarkDecorator:
    """Returns the mark for the number-th round or test."""
    return pytest.mark.xdist_group(f"faults {number % GROUPS}")


STEPPED: Final = group(0)
"""Of those that need a stepped clock: they share its Postgres."""
