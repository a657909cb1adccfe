"""Faults that follow one another in one round: in `make test` the start of a round costs more than most faults.

`make test-long` and `make faults` run each fault alone. `python -m tests.faults --scenario` takes the joined names,
too, so that a round can be repeated with its seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from .harness import Round
from .scenario import Scenario
from .scenarios import BY_NAME, SCENARIOS

_SECONDS: Final = 2.0  # of each fault
_GAPS: Final = 1.5  # as long as in a round of its own: the load goes on from the first fault to the last

# Each with the same webhooks and settings. What a fault excuses is bounded by its time, also beside others.
_TOGETHER: Final = (
    ("kill -9", "SIGTERM", "lease ended", "watchers resume"),
    ("Postgres crash", "backends terminated", "connections exhausted", "read-only"),
    ("network reset", "network latency", "commit answers lost"),
    ("network stalled", "network stalled beyond deadline", "Postgres stopped"),
    ("DNS slow", "DNS failing"),
)


def combined(parts: Sequence[Scenario]) -> Scenario:
    """Returns a scenario that injects one fault after the other. All but `_OF_ITS_OWN` must be the same."""

    async def inject(round_: Round) -> None:
        for part in parts:
            await part.inject(round_)

    first = parts[0]
    together = replace(
        first,
        name=" + ".join(part.name for part in parts),
        inject=inject,
        proxied=any(part.proxied for part in parts),
        needs_load=any(part.needs_load for part in parts),
        reconnect_seconds=next((part.reconnect_seconds for part in parts if part.reconnect_seconds), None),
        away_seconds=max(part.away_seconds for part in parts),
        gap_seconds=_GAPS * min(part.gap_seconds for part in parts),
        short_seconds=_SECONDS,
    )
    for part in parts:
        of_its_own = {name: getattr(together, name) for name in _OF_ITS_OWN}
        assert replace(part, **of_its_own) == together, f"{part.name} needs a round of its own"
    return together


_OF_ITS_OWN: Final = (
    "name", "inject", "proxied", "needs_load", "reconnect_seconds", "away_seconds", "gap_seconds",
    "short_seconds",
)  # fmt: skip
COMBINED: Final = tuple(combined([BY_NAME[name] for name in names]) for names in _TOGETHER)


def in_short() -> Iterable[Scenario]:
    """Returns scenarios in which each fault comes once."""
    return *COMBINED, *(scenario for scenario in SCENARIOS if not any(scenario.name in names for names in _TOGETHER))
