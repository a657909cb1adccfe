"""Fan-out: each event goes to ten webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.parts.bench import Bench
from benchmarks.parts.figures import Figure, Row

from .common import Delivered, in_turns

FAN_OUT: Final = 10
RATIO_MIN: Final = 1.1


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    ten = await Delivered.start(bench, sink, fan_out=FAN_OUT)
    one = await Delivered.start(bench, sink)
    rate, limit = await in_turns(bench, ten.batches, one.batches)
    return [Figure("deliveries, ten for each event", rate, "/s", limit, at_least=RATIO_MIN)]


ROW: Final = Row(
    name="fan-out",
    what="deliveries a second: each event goes to ten webhooks of its customer",
    limit="the same with one webhook for each customer",
    target="at least 1.1",
    seconds=75,
    measure=measure,
)
