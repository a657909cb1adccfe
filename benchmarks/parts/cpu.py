"""CPU seconds of processes and of what they have started."""

from __future__ import annotations

import contextlib
import os

import psutil


def seconds_of(process: psutil.Process) -> float:
    """Returns what a process and all its descendants have used, those that have ended counted with their parents."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_of(process: psutil.Process) -> int:
    """Returns the resident memory of a process and its descendants, in bytes."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


def idle_seconds() -> float:
    """Returns for how long the machine's cores have been idle, in all, since it started."""
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0)


def cores() -> int:
    """Returns how many cores there are."""
    return os.cpu_count() or 1
