"""File descriptors: the doors take no more than leaves deliveries theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SPARE: Final = 200  # for files, the event loop, and connections that end while others begin
SHARE_OF_DOORS_MIN: Final = 0.25  # of a limit that is too low for everything


def connections_of_doors(wanted: Sequence[int], kept: int, limit: int) -> list[int]:
    """Returns how many connections each door may have, at most as many as wanted.

    `kept` are the descriptors of everything else, `limit` those that the process may have.
    """
    room = max(limit - kept - SPARE, round(limit * SHARE_OF_DOORS_MIN))
    share = min(1.0, room / sum(wanted))
    return [max(1, int(count * share)) for count in wanted]
