"""What a row is and what it finds: a figure, beside the limit that was measured in the same run, and the target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Bench


@dataclass(frozen=True)
class Figure:
    """One figure of a row. The target is of the ratio to the limit; where there is no limit, of the value itself.

    Neither `at_least` nor `at_most`: the figure is reported and nothing is asked of it.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value in parts of its limit; None without a limit, or where the limit could not be measured."""
        return self.value / self.limit if self.limit else None

    @property
    def judged(self) -> float | None:
        """What the target is about."""
        return self.value if self.limit is None else self.ratio

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.judged is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or self.judged >= self.at_least) and (
            self.at_most is None or self.judged <= self.at_most
        )


@dataclass(frozen=True)
class Row:
    """A row of the table: a scenario that is measured by itself. One file of `benchmarks/rows` each."""

    name: str
    what: str
    limit: str
    target: str
    seconds: int
    """About how long it takes in full on an idle machine, with its start; its bound is a multiple of that."""
    measure: Callable[[Bench], Awaitable[Sequence[Figure]]]
    is_apart: bool = False
    """Whether it runs only when it is named, because it takes too long for `make bench`."""


@dataclass
class Spent:
    """What processes spent while a row measured the service: CPU seconds by role, and how idle the machine was."""

    seconds: float = 0.0
    counted: int = 0
    cpu: dict[str, float] = field(default_factory=dict[str, float])
    idle_seconds: float = 0.0
    cores: int = 1

    @property
    def idle_share(self) -> float:
        """The share of the machine's time in which no core had anything to do, whoever would have given it."""
        return self.idle_seconds / (self.seconds * self.cores) if self.seconds else 0.0

    def add(self, other: Spent) -> None:
        """Adds another time of measuring."""
        self.seconds += other.seconds
        self.counted += other.counted
        self.idle_seconds += other.idle_seconds
        self.cores = other.cores
        for role, seconds in other.cpu.items():
            self.cpu[role] = self.cpu.get(role, 0.0) + seconds


@dataclass(frozen=True)
class Form:
    """How much a row tries: in full, in the short form of `make bench-quick`, in the tiny one of tests."""

    name: str
    share: float
    turns: int
    seconds_min: float

    def seconds(self, full: float) -> float:
        """Returns how long something takes that takes so long in full."""
        return max(self.seconds_min, full * self.share)

    def count(self, full: int, least: int) -> int:
        """Returns how many of something there are, of which there are so many in full."""
        return max(least, int(full * self.share))


FULL = Form("full", 1.0, 3, 1.0)
QUICK = Form("quick", 0.2, 2, 1.0)
TINY = Form("tiny", 0.02, 1, 0.5)
FORMS = {form.name: form for form in (FULL, QUICK, TINY)}
