"""How long to wait before a call is made again. Pure: the jitter is an argument."""

from __future__ import annotations

from typing import Final

SECONDS_MIN: Final = 0.1
SECONDS_MAX: Final = 2.0


def pause_seconds(failures: int, asked_seconds: float | None, jitter: float) -> float:
    """Returns the pause after so many failures in a row: 0.1 s, doubled up to 2 s, and at least what was asked for.

    `jitter` is between 0 and 1, and takes off up to half of it, so that clients of one server do not come back at once.
    """
    doubled = min(SECONDS_MAX, SECONDS_MIN * 2 ** min(failures - 1, 10))
    return max(doubled * (1 - jitter / 2), asked_seconds or 0.0)
