"""How slow this machine is now, and the deadlines of tests, which are multiplied by that.

A deadline in a test bounds a hang; it is never what the test is about. `ratio()` is measured once in a session (by the
first process of pytest, which hands it to its workers), and now and then in each worker, before a test or a round of
tests/faults: what a fault needs in time, to outlive a lease, say, is derived from it as well. It never falls below what
the session began with.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from . import shaking

# What the two take on two cores at 2026's usual speed while `make test` runs on both: up to there the ratio is 1.
CPU_REFERENCE_SECONDS: Final = 0.0075  # for one unit of work
START_REFERENCE_SECONDS: Final = 0.16
CORES_REFERENCE: Final = 2  # two workers share them
RATIO_MAX: Final = 10.0  # a machine that is slower fails rather than takes a day

_VARIABLE: Final = "WEBHOOK_TEST_PACE"
_UNITS: Final = 40  # without a pause, which the scheduler would reward: about a third of a second
_UNITS_AGAIN: Final = 12
_AGAIN_SECONDS: Final = 30.0  # a shorter while ago is now
_START_TRIES: Final = 3
_ROUNDS: Final = 1500

_ratio: float | None = None
_measured_at = -math.inf


def ratio() -> float:
    """Returns by how much this machine is slower than the reference: from 1.0 to RATIO_MAX."""
    global _ratio  # noqa: PLW0603 - one value for the process
    if _ratio is None:
        _ratio = _session_ratio()
    return _ratio


def measure_again() -> float:
    """Measures once more, and returns the new ratio: at least what it was at the start of the session."""
    global _ratio, _measured_at  # noqa: PLW0603
    if _ratio is None or time.monotonic() - _measured_at > _AGAIN_SECONDS:
        _ratio = max(_session_ratio(), now())
        _measured_at = time.monotonic()
    return _ratio


def now() -> float:
    """Returns the ratio as it is at this moment, and keeps it for nobody."""
    return _bounded(cpu_seconds(_UNITS_AGAIN) / CPU_REFERENCE_SECONDS)


def scaled(seconds: float) -> float:
    """Returns so many seconds of the reference's time."""
    return seconds * ratio()


def lengthened(seconds: float) -> float:
    """Returns so many seconds, multiplied by the square root of the ratio: for leases and the like.

    A service needs little of its lease to renew it, and tests wait for leases to end; a deadline costs nothing.
    """
    return seconds * math.sqrt(ratio())


def timeout(seconds: float | None) -> asyncio.Timeout:
    """Returns `asyncio.timeout` of so many seconds of the reference's time."""
    return asyncio.timeout(None if seconds is None else scaled(seconds))


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_seconds(units: int = _UNITS) -> float:
    """Returns how long a unit of work takes now, beside whatever else runs."""
    return _timed(lambda: [_work() for _ in range(units)]) / units


def start_seconds() -> float:
    """Returns how long a process of Python takes from its start to its end."""
    return statistics.median(_timed(_start) for _ in range(_START_TRIES))


def _session_ratio() -> float:
    known = os.environ.get(_VARIABLE)
    if known is None:
        slower = max(cpu_seconds() / CPU_REFERENCE_SECONDS, start_seconds() / START_REFERENCE_SECONDS)
        known = os.environ[_VARIABLE] = str(_bounded(slower))
    return float(known)


def _bounded(slower: float) -> float:
    slower *= max(1.0, CORES_REFERENCE / cores())
    return min(RATIO_MAX, max(1.0, slower) * (shaking.SLOWER if shaking.SEED else 1.0))


def _timed(work: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    work()
    return time.perf_counter() - started_at


def _work() -> None:
    digest = b""
    for number in range(_ROUNDS):
        digest = hashlib.sha256(digest + json.dumps({"number": number, "text": "x" * 20}).encode()).digest()


def _start() -> None:
    subprocess.run([sys.executable, "-I", "-c", "import asyncio"], check=True)
