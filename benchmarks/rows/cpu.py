"""What a delivered event costs: CPU time of the service and of Postgres, and bytes of WAL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Bare, Delivered, in_turns

RATIO_MAX: Final = 2.2


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    delivered = await Delivered.start(bench, sink)
    bare = Bare(bench, await bench.client(), f"{sink.url}/bare", is_lean=True)
    wal: list[float] = []

    async def batches() -> float:
        before, posts = bench.wal_bytes(delivered.service), await sink.posts()
        rate = await delivered.batches()
        wal.append((bench.wal_bytes(delivered.service) - before) / max(1, await sink.posts() - posts))
        return rate

    await in_turns(bench, batches, bare.rate)
    limit = 1000 * bare.cpu_per_request
    return [
        Figure("service, CPU an event", delivered.cpu_ms("batches", "service"), "ms", limit, at_most=RATIO_MAX),
        Figure("Postgres, CPU an event", delivered.cpu_ms("batches", "postgres"), "ms"),
        Figure("WAL an event", sum(wal) / len(wal), "bytes"),
    ]


ROW: Final = Row(
    name="cpu",
    what="CPU time for each event that is published in batches and delivered; Postgres' CPU time and WAL beside it",
    limit="CPU time of the bare lean client for each request to the same sink",
    target="the service at most 2.2",
    seconds=55,
    measure=measure,
)
