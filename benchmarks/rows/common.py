"""What several rows do: batches delivered end to end, and bare clients that post to the same sink."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from benchmarks.parts.bench import LAG_MAX, WARM_SECONDS, Bench, Sink
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Spent
from benchmarks.parts.service import Service

CUSTOMERS: Final = 20
BATCH: Final = 500
CALLERS: Final = 48
WARM_EVENTS: Final = 3000
CONNECTIONS: Final = 50  # of a bare client, as many as the service has requests at once to one host
SLICE_SECONDS: Final = 8.0
LIMIT_SECONDS: Final = 4.0

Answer = TypeVar("Answer")
Turn = Callable[[], Awaitable[float]]


async def in_turns(bench: Bench, *parts: Turn) -> list[float]:
    """Measures the parts one after the other, as often as the form says, forth and back; returns their medians."""
    found: list[list[float]] = [[] for _ in parts]
    for turn in range(bench.form.turns):
        order = range(len(parts)) if turn % 2 == 0 else range(len(parts) - 1, -1, -1)
        for number in order:
            found[number].append(await parts[number]())
    return [statistics.median(values) for values in found]


def gate(sink: Sink, deliveries: float = 1.0) -> dict[str, Any]:
    """Returns the gate of a load generator whose share of all deliveries is so large."""
    return {"url": sink.url, "lag_max": LAG_MAX, "deliveries": deliveries}


class Delivered:
    """A service whose events arrive at a sink: its rates, and what it spent for them."""

    def __init__(
        self, bench: Bench, service: Service, sink: Sink, publishers: Sequence[Child], fan_out: int, first: int
    ) -> None:
        self.service = service
        self.spent = {"batches": Spent(), "singly": Spent()}
        self._bench = bench
        self._sink = sink
        self.publishers = publishers
        self._fan_out = fan_out
        self._first = first

    @classmethod
    async def start(
        cls,
        bench: Bench,
        sink: Sink,
        *,
        server: str | None = None,
        processes: int = 1,
        generators: int = 1,
        fan_out: int = 1,
        url: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> Delivered:
        """Starts a service on an empty database, with webhooks that lead to the sink."""
        service = await bench.service(server, processes, settings)
        return await cls.on(bench, sink, service, generators=generators, fan_out=fan_out, url=url)

    @classmethod
    async def on(
        cls,
        bench: Bench,
        sink: Sink,
        service: Service,
        *,
        generators: int = 1,
        fan_out: int = 1,
        url: str = "",
        first: int = 1,
        token: str = "",
    ) -> Delivered:
        """Gives a service that runs webhooks that lead to the sink. `first`: the id of the first of their customers."""
        publishers = await bench.publishers(service.address, generators, token)
        made = {"customers": CUSTOMERS, "each": fan_out, "first": first}
        await publishers[0].ask("webhooks", url=url or sink.url, **made)
        started = cls(bench, service, sink, publishers, fan_out, first)
        await started.warmed()
        return started

    async def warmed(self) -> None:
        """Delivers some events, so that nothing is measured that only happens after a start: ramps, plans, imports."""
        before, count = await self._sink.posts(), max(1, self._bench.form.count(WARM_EVENTS, BATCH) // BATCH) * BATCH
        await self.publishers[0].ask("batches", customers=CUSTOMERS, first=self._first, size=BATCH, count=count)
        await self._bench.drained(self._sink, before + count * self._fan_out)

    async def batches(self) -> float:
        """Publishes in batches and returns the deliveries a second, while the backlog does not grow."""
        return await self._measured("batches", {"size": BATCH}, self.publishers[:1])

    async def singly(self) -> float:
        """Publishes one event a call by 48 callers and returns the deliveries a second."""
        callers = CALLERS // len(self.publishers)
        return await self._measured("singly", {"callers": callers}, self.publishers)

    def cpu_ms(self, do: str, *roles: str) -> float:
        """Returns the CPU time of these roles for each delivery, in milliseconds. `do`: batches, singly."""
        spent = self.spent[do]
        return 1000 * sum(spent.cpu.get(role, 0.0) for role in roles) / max(1, spent.counted)

    async def _measured(self, do: str, arguments: dict[str, Any], publishers: Sequence[Child]) -> float:
        before, seconds = await self._sink.posts(), self._bench.form.seconds(SLICE_SECONDS)
        deliveries = float(self._fan_out * len(publishers))
        published: list[int] = []

        async def one(child: Child) -> None:
            span = WARM_SECONDS + seconds
            held = gate(self._sink, deliveries)
            load: dict[str, Any] = {"customers": CUSTOMERS, "first": self._first, "seconds": span, "gate": held}
            published.append(await child.ask(do, **load, **arguments))

        found = await self._bench.while_loading(
            all_of(one(child) for child in publishers), self._bench.over(self.service, seconds, self._sink.posts)
        )
        self.spent[do].add(found)
        await self._bench.drained(self._sink, before + sum(published) * self._fan_out)
        return found.counted / found.seconds


async def all_of(parts: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """Awaits all parts at the same time."""
    return await asyncio.gather(*parts)


class Bare:
    """A bare client that posts to the sink as fast as it can: requests a second, CPU seconds a request."""

    def __init__(self, bench: Bench, client: Child, url: str, **arguments: Any) -> None:
        self.cpu_seconds: list[float] = []
        self._bench = bench
        self._client = client
        self._arguments = {"url": url, "connections": CONNECTIONS, **arguments}

    async def rate(self) -> float:
        """Returns the requests a second."""
        seconds = self._bench.form.seconds(LIMIT_SECONDS)
        done = await self._client.ask("post", seconds=seconds, **self._arguments)
        self.cpu_seconds.append(done["cpu"] / max(1, done["count"]))
        return done["count"] / done["seconds"]

    @property
    def cpu_per_request(self) -> float:
        """Returns the median of its CPU seconds a request."""
        return statistics.median(self.cpu_seconds)
