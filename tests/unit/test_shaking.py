"""Loops that are shaken: late, never wrong, and alike for the same seed."""

from __future__ import annotations

import selectors
import socket

import pytest

from tests.support import shaking
from tests.support.shaking import ShakenSelector


def looks_until_noticed(selector: ShakenSelector) -> int:
    """Returns how often one had to look at a connection on which something has come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        selector.register(ours, selectors.EVENT_READ)
        looks = 1
        while not selector.select(1.0):
            looks += 1
        selector.unregister(ours)
    return looks


@pytest.fixture
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaking, "_sleep", list[float]().append)
    monkeypatch.setattr(shaking, "LATE_SECONDS", (0.001, 0.002))


@pytest.mark.usefixtures("_is_quick")
@pytest.mark.parametrize(("chance", "is_late"), [(0.0, False), (1.0, True)])
def test_what_has_come_is_noticed_late_but_noticed(
    monkeypatch: pytest.MonkeyPatch, chance: float, *, is_late: bool
) -> None:
    monkeypatch.setattr(shaking, "LATE_CHANCE", chance)
    with ShakenSelector() as selector:
        assert (looks_until_noticed(selector) > 1) is is_late


def test_a_loop_stands_still_as_the_seed_and_the_test_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def pauses(test: str) -> list[float]:
        taken = list[float]()
        monkeypatch.setattr(shaking, "_sleep", taken.append)
        monkeypatch.setattr(shaking, "PAUSE_SECONDS", (1e-9, 1e-8))
        shaking.begin(test)
        with ShakenSelector() as selector:
            for _ in range(1000):
                selector.select(0)
        return taken

    first = pauses("one")
    assert len(first) > 5
    assert pauses("one") == first
    assert pauses("another") != first
