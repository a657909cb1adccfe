"""Isolation: what three customers in trouble do to the latency of seven others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks import isolation
from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

SECONDS: Final = 8.0
BACKLOG: Final = 100_000
P99_MAX: Final = 2.0


async def measure(bench: Bench) -> Sequence[Figure]:
    service = await bench.service()
    scenario = isolation.Scenario(
        seconds=bench.form.seconds(SECONDS),
        rounds=bench.form.turns,
        backlog=bench.form.count(BACKLOG, isolation.FLOOD_BATCH),
    )
    phases = await isolation.measure(scenario, service.address, service.process.pid)
    figures: list[Figure] = []
    for name, share, target in (("p50", 0.5, None), ("p99", 0.99, P99_MAX)):
        well, troubled = isolation.medians(phases, share)
        figures.append(Figure(f"with trouble, {name}", troubled, "ms", well, at_most=target))
    return figures


ROW: Final = Row(
    name="isolation",
    what="from the call of PublishEvent to the arrival at seven endpoints, while one hangs, one is flooded with 2,000"
    " events a second, and one is dead and has 100,000 deliveries pending",
    limit="the same without the trouble, in turns",
    target="p99 at most 2",
    seconds=75,
    measure=measure,
)
