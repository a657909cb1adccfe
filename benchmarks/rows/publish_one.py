"""PublishEvent, durable, while nobody listens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row
from benchmarks.parts.service import Service

from .common import CALLERS, Turn, all_of, in_turns

RATIO_MIN: Final = 0.7
GENERATORS: Final = 2
NOBODY: Final = 1_000_000  # a customer without webhooks
SECONDS: Final = 5.0


async def measure(bench: Bench) -> Sequence[Figure]:
    services = {"one process": await bench.service()}
    if bench.can_processes():
        services["two processes"] = await bench.service(processes=2)
    turns = [
        _durable(bench, service, Calls(bench, await bench.publishers(service.address, GENERATORS)))
        for service in services.values()
    ]
    nothing = await bench.worker("no-op server", "noop")
    limits = Calls(bench, await bench.publishers(nothing.ready, GENERATORS))
    *rates, limit = await in_turns(bench, *turns, limits.rate)
    return [
        Figure(name, rate, "/s", limit, at_least=RATIO_MIN if name == "one process" else None)
        for name, rate in zip(services, rates, strict=True)
    ]


class Calls:
    """Callers of PublishEvent in several load generators."""

    def __init__(self, bench: Bench, publishers: Sequence[Child]) -> None:
        self.seconds = bench.form.seconds(SECONDS)
        self._publishers = publishers

    async def load(self) -> int:
        """Calls for a while; returns how many calls."""
        each = {"customers": 1, "first": NOBODY, "callers": CALLERS // GENERATORS, "seconds": self.seconds}
        return sum(await all_of([child.ask("singly", **each) for child in self._publishers]))

    async def rate(self) -> float:
        """Returns the calls a second."""
        started_at = time.monotonic()
        return await self.load() / (time.monotonic() - started_at)


def _durable(bench: Bench, service: Service, calls: Calls) -> Turn:
    async def turn() -> float:
        spent = await bench.during(service, calls.load())
        return spent.counted / spent.seconds

    return turn


ROW: Final = Row(
    name="publish-one",
    what="PublishEvent calls a second, each durable when it returns, by 48 callers; nobody listens",
    limit="a handler that does nothing in the same gRPC server, by the same callers",
    target="at least 0.7",
    seconds=65,
    measure=measure,
)
