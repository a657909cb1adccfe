"""What the checker finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold. `count` is how many things it concerns."""

    invariant: str  # as numbered in the reliability plan or the module; or "scenario", whose own assertion failed
    sentence: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"
