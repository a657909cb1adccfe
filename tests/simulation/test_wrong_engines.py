"""The simulation against engines and stores that are wrong on purpose: it has to find each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.faults import broken
from webhook_grpc.domain.throttle import Throttle

from .model.outbox import Outbox
from .model.rows import OutboxRow
from .model.tables import Tables
from .profiles import PROFILES
from .simulation import Simulation

_SEEDS = 10  # a mistake shows in every second of them, or more often
# Receivers that fail for good would keep a run going for half an hour of its time after all is found.
_BEHAVIOURS = ("well", "slow", "flaky", "limited")
_PROFILE = {profile.name: replace(profile, activity_seconds=30.0, behaviours=_BEHAVIOURS) for profile in PROFILES}
_PROFILE["changing"] = replace(_PROFILE["calm"], changes=8.0)
# What is in flight when a process freezes is settled by its successor, and by itself once it goes on.
_PROFILE["freezes"] = replace(
    _PROFILE["freezes"], freezes=4.0, processes=(2, 3), behaviours=("slow", "hang"), activity_seconds=60.0
)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store finds rows a second before they are due."""
    fetch = Outbox.fetch

    def early(
        model: Outbox, webhook_id: int, room: int, floor: datetime, ahead_seconds: float, *, is_fresh: bool = False
    ) -> list[OutboxRow]:
        return fetch(model, webhook_id, room, floor, ahead_seconds + 1.0, is_fresh=is_fresh)

    monkeypatch.setattr(Outbox, "fetch", early)


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store lets anybody settle who was an owner once."""
    monkeypatch.setattr(Tables, "own_all", _always)


def no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine waits for no rate."""
    monkeypatch.setattr(Throttle, "wait_seconds", _no_time)


def of_faults(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """One of tests/faults/broken.py, for as long as the test runs."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        def rewrap(owner: object, attribute: str, make: Callable[[Any], Any]) -> None:
            monkeypatch.setattr(owner, attribute, make(getattr(owner, attribute)))

        monkeypatch.setattr(broken, "rewrap", rewrap)
        broken.ENGINES[name]()

    patch.__name__ = name
    return patch


_LONG = pytest.mark.skipif(not os.environ.get("WEBHOOK_TEST_SEEDS"), reason="minutes; with WEBHOOK_TEST_SEEDS")


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    ("patch", "found", "profile"),
    [
        (of_faults("acknowledge_before_commit"), "I1", "crashes"),
        (of_faults("settle_before_send"), "not made", "calm"),
        (of_faults("no_stale_rows"), "which is settled", "calm"),
        (impatient, "I5", "calm"),
        (no_rate, "I6", "calm"),
        pytest.param(of_faults("deaf"), "I8", "changing", marks=[_LONG, pytest.mark.timeout(900)]),
        (no_fence, "I10", "freezes"),
    ],
    ids=lambda parameter: getattr(parameter, "__name__", str(parameter)),
)
def test_the_simulation_finds(
    patch: Callable[[pytest.MonkeyPatch], None], found: str, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    violations = list[str]()
    for seed in range(_SEEDS):
        violations += Simulation(seed, _PROFILE[profile]).run().violations
        if any(found in violation for violation in violations):
            return
    pytest.fail(f"found only {violations[:5]}")


def _always(*_: object) -> bool:
    return True


def _no_time(*_: object) -> float:
    return 0.0
