"""How often something happened lately, in constant memory."""

from __future__ import annotations


class Window:
    """Counts over the last `seconds`, to within one of its slices. Times are monotonic seconds."""

    __slots__ = ("_counts", "_newest", "_slice_seconds")

    def __init__(self, seconds: float, slices: int) -> None:
        self._slice_seconds = seconds / slices
        self._counts = [0] * slices
        self._newest = 0  # the number of the slice that was counted in last

    def add(self, now: float) -> None:
        """Counts one more, now."""
        self._advance(now)
        self._counts[self._newest % len(self._counts)] += 1

    def total(self, now: float) -> int:
        """Returns the count of the last `seconds`."""
        self._advance(now)
        return sum(self._counts)

    def _advance(self, now: float) -> None:
        current = int(now / self._slice_seconds)
        if current <= self._newest:
            return
        for number in range(max(self._newest + 1, current - len(self._counts) + 1), current + 1):
            self._counts[number % len(self._counts)] = 0
        self._newest = current
