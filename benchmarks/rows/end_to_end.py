"""End to end: one delivery for each event, published in batches, on each server and as two processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Bare, Delivered, in_turns

RATIO_MIN: Final = 0.8
IDLE_MAX: Final = 5.0
CPU_GROWTH_MAX: Final = 1.1


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    services = {f"one process, {name}": await Delivered.start(bench, sink, server=name) for name in bench.servers()}
    one = next(iter(services.values()))
    two = await Delivered.start(bench, sink, processes=2) if bench.can_processes() else None
    if two is not None:
        services["two processes"] = two
    bare = Bare(bench, await bench.client(), f"{sink.url}/bare", is_lean=False)
    *rates, limit = await in_turns(bench, *(service.batches for service in services.values()), bare.rate)
    figures = [
        Figure(name, rate, "/s", limit, at_least=None if service is two else RATIO_MIN)
        for (name, service), rate in zip(services.items(), rates, strict=True)
    ]
    if two is not None:
        figures += [
            Figure("two processes: machine idle", 100 * two.spent["batches"].idle_share, "%", at_most=IDLE_MAX),
            Figure("two processes: CPU an event", of_both(two), "ms", of_both(one), at_most=CPU_GROWTH_MAX),
        ]
    return figures


def of_both(delivered: Delivered) -> float:
    """Returns the CPU time of the service and of Postgres for each delivery, in milliseconds."""
    return delivered.cpu_ms("batches", "service", "postgres")


ROW: Final = Row(
    name="end-to-end",
    what="events delivered a second: batches of 500 published, one webhook each, 0.5 KiB, backlog not growing",
    limit="aiohttp on uvloop that posts in a bare loop to the same sink",
    target="at least 0.8 with one process; with two: idle at most 5 %, CPU an event at most 1.1 of one process'",
    seconds=130,
    measure=measure,
)
