"""Take-over: how soon after kill -9 all shards deliver again, and how soon a restarted service acknowledges."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import Sequence
from typing import Final

import psutil
import psycopg
from benchmarks.parts.bench import Bench, Sink
from benchmarks.parts.children import Child, WorkerError
from benchmarks.parts.figures import Figure, Row
from benchmarks.parts.service import Service

SHARDS: Final = 64
LEASE_AND_ONE_SECONDS: Final = 5.0
WITH_PARENT_SECONDS: Final = 0.3
READY_CPU_SECONDS: Final = 0.6
TRIES_MAX: Final = 100
TRY_PAUSE_SECONDS: Final = 0.02
SHARED_SECONDS_MAX: Final = 60.0

# How many shards each process has that lives.
SHARES: Final = """
SELECT count(*) FROM shards s JOIN workers w ON w.worker_id = s.owner WHERE w.lease_until > now() GROUP BY s.owner
"""


async def measure(bench: Bench) -> Sequence[Figure]:
    sink = await bench.sink()
    figures: list[Figure] = []
    if bench.can_processes():
        parent = await bench.service(processes=2)
        await _webhooks(bench, sink, parent)
        beside_parent = list[float]()
        for _ in range(bench.form.turns):
            # Until the one that was killed before serves again: else the last one that serves would be killed.
            await _until_shared(parent, 2)
            beside_parent.append(await _after_kill(bench, sink, parent, _child(parent)))
        figures.append(Figure("one of two processes killed", max(beside_parent), "s", at_most=WITH_PARENT_SECONDS))
    survivor = await bench.service()
    await _webhooks(bench, sink, survivor)
    taken, ready, acknowledged = list[float](), [survivor.ready_cpu_seconds], list[float]()
    for _ in range(bench.form.turns):
        victim = await bench.service_with(survivor.environment, survivor.server)
        await _until_shared(survivor, 2)
        ready.append(victim.ready_cpu_seconds)
        taken.append(await _after_kill(bench, sink, survivor, victim.process))
        await _until_shared(survivor, 1)
    for _ in range(bench.form.turns):
        alone = await bench.service()
        alone.process.send_signal(signal.SIGKILL)
        acknowledged.append(await _restarted(bench, alone))
    return [
        *figures,
        Figure("one of two services killed", max(taken), "s", at_most=LEASE_AND_ONE_SECONDS),
        Figure("restarted: until the first acknowledgement", statistics.median(acknowledged), "s"),
        Figure("CPU until ready", statistics.median(ready), "s", at_most=READY_CPU_SECONDS),
    ]


async def _webhooks(bench: Bench, sink: Sink, service: Service) -> None:
    """Makes a webhook on each shard: ids are given one after the other."""
    [publisher] = await bench.publishers(service.address)
    before = await sink.posts()
    await publisher.ask("webhooks", url=sink.url, customers=SHARDS)
    await publisher.ask("distinct", customers=SHARDS, size=SHARDS)
    await bench.drained(sink, before + SHARDS)


async def _until_shared(service: Service, count: int) -> None:
    """Waits until so many processes have the same share of the shards each."""
    async with (
        asyncio.timeout(SHARED_SECONDS_MAX),
        await psycopg.AsyncConnection.connect(service.database, autocommit=True) as connection,
    ):
        while await (await connection.execute(SHARES)).fetchall() != [(SHARDS // count,)] * count:  # noqa: ASYNC110 - the database gives no signal
            await asyncio.sleep(TRY_PAUSE_SECONDS)


def _child(parent: Service) -> psutil.Process:
    """Returns one of the processes that serve."""
    return max(parent.process.children(), key=lambda process: process.memory_info().rss)


async def _after_kill(bench: Bench, sink: Sink, survivor: Service, victim: psutil.Process) -> float:
    """Kills, publishes an event for each shard, and returns the seconds from the kill to the last one's arrival."""
    [publisher] = await bench.publishers(survivor.address)
    await sink.child.ask("note", on=True)
    victim.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    await _published(publisher, survivor.address)
    async with asyncio.timeout(10 * LEASE_AND_ONE_SECONDS):
        while len(paths := await _arrived(sink)) < SHARDS:  # noqa: ASYNC110 - the sink is another process
            await asyncio.sleep(TRY_PAUSE_SECONDS)
    await sink.child.ask("note", on=False)
    return max(paths.values()) - killed_at


async def _published(publisher: Child, address: str) -> None:
    """Publishes, on new connections after each failure: those to the dead process are broken."""
    for tries_left in range(TRIES_MAX, -1, -1):
        try:
            await publisher.ask("distinct", customers=SHARDS, size=SHARDS)
        except WorkerError:
            if not tries_left:
                raise
            await asyncio.sleep(TRY_PAUSE_SECONDS)
            await publisher.ask("connect", address=address)
        else:
            return


async def _arrived(sink: Sink) -> dict[str, float]:
    """Returns for each path when the first request came."""
    arrivals: dict[str, float] = await sink.child.ask("arrivals")
    first: dict[str, float] = {}
    for key, at in sorted(arrivals.items(), key=lambda item: item[1]):
        first.setdefault(key.split()[0], at)
    return first


async def _restarted(bench: Bench, killed: Service) -> float:
    """Starts a killed service again; returns the seconds from its start to the acknowledgement of an event."""
    again = await bench.service_with(killed.environment, killed.server)
    [publisher] = await bench.publishers(again.address)
    asked_at = time.monotonic()  # the start of the load generator is not counted
    await publisher.ask("singly", customers=1, callers=1, count=1)
    return again.ready_seconds + time.monotonic() - asked_at


ROW: Final = Row(
    name="take-over",
    what="after kill -9: until the shards of the dead process deliver again, until a restarted service acknowledges;"
    " CPU time of a start (the worst, or the median, of the turns)",
    limit="none",
    target="at most 0.3 s with --processes, the lease and 1 s without; ready for at most 0.6 CPU s",
    seconds=80,
    measure=measure,
)
