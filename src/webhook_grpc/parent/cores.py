"""How many cores this process may use: what `--processes auto` means."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # of a container (cgroup v2): microseconds, or `max`, in a period


def usable_cores(quota: Path = _QUOTA) -> int:
    """Returns how many cores this process may run on, within the quota of its container; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota_us, period_us = quota.read_text().split()
        allowed = min(allowed, math.ceil(int(quota_us) / int(period_us)))
    return max(1, allowed)
