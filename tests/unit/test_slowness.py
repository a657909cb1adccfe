"""The slowness: measured, bounded, the same in all processes of a session."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support import slowness


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_TEST_PACE", raising=False)
    monkeypatch.setattr(slowness, "_ratio", None)
    monkeypatch.setattr(slowness, "_measured_at", float("-inf"))


def machine(monkeypatch: pytest.MonkeyPatch, cpu: float, start: float, cores: int = 2) -> None:
    """A machine that takes so many times as long as the reference."""

    def cpu_seconds(_: int = 0) -> float:
        return cpu * slowness.CPU_REFERENCE_SECONDS

    def affinity(_: int) -> set[int]:
        return set(range(cores))

    monkeypatch.setattr(slowness, "cpu_seconds", cpu_seconds)
    monkeypatch.setattr(slowness, "start_seconds", lambda: start * slowness.START_REFERENCE_SECONDS)
    monkeypatch.setattr(os, "sched_getaffinity", affinity, raising=False)


@pytest.mark.parametrize(
    ("cpu", "start", "cores", "ratio"),
    [
        (0.2, 0.3, 8, 1.0),  # never less than the reference's time
        (3.0, 2.0, 2, 3.0),
        (2.0, 3.0, 2, 3.0),
        (2.0, 1.0, 1, 4.0),  # two workers share one core
        (100.0, 1.0, 2, slowness.RATIO_MAX),
    ],
)
def test_the_slower_of_both_counts_within_bounds(
    monkeypatch: pytest.MonkeyPatch, cpu: float, start: float, cores: int, ratio: float
) -> None:
    machine(monkeypatch, cpu, start, cores)
    assert slowness.ratio() == pytest.approx(ratio)
    assert (slowness.scaled(2), slowness.lengthened(2)) == (pytest.approx(2 * ratio), pytest.approx(2 * ratio**0.5))


def test_the_workers_of_a_session_take_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 3.0, 1.0)
    slowness.ratio()
    machine(monkeypatch, 5.0, 1.0)
    monkeypatch.setattr(slowness, "_ratio", None)  # as in a worker, which inherits the environment
    assert slowness.ratio() == pytest.approx(3.0)


def test_a_round_measures_again_and_never_gets_less_time_than_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 3.0, 1.0)
    slowness.ratio()
    machine(monkeypatch, 5.0, 1.0)
    assert slowness.measure_again() == slowness.ratio() == pytest.approx(5.0)
    machine(monkeypatch, 1.0, 1.0)
    assert slowness.measure_again() == pytest.approx(5.0), "a moment ago is now"
    monkeypatch.setattr(slowness, "_measured_at", float("-inf"))
    assert slowness.measure_again() == pytest.approx(3.0)


async def test_a_deadline_is_so_much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 4.0, 1.0)
    loop = asyncio.get_running_loop()
    async with slowness.timeout(100) as deadline:
        when = deadline.when()
        assert when is not None
        assert 399 < when - loop.time() <= 400
    async with slowness.timeout(None) as deadline:
        assert deadline.when() is None
