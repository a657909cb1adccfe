"""Ten thousand webhooks with one event each: no connection is used twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import BATCH, Bare, in_turns

WEBHOOKS: Final = 10_000
WEBHOOKS_MIN: Final = 200
RATIO_MIN: Final = 0.6


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    service = await bench.service(settings={"WEBHOOK_IDLE_CONNECTIONS_MAX": "0"})  # no connection is used twice
    [publisher] = await bench.publishers(service.address)
    size = min(BATCH, WEBHOOKS_MIN)
    count = bench.form.count(WEBHOOKS, WEBHOOKS_MIN) // size * size
    await publisher.ask("webhooks", url=sink.url, customers=count, in_flight=10)
    bare = Bare(bench, await bench.client(), f"{sink.url}/bare", is_lean=True, is_kept=False)
    connections: list[float] = []

    async def once() -> float:
        before, started_at = await sink.child.ask("count"), time.monotonic()

        async def load() -> int:
            await publisher.ask("distinct", customers=count, size=size)
            await bench.drained(sink, before["posts"] + count)
            return count

        await bench.during(service, load())
        seconds = time.monotonic() - started_at
        connections.append(((await sink.child.ask("count"))["connections"] - before["connections"]) / count)
        return count / seconds

    await once()  # lanes, secrets and plans are made
    rate, limit = await in_turns(bench, once, bare.rate)
    return [
        Figure(f"{count:,} webhooks", rate, "/s", limit, at_least=RATIO_MIN),
        Figure("connections for each request", connections[-1], ""),
    ]


ROW: Final = Row(
    name="many-webhooks",
    what="events delivered a second: one to each of 10,000 webhooks, from the first publish call to the last arrival",
    limit="the bare lean client with a new connection for each request",
    target="at least 0.6",
    seconds=60,
    measure=measure,
)
