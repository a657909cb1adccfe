"""End to end, published one event a call by 48 callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Delivered, in_turns

RATIO_MIN: Final = 0.5
GENERATORS: Final = 2


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    figures: list[Figure] = []
    for processes in (1, 2) if bench.can_processes() else (1,):
        name = "one process" if processes == 1 else "two processes"
        delivered = await Delivered.start(bench, sink, processes=processes, generators=GENERATORS)
        batches, singly = await in_turns(bench, delivered.batches, delivered.singly)
        target = RATIO_MIN if processes == 2 else None
        figures.append(Figure(name, singly, "/s", batches, at_least=target))
        figures.extend(
            Figure(f"{name}: CPU an event, {role}", delivered.cpu_ms("singly", role), "ms")
            for role in ("service", "postgres")
        )
    return figures


ROW: Final = Row(
    name="singly",
    what="events delivered a second: published one a call by 48 callers",
    limit="the same service, published in batches",
    target="at least 0.5 with two processes",
    seconds=135,
    measure=measure,
)
