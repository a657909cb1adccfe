"""WatchDeliveries: how fast watchers catch up, how soon they know, what each of them keeps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.parts.bench import Bench, Sink, percentile
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row

from .common import Delivered, in_turns

CROWDS: Final = ((1, 1), (100, 10), (1000, 50))  # how many watchers, and the least of a short form
CHANGES: Final = 20_000  # in all, for each crowd
CHANGES_MIN: Final = 1_000
BATCH: Final = 20
CATCH_UP_MIN: Final = 0.6
P99_MAX: Final = 2.0
KB_MAX: Final = 100.0
EVENTS_PER_SECOND: Final = ((1, 20.0), (100, 20.0), (1000, 4.0))
SECONDS: Final = 5.0
WATCHED: Final = 1  # the customer


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    crowds = [bench.form.count(full, least) if full > 1 else 1 for full, least in CROWDS]
    delivered = await Delivered.start(
        bench, sink, settings={"WEBHOOK_STREAMS_MAX": "1200", "WEBHOOK_STREAMS_PER_CUSTOMER_MAX": "1200"}
    )
    client = await bench.worker("client", "watcher")
    figures: list[Figure] = []
    for watchers, (_, rate) in zip(crowds, EVENTS_PER_SECOND, strict=True):
        figures += await _caught_up(bench, sink, delivered, client, watchers)
        figures += await _followed(bench, sink, delivered, client, watchers, rate)
    return figures


async def _caught_up(bench: Bench, sink: Sink, delivered: Delivered, client: Child, watchers: int) -> Sequence[Figure]:
    """All watchers read the same changes from the log; the limit sends the same messages from memory."""
    count = max(BATCH, bench.form.count(CHANGES, CHANGES_MIN) // watchers // BATCH * BATCH)
    began, before = time.time(), await sink.posts()
    batches = {"customers": 1, "first": WATCHED, "size": BATCH, "count": count}
    await delivered.publishers[0].ask("batches", **batches)
    await bench.drained(sink, before + count)
    asked = {"customer_id": WATCHED, "start_seconds": began, "watchers": watchers, "changes": count}
    with tempfile.TemporaryDirectory(prefix="webhook-grpc-bench-") as directory:
        kept = str(Path(directory) / "messages")
        await client.ask("catch_up", address=delivered.service.address, kept=kept, **asked)
        memory = await bench.worker("no-op server", "noop", kept)

    async def ours() -> float:
        load = client.ask("catch_up", address=delivered.service.address, **asked)
        spent = await bench.during(delivered.service, _counted(load, watchers * count))
        return spent.counted / spent.seconds

    async def limit() -> float:
        return watchers * count / (await client.ask("catch_up", address=memory.ready, **asked))["seconds"]

    rate, most = await in_turns(bench, ours, limit)
    return [Figure(f"{_crowd(watchers)}: changes in all", rate, "/s", most, at_least=CATCH_UP_MIN)]


async def _counted(load: Awaitable[object], count: int) -> int:
    await load
    return count


async def _followed(
    bench: Bench, sink: Sink, delivered: Delivered, client: Child, watchers: int, rate: float
) -> Sequence[Figure]:
    """Watchers follow live while events are published at a steady rate."""
    service, before, posts = delivered.service, delivered.service.rss(), await sink.posts()
    await client.ask("follow", address=service.address, customer_id=WATCHED, watchers=watchers)
    memory = (service.rss() - before) / watchers / 1000
    await sink.child.ask("note", on=True)
    paced = {"customers": 1, "first": WATCHED, "rate": rate, "seconds": bench.form.seconds(SECONDS)}
    began: dict[str, float] = await delivered.publishers[0].ask("paced", **paced)
    await bench.drained(sink, posts + len(began))
    arrivals: dict[str, float] = await sink.child.ask("arrivals")
    await sink.child.ask("note", on=False)
    seen: list[float] = await client.ask("latencies", began=began, watchers=watchers)
    await client.ask("leave")
    sent = [1000 * (at - began[key.rpartition(" ")[2]]) for key, at in arrivals.items()]
    crowd, late = _crowd(watchers), 1000 * percentile(seen, 0.99)
    figures = [Figure(f"{crowd}: publish to watcher, p99", late, "ms", percentile(sent, 0.99), at_most=P99_MAX)]
    if watchers > 1:
        figures.append(Figure(f"{crowd}: memory for each", memory, "KB", at_most=KB_MAX))
    return figures


def _crowd(watchers: int) -> str:
    return "1 watcher" if watchers == 1 else f"{watchers:,} watchers"


ROW: Final = Row(
    name="watch",
    what="WatchDeliveries with 1, 100 and 1,000 watchers: changes a second in all while they catch up, how late live"
    " ones see a change, what each keeps in memory",
    limit="a stream that sends the same messages from memory; the arrival of the same events at the receiver",
    target="changes at least 0.6, p99 at most 2, at most 100 KB a watcher",
    seconds=110,
    measure=measure,
)
