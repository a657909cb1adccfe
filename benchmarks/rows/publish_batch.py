"""BatchPublishEvents, durable, while nobody listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row
from benchmarks.parts.service import Service

from .common import Turn, in_turns
from .publish_one import NOBODY

RATIO_MIN: Final = 0.5
SIZES: Final = (100, 500)
SECONDS: Final = 4.0


async def measure(bench: Bench) -> Sequence[Figure]:
    service = await bench.service()
    [publisher] = await bench.publishers(service.address)
    client = await bench.client()
    figures: list[Figure] = []
    for size in SIZES:
        turns = _published(bench, service, publisher, size), _copied(bench, service, client, size)
        rate, limit = await in_turns(bench, *turns)
        figures.append(Figure(f"batches of {size}", rate, "/s", limit, at_least=RATIO_MIN))
    return figures


def _published(bench: Bench, service: Service, publisher: Child, size: int) -> Turn:
    async def turn() -> float:
        load = publisher.ask("batches", customers=20, first=NOBODY, size=size, seconds=bench.form.seconds(SECONDS))
        spent = await bench.during(service, load)
        return spent.counted / spent.seconds

    return turn


def _copied(bench: Bench, service: Service, client: Child, size: int) -> Turn:
    async def turn() -> float:
        seconds = bench.form.seconds(SECONDS)
        done = await client.ask("copy", database=service.database, size=size, seconds=seconds)
        return done["count"] / done["seconds"]

    return turn


ROW: Final = Row(
    name="publish-batch",
    what="events published a second by BatchPublishEvents, four calls at a time, each durable; nobody listens",
    limit="COPY (binary) of the same rows by the same driver, as many in a transaction, four connections",
    target="at least 0.5",
    seconds=60,
    measure=measure,
)
