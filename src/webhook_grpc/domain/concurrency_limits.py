"""Bounds how many calls of a kind are in progress, of each customer or address, and of all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

from .fair_shares import leaves_enough

Key = TypeVar("Key", int, str)


class Places(Generic[Key]):
    """The places of calls that may take long: whoever waits for others holds one."""

    def __init__(self, each_max: int, refusal: Callable[[Key], Exception], all_max: int | None = None) -> None:
        """`refusal` returns what is raised if a key has `each_max` places, or all keys together have `all_max`.

        The more others have, the fewer one key gets: `leaves_enough`.
        """
        self._each_max = each_max
        self._all_max = all_max
        self._refusal = refusal
        self._taken = Counter[Key]()

    @contextmanager
    def place(self, key: Key) -> Generator[None]:
        """Holds a place while a call is in progress. Raises what `refusal` returns if there is none."""
        if not self._has_one(key):
            raise self._refusal(key)
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]

    def _has_one(self, key: Key) -> bool:
        taken, all_taken = self._taken[key], self._taken.total() + 1
        if self._all_max is None:
            return taken < self._each_max
        return all_taken <= self._all_max and leaves_enough(taken, self._each_max, all_taken, self._all_max)
