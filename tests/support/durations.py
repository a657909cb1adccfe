"""How long tests take: the slow ones are marked and started first; a run names those that are not marked."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import pytest

from tests.support import slowness

SLOW_SECONDS: Final = 1.0  # of a test that has the reference's machine for itself: one that takes longer is slow
WORKERS_PER_CORE: Final = 3.5  # a test waits for most of its time: for Postgres, for a lease, for a poll
WORKERS_MAX: Final = 12  # each has a Postgres and half a gigabyte


def workers(*, marks: str) -> int:
    """Returns how many processes run the tests of these marks with `-n auto`: as many as keep the cores at work.

    Fast tests hardly wait. What a process costs before its first test (4 CPU seconds) is a larger part of such a run.
    """
    if marks.startswith("fast"):
        return min(WORKERS_MAX, slowness.cores() + 1)
    return max(2, min(WORKERS_MAX, int(WORKERS_PER_CORE * slowness.cores())))


def slow_seconds(item: pytest.Item) -> float:
    """Returns about how long a test takes, if its mark says that: `slow` or `slow(seconds)`; else 0."""
    marker = item.get_closest_marker("slow")
    if marker is None:
        return 0.0
    return float(marker.args[0]) if marker.args else SLOW_SECONDS


def unmarked(reporter: pytest.TerminalReporter, worker_count: int) -> list[tuple[float, str]]:
    """Returns the tests of a run that took longer than a test without the mark may, the longest first.

    Of workers that share cores each has a part of them, so a test may take longer by that.
    """
    shared = max(1.0, worker_count / slowness.cores())
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "slow" not in report.keywords:
                seconds[report.nodeid] += report.duration
    limit = slowness.scaled(SLOW_SECONDS) * shared
    return sorted(((took, name) for name, took in seconds.items() if took > limit), reverse=True)
