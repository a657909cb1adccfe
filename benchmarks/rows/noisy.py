"""Noisy: what the watchers of a hostile customer and its flood of batches do to what another customer feels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.parts.bench import Bench, Sink, percentile
from benchmarks.parts.children import Child
from benchmarks.parts.figures import Figure, Row
from benchmarks.parts.service import Service

from .common import BATCH, in_turns

QUIET, HOSTILE = 1, 2  # the customers
WATCHERS: Final = 1_000
IDLE_WATCHERS: Final = 200  # each with a filter of its own, which fits nothing
RATE: Final = 40.0  # events a second of the quiet customer
FLOOD_RATE: Final = 2_000.0  # of the hostile one
SECONDS: Final = 10.0
CALM_SECONDS: Final = 3.0  # what is in flight of the flood ends, and the pace of its webhook
P99_MAX: Final = 2.0
NICE: Final = 10  # so that the figures are those of the service, not of the cores it shares


@dataclass
class Felt:
    """Milliseconds from the begin of each of the quiet customer's calls, of all turns of a kind."""

    answers: list[float] = field(default_factory=list[float])
    arrivals: list[float] = field(default_factory=list[float])
    changes: list[float] = field(default_factory=list[float])


class Quiet:
    """The quiet customer: publishes one event a call at a steady rate, receives it, and watches."""

    def __init__(self, bench: Bench, sink: Sink, publisher: Child, watcher: Child) -> None:
        self._bench = bench
        self._sink = sink
        self._publisher = publisher
        self._watcher = watcher

    async def feel(self, felt: Felt) -> None:
        """Publishes for a while, and adds what it felt."""
        before = await self._sink.posts()
        await self._sink.child.ask("note", on=True)
        seconds = self._bench.form.seconds(SECONDS)
        called: dict[str, tuple[float, float]] = await self._publisher.ask("timed", rate=RATE, seconds=seconds)
        began = {event_id: at for event_id, (at, _) in called.items()}
        await self._bench.drained(self._sink, before + len(began))
        arrivals: dict[str, float] = await self._sink.child.ask("arrivals")
        await self._sink.child.ask("note", on=False)
        changes: list[float] = await self._watcher.ask("latencies", began=began, watchers=1)
        felt.answers += [1000 * (ended - at) for at, ended in called.values()]
        felt.arrivals += [1000 * (at - began[key.rpartition(" ")[2]]) for key, at in arrivals.items()]
        felt.changes += [1000 * seconds for seconds in changes]


class Hostile:
    """The hostile customer: watchers of everything that happens to it, and batches, whether they are taken or not."""

    def __init__(self, bench: Bench, service: Service, publisher: Child, watchers: Child) -> None:
        self.taken: list[int] = []  # watchers
        self.flooded: list[float] = []  # events a second
        self._bench = bench
        self._service = service
        self._publisher = publisher
        self._watchers = watchers

    async def attack(self, seconds: float) -> None:
        """Floods for so long, and waits for the answers. The watchers stay until `leave`."""
        flood = {"size": BATCH, "rate": FLOOD_RATE, "seconds": seconds}
        self.flooded.append(await self._publisher.ask("flood", customer_id=HOSTILE, **flood) / seconds)

    async def join(self) -> None:
        """Opens the watchers, and lets the backlog of the turn before go on."""
        form = self._bench.form
        crowd = {"watchers": form.count(WATCHERS, 20), "idle": form.count(IDLE_WATCHERS, 10)}
        address = self._service.address
        self.taken.append(await self._watchers.ask("crowd", address=address, customer_id=HOSTILE, **crowd))
        await self._publisher.ask("switch", customer_id=HOSTILE, on=True)

    async def leave(self) -> None:
        """Ends everything."""
        await self._publisher.ask("switch", customer_id=HOSTILE, on=False)
        await self._watchers.ask("leave")
        await asyncio.sleep(self._bench.form.seconds(CALM_SECONDS))  # what the part before left to do ends


async def measure(bench: Bench) -> Sequence[Figure]:
    sink, theirs = await bench.sink(), await bench.sink()
    most = str(WATCHERS + IDLE_WATCHERS + 10)
    limits = ("WEBHOOK_STREAMS_MAX", "WEBHOOK_STREAMS_PER_CUSTOMER_MAX")  # else it would get no more than 500 streams
    service = await bench.service(settings=dict.fromkeys(limits, most))
    publisher, flood = await bench.publishers(service.address, 2)
    await publisher.ask("webhooks", url=sink.url, customers=1, first=QUIET)
    await flood.ask("webhooks", url=theirs.url, customers=1, first=HOSTILE)
    await flood.ask("switch", customer_id=HOSTILE, on=False)
    own, crowd = await bench.worker("client", "watcher"), await bench.worker("hostile", "watcher")
    for child in (flood, crowd, theirs.child):
        child.psutil.nice(NICE)
    await own.ask("follow", address=service.address, customer_id=QUIET, watchers=1)
    quiet, hostile = Quiet(bench, sink, publisher, own), Hostile(bench, service, flood, crowd)
    alone, beside = Felt(), Felt()
    await quiet.feel(Felt())  # warm: ramps, plans, imports

    async def peace() -> float:
        await quiet.feel(alone)
        return 0.0

    async def attacked() -> float:
        await hostile.join()
        # A little longer than the calls of the quiet customer, so that all of these are made in the flood.
        load = hostile.attack(bench.form.seconds(SECONDS) + 2)
        await bench.while_loading(load, quiet.feel(beside))
        await hostile.leave()
        return 0.0

    await in_turns(bench, peace, attacked)
    return [*_figures(alone, beside), *_of_the_attack(hostile)]


def _figures(alone: Felt, beside: Felt) -> Sequence[Figure]:
    parts = (
        ("PublishEvent", alone.answers, beside.answers),
        ("publish to receiver", alone.arrivals, beside.arrivals),
        ("publish to watcher", alone.changes, beside.changes),
    )
    return [
        Figure(f"{name}, {title}", percentile(after, share), "ms", percentile(before, share), at_most=most)
        for name, before, after in parts
        for title, share, most in (("p50", 0.5, None), ("p99", 0.99, P99_MAX))
    ]


def _of_the_attack(hostile: Hostile) -> Sequence[Figure]:
    return [
        Figure("events of the flood, the least", min(hostile.flooded), "/s"),
        Figure("watchers of the hostile customer, the least", min(hostile.taken), ""),
    ]


ROW: Final = Row(
    name="noisy",
    what="what a quiet customer feels (40 events/s) while another has 1,000 watchers, 200 more that match nothing"
    " and publishes 2,000 events/s in batches of 500, to a webhook that takes them",
    limit="the same without the other customer, in turns",
    target="p99 at most 2",
    seconds=130,
    measure=measure,
)
