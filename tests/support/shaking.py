"""Makes the event loops of the tests' process unkind, so that a test that relies on an order or a pace fails here.

`WEBHOOK_TEST_SHAKE=<seed>` switches it on (`make test-shaken`). Loops then stand still now and then, and what has come
on one connection (of the database, of a receiver, of a browser) is noticed late while the others go on. Both happen on
slow machines. Nothing is lost, callbacks keep their order, and other processes are left alone. Each test has its own
sequence by seed and name, whatever ran before; how often a loop turns is the machine's, so it repeats only roughly.
"""

from __future__ import annotations

import os
import random
import selectors
import time
from typing import Final

_VARIABLE: Final = "WEBHOOK_TEST_SHAKE"
SEED: Final = os.environ.get(_VARIABLE, "")

PAUSE_SECONDS: Final = (0.005, 0.3)  # of the whole loop; short ones are as likely as long ones, by their logarithm
TURNS_BETWEEN: Final = 40  # turns of a loop without a pause, on average
LATE_SECONDS: Final = (0.001, 0.05)  # of one connection
LATE_CHANCE: Final = 0.05  # that what has come on a connection is noticed late
SLOWER: Final = 2.0  # a loop stands still for at most half of the time: deadlines are that much later

_LOOK_SECONDS: Final = 0.001
_KindSelector: Final = selectors.DefaultSelector
_sleep: Final = time.sleep  # kept: a test may replace the other

_random: random.Random = random.Random(SEED)


class ShakenSelector(_KindSelector):
    """What loops wait with: it takes its time, and keeps back what is ready."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[int, float] = {}  # what has come on these connections is kept back until then
        self._quiet_until = 0.0
        self._turns_left = _turns()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns what is ready and not kept back; it may be nothing before the time is up."""
        self._pause_perhaps()
        ready = super().select(timeout)
        now = time.monotonic()
        noticed = [(key, events) for key, events in ready if not self._is_late(key.fd, now)]
        if ready and not noticed and timeout != 0:
            _sleep(_LOOK_SECONDS)  # what is kept back stays ready: the loop would spin
        return noticed

    def _pause_perhaps(self) -> None:
        self._turns_left -= 1
        if self._turns_left > 0 or (now := time.monotonic()) < self._quiet_until:
            return
        seconds = _between(PAUSE_SECONDS)
        self._turns_left, self._quiet_until = _turns(), now + 2 * seconds
        _sleep(seconds)

    def _is_late(self, fd: int, now: float) -> bool:
        until = self._until.pop(fd, None)
        if until is None and _random.random() < LATE_CHANCE:
            until = now + _between(LATE_SECONDS)
        if until is None or until <= now:
            return False
        self._until[fd] = until
        return True


def install() -> None:
    """Makes the loops that are created from now on unkind, if the variable says so."""
    if SEED:
        selectors.DefaultSelector = ShakenSelector


def begin(test: str) -> None:
    """Starts the sequence of a test."""
    _random.seed(f"{SEED} {test}")


def header() -> str:
    """Returns what the first lines of a run say of it."""
    return f"shaken: {_VARIABLE}={SEED} (tests/support/shaking.py)" if SEED else "shaken: no"


def _between(bounds: tuple[float, float]) -> float:
    lowest, highest = bounds
    return lowest * (highest / lowest) ** _random.random()


def _turns() -> int:
    return 1 + int(_random.expovariate(1 / TURNS_BETWEEN))
