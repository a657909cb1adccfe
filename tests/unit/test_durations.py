"""A run names the tests that are slow and not marked, and starts as many workers as keep the cores at work."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from tests.support import durations, slowness


class Reporter:
    """What is used of pytest's."""

    def __init__(self, *reports: pytest.TestReport) -> None:
        self.stats: dict[str, list[Any]] = {"": list(reports[1:]), "passed": list(reports[:1]), "warnings": [object()]}


def report(name: str, seconds: float, *marks: str) -> pytest.TestReport:
    keywords: Any = dict.fromkeys(marks, 1)
    return pytest.TestReport(name, ("", 0, name), keywords, "passed", None, "call", duration=seconds)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    have_cores(monkeypatch, 2)
    monkeypatch.setattr(slowness, "_ratio", 1.0)


def have_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    def affinity(_: int) -> set[int]:
        return set(range(count))

    monkeypatch.setattr(os, "sched_getaffinity", affinity, raising=False)


def unmarked(worker_count: int, *reports: pytest.TestReport) -> list[tuple[float, str]]:
    return durations.unmarked(cast("pytest.TerminalReporter", Reporter(*reports)), worker_count)


def test_a_slow_test_without_the_mark_is_named() -> None:
    assert unmarked(1, report("slow", 1.2), report("quick", 0.1), report("marked", 30, "slow")) == [(1.2, "slow")]


def test_a_test_is_measured_with_its_fixtures() -> None:
    assert unmarked(1, report("one", 0.5), report("one", 0.75)) == [(1.25, "one")]


def test_workers_that_share_a_core_take_longer() -> None:
    assert unmarked(4, report("one", 1.9)) == []
    assert unmarked(4, report("one", 2.1)) == [(2.1, "one")]


def test_a_slow_machine_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slowness, "_ratio", 3.0)
    assert unmarked(1, report("one", 2.9)) == []


@pytest.mark.parametrize(
    ("cores", "workers", "of_fast_tests"),
    [(1, 3, 2), (2, 7, 3), (3, 10, 4), (64, durations.WORKERS_MAX, durations.WORKERS_MAX)],
)
def test_there_are_more_workers_than_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, of_fast_tests: int
) -> None:
    have_cores(monkeypatch, cores)
    assert durations.workers(marks="") == workers
    assert durations.workers(marks="fast and not slow") == of_fast_tests
