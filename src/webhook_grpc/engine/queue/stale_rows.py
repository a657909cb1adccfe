"""What was settled while something was being read.

A read that began before a delivery was settled may still bring its row. Without these notes it would be sent again.
"""

from __future__ import annotations

from collections.abc import Hashable


class StaleRows:
    """Remembers settled keys for as long as a read that began before them is under way, and no longer."""

    def __init__(self) -> None:
        self._count = 0
        self._reads: dict[int, int] = {}  # that go on, by the number they began with
        self._settled_at: dict[Hashable, int] = {}

    def begin(self) -> int:
        """Begins a read. Returns its number, for `settled_since` and `end`."""
        self._reads[self._count] = self._reads.get(self._count, 0) + 1
        return self._count

    def end(self, read: int) -> None:
        """Ends a read: its rows have been looked at."""
        left = self._reads[read] - 1
        if left:
            self._reads[read] = left
        else:
            del self._reads[read]
        if self._settled_at:
            self._prune()

    def add(self, key: Hashable) -> None:
        """Notes that the key was settled."""
        if self._reads:
            self._count += 1
            self._settled_at.pop(key, None)  # so that the dict stays in order of the count
            self._settled_at[key] = self._count

    def settled_since(self, key: Hashable, read: int) -> bool:
        """Returns whether the key was settled after the read began."""
        return self._count > read and self._settled_at.get(key, 0) > read  # hashing a key costs more than the rest

    def __len__(self) -> int:
        return len(self._settled_at)

    def _prune(self) -> None:
        oldest = min(self._reads, default=self._count)
        while self._settled_at:
            key = next(iter(self._settled_at))
            if self._settled_at[key] > oldest:
                return
            del self._settled_at[key]
