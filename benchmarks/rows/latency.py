"""Latency: from the call of PublishEvent to the request at the receiver, at steady rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.parts.bench import Bench, Sink, percentile
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row

from .common import CUSTOMERS, Delivered, in_turns

STEADY_RATE: Final = 50.0
P50_MAX: Final = 1.5
P99_MAX: Final = 2.0
SECONDS: Final = 8.0
SETTLE_SECONDS_MAX: Final = 30


class Latencies:
    """Milliseconds from the begin of each call to its arrival at the sink, of all turns."""

    def __init__(self, bench: Bench, sink: Sink, child: Child, do: str, **arguments: Any) -> None:
        self.found: list[float] = []
        self._bench = bench
        self._sink = sink
        self._child = child
        self._do = do
        self._arguments = arguments

    async def measure(self) -> float:
        """Measures at the rate for a while; returns the median."""
        before = await self._sink.posts()
        await self._sink.child.ask("note", on=True)
        seconds = self._bench.form.seconds(SECONDS)
        began: dict[str, float] = await self._child.ask(self._do, seconds=seconds, **self._arguments)
        await self._bench.drained(self._sink, before + len(began))
        arrivals: dict[str, float] = await self._sink.child.ask("arrivals")
        await self._sink.child.ask("note", on=False)
        came = {key.rpartition(" ")[2]: at for key, at in arrivals.items()}
        self.found += [1000 * (came[event_id] - at) for event_id, at in began.items()]
        return percentile(self.found, 0.5)


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    delivered = await Delivered.start(bench, sink)
    client = await bench.client()
    saturated = await delivered.singly()
    figures = [Figure("saturated, published singly", saturated, "/s")]
    for name, rate in (("50/s", STEADY_RATE), ("a third of the saturated rate", saturated / 3)):
        ours = Latencies(bench, sink, delivered.publishers[0], "paced", customers=CUSTOMERS, rate=rate)
        database, url = delivered.service.database, f"{sink.url}/bare"
        bare = Latencies(bench, sink, client, "commit_and_post", database=database, url=url, rate=rate)
        await in_turns(bench, ours.measure, bare.measure)
        figures += [
            Figure(f"{name}, {title}", percentile(ours.found, share), "ms", percentile(bare.found, share), at_most=most)
            for title, share, most in (("p50", 0.5, P50_MAX), ("p99", 0.99, P99_MAX))
        ]
    return figures


ROW: Final = Row(
    name="latency",
    what="from the call of PublishEvent to the request at the receiver, at steady rates",
    limit="a one-row durable commit and then a bare request, by the same driver and the lean client, at the same rate",
    target="p50 at most 1.5, p99 at most 2",
    seconds=125,
    measure=measure,
)
