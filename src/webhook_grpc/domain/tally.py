"""Counts that a process keeps of what it does: plain numbers, so that counting costs a fraction of a microsecond.

Each tally has one part that adds to it, on the event loop; others only read. `/metrics` shows them (metrics/).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# Upper bounds of what is measured. Short: a call, a request. Long: what retries make last for days.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0)
SIZES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


class Histogram:
    """Counts values by size.

    `counts` has a number for each bound, of the values up to it and above the bound before, and a last one for the
    values above all bounds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts a value. A negative one, of clocks that differ, counts as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class DatabaseErrors:
    """Statements that failed, as their callers saw it. Only `store.db` adds to it."""

    by_class: dict[str, int] = field(default_factory=dict[str, int])  # of the SQLSTATE, or a word
    disk_full_count: int = 0

    def add(self, sqlstate_class: str, *, is_disk_full: bool) -> None:
        """Counts a failure."""
        self.by_class[sqlstate_class] = self.by_class.get(sqlstate_class, 0) + 1
        self.disk_full_count += is_disk_full


@dataclass(slots=True)
class PublishTally:
    """Events that were published through this process. Only `Publisher` adds to it."""

    new_count: int = 0
    duplicate_count: int = 0
    refused_count: int = 0
    delivery_count: int = 0  # of the new ones
    single_sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))  # events in a statement
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))
