"""The clients' batching publishers, while nobody listens."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row
from benchmarks.parts.service import Service

from .common import in_turns
from .publish_one import NOBODY

RATIO_MIN: Final = 0.8
TASKS: Final = (1, 10, 100)
SECONDS: Final = 1.5


async def measure(bench: Bench) -> Sequence[Figure]:
    service = await bench.service()
    python = await bench.worker("client", "batching")
    kinds = {"asyncio": (python, "tasks"), "threads": (python, "threads")}
    if bench.has_go():
        kinds["Go"] = (await bench.go_worker("client"), "tasks")
    loads: dict[str, list[Load]] = {}
    for name, (child, kind) in kinds.items():
        await child.ask("connect", address=service.address)
        published = [Load(bench, service, child, f"publisher_{kind}", tasks=tasks) for tasks in TASKS]
        loads[name] = [Load(bench, service, child, f"hand_{kind}"), *published]
    rates = iter(await in_turns(bench, *(load.rate for of_kind in loads.values() for load in of_kind)))
    figures: list[Figure] = []
    for name, (by_hand, *published) in loads.items():
        limit = next(rates)
        for tasks, load in zip(TASKS, published, strict=True):
            title = f"{name}, from {tasks}"
            figures.append(Figure(title, next(rates), "/s", limit, at_least=RATIO_MIN))
            figures.append(Figure(f"{title}: CPU an event, all", load.cpu_ms, "ms", by_hand.cpu_ms))
    return figures


class Load:
    """One way to publish: events a second, and what all processes spend for an event."""

    def __init__(self, bench: Bench, service: Service, child: Child, do: str, **arguments: Any) -> None:
        self._bench = bench
        self._service = service
        self._child = child
        self._do = do
        self._arguments = {"customer": NOBODY, "seconds": bench.form.seconds(SECONDS), **arguments}
        self._cpu_ms: list[float] = []

    async def rate(self) -> float:
        """Returns the events a second, until the last one has its result."""
        done: dict[str, float] = {}

        async def load() -> int:
            done.update(await self._child.ask(self._do, **self._arguments))
            return int(done["count"])

        spent = await self._bench.during(self._service, load())
        self._cpu_ms.append(1000 * sum(spent.cpu.values()) / max(1, spent.counted))
        return done["count"] / done["seconds"]

    @property
    def cpu_ms(self) -> float:
        """Returns the median of the CPU milliseconds an event of client, service and Postgres together."""
        return statistics.median(self._cpu_ms)


ROW: Final = Row(
    name="clients",
    what="events published a second by the clients' batching publishers, from 1, 10 and 100 tasks; nobody listens",
    limit="batches of 500 made by hand in the same language, as many at a time; CPU time likewise",
    target="at least 0.8",
    seconds=80,
    measure=measure,
)
