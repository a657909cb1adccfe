"""What was settled while something was being read.

A read that began before a delivery was settled may still bring its row. Without these notes it would be sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class StaleRows:
    """Remembers settled keys for as long as a read that began before them is under way, and no longer."""

    def __init__(self) -> None:
        self._count = 0
        self._reading: Counter[int] = Counter()
        self._settled_at: dict[Hashable, int] = {}

    def begin(self) -> int:
        """A read begins. The mark names it."""
        self._reading[self._count] += 1
        return self._count

    def end(self, mark: int) -> None:
        """The read ended and its rows have been looked at."""
        self._reading[mark] -= 1
        if not self._reading[mark]:
            del self._reading[mark]
        self._prune()

    def add(self, key: Hashable) -> None:
        """The key was settled."""
        if self._reading:
            self._count += 1
            self._settled_at.pop(key, None)  # so that the dict stays in order of the count
            self._settled_at[key] = self._count

    def settled_since(self, key: Hashable, mark: int) -> bool:
        """Whether the key was settled after the read began."""
        return self._settled_at.get(key, 0) > mark

    def __len__(self) -> int:
        return len(self._settled_at)

    def _prune(self) -> None:
        oldest = min(self._reading, default=self._count)
        while self._settled_at:
            key = next(iter(self._settled_at))
            if self._settled_at[key] > oldest:
                return
            del self._settled_at[key]
