"""The database's clock steps: somebody sets it, or a standby whose clock is another takes over.

What the histories say by the database's clock is then no measure; the checker leaves out what compares clocks
(`Scenario.stepped`). Here is looked at who owns the shards, and at what the step must not take away.
"""

from __future__ import annotations

import asyncio
import time

from tests.support import slowness

from .cluster import lease_seconds
from .harness import Round
from .scenario import Scenario
from .stepped import SteppedServer

_HOUR = 3600.0
_DAY = 24 * _HOUR
# Promised are two leases and a beat, 4.5 s. The rest is for a busy machine; without the promise it takes as long as the
# clock was stepped by.
_OWNED_SECONDS_MAX = 20.0
_LOAD_SECONDS = 0.7  # between two steps

OWNERS = """
SELECT count(*), array_agg(DISTINCT s.owner::text) FROM shards s
"""
RENEWED = "SELECT worker_id::text, lease_until FROM workers"
ENDED_BY_AGE = "SELECT count(*) FROM attempts WHERE status = 'expired'"
KEPT = """
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM idempotency_keys),
    (SELECT count(*) FROM pg_inherits WHERE inhparent IN ('events'::regclass, 'attempts'::regclass))
"""


async def until_owned(round_: Round) -> float:
    """Waits until every shard belongs to a process that renews its lease; in how many seconds that was so.

    Looks only at what changes: whether a lease is valid is the product's business.
    """
    started_at = time.monotonic()
    leases: dict[str, object] = {}
    renewed_at: dict[str, float] = {}
    async with slowness.timeout(_OWNED_SECONDS_MAX):
        while True:
            for worker, lease_until in await asyncio.to_thread(round_.ask, RENEWED):
                if worker in leases and leases[worker] != lease_until:
                    renewed_at[worker] = time.monotonic()
                leases[worker] = lease_until
            [(_, owners)] = await asyncio.to_thread(round_.ask, OWNERS)
            # who has not renewed for so long is dead
            alive = {worker for worker, at in renewed_at.items() if time.monotonic() - at < lease_seconds()}
            if set(owners) <= alive:
                return time.monotonic() - started_at
            await asyncio.sleep(0.1)


async def step(round_: Round, *seconds: float) -> None:
    """Sets the clock so far from this machine's, one after the other; load goes on all the time."""
    server = round_.server
    assert isinstance(server, SteppedServer)
    for ahead in seconds:
        with round_.fault(f"clock {ahead:+g} s", may_duplicate=True, may_overlap=True):
            await _set_clock(server, ahead)
            await until_owned(round_)
        await asyncio.sleep(_LOAD_SECONDS)


async def _set_clock(server: SteppedServer, seconds: float) -> None:
    server.set_clock(seconds)
    await asyncio.to_thread(server.check_clock, seconds)


async def check_kept(round_: Round) -> None:
    """Nothing expired, and every event and key that there was is there."""
    [(expired,)] = await asyncio.to_thread(round_.ask, ENDED_BY_AGE)
    assert expired == 0, f"{expired} deliveries expired by a clock that was wrong"
    acknowledged = {publish.event_id for publisher in round_.publishers for publish in publisher.history}
    acknowledged.discard(None)
    [(events, keys, partitions)] = await asyncio.to_thread(round_.ask, KEPT)
    assert min(events, keys) >= len(acknowledged), f"{events} events and {keys} keys of {len(acknowledged)} are left"
    assert partitions >= 2 * 9, f"only {partitions} partitions are left"


async def hours_and_days(round_: Round) -> None:
    """An hour ahead, an hour back, a day ahead, a day back. For longer rounds also below the true time."""
    await asyncio.sleep(_LOAD_SECONDS)
    await step(round_, _HOUR, 0, _DAY, 0)
    if round_.seconds > round_.scenario.short_seconds:
        await step(round_, -_DAY, -_HOUR, 0, 10 * _DAY, 0, -10 * _DAY, 0)
    await check_kept(round_)


async def far_ahead(round_: Round) -> None:
    """So far that everything is older than it is kept; the process that finds it so has just been started."""
    await asyncio.sleep(_LOAD_SECONDS)
    await step(round_, 40 * _DAY)
    before = round_.one_running()
    newest = await round_.cluster.start()
    with round_.fault("kill -9", may_duplicate=True, may_overlap=True):
        await round_.cluster.kill(before)
        await until_owned(round_)
    async with slowness.timeout(_OWNED_SECONDS_MAX):
        while not round_.logged(newest, "clock is not believed"):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # the steps of its janitor come one after the other
    await check_kept(round_)
    await step(round_, 0)
    await check_kept(round_)


async def back_and_kill(round_: Round) -> None:
    """An hour back, and in the same second one of two processes dies: its lease runs for another hour."""
    server = round_.server
    assert isinstance(server, SteppedServer)
    await until_owned(round_)
    with round_.fault("clock -3600 s, kill -9", may_duplicate=True, may_overlap=True):
        await _set_clock(server, -_HOUR)
        await round_.cluster.kill(round_.one_running())
        await until_owned(round_)
    await asyncio.sleep(_LOAD_SECONDS)
    await check_kept(round_)


async def failover_behind(round_: Round) -> None:
    """The server is gone, and back with a clock that is ten minutes behind."""
    server = round_.server
    assert isinstance(server, SteppedServer)
    await asyncio.sleep(_LOAD_SECONDS)
    with round_.fault("failover, clock -600 s", may_duplicate=True, may_overlap=True):
        server.set_clock(-600)
        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(server.start_again)
        await asyncio.to_thread(server.check_clock, -600)
        await until_owned(round_)
    await asyncio.sleep(_LOAD_SECONDS)
    await check_kept(round_)


SCENARIOS = (
    Scenario("clock steps", hours_and_days, stepped=True),
    Scenario("clock far ahead", far_ahead, stepped=True, processes=1),
    Scenario("clock back, kill -9", back_and_kill, stepped=True),
    Scenario("failover to a clock behind", failover_behind, stepped=True),
)
